"""The page of a run: its counts, its charts in a browser, and documents that stay text, whatever they hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gneiss.errors import InputError
from gneiss.output.finished_run import FinishedRun
from gneiss.output.run_so_far import open_run_so_far
from gneiss.output.sources import sources
from gneiss.pipelines.run import run
from gneiss.report.examples import examples
from gneiss.report.markup import marked, table
from gneiss.report.page import report_page
from tests import runs
from tests.output.test_run_so_far import stopped
from tests.report.browser import page_of
from tests.report.test_tables import query
from tests.support import recipe_of, write_documents

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\u202e\x1b[31m]]>-->{{7*7}}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[FinishedRun, Path]:
    """A run over documents whose texts, ids and other columns are markup, and its input."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [f"{HOSTILE} Document {i} says this. It is plain. {'word ' * i}" for i in range(12)] + [None]
    ids = [f"{HOSTILE}{i}" for i in range(13)]
    write_documents(folder / "in/x.parquet", texts, id=ids, source=[HOSTILE] * 13)
    phase = '  - {name: one, annotate: [readability], rules: {short: "words < 14", easy: "eflaw < 30"}}'
    recipe = recipe_of(phase, budgets={"documents": 0.5}, description=f'"{HOSTILE.encode("unicode_escape").decode()}"')
    return run(recipe, folder / "in", folder / "out", backend=runs.InThisProcess()), folder / "in"


@pytest.fixture(scope="module")
def hostile_page(hostile: tuple[FinishedRun, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(report_page(hostile[0], input=hostile[1], by=["source"]), "utf-8")
    return file


@pytest.mark.slow
def test_a_page_is_one_file_whose_scripts_are_its_own(hostile_page: Path) -> None:
    html = hostile_page.read_text("utf-8")
    assert len(html.encode()) < 5_000_000
    assert html.count("window.hacked = 1") > 10
    outside = re.sub(r"<script[^>]*>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.findall(r"<(?:script|img|link|iframe|object|base|form)", outside)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", outside)
    assert "default-src 'none'" in html


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser_charts_are_drawn_and_documents_stay_text(hostile_page: Path, width: int) -> None:
    with page_of(hostile_page, width) as (page, requests):
        page.wait_for_function("document.querySelectorAll('[data-chart] svg').length > 0")
        page.wait_for_function(
            "document.querySelectorAll('[data-chart]').length == document.querySelectorAll('[data-chart] svg').length"
        )
        assert page.evaluate("window.hacked") is None
        assert requests == [hostile_page.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "<script>window.hacked" in page.inner_text("#values")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "A"


@pytest.mark.slow
def test_the_counts_are_those_of_the_files(any_run: FinishedRun) -> None:
    html = report_page(any_run)
    cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", html)]
    for status, documents, size in query(
        any_run, "SELECT status, count(*), sum(text_bytes)::BIGINT FROM rows WHERE status <> 'quarantined' GROUP BY 1"
    ):
        at = cells.index(status)
        assert cells[at + 1 : at + 3] == [f"{documents:,}", f"{size:,}"]
    for phase in any_run.recipe.phases:
        for rule, counts in any_run.statistics.rule_counts(phase.name, phase.rules).items():
            at = cells.index(rule)
            assert cells[at + 2 : at + 6] == [f"{counts[name]:,}" for name in ("true", "false", "unknown", "decisive")]


@pytest.mark.slow
def test_a_run_that_is_not_finished_has_a_page_that_says_so(curated: Path, copy_of: object) -> None:
    html = report_page(open_run_so_far(stopped(copy_of(curated))))  # type: ignore[operator]
    assert ", so far: the run is not finished" in html
    assert "of 120 documents" in html


def test_examples_lie_on_both_sides_of_a_threshold(hostile: tuple[FinishedRun, Path]) -> None:
    finished, input = hostile
    phase = finished.recipe.phases[0]
    found = [example for example in examples(sources(finished, input), phase) if example.threshold.rule == "short"]
    values = [row[0] for row in query(finished, "SELECT words FROM rows WHERE words IS NOT NULL ORDER BY words")]
    below, above = [v for v in values if v < 14], [v for v in values if v >= 14]
    assert [example.value for example in found] == [*below[-2:], *above[:2]]
    assert all(example.text and example.text.startswith("<script>") for example in found)
    kept = [example for example in examples(sources(finished), phase) if example.text is not None]
    assert kept
    assert {example.status for example in kept} == {"kept"}


def test_passages_that_fail_by_themselves_are_marked(tmp_path: Path) -> None:
    plain = "The river runs south. A cat sat by the wall. Rain fell on the town. We went home. It was late. " * 2
    long = f"{'It is so that he and it or as an in of to by my we us at if ' * 12}.\n"
    write_documents(tmp_path / "in/x.parquet", [plain + "\n" + long + plain, plain])
    phase = '  - {name: one, annotate: [readability], rules: {easy: "eflaw < 12"}}'
    finished = run(recipe_of(phase), tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    found = [
        example for example in examples(sources(finished, tmp_path / "in"), finished.recipe.phases[0]) if example.failed
    ]
    assert len(found) == 1
    marks = [found[0].text[start:end] for start, end in found[0].marked]  # type: ignore[index]
    assert any("It is so that he" in mark for mark in marks)
    assert not any("cat sat" in mark for mark in marks)


def test_markup_is_shown_as_text() -> None:
    import pyarrow as pa

    shown = table(pa.table({"<b>": [HOSTILE], "n": [1234567]}))
    assert "<script" not in shown
    assert "\u202e" not in shown
    assert "1,234,567" in shown
    changes = pa.table({"documents": [1234, -5, 0], "rule": ["a < 1", "b", "c"]})
    shown = table(changes, headings={"documents": "more"}, code=["rule"], signed=True)
    assert re.findall("<t[dh](?: [^>]*)?>(.*?)</t[dh]>", shown) == [
        *("more", "rule", "+1,234", "<code>a &lt; 1</code>", "-5", "<code>b</code>", "0", "<code>c</code>")
    ]
    assert marked("a<b>c", [(1, 4)]) == "a<mark>&lt;b&gt;</mark>c"


def test_an_input_of_another_run_is_refused(wide: FinishedRun, tmp_path: Path) -> None:
    write_documents(tmp_path / "x.parquet", ["text"])
    with pytest.raises(InputError, match="name what was given to the run"):
        report_page(wide, input=tmp_path)
