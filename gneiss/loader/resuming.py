"""Going on with other numbers of ranks and workers, from the states of all that there were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from gneiss.errors import InputError
from gneiss.loader.order import Ranges, Share, cut
from gneiss.loader.packed_files import PackedSequences
from gneiss.loader.packing import Sequences, used_of
from gneiss.loader.reader import Documents
from gneiss.loader.stream import check_state, left_of

Source = TypeVar("Source", Documents, PackedSequences, Sequences)
_SHARE = ("rank", "world_size", "worker", "workers", "drop_uneven")


def resumed(source: Source, states: Iterable[Mapping[str, Any]]) -> Source:
    """A source whose ranks and workers share the documents that others left of their epochs.

    Nothing is lost or read twice, including tokens of partly packed documents; later epochs are complete. The new
    source has such states again; with the same ranks and workers, load each consumer's state as usual.

    Parameters: `source`: with any rank, world size and epochs that hold those of the states; `states`: of each rank
    and worker there was, in any order: `state_dict()` of an iterator, or of a StatefulDataLoader with
    `snapshot_every_n_steps=1`, which has those of its workers. Raises InputError: one is missing, or of other settings.

    >>> saved = [torch.load(f"loader-{rank}.pt") for rank in range(64)]  # doctest: +SKIP
    >>> source = resumed(documents("curated", rank=rank, world_size=48, epochs=None), saved)  # doctest: +SKIP
    """
    found = [state for each in states for state in _states(each)]
    if not isinstance(source, Sequences):
        return _with_left(source, found)
    for state in found:
        check_state(state, source.identity())
    of_documents = [state["documents"] for state in found]
    left = _with_left(source.documents, of_documents)
    used: dict[tuple[int, int], int] = {}
    for state in found:
        for at, tokens in used_of(state).items():
            if at[0] >= left.epoch:
                used[at] = max(tokens, used.get(at, 0))
    consumers = _share(of_documents[0]).consumers
    first_id = max(int(state["first_id"]) + int(state["given"]) * consumers for state in found)
    return replace(source, documents=left, used=used, first_id=first_id)


def what_is_left(states: Sequence[Mapping[str, Any]], total: int) -> tuple[tuple[int, Ranges], ...]:
    """Epoch → the positions that no consumer had read, from the first epoch on that one was in.

    Parameters: `states`: of each consumer there was; `total`: rows of an epoch. Raises InputError.
    """
    shares = {_share(state): state for state in states}
    first = next(iter(shares), None)
    if first is None:
        raise InputError("states: expected one of each rank and worker, found none")
    every = [
        replace(first, rank=rank, worker=worker) for rank in range(first.world_size) for worker in range(first.workers)
    ]
    if missing := next((share for share in every if share not in shares), None):
        raise InputError(
            f"states: none of rank {missing.rank} of {missing.world_size}, worker {missing.worker} of"
            f" {missing.workers}, as rank {first.rank} has it; expected one of each"
        )
    if len(shares) > len(every) or len(shares) < len(states):
        raise InputError(f"states: expected one of each of {len(every)} ranks and workers, found {len(states)}")
    at = {share: (int(state["epoch"]), int(state["position"])) for share, state in shares.items()}
    epochs = [epoch for epoch, _ in at.values()]
    last = max(epochs + [epoch for epoch, _ in first.left])
    return tuple((epoch, _joined(_unread(at, epoch, total))) for epoch in range(min(epochs), last + 1))


def _unread(at: Mapping[Share, tuple[int, int]], epoch: int, total: int) -> Iterator[tuple[int, int]]:
    for share, (own, position) in at.items():
        parts = share.parts(epoch, total)
        if own < epoch:
            yield from parts
        elif own == epoch:
            yield from cut(parts, position, total)


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Ranges in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return tuple(found)


_Rows = TypeVar("_Rows", Documents, PackedSequences)


def _with_left(source: _Rows, states: Sequence[Mapping[str, Any]]) -> _Rows:
    expected = {name: value for name, value in source.identity().items() if name not in _SHARE}
    for state in states:
        check_state(state, expected)
    left = what_is_left(states, source.total)
    epoch, end = left[0][0], None if source.epochs is None else source.epoch + source.epochs
    if epoch < source.epoch or (end is not None and epoch >= end):
        raise InputError(f"states: epoch {epoch} is none of the source's, from {source.epoch} to {end}; give it too")
    epochs = None if end is None else end - epoch
    return replace(source, share=replace(source.share, left=left), epoch=epoch, epochs=epochs)


def _share(state: Mapping[str, Any]) -> Share:
    if missing := [name for name in (*_SHARE, "epoch", "position") if name not in state]:
        raise InputError(f"states: no {missing[0]} in one; expected what `state_dict()` of a reader's iterator gave")
    return Share(**{name: state[name] for name in _SHARE}, left=left_of(state))


def _states(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The states of readers in that of a data loader, or it itself."""
    if "position" in state or "documents" in state:
        yield state
        return
    if state.get("_steps_since_snapshot"):
        raise InputError(
            "states: a data loader was between two snapshots of its workers; give it snapshot_every_n_steps=1"
        )
    for value in state.values():
        if isinstance(value, Mapping):
            yield from _states(value)
