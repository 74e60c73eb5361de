"""Records come out of every kind of archive; damage is named, and costs only what it hit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.extraction.records import Damage, Record, read_records
from gneiss.store.place import place_of
from tests.extraction.archives import gz, id_of, plain, record, response, zst

Packing = Callable[[bytes], bytes]
LIMIT = 10_000_000
BODIES = [bytes(f"<p>{n} ", "ascii") * 400 * (n + 1) for n in range(4)]
PARTS = [response(body, number) for number, body in enumerate(BODIES)]


def read(path: Path, content: bytes, limit: int = LIMIT) -> list[Record | Damage]:
    path.write_bytes(content)
    return list(read_records(place_of(path), limit))


def ids(found: list[Record | Damage]) -> list[str | None]:
    return [record.id if isinstance(record, Record) else None for record in found]


@pytest.mark.parametrize("pack", [plain, gz, zst])
def test_records_are_read_whole_with_their_offsets(pack: Packing, tmp_path: Path) -> None:
    packed = [pack(part) for part in PARTS]
    found = read(tmp_path / "x", b"".join(packed))
    assert ids(found) == [id_of(number) for number in range(4)]
    assert [its.offset for its in found] == [sum(map(len, packed[:number])) for number in range(4)]
    for its, body in zip(found, BODIES, strict=True):
        assert isinstance(its, Record)
        assert its.content is not None
        assert its.content.endswith(b"\r\n\r\n" + body)
        assert (its.kind, its.url, its.date) == (
            "response",
            f"https://example.org/{its.id[-2]}",
            "2026-11-22T10:00:00Z",
        )  # type: ignore[index]
        assert its.size_bytes == len(its.content)


@pytest.mark.parametrize("pack", [plain, gz, zst])
def test_one_stream_for_the_whole_archive_is_read_too(pack: Packing, tmp_path: Path) -> None:
    assert ids(read(tmp_path / "x", pack(b"".join(PARTS)))) == [id_of(number) for number in range(4)]


@pytest.mark.parametrize("pack", [plain, gz, zst])
@pytest.mark.parametrize("where", [0, 1, 3])
def test_garbage_between_records_is_stepped_over(pack: Packing, where: int, tmp_path: Path) -> None:
    packed = [pack(part) for part in PARTS]
    packed.insert(where, b"GARBAGE" * 20)
    found = read(tmp_path / "x", b"".join(packed))
    assert ids(found) == [*(id_of(n) for n in range(where)), None, *(id_of(n) for n in range(where, 4))]
    damage = found[where]
    assert isinstance(damage, Damage)
    end = sum(map(len, packed[: where + 1]))
    assert damage.offset + damage.size_bytes == end
    if pack is not zst or where == 0:  # of zstd frames, only the start of the record before is known
        assert damage.size_bytes == 140


def test_a_damaged_member_costs_itself(tmp_path: Path) -> None:
    packed = [gz(part) for part in PARTS]
    middle = len(packed[1]) // 2
    packed[1] = packed[1][:middle] + b"\xff" * (len(packed[1]) - middle)
    found = read(tmp_path / "x", b"".join(packed))
    assert [its.id for its in found if isinstance(its, Record) and not its.cut_short] == [id_of(n) for n in (0, 2, 3)]
    assert len(found) == 4  # and the damaged one is named, as a record that is cut or as damage


@pytest.mark.parametrize("pack", [plain, gz])
@given(left=st.integers(1, 20_000))
@settings(max_examples=40)
def test_an_archive_cut_anywhere_keeps_what_came_before(
    pack: Packing, left: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    packed = [pack(part) for part in PARTS]
    whole = b"".join(packed)
    left = min(left, len(whole) - 1)
    ends = [sum(map(len, packed[: number + 1])) for number in range(4)]
    expected = [id_of(number) for number, end in enumerate(ends) if end <= left]
    path = tmp_path_factory.getbasetemp() / "cut"
    try:
        found = read(path, whole[:left])
    except InputError:
        assert left < 200  # too little to be an archive
        return
    kept = [its.id for its in found if isinstance(its, Record) and not its.cut_short]
    if len(kept) > len(expected):  # its content is whole, what is missing is a checksum or the empty lines at its end
        assert 0 < ends[len(expected)] - left <= 20
        expected.append(id_of(len(expected)))
    assert kept == expected
    if left not in ends and min(abs(left - end) for end in ends) > 4:
        assert len(found) == len(kept) + 1  # the rest is named, as a record that is cut or as damage


@pytest.mark.parametrize("length", [20, 900, 10**6, 10**12, 10**22, -5])
def test_a_lying_length_costs_no_record_behind_it(length: int, tmp_path: Path) -> None:
    liar = record("response", b"HTTP/1.1 200 OK\r\n\r\n" + b"<p>words" * 40, 9, length=length)
    found = read(tmp_path / "x", b"".join([gz(PARTS[0]), gz(liar), gz(PARTS[2]), gz(PARTS[3])]))
    assert {id_of(0), id_of(2), id_of(3)} <= set(ids(found))


def test_long_contents_are_not_read(tmp_path: Path) -> None:
    bomb = response(b"\0" * 300_000_000, 9)
    found = read(tmp_path / "x", gz(PARTS[0]) + gz(bomb) + gz(PARTS[1]))
    assert ids(found) == [id_of(0), id_of(9), id_of(1)]
    assert isinstance(found[1], Record)
    assert found[1].content is None
    assert found[1].size_bytes > 300_000_000


def test_endless_headers_cost_their_record(tmp_path: Path) -> None:
    endless = PARTS[1].replace(b"https://example.org/1", b"https://example.org/" + b"1" * 200_000)
    assert ids(read(tmp_path / "x", gz(PARTS[0]) + gz(endless) + gz(PARTS[2]))) == [id_of(0), None, id_of(2)]


def test_headers_that_are_no_text_become_text(tmp_path: Path) -> None:
    odd = PARTS[0].replace(b"https://example.org/0", b"<https://example.org/\xff\xe4>")
    (found,) = read(tmp_path / "x", gz(odd))
    assert isinstance(found, Record)
    assert found.url == "https://example.org/\ufffd\ufffd"


@pytest.mark.parametrize("content", [b"", b"hello " * 500, gz(b"hello " * 500), zst(b"hello " * 500), PARTS[0][:20]])
def test_what_is_no_archive_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x: expected WARC records, found b"):
        read(tmp_path / "x", content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: cannot read: No such file"):
        list(read_records(place_of(tmp_path / "nowhere"), LIMIT))


@given(st.binary(max_size=3000), st.integers(0, 3), st.sampled_from([plain, gz, zst]))
@settings(max_examples=60)
def test_any_bytes_in_an_archive_neither_crash_nor_hang(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, where: int, pack: Packing
) -> None:
    packed = [pack(part) for part in PARTS]
    packed.insert(where, junk)
    path = tmp_path_factory.getbasetemp() / "junk"
    found = read(path, b"".join(packed))
    # a record before the junk is always read; behind it, all but what the junk may have swallowed
    assert [id_of(number) for number in range(where)] == ids(found)[:where]
    assert len(set(ids(found)) - {None}) >= 3
