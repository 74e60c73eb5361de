"""Counts under other rules are those of a run by these rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gneiss.errors import InputError, RecipeError
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import evaluate, locked_connection
from gneiss.report import Amount, knobs, pick, sweep, total
from gneiss.report.decisions import decided, reading
from gneiss.report.sweeping import assumed
from tests import runs

PHASES = """
name: phases
shard_max_bytes: 14000
budgets: {documents: 0.5}
phases:
  - name: raw
    annotate: [gopher_quality]
    aliases: {words: gopher_words}
    rules: {long: words > 40, some_text: text_bytes > 0}
  - name: last
    dedup: {min_length: 80}
    annotate: [readability]
    rules: {readable: eflaw < 14, plain: ari < 20}
    keep: readable OR plain
"""


@pytest.fixture(scope="module")
def phases(material: runs.Material, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    output = tmp_path_factory.mktemp("phases") / "out"
    return run(Recipe.parse(PHASES), material.input, output, backend=runs.InThisProcess())


def amount(table: pa.Table) -> Amount:
    return Amount(table.num_rows, *(int(pc.sum(table[name]).as_py() or 0) for name in ("text_bytes", "tokens")))


def expected(recipe: Recipe, annotations: pa.Table) -> dict[str, Amount]:
    """What a recipe of one phase keeps of rows, by label: all are decided by the code of a run."""
    rows = annotations.filter(pc.not_equal(annotations["status"], "quarantined"))
    own = rows.select([column.name for column in recipe.columns])
    with locked_connection() as connection:
        kept = rows.filter(pa.array(evaluate(connection, recipe.phases[0].decision, own).keep))
    labels = pc.unique(kept["prose_label"]).to_pylist()
    return {label: amount(kept.filter(pc.equal(kept["prose_label"], label))) for label in labels}


@pytest.mark.parametrize("codes", [4, 1 << 20])
def test_any_rules_are_counted_as_a_run_decides(
    codes: int, uninterrupted: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.report.decisions._MOST_CODES", codes)
    annotations = runs.annotations(uninterrupted.folder)
    changes = [
        {"phases.only.rules.good": f"prose > {threshold}", "phases.only.keep": keep}
        for threshold in (0.2, 0.6, 0.65, 0.66)
        for keep in ("good", "good AND readable", "NOT good", "NOT (good AND tokens_normal)")
    ]
    changes.append(
        {"phases.only.rules.readable": "nullif(eflaw, eflaw) > 1", "phases.only.rules.good": "ln(prose - 0.6) > -3"}
    )
    recipes = [uninterrupted.recipe.changed(change) for change in changes]
    read = reading(uninterrupted, recipes[0], by="prose_label")
    found = decided(read.batches(), [read.setting(recipe) for recipe in recipes])
    for recipe, one in zip(recipes, found, strict=True):
        assert one.kept == expected(recipe, annotations)
        assert one.all.documents == 176
        assert not one.unknown


def test_counts_are_those_of_a_run(uninterrupted: FinishedRun, tmp_path: Path) -> None:
    swept = sweep(uninterrupted, vary={"good.prose": [0.64, 0.67], "readable.eflaw": [9, 12]})
    assert [dict(setting.values) for setting in swept][1] == {"good.prose": 0.64, "readable.eflaw": 12}
    changes = {"phases.only.rules.good": "prose > 0.67", "phases.only.rules.readable": "eflaw < 12"}
    again = decide(uninterrupted.recipe.changed(changes), uninterrupted, tmp_path / "out", backend=runs.InThisProcess())
    kept = total(swept[3].decided.kept)
    assert (kept.documents, kept.text_bytes) == (again.counts["kept"], again.counts["kept_text_bytes"])
    assert kept.tokens == pc.sum(kept_rows(again)["tokens"]).as_py()


def kept_rows(finished: FinishedRun) -> pa.Table:
    table = runs.annotations(finished.folder)
    return table.filter(pc.equal(table["status"], "kept"))


def test_what_did_not_reach_a_phase_is_unknown_in_it(phases: FinishedRun) -> None:
    table = runs.annotations(phases.folder)
    (loose, same, strict) = sweep(phases, vary={"long.gopher_words": [10, 40, 80]})
    assert total(same.decided.kept).documents == phases.documents
    assert not same.decided.unknown
    entered = pc.and_(pc.greater(table["gopher_words"], 10), pc.less_equal(table["gopher_words"], 40))
    assert total(loose.decided.unknown).documents == pc.sum(entered).as_py() > 0
    assert total(loose.decided.kept).documents == phases.documents
    long = kept_rows(phases)["gopher_words"].to_numpy() > 80
    assert total(strict.decided.kept).documents == np.count_nonzero(long) > 0
    assert loose.decided.all == strict.decided.all
    assert assumed(phases, phases.recipe.changed({"phases.raw.rules.long": "words > 80"})) == ["dedup"]
    assert assumed(phases, phases.recipe.changed({"phases.last.rules.readable": "eflaw < 9"})) == []


def test_a_rule_over_what_later_edits_overwrite_keeps_its_verdict_or_is_refused(phases: FinishedRun) -> None:
    changed = phases.recipe.changed({"phases.raw.rules.some_text": "text_bytes > 9"})
    with pytest.raises(RecipeError, match="rule 'some_text': it reads text_bytes, of which the annotations have"):
        sweep(phases, changed)


def test_thresholds_have_names(uninterrupted: FinishedRun, phases: FinishedRun) -> None:
    names = ["good.prose", "readable.eflaw", "tokens_normal.tokens_per_char.1", "tokens_normal.tokens_per_char.2"]
    assert list(knobs(uninterrupted.recipe)) == names
    assert next(iter(knobs(phases.recipe))) == "long.gopher_words"
    known = knobs(Recipe.load("gneissweb"))
    assert known["quality.dclm"].value == 0.002
    assert [knob.value for name, knob in known.items() if name.startswith("readable.eflaw")]


def test_without_names_every_threshold_is_varied_by_itself(uninterrupted: FinishedRun) -> None:
    swept = sweep(uninterrupted)
    assert {tuple(setting.values) for setting in swept} == {(name,) for name in knobs(uninterrupted.recipe)}
    assert sum(total(setting.decided.kept).documents == 132 for setting in swept) >= 4


@pytest.mark.parametrize("share", [0.2, 0.5, 0.71])
def test_a_threshold_is_picked_for_a_share(uninterrupted: FinishedRun, share: float) -> None:
    found = pick(uninterrupted, None, "good.prose", share)
    kept, whole = total(found.decided.kept).tokens, found.decided.all.tokens
    assert share * whole <= kept < share * whole + 600  # the tokens of a document


def test_what_is_not_there_is_refused(uninterrupted: FinishedRun, phases: FinishedRun) -> None:
    with pytest.raises(RecipeError, match=r"no threshold 'good.pros' in the rules; did you mean 'good.prose'"):
        sweep(uninterrupted, vary={"good.pros": [1.0]})
    with pytest.raises(RecipeError, match=r"tokens_per_char.1: no value keeps 99.9% of tokens; at most"):
        pick(uninterrupted, None, "tokens_normal.tokens_per_char.1", 0.999)
    with pytest.raises(RecipeError, match="no annotation counts tokens"):
        pick(phases, None, "long.gopher_words", 0.5)
    with pytest.raises(InputError, match="no annotation 'prose_labl'; did you mean 'prose_label'"):
        sweep(uninterrupted, by="prose_labl")
    with pytest.raises(RecipeError, match=r"phases: those of .* are only; only rules"):
        sweep(uninterrupted, phases.recipe)
    other = uninterrupted.recipe.changed({"phases.only.dedup.min_length": 90})
    with pytest.raises(RecipeError, match="phase only: its steps are not those of"):
        sweep(uninterrupted, other)


def test_more_conditions_than_can_be_counted_together(phases: FinishedRun) -> None:
    """Recipes of which each has rules that no other has."""
    thresholds = range(5)
    rules = [{f"r{n}": f"eflaw < {10 + n + k / 10}" for n in range(8)} for k in thresholds]
    recipes = [phases.recipe.changed({"phases.last.rules": rule, "phases.last.keep": "r0 AND r7"}) for rule in rules]
    read = reading(phases, recipes[0])
    together = decided(read.batches(), [read.setting(recipe) for recipe in recipes])
    assert together == [decided(read.batches(), [read.setting(recipe)])[0] for recipe in recipes]
    assert len({total(one.kept).documents for one in together}) > 1
