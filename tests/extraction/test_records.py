"""Records come out of every kind of archive; damage is named, and costs only what it hit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.extraction.record import Record
from gneiss.extraction.records import Damage, read_records
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
    assert [item.offset for item in found] == [sum(map(len, packed[:number])) for number in range(4)]
    for item, body in zip(found, BODIES, strict=True):
        assert isinstance(item, Record)
        assert item.content is not None
        assert item.content.endswith(b"\r\n\r\n" + body)
        assert (item.kind, item.url, item.date) == (
            "response",
            f"https://example.org/{item.id[-2]}",
            "2026-11-22T10:00:00Z",
        )  # type: ignore[index]
        assert item.size_bytes == len(item.content)


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
    assert [record.id for record in found if isinstance(record, Record) and not record.cut_short] == [
        id_of(n) for n in (0, 2, 3)
    ]
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
    kept = [record.id for record in found if isinstance(record, Record) and not record.cut_short]
    if len(kept) > len(expected):  # its content is whole, what is missing is a checksum or the empty lines at its end
        assert 0 < ends[len(expected)] - left <= 20
        expected.append(id_of(len(expected)))
    assert kept == expected
    if left not in ends and min(abs(left - end) for end in ends) > 4:
        assert len(found) == len(kept) + 1  # the rest is named, as a record that is cut or as damage


@pytest.mark.parametrize("pack", [plain, gz, zst])
@pytest.mark.parametrize("length", [20, 900, 10**6, 10**12, 10**22, -5])
def test_a_wrong_length_costs_no_other_record(pack: Packing, length: int, tmp_path: Path) -> None:
    found = read(tmp_path / "x", b"".join([pack(PARTS[0]), pack(with_length(length)), pack(PARTS[2]), pack(PARTS[3])]))
    assert [id_ for id_ in ids(found) if id_] == [id_of(0), id_of(9), id_of(2), id_of(3)]
    assert all(isinstance(record, Record) and not record.cut_short for record in found if record.id != id_of(9))


CONTENT = b"HTTP/1.1 200 OK\r\n\r\n" + b"<p>words" * 40


def with_length(length: int) -> bytes:
    return record("response", CONTENT, 9, length=length)


@pytest.mark.parametrize("pack", [gz, zst])
@pytest.mark.parametrize("length", [0, 20, 338, 345, 900, 10**6, 10**12, 10**22, -5])
def test_a_record_ends_with_its_member(pack: Packing, length: int, tmp_path: Path) -> None:
    found = read(tmp_path / "x", b"".join([pack(PARTS[0]), pack(with_length(length)), pack(PARTS[2])]))
    assert ids(found) == [id_of(0), id_of(9), id_of(2)]
    liar = found[1]
    assert isinstance(liar, Record)
    assert (liar.content, liar.size_bytes, liar.cut_short, liar.has_wrong_length) == (CONTENT, len(CONTENT), "", True)


@pytest.mark.parametrize("pack", [gz, zst])
def test_a_member_that_ends_within_a_record_cuts_it(pack: Packing, tmp_path: Path) -> None:
    found = read(tmp_path / "x", pack(PARTS[0][:-100]) + pack(PARTS[1]))
    assert ids(found) == [id_of(0), id_of(1)]
    assert isinstance(found[0], Record)
    assert "bytes, but " in found[0].cut_short
    assert found[0].content is None


@pytest.mark.parametrize("length", [20, 338, 700, 10**6, -5])
@pytest.mark.parametrize("pack", [plain, gz, zst])
def test_a_wrong_length_in_a_stream_of_records_is_a_record_cut_short(
    pack: Packing, length: int, tmp_path: Path
) -> None:
    found = read(tmp_path / "x", pack(b"".join([PARTS[0], with_length(length), PARTS[2]])))
    liar = next(record for record in found if record.id == id_of(9))
    assert isinstance(liar, Record)
    assert liar.cut_short
    assert liar.content is None
    assert [id_ for id_ in ids(found) if id_] == [id_of(0), id_of(9), id_of(2)]


def test_records_that_go_on_in_the_next_member_are_whole(tmp_path: Path) -> None:
    whole = b"".join(PARTS)
    for size in (50, 259, 1000, 4999):
        found = read(tmp_path / "x", b"".join(gz(whole[at : at + size]) for at in range(0, len(whole), size)))
        assert ids(found) == [id_of(number) for number in range(4)]
        assert [record.content for record in found if isinstance(record, Record)] == [
            part.split(b"\r\n\r\n", 1)[1][:-4] for part in PARTS
        ]


def test_a_wrong_checksum_is_named(tmp_path: Path) -> None:
    wrong = bytearray(gz(PARTS[1]))
    wrong[-6] ^= 0xFF
    found = read(tmp_path / "x", gz(PARTS[0]) + bytes(wrong) + gz(PARTS[2]))
    assert ids(found) == [id_of(0), None, id_of(2)]
    assert isinstance(found[1], Damage)
    assert "incorrect data check" in found[1].reason


def lenient(part: bytes, old: bytes, new: bytes) -> bytes:
    header, content = part.split(b"\r\n\r\n", 1)
    return (header + b"\r\n\r\n").replace(old, new) + content


@pytest.mark.parametrize("pack", [plain, gz, zst])
@pytest.mark.parametrize(
    "change",
    [
        lambda part: lenient(part, b"\r\n", b"\n"),
        lambda part: lenient(part, b"\r\n", b"\n")[:-4] + b"\n\n",
        lambda part: lenient(lenient(part, b"WARC-", b"warc-"), b"Content-", b"content-"),
        lambda part: lenient(part, b"WARC-", b"Warc-"),
        lambda part: lenient(part, b"WARC/1.0", b"warc/1.1"),
        lambda part: lenient(part, b"WARC/1.0", b"WARC/0.17"),
        lambda part: lenient(part, b": ", b":"),
        lambda part: lenient(part, b": ", b" :\t  "),
        lambda part: lenient(part, b"WARC-Date", b"X-Note: folded\r\n  over: lines\r\nWARC-Date"),
        lambda part: lenient(part, b"WARC-Date", b"no field\r\nWARC-Date"),
        lambda part: part[:-2],
        lambda part: b"\r\n" + part,
        lambda part: part + b"\r\n\r\n",
        lambda part: part + b"\0" * 600,
    ],
)
def test_what_others_read_leniently_is_read(pack: Packing, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    found = read(tmp_path / "x", b"".join(pack(change(part)) for part in PARTS))
    assert ids(found) == [id_of(number) for number in range(4)]
    for item, body in zip(found, BODIES, strict=True):
        assert isinstance(item, Record)
        assert item.content is not None
        assert item.content.endswith(b"\r\n\r\n" + body)
        assert (item.kind, item.url, item.date) == (
            "response",
            f"https://example.org/{item.id[-2]}",
            "2026-11-22T10:00:00Z",
        )  # type: ignore[index]


SKIPPABLE = b"\x53\x2a\x4d\x18\x05\0\0\0hello"


@pytest.mark.parametrize(
    ("pack", "padding"),
    [
        (plain, b"\0" * 5000), (gz, b"\0" * 5000), (zst, b"\0" * 5000), (gz, b"\r\n"), (gz, gz(b"")), (zst, zst(b"")),
        (gz, gz(b"") * 70 + b"\0" * 70_000 + gz(b"")),
        (zst, SKIPPABLE), (zst, SKIPPABLE * 3 + b"\0" * 70_000 + SKIPPABLE),
    ],
)  # fmt: skip
def test_padding_is_no_damage(pack: Packing, padding: bytes, tmp_path: Path) -> None:
    found = read(tmp_path / "x", padding.join([b"", *map(pack, PARTS), b""]))
    assert ids(found) == [id_of(number) for number in range(4)]
    assert all(isinstance(record, Record) and not record.has_wrong_length and record.content for record in found)
    if pack is not plain:
        assert [record.length for record in found if isinstance(record, Record)] == [len(pack(part)) for part in PARTS]


def test_the_dictionary_of_an_archive_is_used(tmp_path: Path) -> None:
    dictionary = bytes(range(256)) * 8
    for kept in (dictionary, zst(dictionary)):
        frame = b"\x5d\x2a\x4d\x18" + len(kept).to_bytes(4, "little") + kept
        assert ids(read(tmp_path / "x", frame + zst(PARTS[0]) + zst(PARTS[1]))) == [id_of(0), id_of(1)]


TRAINED = b"\x37\xa4\x30\xec"


def with_dictionary(dictionary: bytes, frame: bytes) -> bytes:
    return b"\x5d\x2a\x4d\x18" + len(dictionary).to_bytes(4, "little") + dictionary + frame


@pytest.mark.parametrize(
    "dictionary", [TRAINED + b"junk" * 50, zst(b"x" * 50)[:-4], b"\x28\xb5\x2f\xfd" + b"\xff" * 99]
)
def test_a_damaged_dictionary_is_named(dictionary: bytes, tmp_path: Path) -> None:
    found = read(tmp_path / "x", zst(PARTS[0]) + with_dictionary(dictionary, zst(PARTS[1])) + zst(PARTS[2]))
    assert isinstance(found[0], Record)
    assert all(isinstance(record, Damage) and record.reason.startswith("its dictionary: ") for record in found[1:])
    with pytest.raises(InputError, match=r"x: expected WARC records, .* at its start; its dictionary: "):
        read(tmp_path / "x", with_dictionary(dictionary, zst(PARTS[1])))


def test_dictionaries_are_unpacked_a_bounded_number_of_times(tmp_path: Path) -> None:
    bomb = with_dictionary(zst(b"\0" * (1 << 24)), zst(PARTS[0]))
    found = read(tmp_path / "x", bomb * 9)
    assert sum(isinstance(record, Record) for record in found) == 4
    assert {record.reason for record in found if isinstance(record, Damage)} == {
        "its dictionary: the archive has too many"
    }


def test_segments_are_no_pages(tmp_path: Path) -> None:
    first = record("response", CONTENT[:100], 1, WARC_Segment_Number="1")
    rest = record("continuation", CONTENT[100:], 2, WARC_Segment_Number="2", WARC_Segment_Total_Length="340")
    found = read(tmp_path / "x", gz(first) + gz(rest))
    assert [(item.kind, item.segment) for item in found if isinstance(item, Record)] == [
        ("response", "1"),
        ("continuation", "2"),
    ]


def test_an_arc_file_is_refused_with_advice(tmp_path: Path) -> None:
    arc = b"filedesc://IAH-2008.arc 0.0.0.0 20080430204825 text/plain 76\n1 1 InternetArchive\n" * 3
    for pack in (plain, gz):
        with pytest.raises(InputError, match=r"found b'filedesc:.*`warcio recompress` converts ARC files"):
            read(tmp_path / "x", pack(arc))


@pytest.mark.slow
@pytest.mark.exhaustive
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


SIZE = 2_000_000
HEADER = b"WARC/1.0\nWARC-Type: response\nContent-Length: 1000000\n\n"
SHORT = b"WARC/1.0\nWARC-Type:a\n\n"
CHAIN = (
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff\0"
    + struct.pack("<HH", 64_000 // 71 * 71 - 5, 0xFFFF ^ (64_000 // 71 * 71 - 5))
    + HEADER
)


@pytest.mark.parametrize("pack", [gz, *(pytest.param(pack, marks=pytest.mark.exhaustive) for pack in (plain, zst))])
@pytest.mark.parametrize(
    "junk",
    [
        b"\x1f\x8b\x08", b"\x1f\x8b\x08\0\0\0\0\0\0\xff", b"\x1f\x8b\x08\x18\0\0\0\0\0\xff", b"\x28\xb5\x2f\xfd",
        b"\x28\xb5\x2f\xfd\x20\0\0\0\0", SKIPPABLE, b"\x50\x2a\x4d\x18\0\0\0\0", zst(b"x"), gz(b"x"),
        gz(b""), zst(b""), b"WARC/1.0\r\n",
        b"WARC/1.0\r\na:\r\n", b"a: WARC/1.0\r\n", HEADER, gz(HEADER), zst(SHORT),
        with_dictionary(b"abc", zst(SHORT)), CHAIN, b"\r\n", b"\0",
    ],
)  # fmt: skip
@pytest.mark.slow
def test_reading_after_damage_takes_linear_time(pack: Packing, junk: bytes, tmp_path: Path) -> None:
    before = process_time()
    found = read(tmp_path / "x", pack(PARTS[0]) + junk * (SIZE // len(junk)) + pack(PARTS[1]))
    assert process_time() - before < 5  # the issue allows one on a quiet machine; a quadratic reader takes minutes
    assert ids(found)[0] == id_of(0)


@pytest.mark.parametrize("pack", [gz, zst])
@pytest.mark.parametrize("line", [b"\nWARC/1", b"\nWARC/1.0\n", b"\r", b"\r\n", b"\r\n \r", b"\ta\n", b"a: b\n"])
@pytest.mark.slow
def test_the_worst_records_take_linear_time(pack: Packing, line: bytes, tmp_path: Path) -> None:
    lines = line * (SIZE // len(line))
    before = process_time()
    for part in (
        b"WARC/1.0\nWARC-Type: response\nContent-Length: 3\n\nabc" + lines,
        b"WARC/1.0\nWARC-Type: x\n" + lines,
    ):
        read(tmp_path / "x", pack(PARTS[0]) + pack(part) + pack(PARTS[1]))
    assert process_time() - before < 10


@given(st.binary(max_size=3000), st.integers(0, 3), st.sampled_from([plain, gz, zst]))
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
