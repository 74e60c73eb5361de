"""What is hostile or wrong stays text, is named, and takes no more memory than what is shown."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.pipelines.run import run
from gneiss.report.as_text import report_text
from gneiss.report.examples import excerpt
from gneiss.report.explorer_parts import changed
from gneiss.report.exploring import Exploration, open_session
from gneiss.report.markup import table
from gneiss.report.page import report_page
from tests import runs
from tests.support import recipe_of

SURROGATE = b"\xed\xa0\x80 half a pair"
RIGHT_TO_LEFT = "\u202eright to left"
MEGABYTES_100 = 100_000_000


@pytest.mark.slow
def test_ids_that_are_no_unicode_are_shown(tmp_path: Path) -> None:
    ids = pa.array([SURROGATE, RIGHT_TO_LEFT.encode(), b"plain"] * 4, pa.binary()).view(pa.string())
    texts = [f"{RIGHT_TO_LEFT} {'word ' * (10 + i)}" for i in range(12)]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": ids, "text": texts}), tmp_path / "in/x.parquet")
    phase = '  - {name: one, annotate: [readability], rules: {short: "words < 18"}}'
    recipe = recipe_of(phase, budgets={"documents": 1.0})
    finished = run(recipe, tmp_path / "in", tmp_path / "out", backend=runs.InThisProcess())
    assert 0 < finished.documents < 12
    session = open_session({"output": str(tmp_path / "out")})
    exploration = Exploration.of(finished, session.recipe)
    shown = [
        report_page(finished, input=tmp_path / "in", by=["id"]).partition("<script")[0],
        report_text(finished, input=tmp_path / "in", by=["id"]),
        changed(exploration.changes(session.edited({"one.rules.short": "words < 15"})), session.sources),
    ]
    for text in shown:
        assert "word word" in text or "short" in text
        assert not {"\u202e", "\ud800", "\ufffe"} & set(text)
        text.encode()


def test_a_text_of_100_megabytes_is_never_decoded_whole() -> None:
    text = pa.scalar("ä" * (MEGABYTES_100 // 2))
    tracemalloc.start()
    try:
        assert excerpt(text, 1) == "ä" * 1500
        assert excerpt(text, MEGABYTES_100 - 4) == "ää"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_cell_is_cut() -> None:
    html = table(pa.table({"id": ["x" * 1_000_000]}))
    assert len(html) < 1_000


def test_what_is_no_run_cannot_be_explored(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished run here"):
        open_session({"output": str(tmp_path)})
