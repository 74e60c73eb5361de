"""Corpus-wide steps in any phase: many shards at corpus scope give what one shard of them all gives at shard scope."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gneiss.errors import RecipeError
from gneiss.input.shard import cut_shards
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.dry_run import dry_run
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from tests import runs

PHASES = """
name: wide
shard_max_bytes: {shard_max_bytes}
budgets: {{documents: 0.5, shards: 1}}
phases:
  - name: heuristics
    edit: [{{c4_lines: {{terminal_punctuation: true, min_line_words: 2}}}}]
    dedup: {{min_length: 100}}
    annotate: [c4]
    rules: {{long: text_bytes > 150}}
  - name: duplicates
    exact_duplicates: {{scope: {scope}}}
    near_duplicates: {{scope: {scope}, bands: 20, rows: 2, shingle_words: 2}}
    rules: {{first_copy: exact_first, few_alike: near_cluster_size < 30}}
  - name: substrings
    annotate: [readability]
    rules: {{readable: eflaw < 12}}
"""
#: The same, but the last phase too sees the corpus, and the first has no dedup.
WITH_DEDUP = PHASES.replace("    dedup: {{min_length: 100}}\n", "").replace(
    "    annotate: [readability]", "    dedup: {{min_length: 60, scope: {scope}}}\n    annotate: [readability]"
)


def recipe(phases: str, scope: str, shard_max_bytes: int) -> Recipe:
    return Recipe.parse(phases.format(scope=scope, shard_max_bytes=shard_max_bytes))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files, five shards, 120 rows; many texts are copies or near-copies of others."""
    folder = tmp_path_factory.mktemp("wide")
    for seed, name in enumerate(("x/a", "x/b", "y/c")):
        texts = runs.documents(40, seed=seed)
        for row in range(0, 40, 3):
            copied = runs.documents(40, seed=0)[(row * 7) % 40]
            texts[row] = copied and (copied if row % 2 else copied.upper().replace(b".", b" ,", 1))
        runs.write_corpus(folder / f"{name}.parquet", texts)
    return folder


def curated(recipe: Recipe, corpus: Path, output: Path, partitions: int | None = None) -> FinishedRun:
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=partitions)):
        return run(recipe, corpus, output, backend=runs.InThisProcess())


def of_one_shard(corpus: Path, folder: Path) -> Path:
    """All rows of the corpus in one file."""
    tables = [pq.read_table(path) for path in sorted(corpus.rglob("*.parquet"))]
    folder.mkdir()
    pq.write_table(pa.concat_tables(tables), folder / "one.parquet")
    return folder


def positions(found: pa.Table, shards: list[tuple[str, int]]) -> list[int | None]:
    """The names of clusters as rows of the whole corpus."""
    first = {id_: sum(rows for _, rows in shards[:index]) for index, (id_, rows) in enumerate(shards)}
    split = [name and name.rsplit(":", 1) for name in found["near_cluster"].to_pylist()]
    return [name and first[name[0]] + int(name[1]) for name in split]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.slow
def test_shards_that_see_each_other_decide_as_one_shard_would(corpus: Path, tmp_path: Path, partitions: int) -> None:
    many = curated(recipe(WITH_DEDUP, "corpus", 14_000), corpus, tmp_path / "many", partitions)
    one = curated(recipe(WITH_DEDUP, "shard", 10**9), of_one_shard(corpus, tmp_path / "input"), tmp_path / "one")
    found, expected = runs.annotations(tmp_path / "many"), runs.annotations(tmp_path / "one")
    assert found.num_rows == 120
    for column in set(found.column_names) - {"row", "near_cluster", "dedup_cuts"}:
        assert found[column].to_pylist() == expected[column].to_pylist(), column
    shards = [(shard.id, shard.rows) for shard in cut_shards(corpus, text="text", shard_max_bytes=14_000).shards]
    assert len(shards) == 5
    assert positions(found, shards) == positions(expected, [("one", 120)])
    assert many.statistics.counts == one.statistics.counts

    dropped = pc.value_counts(found["dropped_in"]).to_pylist()
    assert {entry["values"] for entry in dropped} == {None, "heuristics", "duplicates", "substrings"}, "all have work"
    assert pc.max(found["exact_copies"]).as_py() > 2
    assert pc.max(found["near_cluster_size"]).as_py() > pc.max(found["exact_copies"]).as_py()


def test_a_phase_that_was_computed_for_later_ones_is_what_it_would_be_without_them(
    corpus: Path, tmp_path: Path
) -> None:
    """Edits, cuts with their sources, and failures survive being written down."""
    source = of_one_shard(corpus, tmp_path / "input")
    written = curated(recipe(PHASES, "corpus", 10**9), source, tmp_path / "written")
    direct = curated(recipe(PHASES, "shard", 10**9), source, tmp_path / "direct")
    assert runs.annotations(tmp_path / "written").equals(runs.annotations(tmp_path / "direct"))
    assert written.statistics.to_json() == direct.statistics.to_json()
    assert written.examples == direct.examples
    assert direct.statistics.counts["dedup_bytes"] > 0


def test_a_document_dropped_before_is_nobodys_first_copy(tmp_path: Path) -> None:
    text = b"A text of which there are three copies, the first of them with an address that is blocked."
    runs.write_corpus(tmp_path / "in/a.parquet", [text, b"Something else that is long enough to be kept as it is."])
    runs.write_corpus(tmp_path / "in/b.parquet", [text, text])
    (tmp_path / "blocked.txt").write_text("a-0\n")
    phases = f"""
name: first
phases:
  - {{name: urls, annotate: [urls: {{words: [{tmp_path / "blocked.txt"}]}}], rules: {{allowed: url_words = 0}}}}
  - {{name: copies, exact_duplicates: {{}}, near_duplicates: {{}}, rules: {{first: exact_first AND near_first}}}}
"""
    (tmp_path / "blocked.txt").write_text("0\n")
    recipe = Recipe.parse(phases)
    curated(recipe, tmp_path / "in/a.parquet", tmp_path / "alone")
    curated(recipe, tmp_path / "in", tmp_path / "out")
    rows = runs.annotations(tmp_path / "out").to_pylist()
    assert [row["dropped_in"] for row in rows] == ["urls", None, "urls", None]
    assert [row["exact_copies"] for row in rows] == [None, 1, None, 1]
    assert [row["near_cluster"] for row in rows] == [None] * 4


@pytest.mark.processes
def test_workers_do_not_change_a_byte(corpus: Path, tmp_path: Path) -> None:
    wide = recipe(PHASES, "corpus", 14_000)
    curated(wide, corpus, tmp_path / "here")
    run(wide, corpus, tmp_path / "there", workers=2, backend="local")
    assert runs.promised(tmp_path / "there") == runs.promised(tmp_path / "here")


@pytest.mark.slow
def test_what_an_earlier_phase_computed_is_not_computed_again(corpus: Path, tmp_path: Path) -> None:
    from gneiss.filters.c4 import C4

    loaded: list[Any] = []
    load = C4.load

    def counted(self: C4, files: Any) -> Any:
        compute = load(self, files)
        return lambda batch: (loaded.append(len(batch)), compute(batch))[1]

    with mock.patch.object(C4, "load", counted):
        done = curated(recipe(WITH_DEDUP, "corpus", 14_000), corpus, tmp_path / "out")
    assert sum(loaded) == done.statistics.counts["rows"] - done.statistics.counts["quarantined"]


@pytest.mark.slow
def test_a_shard_that_cannot_be_read_is_quarantined_and_the_others_go_on(corpus: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    for path in sorted(corpus.rglob("*.parquet")):
        (damaged / path.relative_to(corpus)).parent.mkdir(parents=True, exist_ok=True)
        (damaged / path.relative_to(corpus)).write_bytes(path.read_bytes())
    content = bytearray((damaged / "x/b.parquet").read_bytes())
    content[4:400] = b"\0" * 396
    (damaged / "x/b.parquet").write_bytes(content)
    done = curated(recipe(WITH_DEDUP, "corpus", 10**9), damaged, tmp_path / "out")
    assert set(done.quarantined_shards) == {"x/b"}
    (damaged / "x/b.parquet").unlink()
    curated(recipe(WITH_DEDUP, "corpus", 10**9), damaged, tmp_path / "without")
    assert runs.annotations(tmp_path / "out").equals(runs.annotations(tmp_path / "without"))


def test_a_dry_run_looks_for_duplicates_in_its_file(corpus: Path) -> None:
    done = dry_run(recipe(WITH_DEDUP, "corpus", 10**9), corpus / "x/a.parquet")
    assert done.statistics.dropped_in["duplicates"] > 0


@pytest.mark.parametrize("step", ["dedup", "exact_duplicates", "near_duplicates"])
def test_each_step_belongs_into_one_phase(step: str) -> None:
    with pytest.raises(RecipeError, match=f"only one phase can have {step}"):
        Recipe.parse(f"name: twice\nphases:\n- {{name: a, {step}: {{}}}}\n- {{name: b, {step}: {{}}}}\n")
