"""The ledger: receipts survive, the latest counts, and a footer stands in where the ledger knows nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest

from gneiss.errors import OutputError
from gneiss.output import ledger
from gneiss.output.layout import LEDGER
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, UNREADABLE, Receipt
from gneiss.output.parquet import WrittenFile, write_bytes, write_parquet
from gneiss.store.place import place_of


def receipt_for(shard: str, **given: object) -> Receipt:
    files = (WrittenFile(f"data/{shard}.parquet", 7, "c0ffee", 3),)
    return replace(Receipt(shard, COMMITTED, "f1", 4, {"kept": 3}, files, cost={"seconds": 1.5}), **given)  # type: ignore[arg-type]


def receipts(output: Path) -> dict[str, Receipt]:
    return ledger.read(place_of(output))


def segments(output: Path) -> list[str]:
    return sorted(path.name for path in (output / LEDGER).glob("*"))


def test_receipts_are_read_as_they_were_written(tmp_path: Path) -> None:
    good = receipt_for("a/ä", etag="12")
    lost = Receipt("b", UNREADABLE, "f2", None, reason="cannot read:\u2028 line two\nand three")
    ledger.append(place_of(tmp_path), [good, lost])
    assert receipts(tmp_path) == {"a/ä": good, "b": lost}


def test_an_output_without_a_ledger_has_no_receipts(tmp_path: Path) -> None:
    assert ledger.read(place_of(tmp_path)) == {}
    ledger.append(place_of(tmp_path), [])
    assert segments(tmp_path) == []


def test_segments_are_new_files_and_the_latest_receipt_counts(tmp_path: Path) -> None:
    ledger.append(place_of(tmp_path), [receipt_for("a", rows=1), receipt_for("b")])
    first = (tmp_path / LEDGER / "000001.jsonl").read_bytes()
    ledger.append(place_of(tmp_path), [receipt_for("a", rows=2)])
    (tmp_path / LEDGER / "000002.jsonl").rename(tmp_path / LEDGER / "000010.jsonl")
    ledger.append(place_of(tmp_path), [receipt_for("a", rows=3)])
    assert segments(tmp_path) == ["000001.jsonl", "000010.jsonl", "000011.jsonl"]
    assert (tmp_path / LEDGER / "000001.jsonl").read_bytes() == first
    assert {task: receipt.rows for task, receipt in receipts(tmp_path).items()} == {"a": 3, "b": 4}


def test_keep_passes_receipts_on_and_writes_them_in_one_segment(tmp_path: Path) -> None:
    receipts = [receipt_for(shard) for shard in "abc"]
    assert list(ledger.keep(place_of(tmp_path), receipts)) == receipts
    assert segments(tmp_path) == ["000001.jsonl"]
    assert list(ledger.read(place_of(tmp_path))) == ["a", "b", "c"]


def test_keep_writes_a_segment_every_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SEGMENT_SECONDS", 0.0)
    for count, _ in enumerate(ledger.keep(place_of(tmp_path), [receipt_for(shard) for shard in "abc"])):
        assert len(segments(tmp_path)) == count
    assert len(segments(tmp_path)) == 3


def test_keep_writes_what_was_finished_when_the_rest_fails(tmp_path: Path) -> None:
    def failing() -> Iterator[Receipt]:
        yield receipt_for("a")
        yield receipt_for("b")
        raise OutputError("the disk is full")

    with pytest.raises(OutputError):
        list(ledger.keep(place_of(tmp_path), failing()))
    assert list(ledger.read(place_of(tmp_path))) == ["a", "b"]


def test_keep_writes_what_was_finished_when_the_driver_stops_listening(tmp_path: Path) -> None:
    kept = ledger.keep(place_of(tmp_path), [receipt_for("a"), receipt_for("b")])
    next(kept)
    kept.close()
    assert list(ledger.read(place_of(tmp_path))) == ["a"]


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", "{}", '{"task": "a"}', json.dumps({**asdict(receipt_for("a")), "more": 1}), "\xff"]
)
def test_a_damaged_segment_is_named_with_what_to_do(tmp_path: Path, line: str) -> None:
    ledger.append(place_of(tmp_path), [receipt_for("a")])
    (tmp_path / LEDGER / "000002.jsonl").write_bytes(line.encode("latin-1"))
    with pytest.raises(OutputError, match=r"000002\.jsonl: this ledger segment is damaged .*delete it") as caught:
        ledger.read(place_of(tmp_path))
    assert "\n" not in str(caught.value)


# Receipts in footers.


def finish(output: Path) -> Receipt:
    """A shard whose files are there, with a receipt in the footer of the last one."""
    data = write_bytes(b"1234567", place_of(output), "data/a.parquet")
    receipt = Receipt("a", COMMITTED, "f1", 2, {"kept": 2}, files=(data,), etag="99", cost={"seconds": 2.0})
    table = pa.table({"row": [0, 1]})
    write_parquet([table], table.schema, place_of(output), "annotations/base/a.parquet", {FOOTER_KEY: receipt.footer()})
    return receipt


def test_the_footer_says_what_the_receipt_says_but_for_clocks(tmp_path: Path) -> None:
    receipt = finish(tmp_path)
    found = ledger.receipt_of(place_of(tmp_path), "annotations/base/a.parquet")
    assert found is not None
    assert replace(found, files=found.files[:1]) == replace(receipt, cost={}, etag=None)
    assert [file.path for file in found.files] == ["data/a.parquet", "annotations/base/a.parquet"]
    assert found.files[1].rows == 2
    assert ledger.is_whole(place_of(tmp_path), found)


@pytest.mark.parametrize("content", [None, b"", b"123456", b"123456x", b"12345678"])
def test_a_footer_is_not_believed_when_a_file_is_not_whole(tmp_path: Path, content: bytes | None) -> None:
    finish(tmp_path)
    if content is None:
        (tmp_path / "data/a.parquet").unlink()
    else:
        (tmp_path / "data/a.parquet").write_bytes(content)
    assert ledger.receipt_of(place_of(tmp_path), "annotations/base/a.parquet") is None


def test_files_without_a_receipt_are_not_those_of_a_finished_shard(tmp_path: Path) -> None:
    assert ledger.receipt_of(place_of(tmp_path), "missing.parquet") is None
    table = pa.table({"row": [0]})
    write_parquet([table], table.schema, place_of(tmp_path), "plain.parquet")
    write_parquet([table], table.schema, place_of(tmp_path), "odd.parquet", {FOOTER_KEY: "no JSON"})
    write_parquet([table], table.schema, place_of(tmp_path), "list.parquet", {FOOTER_KEY: "[1]"})
    write_bytes(b"PAR1 cut short", place_of(tmp_path), "short.parquet")
    for name in ("plain", "odd", "list", "short"):
        assert ledger.receipt_of(place_of(tmp_path), f"{name}.parquet") is None
