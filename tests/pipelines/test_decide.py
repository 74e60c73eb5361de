"""Deciding again writes what a run of the changed recipe writes, and computes only what the earlier run lacks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from gneiss.annotation import Annotator
from gneiss.errors import InputError, RecipeError
from gneiss.filters.fasttext import FastText
from gneiss.filters.readability import Readability
from gneiss.layers.weights import write_weights
from gneiss.output import commit
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.reuse import Code
from tests import runs

HERE = runs.InThisProcess()
PHASES = """
name: phases
shard_max_bytes: 14000
budgets: {{documents: 0.5}}
phases:
  - name: raw
    annotate: [gopher_quality]
    rules: {{long: gopher_words > 20}}
  - name: cut
    edit: [{{c4_lines: {{terminal_punctuation: true, min_line_words: 2}}}}]
    near_duplicates: {{scope: {scope}, bands: 10, rows: 5, shingle_words: 3}}
    rules: {{first: near_first}}
  - name: last
    dedup: {{min_length: 60, scope: {scope}}}
    annotate: [readability]
    rules: {{readable: eflaw < 14}}
"""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Documents that were annotated, by annotator."""
    counts: dict[str, int] = {}

    def count(kind: type[Annotator]) -> None:
        load = kind.load

        def counting(self: Any, files: Any) -> Any:
            compute = load(self, files)

            def counted(batch: Any) -> Any:
                counts[kind.key] = counts.get(kind.key, 0) + len(batch)
                return compute(batch)

            return counted

        monkeypatch.setattr(kind, "load", counting)

    count(FastText)
    count(Readability)
    return counts


def same(recipe: Recipe, again: FinishedRun, input: Path, folder: Path) -> FinishedRun:
    """A run of the recipe, whose files are those of `again`."""
    expected = run(recipe, input, folder, backend=HERE)
    assert runs.promised(again.folder) == runs.promised(folder)
    assert again.identity["run_key"] == expected.identity["run_key"]
    assert again.counts == expected.counts
    return expected


def test_changed_rules_over_stored_annotations(
    material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path, counted: dict[str, int]
) -> None:
    changes = {"phases.only.rules.good": "prose > 0.9", "phases.only.keep": "good OR readable"}
    recipe = Recipe.load(material.recipe).changed(changes)
    again = decide(recipe, uninterrupted, tmp_path / "again", backend=HERE)
    assert not counted
    assert 0 < again.documents != uninterrupted.documents
    same(recipe, again, material.input, tmp_path / "run")


def test_a_finished_decision_is_a_finished_run(
    material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    recipe = Recipe.load(material.recipe).changed({"phases.only.rules.good": "prose > 0.9"})
    decide(recipe, uninterrupted.folder, tmp_path / "again", backend=HERE)
    before = runs.touched(tmp_path / "again")
    assert run(recipe, material.input, tmp_path / "again", backend=HERE).finished_before == 5
    after = runs.touched(tmp_path / "again")
    assert {name: stamp for name, stamp in after.items() if before.get(name) != stamp}.keys() <= {"_gneiss/lock"}


def test_an_annotator_with_other_parameters_is_computed_and_no_other(
    material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path, counted: dict[str, int]
) -> None:
    entry = "phases.only.annotate.fasttext.models.prose.newlines"
    recipe = Recipe.load(material.recipe).changed({entry: "join_stripped_lines"})
    again = decide(recipe, uninterrupted, tmp_path / "again", backend=HERE)
    assert set(counted) == {"fasttext"}
    same(recipe, again, material.input, tmp_path / "run")


FASTTEXT, READABILITY = "gneiss.filters.fasttext:FastText", "gneiss.filters.readability:Readability"


@pytest.mark.parametrize(
    ("noted", "computed"),
    [
        ({}, set()),
        ({READABILITY: "sha"}, {"readability"}),
        ({"gneiss.recipe.rule": "sha"}, set()),
        (None, {"fasttext", "readability"}),
    ],
    ids=["no file of it", "files of a filter", "files of rules", "not noted"],
)
def test_an_upgrade_computes_what_it_touches(
    noted: dict[str, str] | None,
    computed: set[str],
    material: runs.Material,
    curated: Path,
    copy_of: Callable[[Path], Path],
    tmp_path: Path,
    counted: dict[str, int],
) -> None:
    folder = copy_of(curated)
    identity = json.loads((folder / "_gneiss/run.json").read_text())
    assert {FASTTEXT, READABILITY, "gneiss.recipe.rule"} < identity["code"].keys()
    identity |= {"gneiss": "0.0.1", "code": None if noted is None else identity["code"] | noted}
    (folder / "_gneiss/run.json").write_text(json.dumps({k: v for k, v in identity.items() if v is not None}))
    again = decide(material.recipe, folder, tmp_path / "again", backend=HERE)
    assert set(counted) == computed
    assert runs.promised(again.folder) == runs.promised(curated)


def test_only_the_libraries_count_that_an_annotator_imports() -> None:
    libraries = {"numpy": "2", "duckdb": "1", "numba": "1"}
    code = Code("1", libraries, {}, {READABILITY: "sha"})
    assert code.behind(Readability()) == Code("2", {**libraries, "duckdb": "2"}, {}, code.files).behind(Readability())
    assert code.behind(Readability()) != Code("1", {**libraries, "numba": "2"}, {}, code.files).behind(Readability())
    assert (
        code.behind_rules()
        == Code("1", libraries, {}, {}).behind_rules()
        != Code("2", libraries, {}, {}).behind_rules()
    )


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose documents are encoded."""
    shards: list[str] = []
    write = commit._write_data

    def noting(curated: Any, *rest: Any) -> Any:
        shards.append(curated.shard.id)
        return write(curated, *rest)

    monkeypatch.setattr(commit, "_write_data", noting)
    return shards


def test_documents_that_stay_the_same_are_copied(
    material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path, written: list[str]
) -> None:
    recipe = Recipe.load(material.recipe).changed({"phases.only.rules.good": "prose > 0.5 AND text_chars >= 0"})
    again = decide(recipe, uninterrupted, tmp_path / "again", backend=HERE)
    assert not written
    same(recipe, again, material.input, tmp_path / "run")


def test_no_damaged_file_is_copied(
    material: runs.Material, curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path, written: list[str]
) -> None:
    folder = copy_of(curated)
    damaged, gone, *_ = sorted((folder / "data").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes().replace(b"PAR1", b"RAP1"))
    gone.unlink()
    again = decide(material.recipe, folder, tmp_path / "again", backend=HERE)
    assert written == [path.relative_to(folder / "data").with_suffix("").as_posix() for path in (damaged, gone)]
    assert runs.promised(again.folder) == runs.promised(curated)


@pytest.mark.parametrize(
    "changes",
    [
        {"input.derived_from_text": {"token_count": "text_bytes"}},
        {"phases.only.annotate.tokens.engine": "tokenizers"},
        {"output.level": 1},
        {"phases.only.dedup.min_length": 100},
    ],
    ids=str,
)
def test_documents_that_are_other_ones_are_written(
    changes: dict[str, Any], material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path, written: list[str]
) -> None:
    """Whoever is kept: what derives from a text, how it is written, and what is cut from it."""
    recipe = Recipe.load(material.recipe).changed(changes)
    again = decide(recipe, uninterrupted, tmp_path / "again", backend=HERE)
    assert len(written) == 5
    same(recipe, again, material.input, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["shard", "corpus"])
@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"phases.raw.rules.long": "gopher_words > 60"}, 0.2),
        pytest.param({"phases.last.rules.readable": "eflaw < 10"}, 0, marks=pytest.mark.exhaustive),
        pytest.param({"phases.raw.rules.long": "gopher_words > 10"}, 0.2, marks=pytest.mark.exhaustive),
        pytest.param({"phases.last.dedup.min_length": 80}, 0.2, marks=pytest.mark.exhaustive),
        pytest.param({"phases.cut.rules.first": "near_first AND text_chars > 99"}, 0.2, marks=pytest.mark.exhaustive),
        pytest.param({"phases.cut.edit.c4_lines.min_line_words": 9}, 0.2, marks=pytest.mark.exhaustive),
    ],
    ids=str,
)
def test_phases_and_steps(
    changes: dict[str, Any], share: float, scope: str, material: runs.Material, tmp_path: Path, counted: dict[str, int]
) -> None:
    """Of the documents that were annotated after steps and edits, at most a share is annotated again."""
    recipe = Recipe.parse(PHASES.format(scope=scope))
    first = run(recipe, material.input, tmp_path / "first", backend=HERE)
    entered = counted.pop("readability")
    changed = recipe.changed(changes)
    again = decide(changed, first, tmp_path / "again", backend=HERE)
    assert counted.pop("readability", 0) <= share * entered
    assert not counted
    assert runs.promised(again.folder) != runs.promised(first.folder)
    same(changed, again, material.input, tmp_path / "run")


def test_rules_read_layers(
    material: runs.Material, curated: Path, copy_of: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = copy_of(curated)
    write_weights(folder, beta=0.25, quality="prose")
    changes = {"layers": {"weights": {"log_prior": "float64"}}, "phases.only.rules.heavy": "weights.log_prior > 0"}
    recipe = Recipe.load(material.recipe).changed({**changes, "phases.only.keep": "heavy"})
    again = decide(recipe, folder, tmp_path / "again", backend=HERE)
    table = runs.annotations(tmp_path / "again")
    is_heavy = pc.fill_null(pc.greater(table["weights.log_prior"], 0), False)
    assert pc.equal(table["status"], "kept").equals(is_heavy)
    assert 0 < again.documents < 132
    assert Recipe.load(tmp_path / "again/_gneiss/recipe.yaml").digest() == recipe.digest()
    with pytest.raises(RecipeError, match="gneiss decide"):
        run(recipe, material.input, tmp_path / "run", backend=HERE)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        (
            {"weights": {"log_prio": "float64"}},
            RecipeError,
            "no column 'log_prio' in the layer 'weights'; did you mean",
        ),
        ({"weights": {"log_prior": "string"}}, RecipeError, "weights.log_prior: expected string, found double"),
        ({"weight": {"log_prior": "float64"}}, InputError, "no whole layer 'weight'; did you mean 'weights'"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(
    layers: dict[str, dict[str, str]],
    error: type[Exception],
    message: str,
    material: runs.Material,
    released: Path,
    tmp_path: Path,
) -> None:
    recipe = Recipe.load(material.recipe).changed({"layers": layers})
    with pytest.raises(error, match=message):
        decide(recipe, released, tmp_path / "again", backend=HERE)


def test_what_cannot_be_decided_again_is_refused(
    material: runs.Material, uninterrupted: FinishedRun, tmp_path: Path
) -> None:
    recipe = Recipe.load(material.recipe)
    with pytest.raises(RecipeError, match=r"shard_max_bytes: 50000, but the annotations of .* are of 24000"):
        decide(recipe.changed({"shard_max_bytes": 50_000}), uninterrupted, tmp_path / "x", backend=HERE)
    shutil.copytree(material.input, tmp_path / "moved")
    runs.write_corpus(tmp_path / "moved/a.parquet", runs.documents(60, seed=8), row_group_size=60)
    with pytest.raises(InputError, match=r"moved: it lacks 1 shards of .*, first 'a'"):
        decide(recipe, uninterrupted, tmp_path / "x", original=tmp_path / "moved", backend=HERE)
    with pytest.raises(InputError, match="no finished run here"):
        decide(recipe, material.input, tmp_path / "x", backend=HERE)
    assert not (tmp_path / "x").exists()
