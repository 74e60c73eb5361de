"""A step of one's own: a file and a line, or a file that a recipe names; at both scopes, resumed between stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.corpus_steps import STEPS
from gneiss.errors import RecipeError
from gneiss.input.plan import make_plan
from gneiss.pipelines.run import resources_of
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from gneiss.stages.of_recipe import StageWork, stages_before
from gneiss.store.place import place_of
from tests import runs
from tests.corpus_steps.longest import Longest

TEXTS = (["a", "ccc", "bb"], ["dddd", "eeee"], ["ffffffff"])


PATH = "tests.corpus_steps.longest:Longest"


@pytest.fixture(autouse=True)
def _one_line_in_the_catalogue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "by_import_path" not in request.node.name:
        monkeypatch.setattr("gneiss.recipe.entries.STEPS", (*STEPS, Longest))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, texts in enumerate(TEXTS):
        runs.write_corpus(tmp_path / f"input/{number}.parquet", [text.encode() for text in texts])
    return tmp_path


def recipe(scope: str) -> Recipe:
    short = {"name": "short", "rules": {"short": "text_chars < 6"}}
    wide = {"name": "wide", "longest": {"scope": scope}, "rules": {"longest": "is_longest"}}
    return Recipe.model_validate({"name": "toy", "phases": [short, wide]})


@pytest.mark.parametrize(("scope", "expected"), [("shard", ["ccc", "dddd", "eeee"]), ("corpus", ["dddd", "eeee"])])
@pytest.mark.slow
def test_it_runs_by_import_path(folder: Path, scope: str, expected: list[str]) -> None:
    phases = [
        {"name": "short", "rules": {"short": "text_chars < 6"}},
        {"name": "wide", PATH: {"scope": scope}, "rules": {"longest": "is_longest"}},
    ]
    chosen = Recipe.model_validate({"name": "toy", "phases": phases})
    gneiss.run(chosen, folder / "input", folder / "output", backend=runs.InThisProcess())
    assert list(kept(folder / "output")) == expected
    assert chosen.canonical()["phases"][1][PATH] == {"scope": scope}
    assert Recipe.parse(chosen.to_yaml()).digest() == chosen.digest()
    libraries = make_plan(chosen, folder / "input").identity["libraries"]
    assert isinstance(libraries, dict)
    assert libraries["tests"].startswith("sha256 ")


@dataclass(frozen=True)
class Dedup(Longest):
    """Its key is taken."""

    key: ClassVar[str] = "dedup"


@dataclass(frozen=True)
class Elsewhere(Longest):
    """Its stages would write outside the folder of exchange files."""

    key: ClassVar[str] = "../longest"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (f"{__name__}:Dedup", "phase p: .*Dedup: its key 'dedup' is that of a packaged step"),
        (f"{__name__}:Elsewhere", r"phase p: .*Elsewhere: key: expected lower-case letters, .* found '\.\./longest'"),
        (f"{__name__}:TEXTS", "phase p: .*TEXTS is no corpus step: expected a subclass of"),
        ("gneiss.filters:Readability", "is no corpus step: expected a subclass of .*, found a subclass of Annotator"),
        ("tests.corpus_steps.longest:Longst", "has no 'Longst'; did you mean 'Longest'?"),
    ],
)
def test_what_is_no_step_is_refused_by_import_path(name: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Recipe.model_validate({"name": "toy", "phases": [{"name": "p", name: {}}]})


def test_only_one_phase_can_have_it_by_import_path() -> None:
    with pytest.raises(RecipeError, match="only one phase can have longest"):
        Recipe.model_validate({"name": "toy", "phases": [{"name": "p", PATH: {}}, {"name": "q", PATH: None}]})


def kept(output: Path) -> Iterator[str]:
    for path in sorted((output / "data").glob("*.parquet")):
        yield from pq.read_table(path)["text"].to_pylist()


@pytest.mark.parametrize(("scope", "expected"), [("shard", ["ccc", "dddd", "eeee"]), ("corpus", ["dddd", "eeee"])])
@pytest.mark.slow
def test_a_run_keeps_what_the_step_found(folder: Path, scope: str, expected: list[str]) -> None:
    gneiss.run(recipe(scope), folder / "input", folder / "output", backend=runs.InThisProcess())
    assert list(kept(folder / "output")) == expected


def test_its_stages_read_only_what_earlier_phases_keep_and_resume(folder: Path) -> None:
    chosen, source, output = recipe("corpus"), folder / "input", folder / "output"
    corpus = Corpus(chosen, (((),) * 2), make_plan(chosen, source).input.shards, place_of(output))
    first, last = stages_before(corpus)
    assert [part.name for part in first.parts] == ["phases_to_short", "longest_of_shard"]
    assert last.name == "longest_of_all"
    (output / "_gneiss").mkdir(parents=True)
    StageWork(corpus, first.name).open()(1)
    lengths = corpus.exchange.batch("longest_of_shard", 1, 0)
    assert lengths == pa.record_batch([pa.array([4])], names=["length_bytes"])


def test_the_recipe_and_the_plan_know_it(folder: Path) -> None:
    chosen = recipe("corpus")
    assert chosen.canonical()["phases"][1]["longest"] == {"scope": "corpus"}
    assert chosen.canonical()["phases"][0]["longest"] is None
    plan = make_plan(chosen, folder / "input")
    assert "corpus" in plan.identity
    at_shard_scope = make_plan(recipe("shard"), folder / "input")
    assert resources_of(plan).memory_bytes > resources_of(at_shard_scope).memory_bytes
    with pytest.raises(RecipeError, match="longest: scope: Input should be 'shard' or 'corpus'"):
        recipe("world")
