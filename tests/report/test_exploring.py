"""The explorer's counts are those of a sweep, and its documents those whose status changes in a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from gneiss.errors import RecipeError
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import sources
from gneiss.pipelines.decide import decide
from gneiss.report import breakdown, knobs, sweep
from gneiss.report.exploring import Exploration, moved_recipe, open_session, positions
from tests import runs


def threshold(run: FinishedRun) -> str:
    """The name of the threshold that decides most."""
    return next(name for name in knobs(run.recipe) if name.startswith("good."))


def statuses(run: FinishedRun) -> dict[tuple[str, int], str]:
    rows = run.annotations(columns=[]).select(["shard", "row", "status"]).to_pylist()
    return {(row["shard"], row["row"]): row["status"] for row in rows}


def test_counts_and_changed_documents_are_those_of_a_decided_run(uninterrupted: FinishedRun, tmp_path: Path) -> None:
    run, known, name = uninterrupted, knobs(uninterrupted.recipe), threshold(uninterrupted)
    values = positions(run, known[name])
    assert known[name].value in values
    assert values == sorted(values)
    exploration = Exploration.of(run, run.recipe, by="shard")
    value = values[3 * len(values) // 4]
    recipe = moved_recipe(run.recipe, known, {name: value})
    assert exploration.after(recipe) == sweep(run, vary={name: [value]}, by="shard")[0].decided
    before, after = statuses(run), statuses(decide(recipe, run, tmp_path / "other", backend=runs.InThisProcess()))
    changed = {at: (before[at], after[at]) for at in before if before[at] != after[at]}
    found = exploration.changes(recipe, most=10_000)
    assert {
        (document.shard, document.row): (change.before, change.after) for change in found for document in change.first
    } == changed
    assert sum(change.documents for change in found) == len(changed) > 2
    few = exploration.changes(recipe, most=2)
    assert [change.documents for change in few] == [change.documents for change in found]
    assert [change.first for change in few] == [change.first[:2] for change in found]


def test_documents_are_grouped_by_what_is_in_the_input(wide: FinishedRun, material: runs.Material) -> None:
    for input, by in ((material.input, "url"), (material.input, "domain"), (None, "url")):
        found = breakdown(wide, by, input=input, most=10**6).to_pylist()
        expected = {row["value"]: row["documents_kept"] for row in found if row["documents_kept"]}
        before = Exploration.of(wide, wide.recipe, by=by, sources=sources(wide, input)).before
        assert {group: amount.documents for group, amount in before.kept.items()} == expected
        assert before.all.documents == wide.counts["kept"] + wide.counts["dropped"]
    session = open_session({"output": str(wide.folder), "input": str(material.input), "by": "url"})
    assert (session.by, session.groups[-2:]) == ("url", ("domain", "url"))


def test_what_the_rules_read_of_a_document_is_shown(uninterrupted: FinishedRun) -> None:
    run, known, name = uninterrupted, knobs(uninterrupted.recipe), threshold(uninterrupted)
    (change,) = Exploration.of(run, run.recipe).changes(moved_recipe(run.recipe, known, {name: 2.0}))
    column = known[name].column
    rows = run.annotations(columns=[column]).select(["shard", "row", column]).to_pylist()
    stored = {(row["shard"], row["row"]): row[column] for row in rows}
    assert change.first
    for document in change.first:
        assert document.values[column] == stored[document.shard, document.row]


def test_what_is_forgotten_is_found_again(uninterrupted: FinishedRun) -> None:
    run, known, name = uninterrupted, knobs(uninterrupted.recipe), threshold(uninterrupted)
    exploration = Exploration.of(run, run.recipe)
    counts = []
    for value in (0.0, 2.0, 0.0):
        counts.append(exploration.after(moved_recipe(run.recipe, known, {name: value})))
        assert {len(batch.states) for batch in exploration.batches} <= {4, 5}
    assert counts[0] == counts[2] != counts[1]
    assert exploration.after(run.recipe) == exploration.before


@pytest.mark.parametrize("value", [-0.5, 0.0, 3.0, 1e-30, 1e300])
def test_a_moved_threshold_is_written_as_sql(uninterrupted: FinishedRun, value: float) -> None:
    recipe, known = uninterrupted.recipe, knobs(uninterrupted.recipe)
    moved = moved_recipe(recipe, known, dict.fromkeys(known, value))
    if value >= 0:
        assert {knob.value for knob in knobs(moved).values()} == {value}
    assert moved.changed({}).digest() == moved.digest()
    assert moved_recipe(recipe, known, {name: knob.value for name, knob in known.items()}) is recipe


def test_rules_are_edited_as_in_a_recipe(uninterrupted: FinishedRun) -> None:
    session = open_session({"output": str(uninterrupted.folder)})
    phase = session.recipe.phases[0]
    rule = next(iter(phase.rules))
    assert session.edited({f"{phase.name}.rules.{rule}": "text_chars > 7"}).phases[0].rules[rule] == "text_chars > 7"
    with pytest.raises(RecipeError, match="text_chrs"):
        session.edited({f"{phase.name}.rules.{rule}": "text_chrs > 7"})


def test_without_the_input_only_kept_documents_have_a_text(uninterrupted: FinishedRun, tmp_path: Path) -> None:
    assert open_session({"output": str(uninterrupted.folder)}).sources.has_all
    with pytest.raises(Exception, match="nothing-here"):
        open_session({"output": str(uninterrupted.folder), "input": str(tmp_path / "nothing-here")})
