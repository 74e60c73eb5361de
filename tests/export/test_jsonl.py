"""JSON lines: an object a sample, the same as the Parquet export has, in files of bounded size."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.export import export_hf, export_jsonl, tokenized
from gneiss.loader import documents, packed, sequences
from gneiss.loader.packed_files import pack


@pytest.fixture(scope="module")
def packed_folder(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(sequences(documents(released), "builtin:cl100k_base", 300), folder)
    return folder


def lines(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("part-*.jsonl.gz"))
    return [json.loads(line) for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]


@pytest.mark.parametrize("what", ["documents", "sequences"])
def test_lines_are_the_rows_of_parquet(released: Path, packed_folder: Path, tmp_path: Path, what: str) -> None:
    source = documents(released, seed=9) if what == "documents" else packed(packed_folder)
    done = export_jsonl(source, tmp_path / "jsonl", file_bytes=20_000)
    export_hf(source, tmp_path / "hf")
    rows = [row for path in sorted((tmp_path / "hf").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert lines(tmp_path / "jsonl") == rows
    assert (done.samples, done.files) == (len(rows), len(list((tmp_path / "jsonl").glob("part-*"))))
    assert done.files > 2
    before = {path: path.read_bytes() for path in (tmp_path / "jsonl").iterdir() if path.is_file()}
    (tmp_path / "jsonl/export.json").unlink()  # as a killed export leaves it
    export_jsonl(source, tmp_path / "jsonl", file_bytes=20_000)
    assert {path: path.read_bytes() for path in before} == before


def test_the_real_library_reads_it(released: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    export_jsonl(documents(released), tmp_path / "jsonl", compression="zstd")
    files = [str(path) for path in sorted((tmp_path / "jsonl").glob("*.zst"))]
    found = library.load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert found["text"][:] == [document.text for document in documents(released, shuffled=False)]


def test_tokens_of_documents_are_refused(released: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="jsonl: expected documents or packed sequences"):
        export_jsonl(tokenized(documents(released), "builtin:cl100k_base"), tmp_path / "jsonl")
