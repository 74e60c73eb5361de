"""The order of an epoch: every row once, whatever the ranks and workers, and the same from any position on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.loader.order import EpochOrder, RowReader, Share

ROWS = st.lists(st.integers(0, 9), max_size=6).map(tuple)


def given_rows(order: EpochOrder, start: int, end: int) -> list[tuple[int, int]]:
    """(file, row) at positions start to end, by reading the ranges."""

    def tables(file: int, first: int) -> Iterator[pa.Table]:
        for row in range(first, order.rows[file], 2):  # portions of two rows, the last perhaps of one
            rows = list(range(row, min(row + 2, order.rows[file])))
            yield pa.table({"file": [file] * len(rows), "row": rows})

    reader, found = RowReader(tables), []
    for ranges, rows in order.blocks(start, end):
        table = pa.concat_tables(part for each in ranges for part in reader.read(each)).take(pa.array(rows))
        found += [(row["file"], row["row"]) for row in table.to_pylist()]
    return found


@given(rows=ROWS, block=st.integers(1, 12), seed=st.integers(0, 5), shuffled=st.booleans(), data=st.data())
def test_shares_are_consecutive_parts_of_one_permutation(
    rows: tuple[int, ...], block: int, seed: int, shuffled: bool, data: st.DataObject
) -> None:
    order = EpochOrder(rows, seed, 3, block, shuffled)
    whole = given_rows(order, 0, order.total)
    everything = [(file, row) for file, count in enumerate(rows) for row in range(count)]
    assert sorted(whole) == everything
    if not shuffled:
        assert whole == everything
    ranks, workers = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    shares = [Share(rank, ranks, worker, workers) for rank in range(ranks) for worker in range(workers)]
    parts = [given_rows(order, *share.bounds(order.total)) for share in shares]
    assert [row for part in parts for row in part] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 2
    of_ranks = [sum(map(len, parts[rank * workers : (rank + 1) * workers])) for rank in range(ranks)]
    assert max(of_ranks) - min(of_ranks) <= 1
    even = [Share(rank, ranks, drop_uneven=True).bounds(order.total) for rank in range(ranks)]
    assert {end - start for start, end in even} == {order.total // ranks}
    start = data.draw(st.integers(0, order.total))
    assert given_rows(order, start, order.total) == whole[start:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        given_rows(EpochOrder((40, 40), seed, epoch, 16), 0, 80) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert orders[0] == orders[3]
    assert len({tuple(order) for order in orders}) == 3


def test_an_order_is_a_matter_of_arithmetic_alone() -> None:
    """Written down: another version of NumPy, or another machine, must not change what a state means."""
    files = slow_permutation(7, 1, "files", 2)
    stream = [(file, row) for file in files for row in range((3, 4)[file])]
    blocks = [stream[:4], stream[4:]]
    expected = [block[i] for b, block in enumerate(blocks) for i in slow_permutation(7, 1, f"block {b}", len(block))]
    assert given_rows(EpochOrder((3, 4), seed=7, epoch=1, block_rows=4), 0, 7) == expected


def slow_permutation(seed: int, epoch: int, what: str, count: int) -> list[int]:
    key, mask = xxhash.xxh3_64_intdigest(f"{seed}\0{epoch}\0{what}".encode()), (1 << 64) - 1

    def splitmix64(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        return state ^ (state >> 31)

    return sorted(range(count), key=lambda i: splitmix64((i + key) & mask))


def test_blocks_are_shuffled_well() -> None:
    order = EpochOrder((4096,), seed=0, epoch=0, block_rows=4096)
    rows = np.array([row for _, row in given_rows(order, 0, 4096)])
    assert abs(np.corrcoef(rows, np.arange(4096))[0, 1]) < 0.05
    assert abs(np.corrcoef(rows[1:], rows[:-1])[0, 1]) < 0.05


@pytest.mark.parametrize("share", [{"rank": 2, "world_size": 2}, {"rank": -1}, {"worker": 1}, {"world_size": 0}])
def test_impossible_ranks_are_refused(share: dict[str, int]) -> None:
    with pytest.raises(InputError, match="LOCAL_RANK"):
        Share(**share)
