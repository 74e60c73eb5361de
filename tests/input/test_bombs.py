"""Small files that unpack to much more: read in bounded memory, or refused with the reason."""

from __future__ import annotations

import bz2
import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from pyarrow import ipc

from gneiss.errors import InputError
from gneiss.input.formats import csv, lines
from gneiss.input.shard import cut_shards
from gneiss.store.place import place_of

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1), ".zst": zstandard.compress, ".bz2": bz2.compress,
}  # fmt: skip
SIZE, MOST = 16_000_000, 3 << 19


def texts_of(path: Path) -> list[str | None]:
    """The texts of a file's rows. Raises InputError, also for a file that cannot be cut."""
    found = cut_shards(path, text="text")
    for file in found.unreadable:
        raise InputError(file.reason)
    return [text for shard in found.shards for _, table in shard.tables(["text"]) for text in table["text"].to_pylist()]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((lines, "MOST_LINE_BYTES"), (lines, "_BLOCK_BYTES"), (csv, "_BLOCK_BYTES")):
        monkeypatch.setattr(module, name, MOST)


@pytest.mark.parametrize("codec", PACKERS)
def test_a_line_without_end_is_not_held(codec: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{codec}"
    path.write_bytes(PACKERS[codec](b'{"text": "one"}\n{"text": "' + b"a" * SIZE))
    tracemalloc.start()
    try:
        found = [(block.first_line, block.is_cut) for block in lines.blocks(place_of(path), 0, None, 0)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [(0, False), (1, True)]
    assert peak < 8 * MOST < SIZE


@pytest.mark.parametrize("codec", PACKERS)
@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"text\none\n", "straddles two block boundaries"), (b'text\none\n"', "straddles two block boundaries"),
        (b"text,", "expected a row with the names of columns"),
    ],
)  # fmt: skip
def test_a_row_without_end_is_an_unreadable_file(codec: str, head: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.csv{codec}"
    path.write_bytes(PACKERS[codec](head + b"a" * SIZE))
    with pytest.raises(InputError, match=reason):
        texts_of(path)


@pytest.mark.parametrize("claimed", [1 << 40, 1 << 62, -5])
def test_a_buffer_that_claims_to_unpack_to_more_than_there_is_memory(claimed: int, tmp_path: Path) -> None:
    path, table = tmp_path / "a.arrow", pa.table({"text": ["x" * 1000, "y" * 10]})
    with ipc.new_file(path, table.schema, options=ipc.IpcWriteOptions(compression="zstd")) as file:
        file.write_table(table)
    size = struct.pack("<q", 1010)
    assert path.read_bytes().count(size) == 1
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<q", claimed)))
    with pytest.raises(InputError):
        texts_of(path)
