"""Files that are read in ranges: the bytes of the file, by few requests."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.store.ranged import open_ranges, read_ahead

CONTENT = bytes(range(256)) * 2000


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
    oracle = io.BytesIO(CONTENT)
    with open_ranges(Fetched(), len(CONTENT), CONTENT[len(CONTENT) - tail :]) as file:
        read_ahead(file, [(start, min(start + size, len(CONTENT))) for start, size in ahead if start < len(CONTENT)])
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
        read_ahead(file, [(0, 1000), (5000, 9000)])
        for start in (0, 500, 5000, 8999):
            file.seek(start)
            assert file.read(1) == CONTENT[start : start + 1]
    assert sorted(fetched) == [(0, 1000), (5000, 9000)]
    read_ahead(pa.BufferReader(b"local"), [(0, 1)])


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    file = open_ranges(lambda start, end: b"x" * (end - start - 1), 100)
    with pytest.raises(OSError, match="cut short"):
        file.read(10)


def test_the_columns_of_a_row_group_come_by_one_request() -> None:
    from gneiss.input.formats.parquet import _ranges

    sink = io.BytesIO()
    table = pa.table({name: [f"{name}{number}" for number in range(1000)] for name in ("a", "b", "c")})
    pq.write_table(table, sink, row_group_size=500)
    metadata = pq.read_metadata(sink)
    for group in range(2):
        (one,) = _ranges(metadata.row_group(group), ["a", "c"])
        columns = [metadata.row_group(group).column(index) for index in range(3)]
        assert one[0] <= min(its.dictionary_page_offset for its in columns)
        assert one[1] - one[0] == sum(its.total_compressed_size for its in columns)
    assert len(_ranges(metadata.row_group(0), ["b"])) == 1
