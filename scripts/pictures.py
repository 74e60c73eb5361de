"""Make the pictures of the documentation, docs/images/*.png, from the demo's output, in a headless Chromium.

    python scripts/pictures.py [DEMO]

DEMO is the folder that `gneiss demo --models` fills; without `--models` there is a picture less. Needs the extras
`report` and `explore`, playwright, and chromium on the PATH. Another corpus gives other numbers in the pictures, and
browsers draw letters their own way: no test compares them.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import vl_convert
from playwright.sync_api import sync_playwright

from gneiss import open_run, report
from gneiss.layers import annotate_from
from gneiss.output.sources import sources
from gneiss.report.page import report_page
from gneiss.report.serving import served

IMAGES = Path(__file__).resolve().parent.parent / "docs/images"
WIDTH = 960
_WAIT_MS = 240_000


def main() -> None:
    """Make all pictures."""
    demo = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, _browser() as browser:
        _page(browser, demo, Path(scratch))
        _explorer(browser, demo)
        _published(demo, Path(scratch))
        if (demo / "models.png").exists():
            page = browser.new_page(viewport={"width": 1600, "height": 1400})
            page.goto((demo / "models.png").resolve().as_uri())
            page.locator("img").screenshot(path=IMAGES / "models.png")
    for file in sorted(IMAGES.iterdir()):
        print(f"{file.stat().st_size:>9,}  {file.name}")


def _page(browser: Any, demo: Path, scratch: Path) -> None:
    """The beginning of the report, and a filter with documents near its threshold."""
    file = scratch / "report.html"
    file.write_text(report_page(open_run(demo / "curated"), input=demo / "sample"), "utf-8")
    page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
    page.goto(file.as_uri())
    page.wait_for_function(
        "document.querySelectorAll('[data-chart]').length == document.querySelectorAll('[data-chart] svg').length"
    )
    page.screenshot(path=IMAGES / "report.png")
    section = page.locator("section", has_text="Documents near").first
    section.locator("details", has_text="Documents near").first.evaluate("element => element.open = true")
    top = section.bounding_box()["y"]
    page.screenshot(path=IMAGES / "filter.png", full_page=True, clip=_clip(top, 760))


def _explorer(browser: Any, demo: Path) -> None:
    """The explorer after a threshold was moved, and the documents that change sides."""
    with served({"output": str(demo / "curated"), "input": str(demo / "sample")}) as server:
        page = browser.new_page(viewport={"width": WIDTH, "height": 1000})
        page.goto(server.address)
        slider = page.get_by_role("slider").nth(1)
        slider.wait_for(timeout=_WAIT_MS)
        slider.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        changed = page.get_by_role("heading", name="kept → dropped")
        changed.wait_for(timeout=_WAIT_MS)
        page.wait_for_timeout(2000)  # charts follow
        page.get_by_role("heading", level=1).evaluate(
            "element => element.textContent = 'demo/curated'"
        )  # not where it lies here
        page.screenshot(path=IMAGES / "explorer.png")
        page.set_viewport_size({"width": WIDTH, "height": 4000})
        top = page.get_by_role("heading", name="Documents that change sides").bounding_box()["y"]
        page.screenshot(path=IMAGES / "changed.png", clip=_clip(top - 10, 620))


def _published(demo: Path, scratch: Path) -> None:
    """Documents of a run by what others say of them; here a stand-in for their table."""
    output = scratch / "curated"
    shutil.copytree(demo / "curated", output)
    run = open_run(output)
    texts = sources(run, demo / "sample")
    rows = [
        {"id": id_, "education": min(len(text) // 2000, 5)}
        for shard in run.shards
        for _, table in texts.tables(shard, ["id", "text"])
        for id_, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows), scratch / "edu.parquet")
    annotate_from(output, scratch / "edu.parquet", on="id", layer="edu")
    found = report.breakdown(open_run(output), "education", layers=["edu"])
    chart = report.breakdown_chart(found, "education").properties(
        width=WIDTH - 160, background="white", title="education"
    )
    picture = vl_convert.vegalite_to_png(chart.to_dict(validate=False), scale=1)
    (IMAGES / "published.png").write_bytes(picture)


def _clip(top: float, height: int) -> dict[str, float]:
    return {"x": 0, "y": top, "width": WIDTH, "height": height}


@contextmanager
def _browser() -> Iterator[Any]:
    """Debian's Chromium, in light colours."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


if __name__ == "__main__":
    main()
