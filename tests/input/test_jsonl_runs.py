"""Runs over JSON Lines: what runs over Parquet give, and malformed lines in quarantine, each with its number."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import BudgetError
from gneiss.pipelines.dry_run import dry_run
from gneiss.recipe.recipe import Recipe
from tests import runs
from tests.input.test_uncounted import CORPUS_SCOPE, SHARD_SCOPE
from tests.support import recipe_of


def converted(source: Path, target: Path, damage: dict[int, bytes] | None = None) -> Path:
    """The same rows as compressed JSON Lines, in which some lines are other ones."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row).encode() for row in pq.read_table(source).to_pylist()]
    for row, line in (damage or {}).items():
        lines[row] = line
    target.write_bytes(pa.compress(b"\n".join(lines), "zstd", asbytes=True))
    return target


def write_corpus(path: Path, seed: int) -> Path:
    """Documents of the corpus of runs that JSON can hold."""
    table = pq.read_table(runs.write_corpus(path, runs.documents(40, seed=seed)))
    texts = table["text"].cast(pa.binary()).to_pylist()
    can_hold = [text is not None and text.decode(errors="ignore").encode() == text for text in texts]
    pq.write_table(table.filter(pa.array(can_hold)), path)
    return path


def run(recipe: Recipe, source: Path, output: Path) -> Path:
    gneiss.run(recipe, source, output, backend=runs.InThisProcess())
    return output


def hashes(output: Path) -> dict[str, str]:
    """Of the data; annotations hold fingerprints of the input."""
    return {name: digest for name, digest in runs.promised(output).items() if name.startswith("data")}


@pytest.mark.slow
@pytest.mark.parametrize("phases", [SHARD_SCOPE, CORPUS_SCOPE], ids=["shard", "corpus"])
def test_a_run_over_json_lines_keeps_what_one_over_parquet_keeps(phases: str, tmp_path: Path) -> None:
    recipe = recipe_of(phases, budgets="{documents: 1}")
    for number, name in enumerate(("a", "deep/b")):
        path = write_corpus(tmp_path / f"parquet/{name}.parquet", number)
        converted(path, tmp_path / f"jsonl/{name}.jsonl.zst")
    as_parquet = run(recipe, tmp_path / "parquet", tmp_path / "from-parquet")
    as_jsonl = run(recipe, tmp_path / "jsonl", tmp_path / "from-jsonl")
    for name in ("data/a.parquet", "data/deep/b.parquet"):
        assert pq.read_table(as_jsonl / name).to_pylist() == pq.read_table(as_parquet / name).to_pylist()
    again = run(recipe, tmp_path / "jsonl", tmp_path / "again")
    assert runs.promised(again) == runs.promised(as_jsonl)


def test_malformed_lines_are_in_quarantine_with_their_numbers_and_bytes(tmp_path: Path) -> None:
    damage = {3: b"nope", 7: b'{"text": "\xff"}', 8: b'{"id": "8", "text": ["a"]}', 20: b'{"text": null}'}
    converted(write_corpus(tmp_path / "a.parquet", 1), tmp_path / "in/a.jsonl.zst", damage)
    recipe = recipe_of(SHARD_SCOPE, budgets="{documents: 0.5}")
    done = gneiss.run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    counts = done.statistics.counts
    rows = len(pq.read_table(tmp_path / "a.parquet"))
    assert (counts["rows"], counts["quarantined"]) == (rows, 4)
    assert counts["kept"] + counts["dropped"] + 4 == rows
    found = pq.read_table(tmp_path / "out/quarantine/a.parquet").to_pylist()
    assert [(row["quarantine_row"], row["quarantine_reason"], row["text"]) for row in found] == [
        (3, "line 4: expected a JSON object", b"nope"),
        (7, "line 8: invalid UTF-8", b'{"text": "\xff"}'),
        (8, "line 9, byte 21: its text is not a string", b'["a"]'),
        (20, "null text", None),
    ]
    assert done.statistics.reasons == {
        "malformed line: expected a JSON object": 1,
        "malformed line: invalid UTF-8": 1,
        "malformed line: its text is not a string": 1,
        "null text": 1,
    }
    assert done.failed_documents == 0
    status = pq.read_table(tmp_path / "out/annotations/base/a.parquet")
    assert status["status"].to_pylist().count("quarantined") == 4


def test_too_many_malformed_lines_are_bad_data_and_no_defect(tmp_path: Path) -> None:
    converted(write_corpus(tmp_path / "a.parquet", 1), tmp_path / "in/a.jsonl.zst", {5: b"nope"})
    done = gneiss.run(recipe_of(SHARD_SCOPE), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    with pytest.raises(BudgetError, match="malformed line: expected a JSON object"):
        done.check_budgets()
    assert done.failed_documents == 0


def test_a_file_that_is_cut_short_is_a_quarantined_shard(tmp_path: Path) -> None:
    for name in "ab":
        converted(write_corpus(tmp_path / "a.parquet", 1), tmp_path / f"in/{name}.jsonl.zst")
    path = tmp_path / "in/b.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-30])
    done = gneiss.run(recipe_of(SHARD_SCOPE), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert set(done.quarantined_shards) == {"b"}
    assert "lines: damaged, or cut short" in done.quarantined_shards["b"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 3, 100])
def test_a_dry_run_over_ranges_of_a_file(limit: int | None, tmp_path: Path) -> None:
    recipe = recipe_of(CORPUS_SCOPE, shard_max_bytes=2000, budgets="{documents: 1}")
    rows = [{"text": f"{n % 7} the river runs south and a cat sat by old walls", "id": n} for n in range(200)]
    (tmp_path / "a.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    counts = dry_run(recipe, tmp_path / "a.jsonl", limit=limit).statistics.counts
    assert counts["rows"] == (limit or 200)
    assert counts["kept"] + counts["dropped"] == counts["rows"]


def test_ids_are_made_of_the_bytes_where_lines_begin(tmp_path: Path) -> None:
    rows = [{"text": f"{n} the river runs south and a cat sat by old walls"} for n in range(100)]
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_bytes(data)
    recipe = recipe_of(SHARD_SCOPE, shard_max_bytes=2000)
    output = run(recipe, tmp_path / "in", tmp_path / "out")
    found = pa.concat_tables(pq.read_table(path) for path in sorted((output / "annotations/base").glob("*.parquet")))
    ids = found["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 100
    starts = [int(id_.removeprefix("a.jsonl#")) for id_ in ids]
    assert [json.loads(data[start:].split(b"\n")[0]) for start in starts] == rows
