"""Outputs in every format hold the same documents, and what others load of them is what a run over Parquet writes."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import InputError, OutputError
from gneiss.export.hf_datasets import export_hf
from gneiss.layers.weights import write_weights
from gneiss.loader.reader import documents
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.support import recipe_of

PHASES = """
- name: only
  dedup: {min_length: 80}
  annotate: [readability]
  rules: {readable: eflaw < 30}
"""
FORMATS = ["jsonl.zst", "jsonl.gz", "jsonl"]


def recipe(output: str) -> Recipe:
    return recipe_of(PHASES, budgets="{documents: 1}", shard_max_bytes=12_000, output=output)


def run(folder: Path, output: str, to: str = "out") -> FinishedRun:
    if not (folder / "input").exists():
        for number, name in enumerate(("a", "deep/b")):
            texts = runs.documents(50, seed=number)
            scores = pa.array([None if i % 5 == 0 else i / 7 for i in range(50)], pa.float64())
            runs.write_corpus(
                folder / f"input/{name}.parquet", texts, scores=scores, tags=[["x", str(i)] for i in range(50)]
            )
    return gneiss.run(recipe(output), folder / "input", folder / to, backend=runs.InThisProcess())


def rows_of(done: FinishedRun) -> list[dict[str, Any]]:
    names = [name for shard in done.shards[:1] for name in done.data_schema(shard).names]
    return [row for shard in done.shards for table in done.data_tables(shard, names) for row in table.to_pylist()]


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_the_same_documents_in_every_format(tmp_path: Path, format: str) -> None:
    parquet, other = run(tmp_path, "{}", "parquet"), run(tmp_path, f"{{format: {format}}}", "other")
    assert rows_of(other) == rows_of(parquet)
    assert other.documents > 60
    files = [path.relative_to(tmp_path / "other") for path in (tmp_path / "other/data").rglob("*") if path.is_file()]
    assert len(files) == len(other.shards)
    assert all(path.name.endswith(f".{format}") for path in files)
    for done in (parquet, other):
        write_weights(done.folder)
    settings: dict[str, Any] = {"seed": 3, "block_documents": 16, "columns": ["log_prior", "url", "eflaw"]}
    assert list(documents(other.folder, **settings)) == list(documents(parquet.folder, **settings))
    start, end = 17, 60  # from the middle of a file
    read = [list(documents(done.folder, shuffled=False).read(0, start, end)) for done in (parquet, other)]
    assert read[0] == read[1]
    for done in (parquet, other):
        export_hf(documents(done.folder), f"{done.folder}-hf")
    assert runs.files(tmp_path / "other-hf").keys() == runs.files(tmp_path / "parquet-hf").keys()
    exported = [pq.read_table(tmp_path / f"{name}-hf/train-00000.parquet") for name in ("other", "parquet")]
    assert exported[0].equals(exported[1])


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_finished_output_is_left_as_it_is_and_a_damaged_file_is_written_again(tmp_path: Path, format: str) -> None:
    done = run(tmp_path, f"{{format: {format}}}")
    promised, before = runs.promised(done.folder), runs.touched(done.folder / "data")
    again = run(tmp_path, f"{{format: {format}}}")
    assert (again.finished_before, runs.touched(done.folder / "data")) == (len(done.shards), before)
    assert open_run(done.folder).digest == done.digest
    damaged = Path(done.data_file(done.shards[1]))
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"cannot read|expected \d+ documents"):
        rows_of(open_run(done.folder))
    assert run(tmp_path, f"{{format: {format}}}").finished_before == len(done.shards) - 1
    assert runs.promised(done.folder) == promised


def test_an_output_has_one_format(tmp_path: Path) -> None:
    run(tmp_path, "{format: jsonl}")
    with pytest.raises(OutputError, match=r"another run \(what differs: recipe, libraries\)"):
        run(tmp_path, "{format: jsonl.gz}")


def test_a_file_with_more_documents_than_the_run_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "{format: jsonl}")
    file = Path(done.data_file(done.shards[0]))
    file.write_bytes(file.read_bytes() * 2)
    with pytest.raises(InputError, match=r"a.*\.jsonl: expected \d+ documents, as annotations/base has, found \d+"):
        list(documents(done.folder, layers=(), columns=()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compression", "level", "smaller"),
    [("zstd", 19, True), ("gzip", 9, False), ("snappy", None, False), ("none", None, False)],
)
def test_compression_of_parquet(tmp_path: Path, compression: str, level: int | None, smaller: bool) -> None:
    default = run(tmp_path, "{}", "default")
    stated = f", level: {level}" if level else ""
    other = run(tmp_path, f"{{compression: {compression}{stated}}}", "other")
    assert rows_of(other) == rows_of(default)
    sizes = []
    for done in (default, other):
        metadata = pq.read_metadata(done.data_file(done.shards[0]))
        column = metadata.row_group(0).column(1)
        sizes.append(column.total_compressed_size)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
    assert (sizes[1] < sizes[0]) == smaller or compression == "gzip"


def test_columns_that_json_cannot_hold_are_refused_before_the_run(tmp_path: Path) -> None:
    took = pa.array([5] * 20, pa.duration("s"))
    runs.write_corpus(tmp_path / "input/a.parquet", runs.documents(20, seed=2), took=took)
    with pytest.raises(InputError, match=r"a\.parquet: column 'took': duration\[s\] has no form in JSON"):
        run(tmp_path, "{format: jsonl}")
    assert not (tmp_path / "out/data").exists()
    assert run(tmp_path, "{}").documents


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_documents_are_an_input_again(tmp_path: Path, format: str) -> None:
    done = run(tmp_path, f"{{format: {format}}}")
    everything = recipe_of("- name: only\n", output=f"{{format: {format}}}")
    again = gneiss.run(everything, done.folder / "data", tmp_path / "again", backend=runs.InThisProcess())
    again.check_budgets()
    assert sorted(rows_of(again), key=itemgetter("id")) == sorted(rows_of(done), key=itemgetter("id"))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_others_load_it(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    import pandas

    done = run(tmp_path, f"{{format: {format}}}")
    expected = rows_of(done)
    files = sorted(str(path) for path in (tmp_path / "out/data").rglob(f"*.{format}"))
    cache = str(tmp_path / "cache")
    loaded = datasets.load_dataset("json", data_files=files, split="train", cache_dir=cache)
    assert loaded.to_list() == expected
    of_output = datasets.load_dataset(str(done.folder), split="train", cache_dir=cache)
    assert of_output.to_list() == expected
    assert datasets.get_dataset_config_names(str(done.folder)) == ["default"]  # of which all have one format
    by_pandas = pandas.concat([pandas.read_json(file, lines=True) for file in files])
    assert by_pandas["text"].tolist() == [row["text"] for row in expected]
    found = duckdb.sql(
        f"SELECT id, text, tags, scores FROM read_json({files!r}, format='newline_delimited')"
    ).fetchall()
    assert found == [(row["id"], row["text"], row["tags"], row["scores"]) for row in expected]
