"""Shards: every row once and in order, whatever the file; what cannot be read is told apart and named."""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.input.shard import Input, Shard, cut_shards
from gneiss.store.place import place_of
from tests.support import write_documents

SCHEMA = pa.schema({"id": pa.string(), "text": pa.string()})


def write_groups(path: Path, sizes: list[int]) -> Path:
    """A file with a row group of each size; texts are the numbers of their rows."""
    row = 0
    with pq.ParquetWriter(path, SCHEMA, use_dictionary=False) as writer:
        for size in sizes:
            numbers = [f"{i:06d}" for i in range(row, row + size)]
            writer.write_table(pa.table({"id": numbers, "text": numbers}, SCHEMA), row_group_size=max(size, 1))
            row += size
    return path


def rows_of(shard: Shard) -> list[str]:
    """The texts of a shard; its tables must say where they begin."""
    found: list[str] = []
    for first, table in shard.tables(["text"]):
        assert first == len(found)
        assert table.column_names == ["text"]
        found.extend(table["text"].to_pylist())
    return found


@given(st.lists(st.integers(0, 12), max_size=6), st.integers(1, 400))
@pytest.mark.slow
def test_shards_of_any_size_hold_each_row_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_max_bytes: int
) -> None:
    path = write_groups(tmp_path_factory.mktemp("shards") / "a.parquet", sizes)
    shards = cut_shards(path, text="text", shard_max_bytes=shard_max_bytes).shards
    assert [row for shard in shards for row in rows_of(shard)] == [f"{i:06d}" for i in range(sum(sizes))]
    assert [shard.rows for shard in shards] == [len(rows_of(shard)) for shard in shards]
    assert len({shard.id for shard in shards}) == len(shards)
    assert [shard.id for shard in shards] == sorted(shard.id for shard in shards)
    footer = pq.read_metadata(path)
    text = {g: footer.row_group(g).column(1).total_uncompressed_size for g in range(footer.num_row_groups)}
    first_rows = list(accumulate(sizes, initial=0))
    for shard in shards:
        groups = [
            g for g in text if shard.part.start < first_rows[g + 1] and first_rows[g] < shard.part.end and sizes[g]
        ]
        assert shard.text_bytes <= shard_max_bytes or shard.rows <= 1 or len(groups) == 1
        if len(groups) > 1:
            assert sum(text[g] for g in groups) == shard.text_bytes <= shard_max_bytes


def test_a_file_that_fits_is_one_shard_named_as_the_file(tmp_path: Path) -> None:
    write_groups(tmp_path / "crawl.v1.parquet", [5, 5])
    (shard,) = cut_shards(tmp_path, text="text").shards
    assert (shard.id, shard.part.start, shard.part.end, shard.rows) == ("crawl.v1", 0, 10, 10)


def test_row_groups_are_gathered_up_to_the_limit(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a.parquet", [10] * 5)
    size = pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size
    shards = cut_shards(path, text="text", shard_max_bytes=2 * size).shards
    assert [(s.id, s.part.start, s.part.end) for s in shards] == [
        ("a.g00000", 0, 20),
        ("a.g00002", 20, 40),
        ("a.g00004", 40, 50),
    ]


def test_an_oversized_row_group_is_split_by_rows_and_its_neighbours_are_not(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a.parquet", [2, 60, 2])
    size = pq.read_metadata(path).row_group(1).column(1).total_uncompressed_size
    shards = cut_shards(path, text="text", shard_max_bytes=size // 3 + 1).shards
    assert [s.id for s in shards] == [
        "a.g00000",
        "a.g00001.r000000000",
        "a.g00001.r000000020",
        "a.g00001.r000000040",
        "a.g00002",
    ]
    assert [s.rows for s in shards] == [2, 20, 20, 20, 2]
    assert rows_of(shards[2]) == [f"{i:06d}" for i in range(22, 42)]


def test_one_huge_document_is_a_shard_of_its_own(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "a.parquet", ["x" * 10_000])
    (shard,) = cut_shards(path, text="text", shard_max_bytes=10).shards
    assert (shard.id, shard.rows) == ("a", 1)


def test_files_come_in_bytewise_order_and_hidden_ones_not_at_all(tmp_path: Path) -> None:
    names = ["b", "a/z", "a-b", "A", "a", "ä", "a10", "a9", "_gneiss/x", ".hidden", "a/_tmp/x", "a/.git/x"]
    for name in names:
        write_documents(tmp_path / f"{name}.parquet", ["x"])
    (tmp_path / "notes.txt").write_text("no Parquet")
    shards = cut_shards(tmp_path, text="text").shards
    assert [shard.id for shard in shards] == ["A", "a-b", "a", "a/z", "a10", "a9", "b", "ä"]


def test_the_text_column_is_found_among_nested_ones(tmp_path: Path) -> None:
    """The text is not the first leaf, and a struct holds a leaf of the same name."""
    path = tmp_path / "a.parquet"
    meta = [{"text": "y" * 1000, "url": "u"}] * 3
    pq.write_table(pa.table({"meta": meta, "id": ["1", "2", "3"], "text": ["a", "b", "c"]}), path, use_dictionary=False)
    found = cut_shards(path, text="text", required=["id"])
    assert found.text_bytes == pq.read_metadata(path).row_group(0).column(3).total_uncompressed_size
    assert rows_of(found.shards[0]) == ["a", "b", "c"]


# What an input may be.


def test_a_glob_takes_what_matches_with_ids_from_its_fixed_part(tmp_path: Path) -> None:
    for name in ("one/x.parquet", "two/x.parquet", "two/deep/x.parquet", "three/y.other"):
        write_documents(tmp_path / name, ["x"])
    assert [s.id for s in cut_shards(f"{tmp_path}/t*/*", text="text").shards] == ["three/y", "two/x"]
    assert [s.id for s in cut_shards(f"{tmp_path}/two/**/*.parquet", text="text").shards] == ["deep/x", "x"]
    assert [s.id for s in cut_shards(f"{tmp_path}/one/[xy].parquet", text="text").shards] == ["x"]


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path: Path) -> None:
    write_documents(tmp_path / "part[1]" / "x.parquet", ["x"])
    assert [s.id for s in cut_shards(tmp_path / "part[1]", text="text").shards] == ["x"]


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    path = write_documents(tmp_path / "with space.parquet", ["x"])
    for address in (path.as_uri(), f"file://localhost{path.as_uri().removeprefix('file://')}", str(path)):
        assert [s.id for s in cut_shards(address, text="text").shards] == ["with space"]


@pytest.mark.parametrize("scheme", ["sftp", "abfss"])
def test_a_scheme_that_no_store_has_is_named(scheme: str) -> None:
    with pytest.raises(InputError, match=f"input {scheme}://bucket/x: no store has the scheme {scheme}://"):
        cut_shards(f"{scheme}://bucket/x", text="text")


def test_a_file_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InputError, match="file://data/crawl: expected file:///"):
        place_of("file://data/crawl", "input")


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or directory, or an empty one"):
        cut_shards(tmp_path, text="text")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"expected files named \*\.parquet or \*\.parq or .*, found none"):
        cut_shards(tmp_path, text="text")
    with pytest.raises(InputError, match="no such file or directory"):
        cut_shards(tmp_path / "missing", text="text")
    with pytest.raises(InputError, match="expected files that match, found none"):
        cut_shards(tmp_path / "*.parquet", text="text")


def test_two_files_of_one_shard_name_are_refused(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.parquet", ["x"])
    write_documents(tmp_path / "a.pq", ["x"])
    said = (
        r"/a\.parquet and .*/a\.pq: two files would write to the same shard 'a'; rename one of them, or take the files"
    )
    with pytest.raises(InputError, match=said):
        cut_shards(tmp_path, text="text")
    with pytest.raises(InputError, match="two files would write to the same shard 'a'"):
        cut_shards(tmp_path / "a.*", text="text")


def test_a_file_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    good = write_documents(tmp_path / "a.parquet", ["x"])
    os.rename(os.fsencode(good), os.fsencode(tmp_path) + b"/\xff.parquet")
    with pytest.raises(InputError, match=r"\\xff\.parquet.*not UTF-8; rename it"):
        cut_shards(tmp_path, text="text")


@pytest.mark.parametrize("name", ["a b", "100%", "a?b#c", "a:b", "☃", "'\"", "a*b", "x" * 200])
def test_files_of_any_other_name_are_read(tmp_path: Path, name: str) -> None:
    write_documents(tmp_path / f"{name}.parquet", ["some text"])
    (shard,) = cut_shards(tmp_path, text="text").shards
    assert (shard.id, rows_of(shard)) == (name, ["some text"])


# Files that are no good.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected a Parquet file, found 0 bytes"),
        (b"abc", "expected a Parquet file, found 3 bytes"),
        (b"PAR1PAR1", "expected a Parquet file, found 8 bytes"),
        (b"id,text\n1,some text\n2,more text\n", "no Parquet footer at its end"),
        (b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x7fPAR1", "no Parquet footer at its end"),
        (b"PAR1" + b"\0" * 100 + b"\x40\0\0\0PAR1", ""),  # a footer of zeros
        (b"PAR1" + b"\xff" * 100 + b"\x40\0\0\0PAR1", ""),
        (b"PAR1" + b"\0" * 100 + b"\0\0\0\0PAR1", ""),
        (b"PAR1" + b"\0" * 100 + b"\x40\0\0\0PARE", "its footer is encrypted; decrypt it first"),
    ],
)
def test_a_file_that_is_no_parquet_is_set_aside_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    write_documents(tmp_path / "good.parquet", ["x"])
    (tmp_path / "bad.parquet").write_bytes(content)
    found = cut_shards(tmp_path, text="text")
    assert [shard.id for shard in found.shards] == ["good"]
    (bad,) = found.unreadable
    assert (bad.id, str(bad.file)) == ("bad", str(tmp_path / "bad.parquet"))
    assert reason in bad.reason
    assert bad.reason
    assert "\n" not in bad.reason


@given(st.data())
def test_a_file_cut_short_anywhere_or_damaged_never_gives_wrong_rows(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = write_groups(tmp_path_factory.mktemp("cut") / "a.parquet", [5, 5])
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[at:]
    else:
        content[at : at + 8] = b"\xff" * len(content[at : at + 8])
    path.write_bytes(content)
    try:
        found = cut_shards(path, text="text")
        rows = [shard.rows for shard in found.shards]
        read = [len(rows_of_unchecked(shard)) for shard in found.shards]
    except InputError:
        return
    if not found.unreadable:
        assert rows == read


def rows_of_unchecked(shard: Shard) -> list[bytes]:
    """The texts of a shard of a damaged file, as bytes: they need not be UTF-8."""
    chunks = (chunk for _, table in shard.tables(["text"]) for chunk in table["text"].chunks)
    return [value for chunk in chunks for value in chunk.view(pa.binary()).to_pylist()]


def test_a_file_whose_data_is_gone_is_an_input_error_when_it_is_read(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a.parquet", [50])
    found = cut_shards(path, text="text")
    content, times = path.read_bytes(), path.stat()
    path.write_bytes(b"PAR1" + b"\xff" * (len(content) // 2 - 4) + content[len(content) // 2 :])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a disk that fails, not a writer
    with pytest.raises(InputError, match=r"a\.parquet: cannot read: ") as caught:
        rows_of(found.shards[0])
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.parquet: cannot read: "):
        rows_of(found.shards[0])


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_file_that_was_replaced_is_not_read_as_the_one_that_was_cut(tmp_path: Path, keeps_time: bool) -> None:
    path = write_documents(tmp_path / "a.parquet", ["one", "two"])
    (shard,) = cut_shards(path, text="text").shards
    size, times = path.stat().st_size, path.stat()
    write_documents(tmp_path / "a.parquet", ["six", "ten"])
    assert path.stat().st_size == size
    if keeps_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(InputError, match=r"a\.parquet: modified or replaced after the run began"):
        rows_of(shard)


def test_a_file_without_rows_is_a_shard_without_rows(tmp_path: Path) -> None:
    write_groups(tmp_path / "groups.parquet", [0])
    write_groups(tmp_path / "none.parquet", [])
    found = cut_shards(tmp_path, text="text", required=["id"])
    assert [(shard.id, shard.rows) for shard in found.shards] == [("groups", 0), ("none", 0)]
    assert [rows_of(shard) for shard in found.shards] == [[], []]


# Columns.


def cut_table(path: Path, table: pa.Table) -> Input:
    pq.write_table(table, path / "a.parquet")
    return cut_shards(path, text="text", required=["id"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (pa.array([b"a"]), "binary"),
        (pa.array([1]), "int64"),
        (pa.array([["a"]]), "list"),
        (pa.array([{"text": "a"}]), "struct"),
    ],
)
def test_a_text_column_of_another_type_is_refused_with_what_was_found(
    tmp_path: Path, text: pa.Array, found: str
) -> None:
    with pytest.raises(InputError, match=f"column 'text': expected string, found {found}"):
        cut_table(tmp_path, pa.table({"id": ["1"], "text": text}))


def test_a_text_column_of_structs_is_refused_with_the_path_that_would_do(tmp_path: Path) -> None:
    page = pa.array([{"n": 1, "of": {"content": "a"}}])
    with pytest.raises(InputError, match=r"expected string, found struct.*; write `text: text\.of\.content` under"):
        cut_table(tmp_path, pa.table({"text": page}))


DICTIONARY = pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.string_view(), DICTIONARY])
def test_all_kinds_of_strings_are_read(tmp_path: Path, type_: pa.DataType) -> None:
    found = cut_table(tmp_path, pa.table({"id": ["1"], "text": pa.array(["some text"], type_)}))
    assert rows_of(found.shards[0]) == ["some text"]


def test_a_missing_column_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected a column 'text', found id, content; name the right one under `input:`"
    ):
        cut_table(tmp_path, pa.table({"id": ["1"], "content": ["a"]}))
    with pytest.raises(InputError, match="expected a column 'id', found text"):
        cut_table(tmp_path, pa.table({"text": ["a"]}))


@pytest.mark.parametrize("name", ["text", "id", "other"])
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    columns = [pa.array(["a"])] * 3
    with pytest.raises(InputError, match=f"the column '{name}' occurs 2 times; keep one"):
        cut_table(tmp_path, pa.Table.from_arrays([*columns, *columns[:1]], ["id", "text", "other", name]))


@pytest.mark.parametrize("ids", [[["1"]], [{"a": 1}]])
def test_an_id_that_is_no_single_value_is_refused(tmp_path: Path, ids: list[object]) -> None:
    with pytest.raises(InputError, match="column 'id': expected strings or numbers, found"):
        cut_table(tmp_path, pa.table({"id": ids, "text": ["a"]}))


def test_one_file_with_other_columns_is_set_aside_and_all_of_them_are_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One odd file does not end the run of the others; a wrong recipe is said before anything is read."""
    pq.write_table(pa.table({"id": ["1"], "txt": ["x"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["1"], "text": [1]}), tmp_path / "z.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: expected a column 'text', found id, txt"):
        cut_shards(tmp_path, text="text")
    write_documents(tmp_path / "b.parquet", ["x"])
    found = cut_shards(tmp_path, text="text")
    assert [shard.id for shard in found.shards] == ["b"]
    assert "a.parquet and 1 more: quarantined: expected a column 'text'" in caplog.text
    assert [(file.id, file.reason.partition(", found")[0]) for file in found.unreadable] == [
        ("a", "expected a column 'text'"),
        ("z", "column 'text': expected string"),
    ]


# Fingerprints.


def test_the_fingerprint_is_of_name_size_and_footer(tmp_path: Path) -> None:
    def fingerprint(folder: str, name: str, texts: list[str]) -> str:
        (shard,) = cut_shards(write_documents(tmp_path / folder / name, texts), text="text").shards
        return shard.fingerprint

    first = fingerprint("one", "a.parquet", ["x"])
    assert fingerprint("two", "a.parquet", ["x"]) == first, "a copy elsewhere is the same shard"
    assert fingerprint("one", "b.parquet", ["x"]) != first
    assert fingerprint("three", "a.parquet", ["y"]) != first
    assert fingerprint("four", "a.parquet", ["x", "x"]) != first
