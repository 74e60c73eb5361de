"""Archives that a list names, and records that an index selects, straight from a web server."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.extraction.crawl_files import CrawlReader, find_listed, find_selected
from gneiss.extraction.job import Extraction, extract
from gneiss.extraction.record import Record
from gneiss.extraction.records import NO_RECORD, Damage, read_records
from gneiss.extraction.selection import read_index
from gneiss.store.place import place_of
from tests import runs
from tests.extraction import hostile
from tests.extraction.archives import gz, id_of, page, response
from tests.store.web_server import Server, serving

LIMIT = 10**6
NAMES = ("crawl/one.warc.gz", "crawl/two.warc.gz")


@pytest.fixture
def server() -> Iterator[Server]:
    archives = [[gz(response(page(f"page {n}"), n)) for n in range(start, start + 20)] for start in (0, 20)]
    with serving({f"/{name}": b"".join(parts) for name, parts in zip(NAMES, archives, strict=True)}) as started:
        yield started


def index_of(server: Server) -> list[tuple[str, int, int]]:
    found = []
    for name in NAMES:
        for record in read_records(place_of(f"{server.address}/{name}"), LIMIT):
            assert isinstance(record, Record)
            assert record.length
            found.append((name, record.offset, record.length))
    return found


def cdxj(rows: list[tuple[str, int, int]]) -> list[str]:
    return [
        f"org,example)/ 20240101000000 {json.dumps({'url': 'x', 'filename': f, 'offset': str(o), 'length': str(n)})}"
        for f, o, n in rows
    ]


def read(base: str, index: Path) -> list[Record | Damage]:
    return [record for task in find_selected(base, index).tasks for _, record in CrawlReader(task, LIMIT)]


def test_the_records_of_an_index_are_read_and_no_others(server: Server, tmp_path: Path) -> None:
    rows = index_of(server)
    chosen = [rows[3], rows[4], rows[30], rows[4]]
    (tmp_path / "a.cdxj").write_text("\n".join(["!OpenWayback-CDXJ 1.0", *cdxj(chosen), ""]))
    (tmp_path / "b.gz").write_bytes(b"".join(gzip.compress(f"{line}\n".encode()) for line in cdxj(chosen)))
    columns = list(zip(*chosen, strict=True))
    for name, names in (
        ("c", ("warc_filename", "warc_record_offset", "warc_record_length")),
        ("d", ("filename", "offset", "length")),
    ):
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), tmp_path / name)
    for index in ("a.cdxj", "b.gz", "c", "d"):
        server.asked.clear()
        found = read(server.address, tmp_path / index)
        assert [record.id for record in found if isinstance(record, Record)] == [id_of(3), id_of(4), id_of(30)]
        assert [record.offset for record in found] == [rows[n][1] for n in (3, 4, 30)]
        assert len(server.asked) == 4  # for each archive its size, and one range


def test_lines_that_lead_to_no_record_are_named(server: Server, tmp_path: Path) -> None:
    one, two, *_ = index_of(server)
    wrong = [(NAMES[0], one[2] + 1, two[2]), (NAMES[0], 10**9, 5), ("crawl/three.warc.gz", 0, 9), (NAMES[0], 0, 50)]
    wrong += [(NAMES[0], 0, one[2] + two[2])]
    lines = ["no json", "{}", '{"filename": "../x", "offset": 1, "length": 2}', "[" * 100_000 + "{" * 100_000]
    lines += ['{"filename": "x", "offset": "-1", "length": "5"}', '{"filename": "x", "offset": "1", "length": "-"}']
    (tmp_path / "index").write_text("\n".join([*lines, *cdxj([one, *wrong])]))
    found = read(server.address, tmp_path / "index")
    assert [record.id for record in found if isinstance(record, Record)] == [id_of(0)]
    bad = [damage for damage in found if isinstance(damage, Damage)]
    assert len(bad) == len(wrong) + len(lines)
    assert {damage.kind for damage in bad} == {NO_RECORD}
    reasons = " | ".join(damage.reason for damage in bad)
    for reason in ("line 1: ", "line 2: no field 'filename'", "relative to the input, found '../x'", "line 4: ",
                   "found -1 and 5", "line 6: ", "the server says 404", "there are several", "cut short"):  # fmt: skip
        assert reason in reasons


def test_what_is_no_index_or_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello\n")
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "parquet")
    for name, said in (
        ("empty", "it is empty"), ("text", "line 1: "), ("parquet", r"found \['url'\]"), ("nowhere", "cannot read"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            read_index(tmp_path / name)
    (tmp_path / "up").write_text("a.warc\n../b.warc\n")
    with pytest.raises(InputError, match=r"up, line 2: expected a path relative to the input, found '\.\./b\.warc'"):
        find_listed("https://127.0.0.1", tmp_path / "up")
    with pytest.raises(InputError, match="expected a path of an archive on each line, found none"):
        find_listed("https://127.0.0.1", tmp_path / "empty")
    with pytest.raises(InputError, match=r"expected a list of archives \(paths\) or an index"):
        extract(tmp_path, tmp_path / "out", paths=tmp_path / "up", cdx=tmp_path / "text")


@pytest.mark.processes
def test_the_command_extracts_from_s3_what_it_does_from_a_disk(
    s3_folder: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [gz(response(page(f"page {n}"), n)) for n in range(40)]
    for base in (place_of(tmp_path), place_of(s3_folder)):
        for name, start in zip(NAMES, (0, 20), strict=True):
            with (base / name).create() as sink:
                sink.write(b"".join(parts[start : start + 20]))
    chosen = [(NAMES[0], sum(map(len, parts[:3])), len(parts[3])), (NAMES[1], 0, len(parts[20]))]
    (tmp_path / "index").write_text("\n".join(cdxj(chosen)))

    def documents(base: str, name: str, *options: str) -> list[dict[str, Any]]:
        output = tmp_path / name
        quick = ("--extractor", "resiliparse", "--backend", "local", "--workers", "1")
        given = ("--input", base, "--output", str(output), *options)
        assert runs.command("extract", *quick, *given) == 0, capfd.readouterr().err
        rows: list[dict[str, Any]] = pq.read_table(output / "data").to_pylist()
        return sorted(rows, key=lambda row: str(row["id"]))

    crawl = f"{s3_folder}/crawl"
    assert len(whole := documents(crawl, "whole")) == 40
    names = {"file_path", "warc_file"}  # as the input names them
    assert [{**row, **dict.fromkeys(names)} for row in documents(str(tmp_path / "crawl"), "disk")] == [
        {**row, **dict.fromkeys(names)} for row in whole
    ]
    selected = documents(s3_folder, "selected", "--cdx", str(tmp_path / "index"))
    assert [row["id"] for row in selected] == [id_of(3), id_of(20)]
    assert [row["text"] for row in selected] == [row["text"] for row in whole if row["id"] in (id_of(3), id_of(20))]


@pytest.mark.processes
def test_archives_of_a_list_and_selected_records_become_documents(server: Server, tmp_path: Path) -> None:
    def run(name: str, **what: Path) -> Extraction:
        return extract(
            server.address, tmp_path / name, extractor=hostile.Hostile(), backend=runs.InThisProcess(),
            task_max_bytes=2_000, **what,
        )  # fmt: skip

    rows = index_of(server)
    (tmp_path / "warc.paths.gz").write_bytes(gz("\n".join([*NAMES, "crawl/gone.warc.gz"]).encode()))
    (tmp_path / "index").write_text("\n".join([*cdxj([*rows[5:9], rows[33]]), "no json"]))
    listed = run("listed", paths=tmp_path / "warc.paths.gz")
    assert listed.documents == 40
    assert list(listed.unreadable) == ["crawl/gone"]
    assert "the server says 404" in listed.unreadable["crawl/gone"]
    assert listed.tasks > 3
    selected = run("selected", cdx=tmp_path / "index")
    assert (selected.documents, dict(selected.quarantined)) == (5, {NO_RECORD: 1})
    known = {row["id"]: row for row in pq.read_table(listed.output / "data").to_pylist()}
    for row in pq.read_table(selected.output / "data").to_pylist():
        assert row == known[row["id"]]
    again = run("selected", cdx=tmp_path / "index")
    assert again.finished_before == again.tasks == 1
