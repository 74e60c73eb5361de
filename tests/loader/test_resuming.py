"""Other numbers of ranks and workers: from the states of all that there were, nothing is lost or read twice."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.loader import batch_of, documents, packed, random_access_source, resumed, sequences, torch_dataset
from gneiss.loader.order import Share
from gneiss.loader.packed_files import pack
from gneiss.loader.packing import Sequence, Sequences
from gneiss.loader.resuming import what_is_left
from gneiss.loader.stream import Stream


@dataclass(frozen=True)
class Places:
    """A dataset of positions: what a stream reads, without any file."""

    total: int
    share: Share
    epoch: int
    epochs: int

    def read(self, epoch: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        return ((epoch, at) for at in range(start, end))

    def identity(self) -> dict[str, Any]:
        return self.share.settings


def shares(ranks: int, workers: int, **settings: Any) -> list[Share]:
    return [Share(rank, ranks, worker, workers, **settings) for rank in range(ranks) for worker in range(workers)]


NUMBERS = st.tuples(st.integers(1, 5), st.integers(1, 3))


@given(total=st.integers(0, 40), numbers=st.lists(NUMBERS, min_size=2, max_size=4), data=st.data())
def test_every_position_of_every_epoch_comes_once(
    total: int, numbers: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Consumers read as much as they like, are replaced by others, and the last ones read three epochs to their end."""
    found: Counter[tuple[int, int]] = Counter()
    left: Any = ()
    for generation, (ranks, workers) in enumerate(numbers):
        epoch = left[0][0] if left else 0
        states = []
        for share in shares(ranks, workers, left=left):
            source = Places(total, share, epoch, max(3 - epoch, 0) or 1)
            stream: Stream[tuple[int, int]] = Stream(source)
            is_last = generation == len(numbers) - 1
            for _ in range(10**6 if is_last else data.draw(st.integers(0, 2 * total // (ranks * workers) + 2))):
                item = next(stream, None)
                if item is None:
                    break
                found[item] += 1
            states.append(json.loads(json.dumps(stream.state_dict())))
            again: Stream[tuple[int, int]] = Stream(replace(source, share=replace(share, left=())))
            again.load_state_dict(states[-1])  # the same ranks and workers need but their own
            assert (again.epoch, again.position) == (stream.epoch, stream.position)
            assert again.state_dict() == states[-1]
        left = what_is_left(data.draw(st.permutations(states)), total)
    assert found == Counter((epoch, at) for epoch in range(3) for at in range(total))


@given(total=st.integers(0, 40), before=NUMBERS, after=NUMBERS, taken=st.integers(0, 9))
def test_equal_shares_stay_equal(total: int, before: tuple[int, int], after: tuple[int, int], taken: int) -> None:
    states = []
    for share in shares(*before, drop_uneven=True):
        stream: Stream[tuple[int, int]] = Stream(Places(total, share, 0, 1))
        states.append(stream.state_dict() | {"position": min(taken, len(list(stream)))})
    left = what_is_left(states, total)
    of_rank: Counter[int] = Counter()
    for share in shares(*after, drop_uneven=True, left=left):
        of_rank[share.rank] += len(list(Stream(Places(total, share, 0, 1))))
    assert len({of_rank[rank] for rank in range(after[0])}) == 1
    unread = sum(end - start for start, end in left[0][1])
    assert 0 <= unread - sum(of_rank.values()) < after[0]


def pieces(found: list[Sequence]) -> dict[tuple[int, int], dict[int, list[int]]]:
    """(epoch, document) → where its pieces began → their tokens."""
    parts: dict[tuple[int, int], dict[int, list[int]]] = defaultdict(dict)
    for sequence in found:
        spans = sequence.spans
        for at, document in enumerate(spans.document.tolist()):
            start = int(spans.start[at])
            key = int(spans.epoch[at]), document
            assert int(spans.document_start[at]) not in parts[key]
            tokens = sequence.tokens[start : start + int(spans.length[at])].tolist()
            parts[key][int(spans.document_start[at])] = tokens
    return parts


def as_bytes(text: str) -> Any:
    return np.frombuffer(text.encode(), np.uint8)


def test_no_token_of_a_document_packed_in_part_is_lost_or_read_twice(released: Path) -> None:
    def source(rank: int, ranks: int) -> Sequences:
        read = documents(released, block_documents=20, seed=4, epochs=2, rank=rank, world_size=ranks)
        return sequences(read, as_bytes, 300, end_of_document=256)

    found: list[Sequence] = []
    states: list[Any] = []
    for ranks, workers, some in ((3, 2, 9), (2, 1, 13), (1, 3, 5), (2, 2, None)):
        saved, states = states, []
        for rank in range(ranks):
            own = resumed(source(rank, ranks), saved) if saved else source(rank, ranks)
            for worker in range(workers):
                stream = iter(own.of_worker(worker, workers))
                count = 10**6 if some is None else some + 3 * worker + 5 * rank
                found += [sequence for _, sequence in zip(range(count), stream, strict=False)]
                states.append(json.loads(json.dumps(stream.state_dict())))
    parts = pieces(found)
    expected = {(epoch, d.index): [*d.text.encode(), 256] for epoch in range(2) for d in documents(released)}
    whole = {key: [token for start in sorted(own) for token in own[start]] for key, own in parts.items()}
    assert whole == expected
    assert len({sequence.id for sequence in found}) == len(found)


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore:'set_vital'")
@pytest.mark.parametrize(
    ("before", "after"), [((2, 2), (3, 1)), pytest.param((1, 0), (2, 2), marks=pytest.mark.exhaustive)]
)
def test_data_loaders_go_on_with_other_ranks_and_workers(
    before: tuple[int, int], after: tuple[int, int], released: Path, tmp_path: Path
) -> None:
    loading = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    torch = pytest.importorskip("torch")
    pack(sequences(documents(released), "builtin:cl100k_base", 48), tmp_path / "packed")
    total = packed(tmp_path / "packed").total

    def loader(rank: int, numbers: tuple[int, int], states: list[Any]) -> Any:
        source = packed(tmp_path / "packed", seed=2, rank=rank, world_size=numbers[0], block_sequences=50)
        source = resumed(source, states) if states else source
        return loading.StatefulDataLoader(torch_dataset(source), 4, num_workers=numbers[1], collate_fn=batch_of)

    found, states = [], []
    for rank in range(before[0]):
        first = loader(rank, before, [])
        for _, batch in zip(range(3 + 4 * rank), first, strict=False):
            found += [sequence.id for sequence in batch.sequences]
        torch.save(first.state_dict(), tmp_path / f"{rank}.pt")
        states.append(torch.load(tmp_path / f"{rank}.pt"))
    read = len(found)
    for rank in range(after[0]):
        found += [sequence.id for batch in loader(rank, after, states) for sequence in batch.sequences]
    assert 0 < read < len(found) == total
    assert len(set(found)) == total


def test_states_that_are_not_those_of_all_are_refused(released: Path) -> None:
    streams = [iter(documents(released, rank=rank, world_size=2)) for rank in range(2)]
    states = [stream.state_dict() for stream in streams]
    source = documents(released, world_size=3)
    for wrong, message in (
        ([], "found none"),
        (states[:1], "none of rank 1 of 2, worker 0 of 1"),
        ([*states, states[1]], "expected one of each of 2 ranks and workers, found 3"),
        ([states[0], {**states[1], "seed": 1}], "saved with seed 1 instead of 0"),
        ([states[0], {**states[1], "epoch": 4}, {**states[1], "world_size": 3}], "expected one of each"),
        ([{"position": 0}], "saved with run None"),
        ([{"_steps_since_snapshot": 1}], "snapshot_every_n_steps=1"),
        ([{**state, "epoch": 4} for state in states], "epoch 4 is none of the source's"),
    ):
        with pytest.raises(InputError, match=message):
            resumed(source, wrong)
    with pytest.raises(InputError, match="no rank in one"):
        what_is_left([{"position": 0}], 3)
    with pytest.raises(InputError, match="expected rank=0 and world_size=1"):
        random_access_source(resumed(documents(released), states))
