"""Page, terminal, notebooks, sweep, decide, explorer and plain DuckDB count the same, on both runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gneiss import report
from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.decide import decide
from gneiss.report import outcomes, overview, rules, sweep, total
from gneiss.report.as_text import report_text
from gneiss.report.exploring import Exploration, moved_recipe
from gneiss.report.page import report_page
from gneiss.report.sweeping import knobs
from tests import runs
from tests.report.test_tables import query, sums_of

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def names_of(notebook: str, last: str) -> dict[str, Any]:
    """The names that the cells of a notebook define, up to the cell that defines the last one."""
    names: dict[str, Any] = {}
    for cell in json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code" and last not in names:
            exec("".join(cell["source"]), names)  # noqa: S102
    return names


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
    for setting in sweep(any_run, vary={next(iter(known)): [next(iter(known.values())).value]}):
        kept = total(setting.decided.kept)
        assert (kept.documents, kept.text_bytes, kept.tokens) == expected
    kept = total(Exploration.of(any_run, any_run.recipe).before.kept)
    assert (kept.documents, kept.text_bytes, kept.tokens) == expected


@pytest.mark.slow
def test_notebooks_count_alike(any_run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNEISS_OUTPUT", str(any_run.folder))
    monkeypatch.setattr(report, "show", lambda *_: None)
    expected = query(any_run, f"SELECT {sums_of(any_run)} FROM rows WHERE status = 'kept'")[0]
    table = {row["status"]: row for row in names_of("statistics", "overview")["overview"].to_pylist()}
    assert (table["kept"]["documents"], table["kept"]["bytes"], table["kept"]["tokens"]) == expected
    moved = names_of("thresholds", "curve")
    for knob in moved["knobs"].values():
        (here,) = [row for row in moved["curve"].to_pylist() if row[knob.name] == knob.value]
        assert (here["documents"], here["bytes"], here["tokens"]) == expected
    (cut,) = query(any_run, "SELECT coalesce(sum(dedup_bytes), 0)::BIGINT FROM rows")[0]
    assert names_of("dedup", "counts")["counts"]["dedup_bytes"] == cut > 0


@pytest.mark.slow
def test_a_moved_threshold_is_counted_alike(any_run: FinishedRun, tmp_path: Path) -> None:
    """Sweep and explorer say what `decide` writes, of which page, notebook and files say the same."""
    known = knobs(any_run.recipe)
    knob = known["readable.eflaw"] if "readable.eflaw" in known else known["quality.prose"]
    value = any_run.statistics.columns[knob.column].quantile(0.3)
    assert value is not None
    changed = moved_recipe(any_run.recipe, known, {knob.name: value})
    written = decide(changed, any_run, tmp_path, backend=runs.InThisProcess())
    expected = query(written, f"SELECT {sums_of(written)} FROM rows WHERE status = 'kept'")[0]
    assert 0 < expected[0] != any_run.counts["kept"]
    swept = total(sweep(any_run, vary={knob.name: [value]})[0].decided.kept)
    explored = total(Exploration.of(any_run, any_run.recipe).after(changed).kept)
    for kept in (swept, explored):
        assert (kept.documents, kept.text_bytes, kept.tokens) == expected
    assert row_of(report_text(written).split("\n\n")[1].split(), "kept", 3) == expected
    row = overview(outcomes(written)).to_pylist()[1]
    assert (row["documents"], row["bytes"], row["tokens"]) == expected
