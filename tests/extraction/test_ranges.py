"""Archives that are cut into ranges give the records of one pass, wherever they are cut and whatever is damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.extraction import records
from gneiss.extraction.crawl_files import CrawlFiles, CrawlReader, find_crawl_files
from gneiss.extraction.ranges import counts_of, misplaced
from gneiss.extraction.record import Record
from gneiss.extraction.records import Damage, read_record, read_records
from gneiss.output.ledger import COMMITTED, UNREADABLE, Receipt
from gneiss.store.place import place_of
from tests.extraction.archives import gz, id_of, plain, record, response, stored, zst

Packing = Callable[[bytes], bytes]
LIMIT = 50_000
GOOD = [record("warcinfo", b"isPartOf: X\r\n", 8)]
GOOD += [response(bytes(f"<p>{n} ", "ascii") * 40 * (n + 1), n) for n in range(3)]
GOOD += [record("request", b"GET / HTTP/1.1\r\n\r\n", 4), response(b"x" * (LIMIT + 1), 5)]


def nesting(pack: Packing) -> bytes:
    """A record whose content is an archive, which its member keeps byte for byte."""
    return response(b"".join(map(pack, GOOD[:4])), 9, content_type="application/warc")


def read_cut(path: Path, task_max_bytes: int) -> tuple[list[Record | Damage], int]:
    """The records of all ranges of an archive, as the driver has them read, and how many ranges were read again."""
    tasks = find_crawl_files(path, task_max_bytes).tasks
    found: dict[str, list[Record | Damage]] = {}
    receipts: dict[str, Receipt] = {}

    def read(each: Sequence[CrawlFiles]) -> None:
        for task in each:
            reader = CrawlReader(task, LIMIT)
            found[task.id] = [record for _, record in reader]
            receipts[task.id] = Receipt(task.id, COMMITTED, "", 0, counts_of(reader.archive))

    read(tasks)
    again = 0
    while wrong := misplaced(tasks, receipts):
        read(wrong)
        again += len(wrong)
    assert again < len(tasks)
    return [record for task in tasks for record in found[task.id]], again


@pytest.mark.parametrize("pack", [plain, gz, zst])
@given(parts=st.lists(st.sampled_from(GOOD), min_size=1, max_size=9), cut=st.integers(60, 9000))
@pytest.mark.slow
def test_an_archive_in_ranges_has_the_same_records(
    pack: Packing, parts: list[bytes], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.warc"
    path.write_bytes(b"".join(map(pack, parts)))
    assert read_cut(path, cut) == (list(read_records(place_of(path), LIMIT)), 0)


@pytest.mark.parametrize("pack", [plain, gz, zst, stored])
@given(data=st.data(), cut=st.integers(60, 9000))
@pytest.mark.slow
def test_so_has_one_that_is_damaged_or_holds_others(
    pack: Packing, data: st.DataObject, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parts = data.draw(st.lists(st.sampled_from([*GOOD, nesting(pack), b"\0" * 99]), min_size=1, max_size=7))
    content = bytearray(b"".join(map(pack, parts)))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=3)):
        content[at] = byte
    for at in data.draw(st.lists(st.integers(0, len(content)), max_size=2)):
        content[at:at] = data.draw(st.binary(min_size=1, max_size=300))
    path = tmp_path_factory.getbasetemp() / "damaged.warc"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        whole = list(read_records(place_of(path), LIMIT))
    except InputError:  # no record
        return
    assert read_cut(path, cut)[0] == whole


@pytest.mark.parametrize("pack", [plain, stored])
def test_a_range_that_starts_in_a_nested_archive_is_read_again(pack: Packing, tmp_path: Path) -> None:
    content = pack(GOOD[0]) + pack(nesting(pack)) + pack(GOOD[1])
    (tmp_path / "x.warc").write_bytes(content)
    found, again = read_cut(tmp_path / "x.warc", len(content) // 4)
    assert [record.id for record in found if isinstance(record, Record)] == [id_of(8), id_of(9), id_of(0)]
    assert again > 0


def test_a_range_that_follows_an_unreadable_one_is_believed(tmp_path: Path) -> None:
    content = b"".join(map(gz, GOOD))
    (tmp_path / "x.warc.gz").write_bytes(content)
    tasks = find_crawl_files(tmp_path, len(content) // 3).tasks
    assert [task.id for task in tasks] == ["x.1-of-4", "x.2-of-4", "x.3-of-4", "x.4-of-4"]
    assert sum(task.size_bytes for task in tasks) == len(content)
    assert len({task.fingerprint for task in tasks}) == 4
    done = {task.id: Receipt(task.id, COMMITTED, "", 0, {"first_offset": 0, "next_offset": 1}) for task in tasks}
    assert misplaced(tasks[:2], done)
    done[tasks[0].id] = Receipt(tasks[0].id, UNREADABLE, "", None)
    assert not misplaced(tasks[:2], done)


@pytest.mark.parametrize("pack", [gz, stored, zst])
@given(data=st.data())
@pytest.mark.slow
def test_small_members_of_one_record_are_read_as_all_others_are(
    pack: Packing, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    odd = [b"", b"\r\n", b"hello", GOOD[1][:-2], GOOD[1] + b"\r\n", b"\r\n" + GOOD[1], GOOD[1] + GOOD[2], GOOD[1][:90]]
    odd += [
        GOOD[1].replace(b"\r\n", b"\n"),
        GOOD[2].replace(b"-Length", b"X"),
        GOOD[3].replace(b"-Length: ", b"-Length: 9"),
    ]
    odd += [GOOD[2].replace(b"Content-Length: ", b"Content-Length: 1"), GOOD[2].replace(b"WARC-", b"X-"), GOOD[1][90:]]
    parts = data.draw(st.lists(st.sampled_from([*GOOD, *odd]), min_size=1, max_size=6))
    content = bytearray(b"".join(map(pack, parts)))
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "members.warc.gz"
    path.write_bytes(content)
    with mock.patch.object(records._Archive, "_alone", return_value=None):
        slowly = read_or_refused(path)
    assert read_or_refused(path) == slowly


def read_or_refused(path: Path) -> list[Record | Damage] | str:
    try:
        return list(read_records(place_of(path), LIMIT))
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("pack", [plain, gz, zst])
def test_a_record_is_fetched_again_by_its_bytes(pack: Packing, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"".join(map(pack, GOOD)))
    found = list(read_records(place_of(path), LIMIT))
    assert len(found) == len(GOOD)
    for item in found:
        assert isinstance(item, Record)
        assert item.length == len(pack(GOOD[found.index(item)]))
        assert read_record(path, item.offset, item.length, LIMIT) == item
    for offset, length in ((1, 99), (0, 20), (0, path.stat().st_size), (path.stat().st_size - 9, 99)):
        with pytest.raises(InputError, match=rf"x: expected a record in the {length} bytes from {offset} on: "):
            read_record(path, offset, length)
    with pytest.raises(InputError, match="nowhere: cannot read: No such file"):
        read_record(tmp_path / "nowhere", 0, 9)


def test_a_frame_with_a_dictionary_is_fetched_again_too(tmp_path: Path) -> None:
    frame = b"\x5d\x2a\x4d\x18" + (2048).to_bytes(4, "little") + bytes(range(256)) * 8
    (tmp_path / "x").write_bytes(frame + zst(GOOD[1]) + zst(GOOD[2]))
    found = list(read_records(place_of(tmp_path / "x"), LIMIT))
    assert isinstance(found[1], Record)
    assert found[1].length
    assert read_record(tmp_path / "x", found[1].offset, found[1].length) == found[1]


@pytest.mark.parametrize("pack", [gz, zst])
def test_records_that_share_a_member_have_no_bytes_of_their_own(pack: Packing, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(pack(GOOD[1] + GOOD[2]) + pack(GOOD[3]))
    found = list(read_records(place_of(tmp_path / "x"), LIMIT))
    assert [record.length for record in found if isinstance(record, Record)] == [None, None, len(pack(GOOD[3]))]
