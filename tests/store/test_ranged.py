"""Files that are read in ranges: the bytes of the file, by few requests."""

from __future__ import annotations

import io
import random
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.input.formats.format import Part
from gneiss.input.formats.parquet import Parquet
from gneiss.store import ranged
from gneiss.store.ranged import Kept, Memory, Ranges, open_ranges, ranges_of

CONTENT = bytes(range(256)) * 2000


def ranges(file: Any) -> Ranges:
    found = ranges_of(file)
    assert found is not None
    return found


class Fetched(list[tuple[int, int]]):
    """The requests."""

    def __call__(self, start: int, end: int) -> bytes:
        self.append((start, end))
        return CONTENT[start:end]


@given(
    st.lists(st.tuples(st.integers(0, len(CONTENT) + 9), st.integers(0, 200_000)), max_size=8),
    st.integers(0, 70_000),
    st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(1, 90_000)), max_size=4),
)
def test_any_reads_give_the_bytes_of_the_file(
    reads: list[tuple[int, int]], tail: int, ahead: list[tuple[int, int]]
) -> None:
    for kept in (Kept(), Kept(1000), Kept(100_000), Kept(len(CONTENT))):
        read_any(reads, tail, ahead, kept)


def read_any(reads: list[tuple[int, int]], tail: int, ahead: list[tuple[int, int]], kept: Kept) -> None:
    oracle = io.BytesIO(CONTENT)
    with open_ranges(Fetched(), len(CONTENT), CONTENT[len(CONTENT) - tail :] if tail else None) as file:
        if kept.most_bytes:
            ranges(file).kept = kept
        wanted = [(at, min(at + size, len(CONTENT))) for at, size in ahead]
        ranges(file).ahead(wanted, [(at, at + 9) for at, _ in wanted])
        for start, size in reads:
            oracle.seek(start)
            file.seek(start)
            assert file.read(size) == oracle.read(size)


def test_a_file_is_read_from_end_to_end_by_few_requests() -> None:
    fetched = Fetched()
    with open_ranges(fetched, len(CONTENT), CONTENT[-1000:]) as file:
        assert b"".join(iter(lambda: file.read(1000), b"")) == CONTENT
    assert len(fetched) <= 5


def test_what_is_ahead_is_asked_for_once() -> None:
    fetched = Fetched()
    with open_ranges(fetched, len(CONTENT)) as file:
        ranges(file).ahead([(0, 1000), (5000, 9000)])
        for start in (0, 500, 5000, 8999):
            file.seek(start)
            assert file.read(1) == CONTENT[start : start + 1]
    assert sorted(fetched) == [(0, 1000), (5000, 9000)]
    assert ranges_of(pa.BufferReader(b"local")) is None


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    file = open_ranges(lambda start, end: b"x" * (end - start - 1), 100)
    with pytest.raises(OSError, match="cut short"):
        file.read(10)


def test_the_end_of_a_file_is_asked_for_once() -> None:
    fetched = Fetched()
    with open_ranges(fetched, len(CONTENT)) as file:
        for size in (8, 1000, 60_000):
            file.seek(len(CONTENT) - size)
            assert file.read() == CONTENT[-size:]
    assert fetched == [(len(CONTENT) - 65_536, len(CONTENT))]


def test_a_small_file_that_is_read_again_is_asked_for_once() -> None:
    fetched, memory = Fetched(), Memory()
    for _ in range(2):
        with open_ranges(fetched, len(CONTENT)) as file:
            ranges(file).kept = memory.of("a")
            assert file.read(10) == CONTENT[:10]
            file.seek(300_000)
            assert file.read() == CONTENT[300_000:]
    assert fetched == [(0, len(CONTENT))]
    assert memory.of("b").find(0, 10) is None
    assert memory.of("a").find(0, 10) is None, "only the last file is kept"


def test_a_file_of_some_requests_is_asked_for_in_one_round_trip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged, "_REQUEST_BYTES", 200_000)
    together = threading.Barrier(3)

    def fetch(start: int, end: int) -> bytes:
        together.wait(60)
        return CONTENT[start:end]

    with open_ranges(fetch, len(CONTENT)) as file:
        ranges(file).kept = Memory().of("a")
        assert file.read() == CONTENT


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), max_size=12), st.integers(0, 60))
def test_what_is_kept_is_bounded_and_right(pieces: list[tuple[int, int]], most: int) -> None:
    kept = Kept(most)
    for start, size in pieces:
        kept.keep(start, CONTENT[start : start + size])
        found = {at for at in range(100) if kept.find(at, at + 1) is not None}
        assert len(found) <= most
        assert all(kept.find(at, at + 1) == CONTENT[at : at + 1] for at in found)
        assert size > most or kept.find(start, start + size) == CONTENT[start : start + size]


def parquet_file() -> bytes:
    """Five row groups; the column `text` is the largest by far."""
    sink, draw = io.BytesIO(), random.Random(0)
    names = [f"{number}" for number in range(1000)]
    texts = [draw.randbytes(600).hex() for _ in names]
    pq.write_table(pa.table({"id": names, "text": texts, "other": names}), sink, row_group_size=200, compression=None)
    return sink.getvalue()


@pytest.mark.parametrize(("most_bytes", "again"), [(0, 5), (100_000, 0)])
def test_row_groups_come_by_one_request_each_and_what_fits_is_not_asked_for_again(
    most_bytes: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranged, "WHOLE_BYTES", 1000)
    content = parquet_file()
    fetched, kept = list[tuple[int, int]](), Kept(most_bytes)

    def fetch(start: int, end: int) -> bytes:
        fetched.append((start, end))
        return content[start:end]

    class Remembered:
        def open(self) -> Any:
            file = open_ranges(fetch, len(content))
            ranges(file).kept = kept
            return file

    part = Part("", 0, 1000, 1000, 0)
    for columns, requests in ((["text"], 1 + 5), (["id", "other"], again)):
        fetched.clear()
        tables = list(Parquet().tables(Remembered(), part, columns))  # type: ignore[arg-type]
        assert pa.concat_tables(tables).equals(pq.read_table(io.BytesIO(content), columns=columns))
        assert len(fetched) == requests
