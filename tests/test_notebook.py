"""The notebooks run on a finished output, and what they show is what its files say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook."""
    return json.loads(notebook.read_text("utf-8"))["cells"]  # type: ignore[no-any-return]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """What executes cells in a kernel, in this process."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    yield InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    InteractiveShell.clear_instance()


def executed(shell: InteractiveShell, notebook: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The names of a notebook after all cells, and what they displayed."""
    displayed = []
    for cell in cells_of(notebook):
        if cell["cell_type"] == "code":
            with capture_output() as captured:
                shell.run_cell("".join(cell["source"])).raise_error()
            displayed += [output.data for output in captured.outputs]
    return shell.user_ns, displayed


@pytest.fixture
def output(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GNEISS_OUTPUT", str(demo / "curated"))
    return demo / "curated"


def query(output: Path, sql: str) -> list[tuple[Any, ...]]:
    return duckdb.sql(
        f"WITH rows AS (SELECT * FROM read_parquet('{output}/annotations/base/*.parquet')) {sql}"
    ).fetchall()


def is_text(displayed: list[dict[str, Any]]) -> bool:
    """Whether no document acts in what is displayed."""
    html = "".join(str(data.get("text/html", "")) for data in displayed)
    return "<urn:uuid:" not in html and "&lt;urn:uuid:" in html and "<script" not in html


@pytest.mark.slow
def test_statistics_are_those_of_the_files(shell: InteractiveShell, output: Path) -> None:
    names, displayed = executed(shell, NOTEBOOKS[1])
    status = dict(query(output, "SELECT status, count(*) FROM rows GROUP BY status"))
    counted = {row["status"]: row["documents"] for row in names["overview"].to_pylist()}
    assert {name: counted[name] for name in status} == status
    for row in names["together"].to_pylist():
        (found,) = query(output, f"SELECT count(*) FROM rows WHERE failed = {row['failed']}::VARCHAR[]")
        assert found == (row["documents"],)
    assert {"prose", "eflaw", "tokens_per_char"} <= set(names["scores"])
    medians = {row["annotation"]: row["p50"] for row in names["quantiles"].to_pylist()}
    assert medians["eflaw"] == pytest.approx(
        query(output, "SELECT quantile_disc(eflaw, 0.5) FROM rows")[0][0], rel=0.016
    )
    charts = [data for data in displayed if "image/svg+xml" in data]
    labels = len(set(names["labels"]["annotation"].to_pylist()))
    assert len(charts) == 4 + len(names["scores"]) + 1 + labels + 1
    assert all(data["image/svg+xml"].startswith("<svg") for data in charts)


@pytest.mark.slow
def test_a_threshold_is_chosen(shell: InteractiveShell, output: Path) -> None:
    names, displayed = executed(shell, NOTEBOOKS[2])
    kept = query(output, "SELECT count(*) FROM rows WHERE status = 'kept'")[0][0]
    for knob in names["knobs"].values():
        here = [row for row in names["curve"].to_pylist() if row[knob.name] == knob.value]
        assert [row["documents"] for row in here] == [kept]
    assert names["chosen"]
    for name, picked in names["chosen"].items():
        assert set(picked.values) == {name}
    shares = names["report"].curve(list(names["chosen"].values()))["documents_share"].to_pylist()
    assert min(shares) >= names["TARGET"]
    assert is_text(displayed)


@pytest.mark.slow
def test_what_dedup_cut_is_what_the_files_say(shell: InteractiveShell, output: Path) -> None:
    names, displayed = executed(shell, NOTEBOOKS[0])
    (cut,) = query(output, "SELECT sum(dedup_bytes)::BIGINT FROM rows")[0]
    assert names["counts"]["dedup_bytes"] == cut > 0
    assert sum(names["places"]["cut_bytes"].to_pylist()) == cut
    assert all(names["passages"]["text"].to_pylist())
    assert names["most_cut"]["dedup_bytes"][0].as_py() == query(output, "SELECT max(dedup_bytes) FROM rows")[0][0]
    assert is_text(displayed)


def test_documents_stay_text_in_a_notebook(shell: InteractiveShell) -> None:
    from gneiss import report

    with capture_output() as captured:
        report.show(pa.table({"<b>": ["<script>alert(1)</script>\u202e"]}))
    (data,) = (output.data for output in captured.outputs)
    assert "&lt;script&gt;" in data["text/html"]
    assert not [part for part in ("<script", "<b>", "\u202e") if part in data["text/html"]]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_committed_without_outputs(notebook: Path) -> None:
    code = [cell for cell in cells_of(notebook) if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
