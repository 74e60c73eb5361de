"""From archives to Parquet: every record is accounted for, and the bytes are the same every time."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import gneiss
from gneiss.cli.main import app
from gneiss.errors import BudgetError, DefectError, InputError, MachineError, OutputError
from gneiss.extraction.crawl_files import find_crawl_files
from gneiss.extraction.decoding import Decoding
from gneiss.extraction.extractors import Resiliparse, Trafilatura
from gneiss.extraction.job import Extraction, extract
from gneiss.extraction.records import DAMAGED, read_record
from gneiss.extraction.sandbox import Limits
from gneiss.extraction.step import ExtractStep, Settings
from gneiss.extraction.tables import write_documents, write_rejected
from gneiss.output import layout
from gneiss.output.claim import claim
from gneiss.output.layout import LEDGER
from gneiss.output.ledger import BEGUN, ENDED
from gneiss.store.place import place_of
from tests import runs
from tests.extraction import hostile
from tests.extraction.archives import DUMP, gz, id_of, page, record, response, stored

pytestmark = pytest.mark.processes

LIMITS = Limits(deadline_seconds=0.5, memory_bytes=300_000_000)
COLUMNS = [
    "text", "id", "dump", "url", "date", "file_path", "charset", "charset_from", "replaced_characters", "extractor",
    "warc_file", "warc_offset", "warc_length",
]  # fmt: skip


def run(crawl: Path, output: Path, **settings: Any) -> Extraction:
    return extract(crawl, output, **{"extractor": hostile.Hostile(), "limits": LIMITS, "workers": 1, **settings})


def rows(folder: os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Rows of the Parquet files of a folder, by id."""
    return {
        row["record_id"]: row
        for path in sorted(Path(folder).rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }


@pytest.fixture(scope="module")
def extracted(crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    """The crawl, extracted once by a quick extractor that does what hostile pages ask for."""
    return run(crawl, tmp_path_factory.mktemp("extracted") / "out")


def test_every_record_is_accounted_for(extracted: Extraction) -> None:
    assert extracted.records == extracted.documents + extracted.skipped.total() + extracted.quarantined.total()
    assert dict(extracted.skipped) == {
        "not a response": 3, "HTTP status": 1, "not HTML": 1, "no text": 1, "too large": 2,
    }  # fmt: skip
    assert dict(extracted.quarantined) == {
        "deadline": 1, "memory": 1, "crash": 1, "extractor failed": 1, "cannot be decoded": 1, "damaged archive": 1,
        "cut short": 2,
    }  # fmt: skip
    assert list(extracted.unreadable) == ["d"]
    assert "d.warc.gz: expected WARC records, found b" in extracted.unreadable["d"]
    told = json.loads((extracted.output / layout.EXTRACTION_FILE).read())
    assert told["records"] == extracted.records
    assert told["quarantined"] == dict(extracted.quarantined)
    assert extracted.lost_bytes == told["lost_bytes"]
    assert extracted.lost_bytes == 70  # the garbage; damaged records are named


def test_documents_have_finewebs_columns(extracted: Extraction) -> None:
    table = pq.read_table(extracted.output / "data/a-00000.parquet")
    assert table.column_names == COLUMNS
    numbers = ["replaced_characters", "warc_offset", "warc_length"]
    assert set(table.select(numbers).schema.types) == {pa.int64()}
    assert set(table.drop_columns(numbers).schema.types) == {pa.string()}
    first = table.slice(0, 1).to_pylist()[0]
    assert {name: value for name, value in first.items() if name != "text"} == {
        "id": id_of(100),
        "dump": DUMP,
        "url": "https://example.org/100",
        "date": "2026-11-22T10:00:00Z",
        "file_path": "a.warc.gz",
        "charset": "utf-8",
        "charset_from": "header",
        "replaced_characters": 0,
        "extractor": "hostile",
        "warc_file": "a.warc.gz",
        "warc_offset": first["warc_offset"],
        "warc_length": first["warc_length"],
    }
    assert table["id"].to_pylist()[:8] == [id_of(n) for n in (100, 101, 102, 103, 104, 6, 7, 8)]
    zstd = pq.read_table(extracted.output / "data/deep/b-00000.parquet").to_pylist()
    assert {row["dump"] for row in zstd} == {None}
    assert {row["file_path"] for row in zstd} == {"deep/b.warc.zst"}


def test_texts_are_right_whatever_their_charset_and_coding(extracted: Extraction) -> None:
    texts = {row["id"]: row["text"] for row in pq.read_table(extracted.output / "data").to_pylist()}
    assert texts[id_of(6)] == "Größe"
    assert "Gr\ufffdße, naïve" in texts[id_of(7)]
    assert "zeros in it" in texts[id_of(8)]
    assert "Deflated and honest." in texts[id_of(14)]
    assert texts[id_of(30)].startswith("Plain text of a page, taken out by others.")
    for text in texts.values():
        assert "\0" not in text


def test_documents_say_what_charset_they_were_in_and_where_it_was_found(extracted: Extraction) -> None:
    found = {row["id"]: row for row in pq.read_table(extracted.output / "data").to_pylist()}
    assert [found[id_of(6)][name] for name in COLUMNS[6:9]] == ["utf-16le", "mark", 0]
    assert [found[id_of(7)][name] for name in COLUMNS[6:9]] == ["utf-8", "guess", 40]
    assert [found[id_of(30)][name] for name in COLUMNS[6:9]] == ["utf-8", "guess", 0]


def test_charsets_and_replaced_characters_are_counted_for_each_file(extracted: Extraction) -> None:
    assert extracted.decoding.keys() == {"a", "deep/b", "c.wet", "html-00000"}
    for name, decoding in extracted.decoding.items():
        rows = pq.read_table(extracted.output / f"data/{name}-00000.parquet").to_pylist()
        assert decoding.charsets == Counter((row["charset"], row["charset_from"]) for row in rows)
        assert decoding.replaced_characters == sum(row["text"].count("\ufffd") for row in rows)
    assert extracted.decoding["a"].documents_with_replaced_characters == 2
    assert extracted.decoding["html-00000"].charsets == {("utf-8", "meta"): 3}
    told = json.loads((extracted.output / layout.EXTRACTION_FILE).read())["decoding"]
    assert {name: Decoding.of(counts) for name, counts in told.items()} == extracted.decoding


def test_what_gave_no_document_says_why_and_where(extracted: Extraction, crawl: Path) -> None:
    skipped, quarantined = rows(extracted.output / "skipped"), rows(extracted.output / "quarantine")
    assert (skipped[id_of(3)]["reason"], skipped[id_of(3)]["detail"]) == ("HTTP status", "404")
    assert (skipped[id_of(4)]["reason"], skipped[id_of(4)]["detail"]) == ("not HTML", "application/pdf")
    assert (skipped[id_of(13)]["reason"], skipped[id_of(13)]["detail"]) == (
        "too large", "over 10000000 bytes when decoded",
    )  # fmt: skip
    assert skipped[id_of(16)]["reason"] == "too large"
    assert quarantined[id_of(9)]["detail"] == "0.5 s of CPU time"
    assert quarantined[id_of(12)]["detail"] == "RecursionError: too deep"
    damage = pq.read_table(extracted.output / "quarantine/a.parquet", filters=[("reason", "=", DAMAGED)]).to_pylist()
    content = (crawl / "a.warc.gz").read_bytes()
    assert content[damage[0]["offset"] :][: damage[0]["size_bytes"]] == b"GARBAGE" * 10
    assert "cut short" in quarantined[id_of(107)]["detail"]
    for row in [*skipped.values(), *quarantined.values()]:
        assert row["detail"]
        if row["record_id"] and row["file_path"] == "a.warc.gz":
            assert content.startswith(b"\x1f\x8b\x08", row["offset"])


@pytest.mark.parametrize(
    "settings",
    [
        {"workers": 3, "backend": "local"},
        pytest.param({"workers": 1, "backend": "local"}, marks=pytest.mark.exhaustive),
    ],
)
def test_the_same_bytes_with_any_number_of_workers(
    settings: dict[str, Any], crawl: Path, extracted: Extraction, tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(crawl, copy)
    again = run(copy, tmp_path / "out", **settings)
    assert promised(again.output) == promised(extracted.output)


def test_a_second_call_does_nothing_but_try_what_was_unreadable(crawl: Path, extracted: Extraction) -> None:
    before = runs.touched(extracted.output)
    again = run(crawl, extracted.output)
    assert again.finished_before == again.tasks - 1
    assert (again.records, again.skipped, again.quarantined) == (
        extracted.records, extracted.skipped, extracted.quarantined,
    )  # fmt: skip
    changed = {name for name, was in runs.touched(extracted.output).items() if before.get(name) != was}
    assert all(name.startswith("_gneiss/ledger/") for name in changed)


def test_a_file_that_lost_its_output_is_extracted_again(crawl: Path, extracted: Extraction, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(extracted.output, output)
    (output / "data/a-00000.parquet").unlink()
    with (output / "skipped/c.wet.parquet").open("ab") as file:
        file.write(b"more")
    (output / "data/deep/b-00000.parquet").write_bytes(b"less")
    again = run(crawl, output)
    assert again.tasks - again.finished_before == 4  # and the unreadable one
    assert promised(output) == promised(extracted.output)


def test_an_output_belongs_to_one_key_and_one_input(crawl: Path, extracted: Extraction, tmp_path: Path) -> None:
    for settings, what in (
        ({"extractor": Resiliparse()}, "extractor, extractor_libraries"),
        ({"limits": Limits(1.0, 300_000_000)}, "deadline_seconds"),
        ({"dump": "other"}, "dump"),
        ({"limit": 3}, "limit"),
    ):
        with pytest.raises(OutputError, match=rf"it belongs to another run \(what differs: {what}\)"):
            run(crawl, extracted.output, **settings)
    with pytest.raises(OutputError, match=r"it holds 3 tasks that this input lacks, first 'a';"):
        run(crawl / "site", extracted.output)
    copy = tmp_path / "copy"
    shutil.copytree(crawl, copy)
    (copy / "c.warc.wet.gz").write_bytes((copy / "c.warc.wet.gz").read_bytes() * 2)
    with pytest.raises(OutputError, match=r"c\.warc\.wet\.gz: this is no longer the file"):
        run(copy, extracted.output)
    with pytest.raises(OutputError, match="overlap"):
        run(crawl, crawl / "out")
    with pytest.raises(OutputError, match="overlap"):
        gneiss.run("gopher", extracted.output / "data", extracted.output)


def test_another_driver_and_foreign_files_are_refused(crawl: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"expected an empty folder or an output of gneiss, found 'mine.txt'"):
        run(crawl, tmp_path)
    with claim(place_of(tmp_path / "out"), {}), pytest.raises(OutputError, match="another run is writing here"):
        run(crawl, tmp_path / "out")
    with pytest.raises(InputError, match="nowhere: no such file or directory"):
        run(crawl / "nowhere", tmp_path / "out")
    with pytest.raises(MachineError, match="workers=0: expected 1 or more"):
        run(crawl, tmp_path / "other", workers=0)


def test_rows_that_do_not_add_up_are_not_committed(crawl: Path, tmp_path: Path) -> None:
    (task,) = find_crawl_files(crawl / "c.warc.wet.gz").tasks
    work = ExtractStep(Settings(hostile.Hostile()), place_of(tmp_path)).open()
    with (
        mock.patch("gneiss.extraction.step._Sorting._answered", return_value=iter(())),
        pytest.raises(DefectError, match=r"c\.wet: 1 records were read, but 0 documents \+ 0 skipped \+ 0 quarantined"),
    ):
        work(task)
    assert not (tmp_path / "skipped").exists()


def test_parts_are_cut_by_text_and_hold_the_same_rows(crawl: Path, extracted: Extraction, tmp_path: Path) -> None:
    with mock.patch("gneiss.extraction.tables._TABLE_BYTES", 5_000):
        cut = _in_process(crawl / "a.warc.gz", tmp_path / "out", part_max_bytes=15_000)
    parts = sorted(Path(cut.output / "data").iterdir())
    assert [part.name for part in parts] == [f"a-{number:05d}.parquet" for number in range(len(parts))]
    assert len(parts) > 2
    whole = pq.read_table(extracted.output / "data/a-00000.parquet")
    assert pa.concat_tables(map(pq.read_table, parts)).to_pylist() == whole.to_pylist()


def _in_process(source: Path, output: Path, **settings: Any) -> Extraction:
    return run(source, output, backend=runs.InThisProcess(), **settings)


def test_a_limit_takes_the_first_records_of_each_file(crawl: Path, tmp_path: Path) -> None:
    done = _in_process(crawl, tmp_path / "out", limit=3, dump="MINE")
    assert done.records == 3 + 3 + 1 + 3
    assert {row["dump"] for row in pq.read_table(done.output / "data").to_pylist()} == {"MINE"}


def test_html_files_become_documents_with_ids_of_their_own(crawl: Path, extracted: Extraction) -> None:
    table = pq.read_table(extracted.output / "data/html-00000-00000.parquet")
    found = table.to_pylist()
    assert [row["file_path"] for row in found] == [f"site/page{number}.html" for number in range(3)]
    assert len({row["id"] for row in found}) == 3
    assert all(row["id"].startswith("<urn:uuid:") for row in found)
    assert [row["text"] for row in found] == [
        hostile.text_of((crawl / row["file_path"]).read_text("utf-8")) for row in found
    ]


@pytest.mark.parametrize("extractor", [Trafilatura(), Resiliparse()], ids=lambda extractor: type(extractor).__name__)
def test_the_real_extractors_give_what_they_give_alone(
    extractor: Trafilatura | Resiliparse, pages: list[bytes], crawl: Path, tmp_path: Path
) -> None:
    done = _in_process(crawl / "deep", tmp_path / "out", extractor=extractor, limits=Limits())
    text_of = extractor.load()
    texts = pq.read_table(done.output / "data")["text"].to_pylist()
    assert texts == [text for page in pages[5:] if (text := text_of(page.decode()))]
    assert texts


def test_each_document_names_the_extractor_that_found_its_text(tmp_path: Path) -> None:
    deep = b"<html><body>" + b"<div>" * 2500 + b"<p>Text deeper than libxml2 looks.</p>"
    text = record("conversion", b"Extracted by others.", 3, Content_Type="text/plain")
    (tmp_path / "x.warc").write_bytes(response(page("words of a page"), 1) + response(deep, 2) + text)
    done = _in_process(
        tmp_path / "x.warc", tmp_path / "out", extractor="trafilatura, then resiliparse", limits=Limits()
    )
    found = {row["id"]: row["extractor"] for row in pq.read_table(done.output / "data").to_pylist()}
    assert found == {id_of(1): "trafilatura", id_of(2): "resiliparse", id_of(3): None}


def test_what_is_extracted_is_input_for_a_run(extracted: Extraction, tmp_path: Path) -> None:
    curated = gneiss.run("gopher", extracted.output / "data", tmp_path / "curated", workers=1)
    assert curated.statistics.counts["rows"] == extracted.documents
    assert pq.read_schema(next((tmp_path / "curated/data").rglob("*.parquet"))).names == COLUMNS


def test_budgets(extracted: Extraction) -> None:
    with pytest.raises(BudgetError, match=r"1 tasks could not be read, first 'd': .*d.warc.gz: expected WARC") as error:
        extracted.check_budgets()
    assert error.value.exit_code == 3
    readable = Extraction(**{**extracted.__dict__, "unreadable": {}})
    with pytest.raises(BudgetError, match=r"records were quarantined \(max_quarantined=0.01\): cut short \(2\)"):
        readable.check_budgets()
    Extraction(**{**readable.__dict__, "max_quarantined": 0.5}).check_budgets()


def test_receipts_stand_in_the_ledger(extracted: Extraction) -> None:
    lines = [
        json.loads(line)
        for path in sorted(Path(extracted.output / LEDGER).glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    assert [line["stage"] for line in lines[:: len(lines) - 1]] == [BEGUN, ENDED]
    lines = [line for line in lines if line["stage"] not in (BEGUN, ENDED)]  # of a resume too
    assert {line["stage"] for line in lines} == {"extract"}
    assert {line["task"]: line["state"] for line in lines} == {
        "a": "committed", "c.wet": "committed", "d": "unreadable", "deep/b": "committed", "html-00000": "committed",
    }  # fmt: skip
    assert all(line["cost"]["cpu_seconds"] > 0 for line in lines)


def test_the_command_says_what_became_of_the_records(crawl: Path, tmp_path: Path) -> None:
    quick = ("extract", "--extractor", "resiliparse")
    paths = ("--input", str(crawl / "deep"), "--output", str(tmp_path / "out"))
    said = CliRunner().invoke(app, [*quick, *paths, "--workers", "1", "--dump", "D"])
    assert said.exit_code == 0, said.output
    assert "5 records: 5 documents, 0 skipped, 0 quarantined" in said.stdout
    assert "charsets    5 by header\n" in said.stdout
    assert f"gneiss run RECIPE --input {tmp_path / 'out/data'} --output CURATED" in said.stdout
    assert "extract: 1 task, 0.0 MB of archives and pages" in said.output
    paths = ("--input", str(crawl), "--output", str(tmp_path / "all"))
    failed = CliRunner().invoke(app, [*quick, *paths, "--limit", "2"])
    assert isinstance(failed.exception, BudgetError)
    assert "task d is quarantined: " in failed.output
    assert "skipped: not a response" in failed.stdout


def promised(output: Path) -> dict[str, str]:
    """Hashes of the files whose bytes are the same for the same input and settings."""
    kept = {name: hash_ for name, hash_ in runs.promised(output).items() if name != layout.EXTRACTION_FILE}
    assert len(kept) > 5
    return kept


def test_pages_in_legacy_charsets_keep_their_text_through_bad_bytes(tmp_path: Path) -> None:
    text = "中文网页编码测试，今天天气很好。"
    pages = [
        (page(text).decode().encode("gbk") + b"\x80\xff", "text/html; charset=gb2312"),
        (b"<meta charset=ks_c_5601-1989>" + page("한국어 웹 페이지").decode().encode("cp949"), "text/html"),
        (page("some words"), "text/html; charset=iso-2022-kr"),
    ]
    (tmp_path / "in").mkdir()
    records = [gz(response(body, n, content_type=kind)) for n, (body, kind) in enumerate(pages)]
    (tmp_path / "in/a.warc.gz").write_bytes(b"".join(records))
    done = _in_process(tmp_path / "in", tmp_path / "out", max_quarantined=0)
    first, second = pq.read_table(done.output / "data").to_pylist()
    assert first["text"].count(text) == 40
    assert [first[name] for name in COLUMNS[6:9]] == ["gbk", "header", 1]
    assert second["text"].count("한국어 웹 페이지") == 40
    assert [second[name] for name in COLUMNS[6:9]] == ["euc-kr", "meta", 0]
    (skipped,) = pq.read_table(done.output / "skipped").to_pylist()
    assert (skipped["reason"], skipped["detail"]) == ("no text", "a charset that browsers refuse")


@pytest.mark.parametrize("when", ["documents", "skipped"])
def test_an_archive_replaced_while_it_is_extracted_is_not_published(tmp_path: Path, when: str) -> None:
    """And leaves no file, as any that could not be extracted."""
    path = tmp_path / "in/a.warc"
    path.parent.mkdir()
    one = response(b"<html><body><p>Some text that is long enough to be extracted.</p></body></html>", 1)
    path.write_bytes(one * 3)
    (tmp_path / "in/b.warc").write_bytes(one)
    write = write_documents

    def replaced(*given: Any) -> Any:
        written = write(*given)
        if "a" in given:
            path.write_bytes(one * 2)
        return written

    def failing(*given: Any) -> Any:
        if when == "skipped" and "skipped/a.parquet" in given:
            raise InputError("broken")
        return write_rejected(*given)

    with (
        mock.patch("gneiss.extraction.step.write_documents", replaced if when == "documents" else write),
        mock.patch("gneiss.extraction.step.write_rejected", failing),
    ):
        done = extract(tmp_path / "in", tmp_path / "out", extractor="resiliparse", backend=runs.InThisProcess())
    assert done.unreadable.keys() == {"a"}
    assert ("modified or replaced" if when == "documents" else "broken") in done.unreadable["a"]
    assert not [name for name in runs.files(tmp_path / "out") if Path(name).stem.startswith("a")]
    assert (tmp_path / "out/data/b-00000.parquet").exists()


def test_a_long_archive_is_several_tasks(crawl: Path, extracted: Extraction, tmp_path: Path) -> None:
    cut = run(crawl / "a.warc.gz", tmp_path / "out", workers=2, backend="local", task_max_bytes=30_000)
    assert cut.tasks > 1
    tables = {
        folder: pa.concat_tables(map(pq.read_table, sorted(Path(cut.output / folder).iterdir())))
        for folder in ("data", "skipped", "quarantine")
    }
    assert {row["dump"] for row in tables["data"].to_pylist()} == {DUMP}
    for folder, table in tables.items():
        whole = pq.read_table(extracted.output / folder / ("a-00000.parquet" if folder == "data" else "a.parquet"))
        assert sorted(map(str, table.to_pylist())) == sorted(map(str, whole.to_pylist()))
    names = [path.name for path in sorted(Path(cut.output / "skipped").iterdir())]
    assert names == [f"a.{number}-of-{cut.tasks}.parquet" for number in range(1, cut.tasks + 1)]


def test_a_range_that_started_in_a_nested_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    nested = response(b"".join(stored(response(page(f"nested {n}"), n)) for n in range(9)), 50, content_type="x/y")
    records = [response(page("first"), 51), nested, *(response(page(f"after {n}"), 52 + n) for n in range(9))]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.warc.gz").write_bytes(b"".join(map(stored, records)))
    done = _in_process(tmp_path / "in", tmp_path / "out", task_max_bytes=3_000)
    assert done.tasks > 4
    ids = [row["id"] for path in sorted((tmp_path / "out/data").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert ids == [id_of(51), *(id_of(52 + n) for n in range(9))]
    assert done.records == len(records)
    assert promised(_in_process(tmp_path / "in", tmp_path / "out", task_max_bytes=3_000).output) == promised(
        done.output
    )


def test_documents_of_archives_say_where_their_record_is(crawl: Path, extracted: Extraction) -> None:
    found = pq.read_table(extracted.output / "data").to_pylist()
    assert {row["warc_file"] for row in found} == {"a.warc.gz", "deep/b.warc.zst", "c.warc.wet.gz", None}
    for row in found:
        if row["warc_file"] is None:
            assert (row["warc_offset"], row["warc_length"]) == (None, None)
            continue
        assert row["warc_file"] == row["file_path"]
        again = read_record(crawl / row["warc_file"], row["warc_offset"], row["warc_length"])
        assert (again.id, again.url) == (row["id"], row["url"])
