"""Streams: an iterator over one consumer's share of epochs, whose state is an epoch and a position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from gneiss.errors import InputError
from gneiss.loader.order import Share

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

    A state belongs to one run, order, rank and worker; others are refused.
    """

    def __init__(self, dataset: Dataset[Item]) -> None:
        self.dataset = dataset
        self._start, self._end = dataset.share.bounds(dataset.total)
        self._go_to(dataset.epoch, 0)

    def __iter__(self) -> Stream[Item]:
        return self

    def __next__(self) -> Item:
        last = None if self.dataset.epochs is None else self.dataset.epoch + self.dataset.epochs - 1
        while self.position == self._end - self._start:
            if self.epoch == last or self._start == self._end:
                raise StopIteration
            self._go_to(self.epoch + 1, 0)
        item = next(self._left)
        self.position += 1
        return item

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position, within this consumer's share, of the next row."""
        return {**self.dataset.identity(), "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state. Raises InputError for a state of other settings."""
        check_state(state, self.dataset.identity())
        self._go_to(int(state["epoch"]), int(state["position"]))

    def _go_to(self, epoch: int, position: int) -> None:
        if epoch < 0 or not 0 <= position <= self._end - self._start:
            raise InputError(f"state: epoch {epoch}, position {position} of {self._end - self._start}: no such place")
        self.epoch, self.position = epoch, position
        self._left = self.dataset.read(epoch, self._start + position, self._end)


def check_state(state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise InputError, naming the differences, for a state of other settings."""
    differing = [
        f"{name} {state.get(name)!r} instead of {value!r}"
        for name, value in expected.items()
        if state.get(name) != value
    ]
    if differing:
        raise InputError(
            f"state: it was saved with {', '.join(differing)}; resume with the same settings, ranks and workers"
        )
