"""What `compare` counts, against SciPy and plain counting."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import GneissError, InputError
from gneiss.layers import annotate_from
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.report import compare

Copy = Callable[[Path], Path]
ESCAPE = "\x1b[31m|<b>"


@pytest.fixture(scope="session")
def compared(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run with a layer `other`: a score with ties, a boolean, labels; each missing for some documents."""
    import shutil

    folder = tmp_path_factory.mktemp("compared")
    shutil.copytree(curated, folder / "out")
    draw, ids = Random(3), open_run(folder / "out").annotations(columns=[])["id"].to_pylist()
    table: dict[str, Any] = {
        "id": ids,
        "score": [
            None if at % 9 == 0 else draw.choice([math.nan, math.inf, *map(float, range(9))]) for at in range(180)
        ],
        "in_gneissweb": [draw.choice([True, True, False, None]) for _ in ids],
        "label": [draw.choice(["a", ESCAPE, None]) for _ in ids],
        "prose": [draw.random() for _ in ids],
    }
    pq.write_table(pa.table(table), folder / "t.parquet")
    annotate_from(folder / "out", folder / "t.parquet", on="id", layer="other")
    return open_run(folder / "out")


def ranks(values: list[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def correlation(one: list[float], other: list[float]) -> float:
    means = [math.fsum(values) / len(values) for values in (one, other)]
    products, *squares = (
        math.fsum((a - means[i]) * (b - means[j]) for a, b in zip(x, y, strict=True))
        for x, i, y, j in ((one, 0, other, 1), (one, 0, one, 0), (other, 1, other, 1))
    )
    return products / math.sqrt(squares[0] * squares[1])


def test_scores_are_ranked_over_documents_that_have_both(compared: FinishedRun) -> None:
    rows = compared.annotations(["other"], ["prose", "score", "other.prose"]).to_pylist()
    found = compare(compared, "other", scores=[("prose", "score"), ("prose", "prose")]).scores.to_pylist()
    for row, other in zip(found, ("score", "other.prose"), strict=True):
        finite = lambda value: value is not None and math.isfinite(value)  # noqa: E731
        pairs = [
            (document["prose"], float(document[other]))
            for document in rows
            if finite(document["prose"]) and finite(document[other])
        ]
        one, two = (list(values) for values in zip(*pairs, strict=True))
        assert (row["score"], row["other"], row["documents"]) == ("prose", other, len(pairs))
        assert row["pearson"] == pytest.approx(correlation(one, two), rel=1e-12)
        assert row["spearman"] == pytest.approx(correlation(ranks(one), ranks(two)), rel=1e-12)
        tenths = [[int((rank - 0.5) * 10 / len(pairs)) for rank in ranks(scores)] for scores in (one, two)]
        assert row["same_tenth"] == sum(a == b for a, b in zip(*tenths, strict=True)) / len(pairs)
        top = [a == 9 for a, b in zip(*tenths, strict=True) if b == 9]
        assert row["top_tenth"] == (sum(top) / len(top) if top else None)


def test_decisions_are_counted_whole_and_by_value(compared: FinishedRun) -> None:
    rows = compared.annotations(["other"], ["prose", "label", "in_gneissweb", "score"]).to_pylist()
    rows = [row for row in rows if row["status"] != "quarantined" and row["in_gneissweb"] is not None]
    found = compare(compared, "other", by=["label", "score"]).decisions.to_pylist()

    def category(row: dict[str, Any]) -> str | None:
        value = row["score"]
        return None if value is None or math.isnan(value) else "in" if value > 0.5 else "not in"

    values: dict[str | None, Callable[[dict[str, Any]], Any]] = {
        None: lambda row: None, "label": lambda row: row["label"], "score": category,
    }  # fmt: skip
    assert Counter(row["by"] for row in found) == {None: 1, "label": 3, "score": 3}
    for row in found:
        own = [document for document in rows if values[row["by"]](document) == row["value"]]
        both, kept_only, other_only, neither = (
            sum((document["status"] == "kept", document["in_gneissweb"]) == case for document in own)
            for case in ((True, True), (True, False), (False, True), (False, False))
        )
        assert row["documents"] == len(own)
        assert (row["both"], row["kept_only"], row["other_only"], row["neither"]) == (
            both,
            kept_only,
            other_only,
            neither,
        )
        assert row["precision"] == pytest.approx(both / (both + kept_only))
        assert row["recall"] == pytest.approx(both / (both + other_only))
        observed, n = (both + neither) / len(own), len(own)
        chance = ((both + kept_only) * (both + other_only) + (other_only + neither) * (kept_only + neither)) / n**2
        assert row["agreement"] == observed
        assert row["kappa"] == pytest.approx((observed - chance) / (1 - chance))


def test_what_rules_read_is_compared_by_default(compared: FinishedRun) -> None:
    found = compare(compared, "other")
    assert {(row["score"], row["other"]) for row in found.scores.to_pylist()} == {
        (score, other) for score in ("prose", "eflaw", "tokens_per_char") for other in ("score", "other.prose")
    }
    assert {row["by"] for row in found.decisions.to_pylist()} == {None, "score", "other.prose"}


@pytest.mark.parametrize(
    ("layer", "given", "message"),
    [
        ("othr", {}, "no whole layer 'othr'; did you mean 'other'"),
        ("other", {"scores": [("proze", "score")]}, "no score 'proze'; did you mean 'prose'"),
        ("other", {"scores": [("prose", "skore")]}, "no score 'skore'; did you mean 'score'"),
        ("other", {"scores": [("prose_label", "score")]}, "score 'prose_label': expected numbers, found VARCHAR"),
        ("other", {"by": ["labl"]}, "by: no column 'labl'; did you mean"),
        ("other", {"by": ["failed"]}, "column 'failed': expected strings, numbers or booleans"),
    ],
)
def test_unknown_columns_are_refused(layer: str, given: Any, message: str, compared: FinishedRun) -> None:
    with pytest.raises(InputError, match=message):
        compare(compared, layer, **given)


def test_a_layer_without_numbers_and_booleans_is_refused(compared: FinishedRun, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(compared.folder)  # type: ignore[arg-type]
    pq.write_table(pa.table({"id": ["a-0"], "name": ["x"]}), tmp_path / "t.parquet")
    annotate_from(output, tmp_path / "t.parquet", on="id", layer="names")
    with pytest.raises(InputError, match="nothing to compare"):
        compare(open_run(output), "names")


def test_the_command_prints_tables_markdown_and_json(compared: FinishedRun) -> None:
    def said(*options: str) -> Any:
        arguments = ["compare", str(compared.folder), "--with", "other", "--scores", "prose=score", *options]
        return CliRunner().invoke(app, arguments)

    found = compare(compared, "other", scores=[("prose", "score")], by=["label"])
    shown = said("--by", "label", "--format", "json")
    assert json.loads(shown.output) == {"scores": found.scores.to_pylist(), "decisions": found.decisions.to_pylist()}
    for options in ((), ("--format", "markdown")):
        text = said("--by", "label", *options).output
        assert "\x1b" not in text
        assert "\\u001b" in text
        assert f"{found.decisions['documents'][0].as_py()}" in text
    lines = said("--by", "label", "--format", "markdown").output.splitlines()
    assert lines[:2] == [
        "| score | other | documents | pearson | spearman | same tenth | top tenth |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    assert any("\\|\\<b\\>" in line for line in lines)
    refused = said("--scores", "prose")
    assert isinstance(refused.exception, GneissError)
    assert "expected ANNOTATION=COLUMN_OF_LAYER" in str(refused.exception)
