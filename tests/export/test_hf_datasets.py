"""Hugging Face datasets: the files hold what the reader gives, and the real library reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gneiss.export.hf_datasets import export_hf
from gneiss.loader.packed_files import pack, packed
from gneiss.loader.packing import Sequence, sequences
from gneiss.loader.reader import documents


@pytest.fixture(scope="module")
def packed_folder(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    pack(sequences(documents(released), "builtin:cl100k_base", 300), folder)
    return folder


def expected_documents(released: Path) -> list[dict[str, Any]]:
    names = ("id", "shard", "row", "text", "log_prior")
    return [
        {"document": d.index, **{name: getattr(d, name) for name in names}} for d in documents(released, shuffled=False)
    ]


def expected_sequence(sequence: Sequence) -> dict[str, Any]:
    spans = sequence.spans
    columns = [column.tolist() for column in (spans.document, spans.start, spans.length, spans.document_start)]
    names = ("document", "start", "length", "document_start")
    return {
        "sequence": sequence.id,
        "input_ids": sequence.tokens.tolist(),
        "log_prior": sequence.log_prior,
        "spans": [dict(zip(names, span, strict=True)) for span in zip(*columns, strict=True)],
    }


def read(folder: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_documents_come_with_ids_and_weights(released: Path, tmp_path: Path) -> None:
    done = export_hf(documents(released, seed=9), tmp_path / "hf", file_bytes=20_000)
    assert read(tmp_path / "hf") == expected_documents(released)
    assert done.files == len(list((tmp_path / "hf").glob("*.parquet"))) > 2
    for path in (tmp_path / "hf").glob("*.parquet"):
        texts = pq.read_table(path)["text"].to_pylist()
        assert len(texts) == 1 or sum(len(text.encode()) for text in texts) <= 20_000


def test_sequences_come_with_their_packing_map(packed_folder: Path, tmp_path: Path) -> None:
    done = export_hf(packed(packed_folder), tmp_path / "hf", file_bytes=20_000)
    assert read(tmp_path / "hf") == list(map(expected_sequence, packed(packed_folder, shuffled=False)))
    assert done.files > 2


@pytest.mark.parametrize("what", ["documents", "sequences"])
def test_the_real_library_reads_it(released: Path, packed_folder: Path, tmp_path: Path, what: str) -> None:
    library = pytest.importorskip("datasets")
    folder, cache = tmp_path / "hf", str(tmp_path / "cache")
    done = export_hf(documents(released) if what == "documents" else packed(packed_folder), folder, file_bytes=20_000)
    expected = (
        expected_documents(released)
        if what == "documents"
        else list(map(expected_sequence, packed(packed_folder, shuffled=False)))
    )
    whole = library.load_dataset(str(folder), split="train", cache_dir=cache)
    assert whole.to_list() == expected
    by_name = library.load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train", cache_dir=cache)
    assert by_name.features == whole.features
    assert by_name.to_list() == expected
    streamed = library.load_dataset(str(folder), split="train", streaming=True)
    assert streamed.num_shards == done.files
    assert list(streamed) == expected


def test_the_trainer_gets_the_weights_unless_it_removes_them(packed_folder: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    export_hf(packed(packed_folder), tmp_path / "hf")
    whole = library.load_dataset(str(tmp_path / "hf"), split="train", cache_dir=str(tmp_path / "cache"))
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16, n_positions=8)

    def columns(**settings: Any) -> set[str]:
        arguments = transformers.TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to="none", **settings)
        trainer = transformers.Trainer(
            transformers.GPT2LMHeadModel(config),
            arguments,
            lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
            train_dataset=whole.select_columns(["input_ids", "log_prior"]),
        )
        return set(next(iter(trainer.get_train_dataloader())))

    assert columns(remove_unused_columns=False) == {"input_ids", "log_prior"}
    assert columns() == {"input_ids"}
