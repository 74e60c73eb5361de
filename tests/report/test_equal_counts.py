"""Page, terminal, notebook's tables, sweep, decide, explorer and plain DuckDB count the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.report import outcomes, overview, rules, sweep, total
from gneiss.report.as_text import report_text
from gneiss.report.exploring import Exploration, moved_recipe
from gneiss.report.page import report_page
from gneiss.report.sweeping import knobs
from tests import runs
from tests.report.test_tables import query, sums_of


def row_of(cells: list[str], name: str, count: int) -> tuple[int, ...]:
    """The numbers after a name."""
    at = cells.index(name)
    return tuple(int(cell.replace(",", "")) for cell in cells[at + 1 : at + 1 + count])


@pytest.mark.slow
def test_all_that_count_agree(any_run: FinishedRun) -> None:
    """What the run kept, as each of them says it."""
    expected = query(any_run, f"SELECT {sums_of(any_run)} FROM rows WHERE status = 'kept'")[0]
    failing = {
        rule: query(any_run, f"SELECT count(*) FROM rows WHERE list_contains(failed, '{rule}')")[0][0]
        for phase in any_run.recipe.phases
        for rule in phase.rules
    }

    counted = outcomes(any_run)
    table = {row["status"]: (row["documents"], row["bytes"], row["tokens"]) for row in overview(counted).to_pylist()}
    assert table["kept"] == expected
    assert {row["rule"]: row["false"] + row["unknown"] for row in rules(counted).to_pylist()} == failing

    cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", report_page(any_run))]
    words = report_text(any_run).split("\n\n")[1].split()  # the first table
    for places in (cells, words):
        assert row_of(places, "kept", 3) == expected
    for rule, documents in failing.items():
        condition = next(phase.rules[rule] for phase in any_run.recipe.phases if rule in phase.rules)
        at = cells.index(rule)
        assert cells[at + 1].replace("&lt;", "<").replace("&gt;", ">").replace("&#x27;", "'") == condition
        assert sum(row_of(cells[at + 1 :], cells[at + 1], 3)[1:]) == documents

    known = knobs(any_run.recipe)
    for its in sweep(any_run, vary={next(iter(known)): [next(iter(known.values())).value]}):
        kept = total(its.decided.kept)
        assert (kept.documents, kept.text_bytes, kept.tokens) == expected
    kept = total(Exploration.of(any_run, any_run.recipe).before.kept)
    assert (kept.documents, kept.text_bytes, kept.tokens) == expected


@pytest.mark.slow
def test_a_moved_threshold_is_counted_alike(wide: FinishedRun, material: runs.Material, tmp_path: Path) -> None:
    """Sweep and explorer say what `decide` writes, of which page and files say the same."""
    known = knobs(wide.recipe)
    name, value = "readable.eflaw", wide.statistics.columns["eflaw"].quantile(0.3)
    assert value is not None
    changed = moved_recipe(wide.recipe, known, {name: value})
    written = decide(changed, wide, tmp_path, original=material.input, backend=runs.InThisProcess())
    expected = query(written, f"SELECT {sums_of(written)} FROM rows WHERE status = 'kept'")[0]
    assert 0 < expected[0] < wide.documents
    swept = total(sweep(wide, vary={name: [value]})[0].decided.kept)
    explored = total(Exploration.of(wide, wide.recipe).after(changed).kept)
    for kept in (swept, explored):
        assert (kept.documents, kept.text_bytes, kept.tokens) == expected
    assert row_of(report_text(written).split("\n\n")[1].split(), "kept", 3) == expected
    row = overview(outcomes(written)).to_pylist()[1]
    assert (row["documents"], row["bytes"], row["tokens"]) == expected
