"""The explorer in a browser: a moved threshold counts what DuckDB counts, documents stay text, nobody else gets in."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import duckdb
import pytest

from gneiss.output.finished_run import FinishedRun
from gneiss.pipelines.run import run
from gneiss.report.explorer_parts import changed, problem
from gneiss.report.exploring import Exploration, open_session
from gneiss.report.serving import HOST, Server, served
from tests import runs
from tests.support import recipe_of, write_documents

HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>\u202e\x1b[31m**bold** $x$ "
PHASE = '  - {name: one, annotate: [readability], rules: {short: "words < 20", easy: "eflaw < 30"}}'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run over documents that are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    texts = [f"{HOSTILE} Document {i} says this. It is plain. {'word ' * i}" for i in range(12)]
    write_documents(folder / "in/x.parquet", texts, id=[f"{HOSTILE}{i}" for i in range(12)])
    return run(recipe_of(PHASE), folder / "in", folder / "out", backend=runs.InThisProcess())


def test_changed_documents_stay_text(hostile: FinishedRun) -> None:
    session = open_session({"output": str(hostile.folder)})
    exploration = Exploration.of(hostile, session.recipe)
    html = changed(exploration.changes(session.edited({"one.rules.short": "words < 3"})), session.sources)
    assert "&lt;script&gt;window.hacked" in html
    assert "<script" not in html
    assert "\u202e" not in html
    assert "\x1b" not in html
    assert "<pre" in html


def test_what_is_wrong_with_a_rule_is_said_as_text() -> None:
    from gneiss.errors import RecipeError

    assert "&lt;b&gt;" in problem(RecipeError("<b>"))


@pytest.fixture(scope="module")
def server(hostile: FinishedRun) -> Iterator[Server]:
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on the PATH; apt-get install chromium")
    with served({"output": str(hostile.folder)}) as it:
        yield it


def shown_and_expected(page: Any, run: FinishedRun) -> tuple[int, int]:
    """The documents that the page says are kept, and those that DuckDB counts for the rule that it shows."""
    condition = page.locator("code", has_text="words < ").first.inner_text()
    shown = page.locator("tr", has_text="documents").first.locator("td").nth(2).inner_text()
    files = run.folder / "annotations/base/*.parquet"
    query = f"SELECT count(*) FROM '{files}' WHERE {condition} AND eflaw < 30"
    return int(shown.replace(",", "")), duckdb.sql(query).fetchall()[0][0]


@pytest.mark.slow
@pytest.mark.processes
def test_a_moved_threshold_counts_what_duckdb_counts(server: Server, hostile: FinishedRun) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.goto(server.address)
        slider = page.get_by_role("slider").first
        slider.wait_for(timeout=120_000)
        slider.focus()
        for _ in range(40):
            page.keyboard.press("ArrowLeft")
        page.get_by_role("heading", name="kept → dropped").wait_for(timeout=120_000)
        counted = []
        for _ in range(100):  # the page follows the slider
            counted = [shown_and_expected(page, hostile)]
            if counted[0][0] == counted[0][1]:
                break
            page.wait_for_timeout(200)
        assert counted[0][0] == counted[0][1] < hostile.documents
        assert page.evaluate("window.hacked") is None
        assert "<script>window.hacked = 1</script>" in page.locator("article pre").first.inner_text()
        assert {urlsplit(url).hostname for url in requests if url.startswith(("http", "ws"))} == {HOST}
        browser.close()


@pytest.mark.processes
def test_without_the_token_nobody_gets_in(server: Server) -> None:
    bare = server.address.partition("?")[0]
    for address in (f"{bare}api/status", f"{bare}?access_token=wrong"):
        try:
            with urllib.request.urlopen(address) as answer:
                content = answer.read().decode()
        except urllib.error.HTTPError as error:
            assert error.code in (401, 403)  # noqa: PT017
        else:
            assert "login" in answer.url
            assert "gneiss" not in content
