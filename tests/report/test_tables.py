"""Tables of a report are what DuckDB counts on the annotation files, on the demo and on a run at corpus scope."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow.compute as pc
import pytest

from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import evaluate, locked_connection
from gneiss.report import combinations, funnel, marginal, outcomes, overview, rules
from gneiss.report.keeping import Keeping
from gneiss.report.tables import rules_by_filter
from tests.support import recipe_of


def query(run: FinishedRun, sql: str) -> list[tuple[Any, ...]]:
    """A query over the annotation files, named `rows`."""
    files = f"read_parquet('{run.folder}/annotations/base/**/*.parquet')"
    return duckdb.sql(f"WITH rows AS (SELECT * FROM {files}) {sql}").fetchall()


def sums_of(run: FinishedRun) -> str:
    tokens = "counted" if "counted" in run.annotation_schema().names else "tokens"
    return f"count(*), coalesce(sum(text_bytes), 0)::BIGINT, coalesce(sum({tokens}), 0)::BIGINT"


def three(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["documents"], row["bytes"], row["tokens"]


def test_the_overview_counts_every_status(any_run: FinishedRun) -> None:
    found = {row["status"]: three(row) for row in overview(outcomes(any_run)).to_pylist()}
    expected = {
        status: tuple(sums)
        for status, *sums in query(any_run, f"SELECT status, {sums_of(any_run)} FROM rows GROUP BY 1")
    }
    assert {status: sums for status, sums in found.items() if status != "input" and sums[0]} == expected
    assert found["input"] == query(any_run, f"SELECT {sums_of(any_run)} FROM rows")[0]
    assert found["kept"][0] == any_run.counts["kept"] > 0
    assert found["dropped"][0] == any_run.counts["dropped"] > 0


def test_the_funnel_loses_no_document(any_run: FinishedRun) -> None:
    flow = funnel(outcomes(any_run)).to_pylist()
    phases = [phase.name for phase in any_run.recipe.phases]
    for phase in phases:
        into = [row["documents"] for row in flow if row["target"] == phase]
        out = [row["documents"] for row in flow if row["source"] == phase]
        assert sum(into) == sum(out) > 0
        (dropped,) = [row for row in flow if row["target"] == f"dropped in {phase}"]
        assert three(dropped) == query(any_run, f"SELECT {sums_of(any_run)} FROM rows WHERE dropped_in = '{phase}'")[0]
        assert dropped["documents"] == any_run.statistics.dropped_in[phase]
    (kept,) = [row["documents"] for row in flow if row["target"] == "kept"]
    assert kept == any_run.counts["kept"]


def test_rules_are_counted(any_run: FinishedRun) -> None:
    for row in rules(outcomes(any_run)).to_pylist():
        rule = row["rule"]
        failing = query(any_run, f"SELECT {sums_of(any_run)} FROM rows WHERE list_contains(failed, '{rule}')")[0]
        assert three(row) == failing
        assert row["false"] + row["unknown"] == failing[0]
        alone = query(any_run, f"SELECT count(*) FROM rows WHERE list_contains(decisive, '{rule}')")[0][0]
        assert row["decisive"] == alone
        assert row["condition"] == next(phase.rules[rule] for phase in any_run.recipe.phases if rule in phase.rules)


def test_combinations_add_up(any_run: FinishedRun) -> None:
    counted = outcomes(any_run)
    found = combinations(counted).to_pylist()
    for phase in any_run.recipe.phases:
        of_phase = [row for row in found if row["phase"] == phase.name]
        assert sum(row["documents"] for row in of_phase) == sum(any_run.statistics.patterns[phase.name].values())
        for row in of_phase:
            names = list(phase.rules)
            same = f"list_filter(failed, lambda name: list_contains({names}, name)) = {row['failed']}::VARCHAR[]"
            stayed = "IS DISTINCT FROM" if row["kept"] else "="
            later = [other.name for other in any_run.recipe.phases[any_run.recipe.phases.index(phase) :]]
            reached = f"status <> 'quarantined' AND (dropped_in IS NULL OR list_contains({later}, dropped_in))"
            where = f"{same} AND dropped_in {stayed} '{phase.name}' AND {reached}"
            assert three(row) == query(any_run, f"SELECT {sums_of(any_run)} FROM rows WHERE {where}")[0]
    few = combinations(counted, most=1).to_pylist()
    assert {
        row["phase"]: sum(other["documents"] for other in few if other["phase"] == row["phase"]) for row in few
    } == {row["phase"]: sum(other["documents"] for other in found if other["phase"] == row["phase"]) for row in found}


WITHOUT = {
    ("demo", "quality"): "not_emptied AND (readable OR tokens_normal)",
    ("demo", "readable"): "not_emptied AND quality AND tokens_normal",
    ("demo", "tokens_normal"): "not_emptied AND quality AND readable",
    ("second", "readable"): "plain OR dense",
    ("second", "plain"): "readable AND dense",
    ("second", "dense"): "readable AND plain",
    ("first", "long"): "there",
}


def test_what_a_rule_changes_is_what_a_recipe_without_it_decides(any_run: FinishedRun) -> None:
    found = {
        (row["phase"], row["name"]): row for row in marginal(outcomes(any_run)).to_pylist() if row["kind"] == "rule"
    }
    checked = 0
    for (name, rule), keep in WITHOUT.items():
        phase = next((candidate for candidate in any_run.recipe.phases if candidate.name == name), None)
        if phase is None:
            continue
        reached, decision = any_run.reached(phase), phase.decision
        with locked_connection() as connection:
            now = evaluate(connection, decision, reached).keep
            then = evaluate(connection, type(decision)(decision.conditions, keep, decision.aliases), reached).keep
        tokens = reached["counted" if "counted" in reached.column_names else "tokens"].to_numpy()
        change = then.astype(int) - now.astype(int)
        row = found[name, rule]
        assert row["documents"] == change.sum()
        assert row["bytes"] == (change * reached["text_bytes"].to_numpy()).sum()
        if name != "first":  # whose documents have no tokens yet where they are dropped
            assert row["tokens"] == (change * tokens).sum()
        checked += 1
    assert checked >= 3


def test_a_filter_is_all_its_rules() -> None:
    recipe = Recipe.load("gneissweb")
    assert rules_by_filter(recipe, recipe.phases[0]) == {
        "fasttext": ["quality"],
        "readability": ["readable"],
        "tokens": ["tokens_normal"],
    }


@pytest.mark.parametrize("keep", ["NOT a AND b", "CASE WHEN a THEN b ELSE true END"])
def test_effects_are_unknown_where_keep_is_more_than_and_and_or(keep: str) -> None:
    recipe = recipe_of(
        f"  - {{name: one, annotate: [readability], rules: {{a: eflaw < 1, b: ari < 1}}, keep: '{keep}'}}"
    )
    assert Keeping.of(recipe.phases[0].decision).tree is None


def test_tokens_are_missing_where_none_are_counted(tmp_path: Any) -> None:
    from gneiss.pipelines.run import run
    from tests.runs import InThisProcess
    from tests.support import write_documents

    write_documents(tmp_path / "in/x.parquet", ["One two.", None, "Three."])
    recipe = recipe_of("  - {name: one, rules: {long: text_bytes > 7}}", budgets={"documents": 0.5})
    counted = outcomes(run(recipe, tmp_path / "in", tmp_path / "out", backend=InThisProcess()))
    assert counted.table["tokens"].null_count == counted.table.num_rows
    assert pc.unique(overview(counted)["tokens"]).to_pylist() == [None]
    assert [row["documents"] for row in overview(counted).to_pylist()] == [3, 1, 1, 1]
    assert marginal(counted).to_pylist()[0]["documents"] == 1
