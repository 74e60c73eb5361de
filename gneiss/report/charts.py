"""Altair charts of a report's tables: the same in a notebook and on a page, for light and dark backgrounds.

Colours are Okabe and Ito's, which the colour-blind can tell apart, one meaning each; their purple is darker here, to be
read on white. Needs the extra `report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pyarrow as pa

from gneiss.errors import printable
from gneiss.report.counting import MEASURES
from gneiss.report.distributions import Threshold

KEPT, DROPPED, UNKNOWN, MARK = "#0072b2", "#d55e00", "#999999", "#b8578f"
_FATES = alt.Scale(domain=["kept", "dropped"], range=[KEPT, DROPPED])
_COUNT = ",.4~s"
#: Of values of annotations, as many labels as have room.
_VALUES = {"format": ",.4~r", "grid": False, "tickCount": {"expr": "max(2, width / 80)"}, "labelOverlap": True}
#: Below this share of the funnel's height a flow has no room for its number.
_ROOM = 0.08
#: From which ratio of the largest to the smallest value on an axis is logarithmic.
_LOGARITHMIC = 100
#: From which number on a cell is too dark for black letters.
_STRONG = 0.8
#: Points of a curve of the funnel.
_POINTS = 24


def funnel_chart(flow: pa.Table, measure: str = "documents") -> alt.LayerChart:
    """A Sankey diagram of `funnel`: from the input through the phases to what is kept; what is dropped falls."""
    rows = flow.to_pylist()
    stages = list(dict.fromkeys(row["source"] for row in rows))
    total = max((sum(row[measure] or 0 for row in rows if row["source"] == stages[0])), 1)
    points: list[dict[str, Any]] = []
    numbers: list[dict[str, Any]] = []
    for at, stage in enumerate(stages):
        top = 0.0
        passing = [row for row in rows if row["source"] == stage]
        for row in sorted(passing, key=lambda row: _falls(row["target"])):
            size = row[measure] or 0
            low = total * 1.15 - size if _falls(row["target"]) else 0.0
            for share in np.linspace(0, 1, _POINTS):
                smooth = share * share * (3 - 2 * share)
                begin = top + (low - top) * smooth
                fate = "dropped" if _falls(row["target"]) else "kept"
                flow_ = f"{printable(stage)} → {printable(row['target'])}"
                point = {"at": at + share, "from": begin, "to": begin + size, "fate": fate, "way": flow_}
                points.append({**point, measure: size, "share": size / total})
            if size > _ROOM * total:
                middle = top + (low - top) / 2 + size / 2
                number = f"{size:,} ({size / total:.1%})"
                numbers.append({"at": at + 0.5, "from": middle, "number": number, "falls": _falls(row["target"])})
            top += size
    names = [*stages, "kept"]
    labels = alt.Axis(
        values=list(range(len(names))),
        labelExpr=f"{[printable(name) for name in names]}[datum.value]",
        title=None,
        grid=False,
        domain=False,
    )
    areas = (
        alt.Chart(_data(points))
        .mark_area()
        .encode(
            x=alt.X("at:Q", axis=labels, scale=alt.Scale(domain=[0, len(names) - 1], nice=False)),
            y=alt.Y("from:Q", axis=None, scale=alt.Scale(reverse=True)),
            y2="to:Q",
            detail="way:N",
            color=alt.Color("fate:N", scale=_FATES, title=None),
            tooltip=[
                alt.Tooltip("way:N", title="way"),
                alt.Tooltip(f"{measure}:Q", format=","),
                alt.Tooltip("share:Q", format=".2%", title="of the input"),
            ],
        )
    )
    labelled = alt.Chart(_data(numbers)).mark_text(fontSize=13, fontWeight="bold")
    readable = alt.condition("datum.falls", alt.value("black"), alt.value("white"))
    text = labelled.encode(x="at:Q", y="from:Q", text="number:N", color=readable)
    return _sized(alt.layer(areas, *([text] if numbers else [])), 220)


def rules_chart(rules: pa.Table, phase: str) -> alt.Chart:
    """A bar a rule of a phase: for how many documents it is true, false, unknown."""
    outcomes = ("true", "false", "unknown")
    rows = [
        {"rule": row["rule"], "is": outcome, "documents": row[outcome], "order": at, "decisive": row["decisive"]}
        for row in rules.to_pylist()
        for at, outcome in enumerate(outcomes)
        if row["phase"] == phase
    ]
    names = list(dict.fromkeys(row["rule"] for row in rows))
    scale = alt.Scale(domain=list(outcomes), range=[KEPT, DROPPED, UNKNOWN])
    return _sized(
        alt.Chart(_data(rows))
        .mark_bar()
        .encode(
            y=alt.Y("rule:N", sort=names, title=None),
            x=_counted("documents", "documents that reached the phase"),
            color=alt.Color("is:N", scale=scale, title=None, sort=list(outcomes)),
            order="order:Q",
            tooltip=[
                "rule:N",
                "is:N",
                alt.Tooltip("documents:Q", format=","),
                alt.Tooltip("decisive:Q", format=",", title="dropped by it alone"),
            ],
        ),
        alt.Step(24),
    )


def effects_chart(effects: pa.Table, kept: int, measure: str = "tokens") -> alt.Chart:
    """What a phase would pass on besides without each rule and each filter, in percent of what the run keeps.

    Parameters: `effects`: of `marginal`; `kept`: the measure of all kept documents.
    """
    rows = [
        {
            "name": row["name"] if row["kind"] == "rule" else f"filter {row['name']}",
            "change": (row[measure] or 0) / max(kept, 1),
            measure: row[measure],
            "direction": "kept" if (row[measure] or 0) >= 0 else "dropped",
        }
        for row in effects.to_pylist()
    ]
    names = list(dict.fromkeys(row["name"] for row in rows))
    return _sized(
        alt.Chart(_data(rows))
        .mark_bar()
        .encode(
            y=alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=240)),
            x=alt.X(
                "change:Q",
                title=f"{measure} kept without it",
                axis=alt.Axis(format="+.1~%", tickCount={"expr": "max(2, width / 80)"}),
            ),
            color=alt.Color("direction:N", scale=_FATES, legend=None),
            tooltip=[
                "name:N",
                alt.Tooltip("change:Q", format="+.3%"),
                alt.Tooltip(f"{measure}:Q", format="+,", title=measure),
            ],
        ),
        alt.Step(22),
    )


def combinations_chart(combinations: pa.Table, phase: str, most: int = 24) -> alt.VConcatChart:
    """An UpSet plot: how many documents fail which rules together, the most frequent combinations first."""
    rows = [row for row in combinations.to_pylist() if row["phase"] == phase and row["failed"] is not None][:most]
    bars, dots, ties = [], [], []
    rules = list(dict.fromkeys(rule for row in rows for rule in row["failed"]))
    for at, row in enumerate(rows):
        fate, names = ("kept" if row["kept"] else "dropped"), ", ".join(row["failed"]) or "none"
        bar = {"at": at, "fate": fate, "fails": names, **{name: row[name] for name in MEASURES}}
        bars.append(bar)
        dots += [{**bar, "rule": rule, "shown": 1.0 if rule in row["failed"] else 0.12} for rule in rules]
        ends = sorted(row["failed"], key=rules.index)
        ties += [{**bar, "rule": ends[0], "last": ends[-1]}] if len(ends) > 1 else []
    x = alt.X("at:O", axis=None)
    tooltip = [alt.Tooltip("fails:N"), *(alt.Tooltip(f"{name}:Q", format=",") for name in MEASURES)]
    color = alt.Color("fate:N", scale=_FATES, title=None, legend=alt.Legend(symbolOpacity=1))
    width = alt.Step(22)
    above = alt.Chart(_data(bars)).mark_bar().encode(
        x=x, y=alt.Y("documents:Q", axis=alt.Axis(format=_COUNT)), color=color, tooltip=tooltip
    ).properties(width=width, height=150)  # fmt: skip
    y = alt.Y("rule:N", sort=rules, title="fails", axis=alt.Axis(labelLimit=200))
    circles = alt.Chart(_data(dots)).mark_circle(size=110).encode(
        x=x, y=y, opacity=alt.Opacity("shown:Q", scale=None), color=color, tooltip=tooltip
    )  # fmt: skip
    lines = alt.Chart(_data(ties)).mark_rule(strokeWidth=3).encode(x=x, y=y, y2="last:N", color=color)
    below = alt.layer(circles, *([lines] if ties else [])).properties(width=width, height=alt.Step(20))
    return alt.vconcat(above, below, spacing=4)


def distribution_chart(distribution: pa.Table, annotation: str, thresholds: Sequence[Threshold] = ()) -> alt.LayerChart:
    """Documents by the value of an annotation, kept and dropped, with the thresholds that rules compare it with."""
    bins = distribution.to_pylist()
    rows = [
        {
            "low": bin_["low"],
            "high": bin_["high"],
            "fate": fate,
            "documents": bin_[fate],
            "from": low,
            "to": low + bin_[fate],
        }
        for bin_ in bins
        for fate, low in (("kept", 0), ("dropped", bin_["kept"]))
    ]
    ends = [bins[0]["low"], bins[-1]["high"]] if bins else [0, 1]
    scale = alt.Scale(type="log" if _has_equal_ratios(bins) else "linear", domain=ends, nice=False)
    bars = (
        alt.Chart(_data(rows))
        .mark_rect()
        .encode(
            x=alt.X("low:Q", scale=scale, title=annotation, axis=alt.Axis(**_VALUES)),
            x2="high:Q",
            y=alt.Y("from:Q", title="documents", axis=alt.Axis(format=_COUNT), scale=alt.Scale(zero=True)),
            y2="to:Q",
            color=alt.Color("fate:N", scale=_FATES, title=None),
            tooltip=[
                alt.Tooltip("low:Q", format=".4~g", title="from"),
                alt.Tooltip("high:Q", format=".4~g", title="to"),
                "fate:N",
                alt.Tooltip("documents:Q", format=","),
            ],
        )
    )
    shown = [{"value": t.value, "rule": t.rule} for t in thresholds if ends[0] <= t.value <= ends[1]]
    at = alt.Chart(_data(shown)).encode(
        x=alt.X("value:Q", scale=scale), tooltip=["rule:N", alt.Tooltip("value:Q", format=".6~g")]
    )
    lines = at.mark_rule(color=MARK, strokeWidth=2, strokeDash=[5, 3])
    values = at.mark_text(color=MARK, align="left", dx=4, dy=-5, fontSize=12).encode(
        y=alt.value(0), text=alt.Text("value:Q", format=".6~g")
    )
    return _sized(alt.layer(bars, *([lines, values] if shown else [])), 150)


def curve_chart(curve: pa.Table, threshold: str, here: float | None = None) -> alt.LayerChart:
    """The share that is kept for each value of a threshold; here: the value that it has in the recipe, marked.

    Parameters: `curve`: of the function of this name.
    """
    known = [row for row in curve.to_pylist() if row[threshold] is not None]
    rows = [
        {"value": row[threshold], "share": row[f"{measure}_share"], "of": measure, "kept": row[measure]}
        for row in known
        for measure in MEASURES
        if row[f"{measure}_share"] is not None
    ]
    values = [row["value"] for row in rows]
    is_log = bool(values) and 0 < min(values) * _LOGARITHMIC < max(values)
    scale = alt.Scale(type="log" if is_log else "linear", nice=False, zero=False)
    dashes = alt.Scale(domain=list(MEASURES), range=[[1, 0], [2, 3], [8, 3]])
    lines = (
        alt.Chart(_data(rows))
        .mark_line(color=KEPT, point={"color": KEPT, "size": 18})
        .encode(
            x=alt.X("value:Q", scale=scale, title=threshold, axis=alt.Axis(**_VALUES)),
            y=alt.Y("share:Q", title="kept", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
            strokeDash=alt.StrokeDash("of:N", scale=dashes, sort=list(MEASURES), title=None),
            tooltip=[
                alt.Tooltip("value:Q", format=".6~g", title=threshold),
                alt.Tooltip("share:Q", format=".2%", title="share kept"),
                alt.Tooltip("kept:Q", format=","),
                alt.Tooltip("of:N", title="of"),
            ],
        )
    )
    marked = alt.Chart(_data([{"value": here}])).mark_rule(color=MARK, strokeWidth=2, strokeDash=[5, 3])
    at = marked.encode(x=alt.X("value:Q", scale=scale), tooltip=[alt.Tooltip("value:Q", format=".6~g", title="now")])
    return _sized(alt.layer(lines, *([at] if here is not None else [])), 150)


def correlations_chart(correlations: pa.Table) -> alt.LayerChart:
    """Rank correlation of each two scores: blue together, orange against each other, the paler the weaker."""
    rows = correlations.to_pylist()
    rows = [{**row, **_signed(row["correlation"], "together", "against")} for row in rows]
    both = [*rows, *({**row, "one": row["other"], "other": row["one"]} for row in rows)]
    names = list(dict.fromkeys(name for row in rows for name in (row["one"], row["other"])))
    chart = alt.Chart(_data(both)).encode(
        x=alt.X("one:N", sort=names, title=None, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("other:N", sort=names, title=None),
        tooltip=[
            "one:N",
            "other:N",
            alt.Tooltip("correlation:Q", format="+.3f"),
            alt.Tooltip("documents:Q", format=","),
        ],
    )
    return _shaded(chart, "correlation", "together", "against")


def breakdown_chart(breakdown: pa.Table, by: str, measure: str = "documents") -> alt.Chart:
    """A bar a value: how much is kept and how much dropped."""
    rows = []
    for row in breakdown.to_pylist():
        value = "(missing)" if row["value"] is None else printable(row["value"])[:80]
        kept, everything = row[f"{measure}_kept"], row[measure]
        for fate, size in (("kept", kept), ("dropped", everything - kept)):
            rows.append({by: value, "fate": fate, measure: size, "share": size / max(everything, 1)})
    names = list(dict.fromkeys(row[by] for row in rows))
    return _sized(
        alt.Chart(_data(rows))
        .mark_bar()
        .encode(
            y=alt.Y(f"{_field(by)}:N", sort=names, title=None, axis=alt.Axis(labelLimit=200)),
            x=_counted(measure, measure),
            color=alt.Color("fate:N", scale=_FATES, title=None),
            tooltip=[
                f"{_field(by)}:N",
                "fate:N",
                alt.Tooltip(f"{measure}:Q", format=","),
                alt.Tooltip("share:Q", format=".1%"),
            ],
        ),
        alt.Step(22),
    )


def drift_chart(drift: pa.Table, most: int = 40) -> alt.LayerChart:
    """How far the mean of each score lies from that of all shards, in standard deviations: the shards farthest off."""
    names = drift.column_names[3:]
    rows = [{"shard": printable(row["shard"])[-60:], **row} for row in drift.to_pylist()]
    rows.sort(key=lambda row: -max((abs(row[name]) for name in names if row[name] is not None), default=0.0))
    long = [
        {"shard": printable(row["shard"])[-60:], "score": name, "distance": row[name], "documents": row["documents"]}
        | _signed(row[name], "higher", "lower")
        for row in rows[:most]
        for name in names
    ]
    chart = alt.Chart(_data(long)).encode(
        x=alt.X("score:N", sort=names, title=None, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("shard:N", sort=None, title=None, axis=alt.Axis(labelLimit=240)),
        tooltip=[
            "shard:N",
            "score:N",
            alt.Tooltip("distance:Q", format="+.2f", title="standard deviations"),
            alt.Tooltip("documents:Q", format=","),
        ],
    )
    return _shaded(chart, "distance", "higher", "lower")


def _signed(value: float | None, above: str, below: str) -> dict[str, Any]:
    return {} if value is None else {"sign": above if value >= 0 else below, "size": abs(value)}


def _shaded(chart: alt.Chart, number: str, above: str, below: str) -> alt.LayerChart:
    """Cells with a number in each: colours of its sign, on any background, and the paler the nearer it is to 0."""
    color = alt.Color("sign:N", scale=alt.Scale(domain=[above, below], range=[KEPT, DROPPED]), title=None)
    opacity = alt.Scale(domain=[0, 1], range=[0.05, 1], clamp=True)
    cells = chart.mark_rect().encode(color=color, fillOpacity=alt.FillOpacity("size:Q", scale=opacity, legend=None))
    text = chart.encode(text=alt.Text(f"{number}:Q", format="+.2f"))
    # in the colour of the scheme where the cell is pale
    pale = text.transform_filter(f"datum.size < {_STRONG}").mark_text(fontSize=12)
    strong = text.transform_filter(f"datum.size >= {_STRONG}").mark_text(fontSize=12, color="white")
    return _sized(alt.layer(cells, pale, strong), alt.Step(24), alt.Step(54))


def _sized(chart: alt.TopLevelMixin, height: int | alt.Step, width: alt.Step | None = None) -> alt.TopLevelMixin:
    """A chart as wide as what it stands in, or of steps."""
    if width is not None:
        return chart.properties(width=width, height=height)
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    return chart.properties(width="container", height=height, autosize=fit)


def _has_equal_ratios(bins: Sequence[Mapping[str, Any]]) -> bool:
    """Whether bins are those of a logarithmic axis."""
    if not bins or bins[0]["low"] <= 0:
        return False
    first, last = (bin_["high"] / bin_["low"] for bin_ in (bins[0], bins[-1]))
    return bool(np.isclose(first, last))


def _counted(field: str, title: str) -> alt.X:
    """The axis of bars of documents, bytes or tokens."""
    axis = alt.Axis(format=_COUNT, tickCount={"expr": "max(2, width / 80)"})
    return alt.X(f"{field}:Q", title=title, scale=alt.Scale(nice=False), axis=axis)


def _falls(target: str) -> bool:
    return target == "quarantined" or target.startswith("dropped in ")


def _data(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=[dict(row) for row in rows])


def _field(name: str) -> str:
    r"""A name as a field of Vega-Lite, where dots and brackets have a meaning."""
    return "".join(f"\\{c}" if c in ".[]:\\'\"" else c for c in name)
