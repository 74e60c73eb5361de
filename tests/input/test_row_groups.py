"""A row group that is cut into parts is decoded once by a worker, and its rows are those that are read otherwise."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.input.formats import row_groups
from gneiss.input.formats.row_groups import Begun
from gneiss.input.shard import Shard, cut_shards, reading_on

ROWS, PARTS = 4000, 8


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Shard, ...]:
    """Parts of one row group, read in tables of about a tenth of a part."""
    texts = [f"{number} " * 20 for number in range(ROWS)]
    table = pa.table({"text": texts, "id": [str(number) for number in range(ROWS)], "n": list(range(ROWS))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=ROWS, data_page_size=1000, use_dictionary=False)
    size = sum(map(len, texts))
    monkeypatch.setattr(row_groups, "_TABLE_BYTES", size // (8 * PARTS))
    found = cut_shards(tmp_path, text="text", shard_max_bytes=size // PARTS + 1).shards
    assert len(found) > PARTS
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each batch had that was decoded."""
    found: list[int] = []
    read = Begun.read

    def counting(self: Begun, start: int, end: int) -> object:
        if not hasattr(self, "counted"):
            batches = self.batches
            self.batches = (found.append(batch.num_rows) or batch for batch in batches)
            self.counted = True  # type: ignore[attr-defined]
        return read(self, start, end)

    monkeypatch.setattr(Begun, "read", counting)
    return found


def numbers(shard: Shard, columns: list[str] | None = None) -> list[int]:
    return [n for _, table in shard.tables(columns) for n in table["n"].to_pylist()]


def test_a_worker_decodes_a_row_group_once(shards: tuple[Shard, ...], decoded: list[int]) -> None:
    of_worker = reading_on()
    assert [n for shard in shards for n in numbers(of_worker(shard), ["n"])] == list(range(ROWS))
    assert sum(decoded) == ROWS
    decoded.clear()
    assert [n for shard in shards for n in numbers(shard, ["n"])] == list(range(ROWS))
    assert sum(decoded) > ROWS * PARTS / 2  # each from the start, without a worker's memory


def test_columns_to_decide_by_and_columns_to_write_are_each_decoded_once(
    shards: tuple[Shard, ...], decoded: list[int]
) -> None:
    of_worker = reading_on()
    for shard in shards:
        by_worker = of_worker(shard)
        assert numbers(by_worker, ["n", "text"]) == numbers(by_worker, ["n", "id"])
    assert sum(decoded) == 2 * ROWS


def test_in_any_order_and_given_up_half_way_rows_are_the_same(shards: tuple[Shard, ...]) -> None:
    choose = random.Random(3)
    expected = {shard.id: numbers(shard) for shard in shards}
    of_worker = reading_on()
    for _ in range(60):
        shard = of_worker(choose.choice(shards))
        columns = choose.choice([None, ["n"], ["text", "n"]])
        if choose.random() < 0.3:
            next(shard.tables(columns))
        else:
            assert numbers(shard, columns) == expected[shard.id]


def test_a_damaged_page_fails_every_part_that_needs_it(shards: tuple[Shard, ...], tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    whole = path.read_bytes()
    start = pq.read_metadata(path).row_group(0).column(0).data_page_offset
    at = start + pq.read_metadata(path).row_group(0).column(0).total_compressed_size // 2
    path.write_bytes(whole[:at] + bytes(200) + whole[at + 200 :])
    shards = cut_shards(tmp_path, text="text", shard_max_bytes=shards[0].text_bytes + 1).shards
    alone = [_or_error(numbers, shard) for shard in shards]
    of_worker = reading_on()
    assert [_or_error(numbers, of_worker(shard)) for shard in shards] == alone
    assert InputError in alone
    assert list in map(type, alone)


def _or_error(read: Callable[[Shard], list[int]], shard: Shard) -> list[int] | type[InputError]:
    try:
        return read(shard)
    except InputError:
        return InputError
