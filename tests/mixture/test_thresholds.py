"""Quantile rules in a finished run: their numbers against a plain loop, the recipe that comes of them, and refusals."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import gneiss
from gneiss.cli.main import app
from gneiss.errors import InputError, RecipeError
from gneiss.mixture import find_buckets
from gneiss.mixture.thresholds import resolved, sketch_of
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.quantiles import Sketch
from gneiss.recipe.limits import limits_of, refuse_many
from gneiss.recipe.quantile_rule import Limit, QuantileRule
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.rule import NOT_TRUE, TRUE, UNKNOWN, Rules, evaluate, locked_connection
from tests import runs
from tests.support import with_columns

Copy = Callable[[Path], Path]
HERE = runs.InThisProcess()
RULES = """
    rules:
      best: {highest: 0.4, score: prose, by: [prose_label]}
      short: {lowest: 0.9, score: eflaw}
    keep: best AND short
"""


@pytest.fixture(scope="module")
def by_share(material: runs.Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the run with quantile rules."""
    folder = tmp_path_factory.mktemp("recipe")
    text = material.recipe.read_text()
    return material.changed(folder, text[text.index("    rules:") :], RULES.lstrip("\n"))


def plain(rows: list[dict[str, Any]], score: str, share: float, is_highest: bool) -> set[int]:
    """The documents within a share of tokens: whole scores, as near to the share as they allow."""
    scored = [row for row in rows if row[score] is not None]
    tokens: dict[float, int] = defaultdict(int)
    for row in scored:
        tokens[row[score]] += row["tokens"]
    total, within, chosen, best = sum(tokens.values()), 0, set[float](), None
    taken: set[float] = set()
    for value in sorted(tokens, reverse=is_highest):
        within += tokens[value]
        taken.add(value)
        if best is None or abs(within - share * total) < best:
            best, chosen = abs(within - share * total), set(taken)
    return {row["at"] for row in scored if row[score] in chosen}


def condition_in(run: FinishedRun, rule: QuantileRule) -> str:
    """The condition with the numbers of a run."""
    sketch = sketch_of(run, rule)
    return rule.condition(limits_of(rule, sketch), sketch.relative_error)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("by", [(), ("topic",), ("flag", "level")])
def test_a_condition_keeps_what_a_plain_loop_does(
    curated: Path, copy_of: Copy, share: float, by: tuple[str, ...]
) -> None:
    output = copy_of(curated)
    topics = ["it's", 'a "b"', None, "a  b", "*/ OR true"]
    columns = {
        "topic": lambda row: topics[row % 5],
        "flag": lambda row: row % 3 == 0,
        "level": lambda row: None if row % 4 == 3 else row % 4 - 1,
    }
    with_columns(output, columns, {"topic": pa.string(), "flag": pa.bool_(), "level": pa.int64()})
    run = open_run(output)
    table = run.annotations(columns=["tokens", "prose", "eflaw", *by])
    rows = [{**row, "at": at} for at, row in enumerate(table.to_pylist()) if row["status"] != "quarantined"]
    for score, is_highest in (("prose", True), ("eflaw", False)):
        rule = QuantileRule(**{"highest" if is_highest else "lowest": share}, score=score, by=list(by))
        condition = condition_in(run, rule)
        with locked_connection() as connection:
            verdicts = evaluate(connection, Rules({"best": condition}, "best", {}), table)
        expected: set[int] = set()
        for category in {tuple(row[name] for name in by) for row in rows}:
            own = [row for row in rows if tuple(row[name] for name in by) == category]
            expected |= plain(own, score, share, is_highest)
        kept = {at for at, is_kept in enumerate(verdicts.keep.tolist()) if is_kept}
        assert kept == expected, condition


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_that_of_the_score_to_the_last_bit(value: float) -> None:
    condition = QuantileRule(highest=0.5, score="x").condition({(): Limit(least=value)})
    table = pa.table({"x": pa.array([value, None], pa.float64())})
    rules = Rules({"best": condition, "other": condition.replace(">=", "<")}, "best", {})
    with locked_connection() as connection:
        verdicts = evaluate(connection, rules, table)
    assert verdicts.truth.tolist() == [[TRUE, NOT_TRUE], [UNKNOWN, UNKNOWN]]


@pytest.mark.slow
def test_decide_finds_the_numbers_and_they_can_be_used_again(
    curated: Path, by_share: Path, material: runs.Material, tmp_path: Path
) -> None:
    decided = gneiss.decide(by_share, curated, tmp_path / "decided", backend=HERE)
    assert 0 < decided.documents < open_run(curated).counts["rows"]
    stored = Recipe.load(tmp_path / "decided/_gneiss/recipe.yaml")
    rules = stored.phases[0].rules
    named = "/* highest 0.4 of tokens by prose, within prose_label */"
    assert rules["best"].startswith(f'{named} ("prose_label" = \'cc\' AND "prose" >= 0.')
    table = open_run(curated).annotations(columns=["tokens", "prose", "prose_label", "eflaw"])
    rows = [{**row, "at": at} for at, row in enumerate(table.to_pylist()) if row["status"] != "quarantined"]
    best = set[int]().union(
        *(plain([row for row in rows if row["prose_label"] == label], "prose", 0.4, True) for label in ("hq", "cc"))
    )
    expected = best & plain(rows, "eflaw", 0.9, False)
    assert decided.documents == len(expected)
    again = gneiss.decide(stored, curated, tmp_path / "again", backend=HERE)
    assert runs.promised(tmp_path / "again") == runs.promised(tmp_path / "decided")
    assert again.documents == decided.documents


def test_explain_shows_the_numbers_and_writes_them(curated: Path, by_share: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["explain", str(by_share), "--input", str(curated)])
    assert shown.exit_code == 0, shown.output
    assert 'rule      short: /* lowest 0.9 of tokens by eflaw */ "eflaw" < ' in shown.output
    written = CliRunner().invoke(app, ["explain", str(by_share), "--input", str(curated), "--yaml"])
    path = by_share.parent / "numbers.yaml"
    path.write_text(written.output)
    assert Recipe.load(path).digest() == resolved(Recipe.load(by_share), open_run(curated)).digest()
    swept = CliRunner().invoke(
        app,
        ["explain", str(path), "--input", str(curated), "--set", "phases.only.rules.best={highest: 0.2, score: prose}"],
    )
    assert 'rule      best: /* highest 0.2 of tokens by prose */ "prose" >= ' in swept.output


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"score": "prose"}, "rule 'best': .*expected one of `highest` and `lowest`"),
        ({"score": "prose", "highest": 0.2, "lowest": 0.2}, "expected one of `highest` and `lowest`"),
        ({"score": "prose", "highest": 1.5}, "less than 1"),
        ({"score": "prose", "highets": 0.5}, "unknown key 'highets'; did you mean 'highest'"),
        ({"highest": 0.5}, "score"),
    ],
)
def test_a_wrong_rule_is_refused(material: runs.Material, rule: dict[str, Any], message: str) -> None:
    recipe = Recipe.load(material.recipe)
    with pytest.raises(RecipeError, match=message):
        recipe.changed({"phases.only.rules.best": rule})


def test_a_coarse_sketch_says_how_far_it_may_be_off(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, rule = open_run(curated), QuantileRule(highest=0.5, score="prose")
    (exact,) = limits_of(rule, sketch_of(run, rule)).values()
    of_all = Sketch.of_all
    monkeypatch.setattr(Sketch, "of_all", lambda parts: of_all(parts, 40))
    sketch = sketch_of(run, rule)
    assert 0 < sketch.relative_error <= 0.5
    assert f"to {sketch.relative_error:.1e} of the score */" in condition_in(run, rule)
    (coarse,) = limits_of(rule, sketch).values()
    assert exact.least is not None
    assert coarse.least is not None
    table = run.annotations(columns=["prose", "tokens"]).to_pylist()
    scored = [row for row in table if row["prose"] is not None]
    share = sum(row["tokens"] for row in scored if row["prose"] >= coarse.least) / sum(row["tokens"] for row in scored)
    assert share == pytest.approx(0.5, abs=0.1)
    buckets = find_buckets(run, ["prose"], quantiles=3)
    kept = run.annotations(columns=["prose", "tokens"], kept=True)
    counted = Counter(buckets.buckets.columns(kept)["bucket"].to_pylist())
    assert counted == {bucket.name: bucket.documents for bucket in buckets.table if bucket.documents}


def test_scores_that_the_run_lacks_are_refused(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    with_columns(
        output, {"none": lambda _: float("nan"), "flat": lambda _: 0.5}, {"none": pa.float64(), "flat": pa.float64()}
    )
    run = open_run(output)
    with pytest.raises(InputError, match="no annotation 'pros'; did you mean 'prose'"):
        condition_in(run, QuantileRule(highest=0.5, score="pros"))
    none = condition_in(run, QuantileRule(highest=0.5, score="none"))
    assert none == "/* highest 0.5 of tokens by none, which no document has */ false"
    flat = QuantileRule(highest=0.1, score="flat")
    assert limits_of(flat, sketch_of(run, flat)) == {(): Limit()}
    with pytest.raises(RecipeError, match="201 categories; at most 200"):
        refuse_many(flat, 201)
