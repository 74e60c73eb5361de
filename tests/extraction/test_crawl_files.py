"""What an input holds, and how it is cut into tasks."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from gneiss.errors import InputError
from gneiss.extraction import crawl_files
from gneiss.extraction.crawl_files import CrawlReader, describe_passed_over, find_crawl_files
from gneiss.extraction.record import Record
from gneiss.extraction.records import Damage


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_archives_and_groups_of_pages_are_found_by_name(tmp_path: Path) -> None:
    make(tmp_path, "b.warc.gz", "a/x.warc", "a/y.warc.wet.gz", "z.WARC.zst", "old.wet", "i.html", "a/j.HTM", "k.xhtml",
         "notes.txt", "x.warc.gz.tmp", "_hidden/h.warc", ".h.warc", "a/b.parquet")  # fmt: skip
    found = find_crawl_files(tmp_path).tasks
    assert [task.id for task in found] == ["a/x", "a/y.wet", "b", "old.wet", "z", "html-00000"]
    assert found[-1].names == ("a/j.HTM", "i.html", "k.xhtml")
    assert [task.is_archive for task in found] == [True] * 5 + [False]
    assert find_crawl_files(f"{tmp_path}/a/*.warc").tasks[0].id == "x"
    assert find_crawl_files(f"file://{tmp_path}/b.warc.gz").tasks[0].names == ("b.warc.gz",)
    assert (
        find_crawl_files(tmp_path / "notes.txt").tasks[0].is_archive
    )  # it is asked for by name: reading says what it is


def test_fingerprints_depend_on_content_and_not_on_the_place(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", "a.warc", "p.html"), make(tmp_path / "other", "a.warc", "p.html")
    before = [task.fingerprint for task in find_crawl_files(one).tasks]
    assert before == [task.fingerprint for task in find_crawl_files(other).tasks]
    (other / "a.warc").write_bytes(b"A.warc")
    (other / "p.html").write_bytes(b"longer")
    assert not set(before) & {task.fingerprint for task in find_crawl_files(other).tasks}


def test_groups_are_cut_by_files_and_bytes(tmp_path: Path) -> None:
    make(tmp_path, *(f"{number:02d}.html" for number in range(10)))
    with mock.patch.multiple(crawl_files, _GROUP_FILES=4, _GROUP_BYTES=10**6):
        assert [len(task.names) for task in find_crawl_files(tmp_path).tasks] == [4, 4, 2]
    with mock.patch.multiple(crawl_files, _GROUP_FILES=4, _GROUP_BYTES=14):
        found = find_crawl_files(tmp_path).tasks
    assert [task.id for task in found] == [f"html-{number:05d}" for number in range(5)]
    assert [name for task in found for name in task.names] == [f"{number:02d}.html" for number in range(10)]


def test_an_html_file_is_a_record_and_an_unreadable_one_is_damage(tmp_path: Path) -> None:
    make(tmp_path, "a.html", "b.html", "c.html")
    (task,) = find_crawl_files(tmp_path).tasks
    (tmp_path / "b.html").unlink()
    found = dict(CrawlReader(task, 5))
    record = found["a.html"]
    assert isinstance(record, Record)
    assert (record.kind, record.content_type, record.content, record.size_bytes) == ("resource", "text/html", None, 6)
    assert found["b.html"] == Damage(0, 0, "cannot read: No such file or directory")
    ids = {record.id for _, record in CrawlReader(task, 100) if isinstance(record, Record)}
    assert len(ids) == 2


def test_inputs_that_hold_nothing_or_two_of_a_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"expected files named \*.warc, \*.warc.gz"):
        find_crawl_files(tmp_path)
    with pytest.raises(InputError, match="expected files that match, found none"):
        find_crawl_files(f"{tmp_path}/*.warc")
    with pytest.raises(InputError, match="nowhere: no such file or directory"):
        find_crawl_files(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no store has the scheme sftp://"):
        find_crawl_files("sftp://host/crawl")
    make(tmp_path, "a.warc", "a.warc.gz")
    with pytest.raises(InputError, match="two files would write to the same place 'a'"):
        find_crawl_files(tmp_path)


def test_a_warc_and_a_wet_of_one_name_are_two_tasks(tmp_path: Path) -> None:
    make(tmp_path, "CC-1.warc.gz", "CC-1.warc.wet.gz", "CC-1.WET.zst.html", "CC-2.wet")
    assert [task.id for task in find_crawl_files(tmp_path).tasks] == ["CC-1", "CC-1.wet", "CC-2.wet", "html-00000"]


def test_names_at_the_limit_of_the_file_system_have_shorter_ids(tmp_path: Path) -> None:
    names = ["x" * 245 + end for end in (".warc", ".wet")] + ["x" * 244 + "y.warc", "ü" * 122 + ".warc.gz"]
    make(tmp_path, *names)
    ids = [task.id for task in find_crawl_files(tmp_path).tasks]
    assert len(set(ids)) == 4
    assert all(len(id_.encode()) <= 200 for id_ in ids)


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    make(tmp_path, "a.warc", "IAH-1.arc.gz", "sub/IAH-2.ARC.gz", "notes.txt", "LICENSE", ".hidden.txt", "_tmp/b.txt")
    found = find_crawl_files(tmp_path)
    assert found.passed_over == {"*.arc.gz": 2, "*.txt": 1, "names without an ending": 1}
    assert describe_passed_over(found.passed_over).startswith("2 *.arc.gz, 1 *.txt, 1 names without an ending (`warcio")
    (tmp_path / "a.warc").unlink()
    with pytest.raises(InputError, match=r"found none. It holds 2 \*\.arc\.gz, 1 .*`warcio recompress` converts ARC"):
        find_crawl_files(tmp_path)
