"""Exchange files: whatever is written is read by number, by task and across tasks, merged or not."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.errors import OutputError
from gneiss.output.layout import exchange_path, tile_path
from gneiss.stages import grid as grids
from gneiss.stages.exchange import Exchange
from gneiss.stages.grid import Grid, grid_for
from gneiss.store.place import Place, place_of
from tests.store.memory import MemoryStore

SCHEMA = pa.schema([("number", pa.int64()), ("text", pa.large_list(pa.uint8())), ("flag", pa.bool_())])


def batch(rows: list[int]) -> pa.RecordBatch:
    texts = pa.array([[row % 251] * (row % 7) for row in rows], SCHEMA.field("text").type)
    return pa.record_batch([pa.array(rows, pa.int64()), texts, pa.array([row % 3 == 0 for row in rows])], schema=SCHEMA)


def in_memory() -> Exchange:
    return Exchange(Place(MemoryStore(), "out"))


@given(
    turns=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    receivers=st.integers(1, 4),
    pack_bytes=st.integers(1, 400),
    task_stripes=st.integers(1, 4),
    receiver_stripes=st.integers(1, 4),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=30)
def test_what_tasks_send_is_read_by_task_and_across_tasks_merged_or_not(
    turns: list[int], receivers: int, pack_bytes: int, task_stripes: int, receiver_stripes: int, seed: int
) -> None:
    """A task sends a batch to each receiver in each of its turns."""
    exchange, draw = in_memory(), np.random.default_rng(seed)
    sizes = [draw.integers(0, 30, count * receivers) * draw.integers(0, 2, count * receivers) for count in turns]
    sent = [[batch(draw.integers(0, 10**6, size).tolist()) for size in of_task] for of_task in sizes]
    grid = Grid(len(turns), receivers, min(task_stripes, len(turns)), min(receiver_stripes, receivers))
    with mock.patch("gneiss.stages.batch_file.PACK_BYTES", pack_bytes):
        for task, batches in enumerate(sent):
            written = exchange.write("s", task, SCHEMA, batches, receivers)
            assert written.rows == sum(record_batch.num_rows for record_batch in batches)
            assert list(exchange.batches("s", task)) == batches
            assert [exchange.batch("s", task, number) for number in range(len(batches))] == batches
            assert exchange.batch("s", task, 0, ["flag"]) == batches[0].select(["flag"])
        for tile in range(grid.tiles):
            exchange.write_tile("s", grid, tile)
    for receiver in range(receivers):
        expected = [record_batch for batches in sent for record_batch in batches[receiver::receivers]]
        for tiling in (None, grid):
            with mock.patch("gneiss.stages.exchange.HELD_BYTES", int(draw.integers(0, 3000))):
                again = exchange.across("s", len(sent), receiver, tiling)
                assert list(chain(again, again)) == expected * 2


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_each_batch_is_in_one_tile(tasks: int, receivers: int, data: Any) -> None:
    grid = Grid(tasks, receivers, data.draw(st.integers(1, tasks)), data.draw(st.integers(1, receivers)))
    held = [
        (task, receiver)
        for tile in range(grid.tiles)
        for task in grid.tasks_of(tile)
        for receiver in grid.receivers_of(tile)
    ]
    assert sorted(held) == [(task, receiver) for task in range(tasks) for receiver in range(receivers)]
    for receiver in range(receivers):
        column = grid.column(receiver)
        assert all(receiver in grid.receivers_of(tile) for tile in column)
        assert list(chain.from_iterable(map(grid.tasks_of, column))) == list(range(tasks))


@given(st.integers(1, 10**6), st.integers(1, 10**5), st.integers(0, 10**13))
def test_a_merge_saves_reads_and_fits_into_memory(tasks: int, receivers: int, size: int) -> None:
    grid = grid_for(tasks, receivers, size)
    if grid is None:
        return
    assert grid.merge_reads + grid.reads + grids.WORTH_READS <= tasks * receivers
    assert 1 <= grid.task_stripes <= tasks
    assert 1 <= grid.receiver_stripes <= receivers
    largest = len(grid.tasks_of(grid.tiles - 1)) * len(grid.receivers_of(grid.tiles - 1))
    assert largest * size <= grids.TILE_BYTES * tasks * receivers


def test_reads_are_large_where_the_data_allows() -> None:
    """At 300 bytes for each task and receiver, and more."""
    for size in (300, 1_000, 20_000):
        grid = grid_for(400_000, 60_000, size * 400_000 * 60_000)
        assert grid is not None
        assert min(400_000 // grid.task_stripes, 60_000 // grid.receiver_stripes) * size >= grids.READ_BYTES
    assert grid_for(400_000, 60_000, grids.READ_BYTES * 400_000 * 60_000) is None


def test_batches_that_do_not_come_out_even_are_a_defect() -> None:
    with pytest.raises(ValueError, match="for each of 2 receivers, found 3 in all"):
        in_memory().write("s", 0, SCHEMA, [batch([1])] * 3, 2)


def test_many_small_batches_take_one_message_and_few_bytes() -> None:
    exchange = in_memory()
    small = [batch([number]) for number in range(2_000)]
    alone = pa.BufferOutputStream()
    with pa.ipc.new_stream(alone, SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for record_batch in small:
            writer.write_batch(record_batch)
    assert exchange.write("s", 0, SCHEMA, small).size_bytes * 20 < alone.getvalue().size
    with pa.ipc.open_stream((exchange.output / exchange_path("s", 0)).read()) as stream:  # by any reader of Arrow
        assert stream.read_all() == pa.Table.from_batches(small)


def test_files_are_compressed_as_the_stage_says_in_any_folder() -> None:
    many = batch([*range(2_000)])
    sizes = {
        (folder, level): Exchange(Place(MemoryStore(), "out"), folder)
        .write("s", 0, SCHEMA, [many], 1, level)
        .size_bytes
        for folder in ("_gneiss/exchange", "_gneiss/exchange/001", "_gneiss/index/000")
        for level in (1, 19)
    }
    assert len({size for (_, level), size in sizes.items() if level == 1}) == 1
    assert len({size for (_, level), size in sizes.items() if level == 19}) == 1
    assert sizes["_gneiss/exchange", 19] < sizes["_gneiss/exchange", 1]


def test_what_is_missing(tmp_path: Path) -> None:
    exchange = Exchange(place_of(tmp_path))
    for task in (0, 2):
        exchange.write("s", task, SCHEMA, [batch([task]), batch([])], 2)
    assert exchange.missing("s", 4) == [1, 3]
    exchange.write("s", 1, SCHEMA, [batch([1]), batch([])], 2)
    grid = Grid(3, 2, 2, 1)
    exchange.write_grid("s", grid)
    exchange.write_tile("s", grid, 1)
    assert exchange.grid("s") == grid
    assert exchange.missing_tiles("s", grid) == [0]
    exchange.write_tile("s", grid, 0)
    exchange.discard_tasks("s")
    assert exchange.missing("s", 3) == []
    assert list(exchange.across("s", 3, 0, grid)) == [batch([task]) for task in range(3)]
    exchange.discard("s")
    assert exchange.missing("s", 3) == [0, 1, 2]
    assert not any((tmp_path / "_gneiss/exchange").iterdir())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("damage", ["cut", "empty", "overwritten", "gone", "index"])
def test_a_damaged_file_is_named(tmp_path: Path, merged: bool, damage: str) -> None:
    exchange, grid = Exchange(place_of(tmp_path)), Grid(2, 3, 1, 1)
    for task in range(2):
        draw = np.random.default_rng(task)
        batches = [batch(draw.integers(0, 10**6, 500).tolist()) for _ in range(3)]
        exchange.write("s", task, SCHEMA, batches, 3)
    exchange.write_tile("s", grid, 0)
    path = tmp_path / (tile_path("s", 0) if merged else exchange_path("s", 1))
    content = bytearray(path.read_bytes())
    match damage:
        case "cut":
            path.write_bytes(content[:-100])
        case "empty":
            path.write_bytes(b"")
        case "overwritten":
            content[600:900] = bytes(300)
            path.write_bytes(content)
        case "index":
            content[-400:-300] = bytes(100)
            path.write_bytes(content)
        case "gone":
            path.unlink()
    told = "not there any more; run again" if damage == "gone" else r"damaged \(.*\); delete it and run again"
    across = [exchange.across("s", 2, receiver, grid if merged else None) for receiver in range(3)]
    with pytest.raises(OutputError, match=f"{path.name}: {told}"):
        list(chain.from_iterable(across))
