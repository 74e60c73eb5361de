"""Streams: an iterator over one consumer's share of epochs, whose state is an epoch and a position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from gneiss.errors import InputError
from gneiss.loader.order import Ranges, Share, cut

Item = TypeVar("Item")
Given = TypeVar("Given", covariant=True)


class Dataset(Protocol[Given]):
    """The rows of a stream, in a different order for each epoch.

    epochs: how many, from `epoch` on; None: without end.
    """

    @property
    def share(self) -> Share:
        """The share of this consumer."""

    @property
    def epoch(self) -> int:
        """The first epoch."""

    @property
    def epochs(self) -> int | None:
        """The number of epochs."""

    @property
    def total(self) -> int:
        """Rows of an epoch, for all consumers together."""

    def read(self, epoch: int, start: int, end: int) -> Iterator[Given]:
        """What is at positions `start` to `end` of an epoch's order."""

    def identity(self) -> dict[str, Any]:
        """The settings for which a state is valid, as plain values."""


class Stream(Generic[Item]):
    """Iterates over a dataset; `state_dict` returns its position, `load_state_dict` seeks without reading.

    A state belongs to one run, order, rank and worker; others are refused. `resumed` takes those of all ranks and
    workers for other numbers of them.
    """

    def __init__(self, dataset: Dataset[Item]) -> None:
        self.dataset, self.share = dataset, dataset.share
        self._go_to(dataset.epoch, 0)

    def __iter__(self) -> Stream[Item]:
        return self

    def __next__(self) -> Item:
        last = None if self.dataset.epochs is None else self.dataset.epoch + self.dataset.epochs - 1
        while self.position == self._size:
            if self.epoch == last or not self._has_more():
                raise StopIteration
            self._go_to(self.epoch + 1, 0)
        item = next(self._rest)
        self.position += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position, within this consumer's share, of the next row."""
        left = [[epoch, [list(part) for part in ranges]] for epoch, ranges in self.share.left]
        return {**self.dataset.identity(), "left": left, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state. Raises InputError for a state of other settings."""
        check_state(state, self.dataset.identity())
        self.share = replace(self.dataset.share, left=left_of(state))
        self._go_to(int(state["epoch"]), int(state["position"]))

    def _has_more(self) -> bool:
        """Whether a later epoch may have rows for this consumer."""
        start, end = self.share.bounds(self.dataset.total)
        return start < end or any(epoch > self.epoch for epoch, _ in self.share.left)

    def _go_to(self, epoch: int, position: int) -> None:
        parts: Ranges = self.share.parts(epoch, self.dataset.total) if epoch >= 0 else ()
        self._size = sum(end - start for start, end in parts)
        if epoch < 0 or not 0 <= position <= self._size:
            raise InputError(f"state: epoch {epoch}, position {position} of {self._size}: no such place")
        self.epoch, self.position = epoch, position
        rest = cut(parts, position, self._size)
        self._rest = chain.from_iterable(self.dataset.read(epoch, start, end) for start, end in rest)


def left_of(state: Mapping[str, Any]) -> tuple[tuple[int, Ranges], ...]:
    """What was left of single epochs when the consumer of a state began; see `Share`."""
    return tuple(
        (int(epoch), tuple((int(start), int(end)) for start, end in ranges)) for epoch, ranges in state.get("left", ())
    )


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise InputError, naming the differences, for a state of other settings."""
    differing = [
        f"{name} {state.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if state.get(name) != value
    ]
    if differing:
        raise InputError(
            f"state: it was saved with {', '.join(differing)}; resume with the same settings, ranks and workers;"
            " `gneiss.loader.resumed` takes the states of all ranks and workers for other numbers of them"
        )
