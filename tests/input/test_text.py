"""Plain text: a document a file, where the address of the input asks for it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import InputError
from gneiss.input.formats import text
from gneiss.input.shard import cut_shards
from tests import runs
from tests.support import recipe_of

LONG = recipe_of("- {name: only, rules: {long: text_chars > 3}}", budgets="{documents: 1}")


def write(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def rows_of(source: Path, column: str = "text") -> list[dict[str, Any]]:
    shards = cut_shards(source, text=column, id="id").shards
    return [row for shard in shards for _, table in shard.tables() for row in table.to_pylist()]


def test_a_file_is_a_document(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"\xef\xbb\xbfOne\r\n\ntwo\n", deep__b_txt=b"", deep__c_txt_gz=gzip.compress(b"drei"))
    assert rows_of(tmp_path / "**/*.txt", "content") == [
        {"content": "One\r\n\ntwo\n", "id": "a.txt#0"}, {"content": "", "id": "deep/b.txt#0"}
    ]  # fmt: skip
    assert rows_of(tmp_path / "deep/*.txt.gz") == [{"text": "drei", "id": "c.txt.gz#0"}]
    (shard,) = cut_shards(tmp_path / "a.txt", text="text").shards
    assert (shard.id, shard.known_rows, shard.text_bytes) == ("a", 1, 13)
    assert [table.shape for _, table in shard.tables([])] == [(1, 0)]


def test_a_run_over_text(tmp_path: Path) -> None:
    write(tmp_path / "in", a_txt=b"Long enough.", b_txt=b"no", c_txt=b"not UTF-8: \xff")
    run = gneiss.run(LONG, tmp_path / "in/*.txt", tmp_path / "out", backend=runs.InThisProcess())
    assert (run.counts["kept"], run.counts["dropped"], run.counts["quarantined"]) == (1, 1, 1)
    assert pq.read_table(tmp_path / "out/data/a.parquet").to_pylist() == [{"text": "Long enough.", "id": "a.txt#0"}]
    assert pq.read_table(tmp_path / "out/quarantine/c.parquet")["text"].to_pylist() == [b"not UTF-8: \xff"]


def test_text_beside_data_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, README_txt=b"About the data.", a_jsonl=b'{"text": "a"}\n')
    assert [shard.id for shard in cut_shards(tmp_path, text="text").shards] == ["a"]
    assert "1 files are passed over, such as 'README.txt'" in caplog.text
    assert "or a pattern that ends in .txt" in caplog.text
    found = cut_shards(tmp_path / "*", text="text")
    assert [file.id for file in found.unreadable] == ["README"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", "text".encode("utf-16"), "expected lines of UTF-8, found UTF-16"),
        ("a.txt", gzip.compress(b"text", mtime=0), "it is compressed by gzip, and its name does not say so"),
        ("a.txt.zst", pa.compress(b"text" * 99, "zstd", asbytes=True)[:-9], "damaged, or cut short"),
    ],
)
def test_what_is_no_text(name: str, data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    (file,) = cut_shards(tmp_path / name, text="text").unreadable
    assert reason in file.reason


def test_a_document_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_MOST_BYTES", 1 << 20)
    write(tmp_path, a_txt_gz=gzip.compress(b"a" * (1 << 20) + b"b"))
    with pytest.raises(InputError, match="expected one document of at most 1 MiB, found a longer one"):
        rows_of(tmp_path / "a.txt.gz")
