"""Dedup beyond a shard: the scopes agree with each other, with the definition, and with themselves across shards."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from gneiss.corpus_steps import Dedup
from gneiss.curate.curate import Curated, curate
from gneiss.dedup import duplicate_spans
from gneiss.errors import InputError, OutputError, RecipeError
from gneiss.filters.tokenizer import load_tokenizer
from gneiss.input.shard import Shard, cut_shards
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from tests import runs

BYTES = {"min_length": 60}
TOKENS = {"min_length": 12, "unit": "tokens", "tokenizer": "builtin:cl100k_base"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files in two folders, eight shards, 160 rows, 6 of them unusable; passages are shared across all."""
    folder = tmp_path_factory.mktemp("corpus")
    for seed, name in enumerate(("x/a", "x/b", "y/a", "y/b")):
        runs.write_corpus(
            folder / f"{name}.parquet", runs.documents(40, seed=seed % 3), row_group_size=40 - 20 * (seed == 3)
        )
    return folder


def recipe(shards: int = 2, phases: list[dict[str, Any]] | None = None, **dedup: Any) -> Recipe:
    phase = {"name": "only", "dedup": dedup, "annotate": ["readability"], "rules": {"readable": "eflaw < 14"}}
    budgets = {"documents": 0.5, "shards": shards}
    fields = {"name": "scopes", "shard_max_bytes": 14_000, "budgets": budgets, "phases": phases or [phase]}
    return Recipe.model_validate(fields)


def curated(corpus: Path, output: Path, workers: int | None = None, **dedup: Any) -> FinishedRun:
    """A run in this process, or with so many workers."""
    if workers:
        return run(recipe(**dedup), corpus, output, workers=workers, backend="local")
    return run(recipe(**dedup), corpus, output, backend=runs.InThisProcess())


@pytest.mark.parametrize("unit", [BYTES, TOKENS], ids=["bytes", "tokens"])
@pytest.mark.parametrize(
    "policy", ["protect", *(pytest.param(policy, marks=pytest.mark.exhaustive) for policy in ("union", "all"))]
)
@pytest.mark.slow
def test_corpus_scope_and_one_group_give_what_the_definition_gives_on_all_documents(
    corpus: Path, tmp_path: Path, unit: dict[str, Any], policy: str
) -> None:
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=3)):
        whole = curated(corpus, tmp_path / "corpus", scope="corpus", policy=policy, **unit)
    curated(corpus, tmp_path / "group", scope="group", group_by="", policy=policy, **unit)
    found = runs.annotations(tmp_path / "corpus")
    assert found.equals(runs.annotations(tmp_path / "group"))

    shards = cut_shards(corpus, text="text", shard_max_bytes=14_000).shards
    assert len(shards) == 8
    texts = pa.chunked_array([t["text"].combine_chunks() for s in shards for _, t in s.tables(["text"])], pa.string())
    unusable = pa.array([status == "quarantined" for status in found["status"].to_pylist()])
    texts = pc.if_else(unusable, None, texts)
    tokenizer = load_tokenizer(unit["tokenizer"]) if "tokenizer" in unit else None
    options = {"min_length": unit["min_length"], "unit": unit.get("unit", "bytes"), "tokenizer": tokenizer}
    spans = duplicate_spans(texts, engine="suffix-array", policy=policy, **options).shrink(texts)
    assert len(spans) > 40
    assert _pieces(found, [s.id for s in shards], [s.rows for s in shards]) == spans.table.to_pylist()

    expected_repeated = [0] * len(texts)
    for cut in spans.table.to_pylist():
        expected_repeated[cut["source_document"]] += cut["end"] - cut["start"]
    assert pc.fill_null(found["dedup_repeated_bytes"], 0).to_pylist() == expected_repeated
    kept = [status == "kept" for status in found["status"].to_pylist()]
    orphaned = sum(
        cut["end"] - cut["start"]
        for cut in spans.table.to_pylist()
        if kept[cut["document"]] and not kept[cut["source_document"]]
    )
    assert whole.statistics.counts["orphaned_bytes"] == orphaned
    assert orphaned > 0 or policy == "all"


@pytest.mark.parametrize("unit", [BYTES, TOKENS], ids=["bytes", "tokens"])
@pytest.mark.slow
def test_the_first_copy_is_that_of_the_preferred_document(corpus: Path, tmp_path: Path, unit: dict[str, Any]) -> None:
    """At every scope, as the definition says of all documents in that order; copies of dropped ones do not count."""
    phases = [
        {"name": "long", "rules": {"long": "text_bytes > 300"}},
        {"name": "only", "dedup": {**unit, "scope": "corpus", "first_by": "text_bytes % 7"}},
    ]
    by_measure = recipe(phases=phases)
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=3)):
        run(by_measure, corpus, tmp_path / "corpus", backend=runs.InThisProcess())
    found = runs.annotations(tmp_path / "corpus")
    phases[1]["dedup"] |= {"scope": "group", "group_by": ""}
    run(recipe(phases=phases), corpus, tmp_path / "group", backend=runs.InThisProcess())
    assert runs.annotations(tmp_path / "group").equals(found)

    shards = cut_shards(corpus, text="text", shard_max_bytes=14_000).shards
    read = [table["text"].combine_chunks() for shard in shards for _, table in shard.tables(["text"])]
    texts = pa.chunked_array(read, pa.string())
    enters = pa.array([size is not None for size in found["dedup_bytes"].to_pylist()])
    assert 0 < sum(enters.to_pylist()) < len(texts)
    texts = pc.if_else(enters, texts, None)
    tokenizer = load_tokenizer(unit["tokenizer"]) if "tokenizer" in unit else None
    options = {"min_length": unit["min_length"], "unit": unit.get("unit", "bytes"), "tokenizer": tokenizer}
    measure = pa.array([None if text is None else len(text.encode()) % 7 for text in texts.to_pylist()])
    spans = duplicate_spans(texts, engine="suffix-array", first_by=measure, **options).shrink(texts)
    assert _pieces(found, [s.id for s in shards], [s.rows for s in shards]) == spans.table.to_pylist()
    later = pc.greater(spans.table["source_document"], spans.table["document"])
    assert 10 < pc.sum(later).as_py() < len(spans) - 10


def test_the_first_copy_within_a_shard_is_that_of_the_preferred_document(tmp_path: Path) -> None:
    passage = "It was the best of times, it was the worst of times"
    texts = [b"A. %s." % passage.encode(), b"Second. %s!" % passage.encode()]
    runs.write_corpus(tmp_path / "in/a.parquet", texts, score=[0.5, 2.0])
    phases = [
        {"name": "read", "annotate": [{"input_column": {"name": "score", "type": "float64"}}]},
        {"name": "only", "dedup": {"min_length": 40, "first_by": "score"}},
    ]
    run(recipe(phases=phases), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert [bool(cuts) for cuts in runs.annotations(tmp_path / "out")["dedup_cuts"].to_pylist()] == [True, False]


def _pieces(found: pa.Table, shard_ids: list[str], rows: list[int]) -> list[dict[str, int]]:
    """The cuts of all annotation shards as spans over all documents."""
    first = {id_: sum(rows[:index]) for index, id_ in enumerate(shard_ids)}
    shard_of_row = [id_ for id_, count in zip(shard_ids, rows, strict=True) for _ in range(count)]
    return [
        {
            "document": document,
            "start": cut["start"],
            "end": cut["end"],
            "source_document": first[cut["source_shard"] or shard_of_row[document]] + cut["source_row"],
            "source_start": cut["source_start"],
        }
        for document, cuts in enumerate(found["dedup_cuts"].to_pylist())
        for cut in cuts or []
    ]


@pytest.mark.slow
def test_groups_do_not_see_each_other(corpus: Path, tmp_path: Path) -> None:
    curated(corpus, tmp_path / "both", scope="group", group_by="^[xy]", **BYTES)
    for folder in ("x", "y"):
        curated(corpus / folder, tmp_path / folder, scope="corpus", **BYTES)
        mine = runs.annotations(tmp_path / "both").filter(pc.equal(_folder(tmp_path / "both"), folder))
        alone = runs.annotations(tmp_path / folder)
        for column in ("dedup_bytes", "dedup_repeated_bytes", "status", "content_hash"):
            assert mine[column].equals(alone[column]), (folder, column)


def test_file_scope_sees_the_shards_of_a_file(corpus: Path, tmp_path: Path) -> None:
    """Files of one shard and of several: what groups by the name of the file give, and corpus scope on a file."""
    folder = tmp_path / "input"
    runs.write_corpus(folder / "a.parquet", runs.documents(30, seed=0), row_group_size=30)
    (folder / "b.parquet").write_bytes((corpus / "y/b.parquet").read_bytes())
    by_file = curated(folder, tmp_path / "file", scope="file", **BYTES)
    by_name = curated(folder, tmp_path / "group", scope="group", group_by="^.", **BYTES)
    assert runs.annotations(tmp_path / "file").equals(runs.annotations(tmp_path / "group"))
    assert by_file.statistics.counts == by_name.statistics.counts
    curated(folder / "b.parquet", tmp_path / "b", scope="corpus", **BYTES)
    mine, alone = runs.annotations(tmp_path / "file").slice(30), runs.annotations(tmp_path / "b")
    for column in ("dedup_bytes", "dedup_repeated_bytes", "content_hash"):
        assert mine[column].equals(alone[column]), column
    cuts = [cut for row_cuts in alone["dedup_cuts"].to_pylist() for cut in row_cuts or []]
    assert any(cut["source_shard"] for cut in cuts)


def test_file_scope_is_shard_scope_where_files_have_one_shard(corpus: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        runs.write_corpus(tmp_path / f"input/{name}.parquet", runs.documents(30, seed=2), row_group_size=30)
    for scope in ("file", "shard"):
        curated(tmp_path / "input", tmp_path / scope, scope=scope, **TOKENS)
    by_file, by_shard = (runs.promised(tmp_path / scope) for scope in ("file", "shard"))
    same = [name for name in by_shard if name.startswith(("data/", "annotations/")) or "statistics" in name]
    assert len(same) == 7
    assert [by_file[name] for name in same] == [by_shard[name] for name in same]
    assert "corpus" not in open_run(tmp_path / "file").identity
    runs.write_corpus(tmp_path / "input/c.parquet", runs.documents(30, seed=2), row_group_size=30)
    assert curated(tmp_path / "input", tmp_path / "file", scope="file", **TOKENS).finished_before == 2


def _folder(output: Path) -> pa.Array:
    paths = sorted((output / "annotations/base").rglob("*.parquet"))
    return pa.array([path.parent.name for path in paths for _ in range(pq.read_metadata(path).num_rows)])


def test_a_group_is_cut_at_its_largest_size(corpus: Path) -> None:
    shards = cut_shards(corpus, text="text", shard_max_bytes=14_000).shards
    size = max(shard.text_bytes for shard in shards)
    dedup = Dedup(scope="group", group_by="", group_max_bytes=2 * size)
    groups = dedup.groups(shards)
    assert [index for group in groups for index in group] == list(range(len(shards)))
    assert len(groups) > 1
    assert all(sum(shards[i].text_bytes for i in group) <= 2 * size for group in groups)
    with pytest.raises(RecipeError, match=re.escape("'^z' does not match the shard 'x/a")):
        Dedup(scope="group", group_by="^z").groups(shards)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("scope", "workers"),
    [({"scope": "corpus"}, 3), ({"scope": "corpus", "first_by": "text_bytes"}, 2), ({"scope": "file"}, 2)],
    ids=["corpus 3", "corpus in order 2", "file 2"],
)
def test_workers_and_partitions_do_not_change_a_byte(
    corpus: Path, tmp_path: Path, scope: dict[str, str], workers: int
) -> None:
    curated(corpus, tmp_path / "here", **scope, **BYTES)
    expected = runs.promised(tmp_path / "here")
    assert not any("exchange" in name for name in expected)
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=workers)):
        curated(corpus, tmp_path / "processes", workers=workers, **scope, **BYTES)
    assert runs.promised(tmp_path / "processes") == expected


@pytest.mark.slow
def test_a_shard_that_cannot_be_read_is_quarantined_and_the_others_see_each_other(corpus: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    for path in sorted(corpus.rglob("*.parquet")):
        (damaged / path.relative_to(corpus)).parent.mkdir(parents=True, exist_ok=True)
        (damaged / path.relative_to(corpus)).write_bytes(path.read_bytes())
    broken = damaged / "x/b.parquet"
    content = bytearray(broken.read_bytes())
    content[4:400] = b"\0" * 396
    broken.write_bytes(content)
    done = curated(damaged, tmp_path / "out", scope="corpus", **BYTES)
    assert {id_[:3] for id_ in done.quarantined_shards} == {"x/b"}
    without = tmp_path / "without"
    for path in sorted(corpus.rglob("*.parquet")):
        if path.name != "b.parquet" or path.parent.name != "x":
            (without / path.relative_to(corpus)).parent.mkdir(parents=True, exist_ok=True)
            (without / path.relative_to(corpus)).write_bytes(path.read_bytes())
    curated(without, tmp_path / "alone", scope="corpus", **BYTES)
    assert runs.annotations(tmp_path / "out").equals(runs.annotations(tmp_path / "alone"))


def test_a_corpus_that_changed_is_refused(corpus: Path, tmp_path: Path) -> None:
    grown = tmp_path / "grown"
    runs.write_corpus(grown / "a.parquet", runs.documents(40, seed=0))
    curated(grown, tmp_path / "out", scope="corpus", **BYTES)
    runs.write_corpus(grown / "b.parquet", runs.documents(40, seed=1))
    with pytest.raises(OutputError, match=r"first 'b\.g\d+', and there is no index of dedup to compare"):
        curated(grown, tmp_path / "out", scope="corpus", **BYTES)


@pytest.mark.parametrize("finishes", [False, True])
@pytest.mark.slow
def test_orphaned_bytes_are_counted_anew_when_a_quarantined_shard_is_curated(
    finishes: bool, corpus: Path, tmp_path: Path
) -> None:
    """The first driver curates all shards but one; it, or the second one, dies after the last stage."""
    recipe = partial(curated, corpus, shards=0, scope="corpus", min_length=60)
    expected = recipe(tmp_path / "whole").statistics.counts["orphaned_bytes"]
    second = cut_shards(corpus, text="text", shard_max_bytes=14_000).shards[1].id
    output = tmp_path / "resumed"

    def unless_it_is_the_second(shard: Shard, *args: Any, **named: Any) -> Curated:
        if shard.id == second:
            raise InputError("cannot be read for now")
        return curate(shard, *args, **named)

    def dies() -> None:
        killed = mock.patch("gneiss.pipelines.curation.counts_after", side_effect=KeyboardInterrupt)
        with killed, pytest.raises(KeyboardInterrupt):
            recipe(output)

    with mock.patch("gneiss.curate.curate.curate", unless_it_is_the_second):
        if finishes:
            assert recipe(output).statistics.counts["orphaned_bytes"] != expected
        else:
            dies()
    if finishes:
        dies()
    assert recipe(output).statistics.counts["orphaned_bytes"] == expected
