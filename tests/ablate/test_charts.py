"""The picture: what it shows is what was measured, and names cannot draw over it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

pytest.importorskip("altair", reason="pictures need the extra report")

from gneiss.ablate import Ablation, Compared, Trained, paired_difference
from gneiss.ablate.charts import ablation_chart, ablation_png
from gneiss.ablate.point import Point


def ablation_of(b: str) -> Ablation:
    ends = {"raw": (2.0, 2.1), b: (1.5, 1.7)}
    trained = tuple(
        Trained(arm, seed, 200, 1.0, (Point(100, {"d": 4.0, "e": 4.0}), Point(200, {"d": end, "e": end + 1})))
        for arm, of in ends.items()
        for seed, end in enumerate(of)
    )
    mean = paired_difference(ends["raw"], ends[b])
    return Ablation(trained, (Compared("raw", b, mean, {"d": mean, "e": mean}),), {})


def test_curves_and_differences_are_those_measured() -> None:
    chart = ablation_chart(ablation_of("curated")).to_dict(validate=False)
    curves, differences = chart["vconcat"]
    ends = [row for row in chart["datasets"][curves["data"]["name"]] if row["tokens"] == 200]
    assert {row["arm"]: row["mean"] for row in ends} == pytest.approx({"raw": 2.55, "curated": 2.1})
    assert {row["arm"]: row["high"] for row in ends} == pytest.approx({"raw": 2.6, "curated": 2.2})
    rows = chart["datasets"][differences["layer"][1]["data"]["name"]]
    assert [row["domain"] for row in rows] == ["all domains", "d", "e"]
    assert rows[0]["mean"] == pytest.approx(-0.45)
    assert rows[0]["found"] == "none found"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vl_convert") is None, reason="pictures need the extra report")
def test_it_is_drawn_whatever_the_names() -> None:
    drawn = ablation_png(ablation_of("<script>a:b[0].c'\n"), "A title")
    assert drawn.startswith(b"\x89PNG")
