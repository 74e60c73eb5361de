"""A picture of an ablation: learning curves above, and the differences from the first corpus by domain below.

Needs the extra `report`.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

import altair as alt

from gneiss.ablate.ablation import Ablation
from gneiss.ablate.differences import Difference
from gneiss.errors import printable
from gneiss.report.charts import UNKNOWN

_WIDTH, _HEIGHT = 620, 300
#: With more arms, their bands would hide the lines.
_MOST_BANDS = 5
#: Okabe and Ito's, which the colour-blind can tell apart, then darker ones; the first corpus is grey.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5e3c99", "#8b0000", "#66a61e", "#000000",
    "#1b6e6e", "#ff6fb5",
)  # fmt: skip
_ALL = "all domains"
_SHAPES = alt.Scale(domain=["difference found", "none found"], range=["circle", "diamond"])


def ablation_chart(ablation: Ablation, title: str = "") -> alt.VConcatChart:
    """Bits per byte over tokens, and differences with intervals; of differences, those that were compared.

    In a curve a line is the mean over seeds and domains, a band the range over seeds, where arms are few.
    """
    arms = _by_result(ablation)
    first = ablation.comparisons[0].a
    colours = [UNKNOWN if arm == first else _COLOURS[i % len(_COLOURS)] for i, arm in enumerate(arms)]
    scale = alt.Scale(domain=[printable(arm) for arm in arms], range=colours)
    return (
        alt.vconcat(_curves(ablation, scale), _differences(ablation, scale), spacing=36, title=title)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridColor="#eeeeee")
        .configure_title(fontSize=15, anchor="start", offset=12)
        .configure_legend(labelFontSize=12, labelLimit=300, symbolStrokeWidth=3, symbolOpacity=1)
        .configure_view(stroke=None)
        .properties(padding=16, background="white")
    )


def ablation_png(ablation: Ablation, title: str = "") -> bytes:
    """The picture as PNG."""
    import vl_convert

    found: bytes = vl_convert.vegalite_to_png(ablation_chart(ablation, title).to_dict(validate=False), scale=1.5)
    return found


def _by_result(ablation: Ablation) -> list[str]:
    """The arms, the worst first, as their curves end from top to bottom."""
    return sorted(ablation.arms, key=lambda arm: -ablation.bits_per_byte(arm))


def _curves(ablation: Ablation, scale: alt.Scale) -> alt.LayerChart:
    rows: list[dict[str, Any]] = []
    for arm in _by_result(ablation):
        for points in zip(*(model.points for model in ablation.of(arm)), strict=True):
            values = [fmean(point.bits_per_byte.values()) for point in points]
            low, high = min(values), max(values)
            rows.append(
                {"arm": printable(arm), "tokens": points[0].tokens, "mean": fmean(values), "low": low, "high": high}
            )
    ends = [row["mean"] for row in rows if row["tokens"] == max(row["tokens"] for row in rows)]
    room = max(0.15 * (max(ends) - min(ends)), 0.02)
    # the first steps are nearly the same for all, and would leave no room for the rest
    shown = [min(row["low"] for row in rows) - room / 2, max(ends) + 2 * (max(ends) - min(ends)) + 4 * room]
    y = alt.Scale(domain=shown, zero=False, nice=False)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("tokens:Q", title="tokens trained on", axis=alt.Axis(format=".3~s", tickCount=6, grid=False)),
        color=alt.Color("arm:N", scale=scale, title=None, sort=None),
    )
    band = base.mark_area(opacity=0.12, clip=True).encode(y=alt.Y("low:Q", scale=y), y2="high:Q")
    title = "bits per byte, mean of domains"
    line = base.mark_line(strokeWidth=2, clip=True).encode(y=alt.Y("mean:Q", scale=y, title=title))
    dots = base.mark_circle(size=36, clip=True, opacity=1).encode(y=alt.Y("mean:Q", scale=y, title=title))
    has_bands = len(ablation.arms) <= _MOST_BANDS
    seeds = f"{len(ablation.of(ablation.arms[0]))} seeds"
    return alt.layer(*([band] if has_bands else []), line, dots).properties(
        width=_WIDTH,
        height=_HEIGHT,
        title=f"Learning curves, {'with the range' if has_bands else 'means'} of {seeds}",
    )


def _differences(ablation: Ablation, scale: alt.Scale) -> alt.LayerChart:
    first = ablation.comparisons[0].a
    rows: list[dict[str, Any]] = []
    for compared in ablation.comparisons:
        if compared.a == first:
            named = {_ALL: compared.mean, **compared.domains}
            rows += [_difference(domain, compared.b, of) for domain, of in named.items()]
    domains = list(dict.fromkeys(row["domain"] for row in rows))
    arms = [printable(arm) for arm in _by_result(ablation)]
    offset = alt.YOffset("arm:N", sort=arms, scale=alt.Scale(paddingOuter=0.6))
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y("domain:N", sort=domains, title=None, axis=alt.Axis(labelLimit=220, ticks=False, domain=False)),
        yOffset=offset,
        color=alt.Color("arm:N", scale=scale, title=None, sort=None),
    )
    x = f"bits per byte minus those of {printable(first)} (left: better)"
    lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=x), x2="high:Q")
    dots = base.mark_point(size=46, filled=True, opacity=1).encode(
        x=alt.X("mean:Q", title=x), shape=alt.Shape("found:N", scale=_SHAPES, title=None)
    )
    zero = alt.Chart(alt.InlineData(values=[{"at": 0}])).mark_rule(color="#444444", strokeDash=[4, 3]).encode(x="at:Q")
    height = alt.Step(11)
    return alt.layer(zero, lines, dots).properties(
        width=_WIDTH, height=height, title="Differences with their intervals"
    )


def _difference(domain: str, arm: str, of: Difference) -> dict[str, Any]:
    found = "difference found" if of.is_found else "none found"
    names = {"domain": printable(domain), "arm": printable(arm)}
    return {**names, "mean": of.mean, "low": of.low, "high": of.high, "found": found}
