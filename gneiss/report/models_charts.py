"""One picture of what a judge's stand-ins are worth: agreement against cost, who decides, and what labels cover."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from gneiss.arrays import Float64Array
from gneiss.report.charts import DROPPED, KEPT, MARK, UNKNOWN
from gneiss.routing.interval import Share
from gneiss.routing.pilot import Way

_WIDTH, _HEIGHT, _LOWER = 860, 330, 200
#: Points of a curve of coverage.
_QUANTILES = np.linspace(0, 1, 101)
#: Grey that can be read on white.
_GREY = "#6b6b6b"
_TIERS = ("#56b4e9", "#009e73", "#e69f00")
_SIMPLER, _ROUTER, _RUN = (
    "a simpler way",
    "the router, on documents of the pilot that it had not seen",
    "the router, in the run",
)


def models_chart(
    ways: Sequence[Way],
    run: tuple[Share, float],
    sla: float,
    deciders: Mapping[str, Mapping[str, int]],
    reach: Mapping[str, Float64Array],
    known: Share | None = None,
    title: str = "",
) -> alt.VConcatChart:
    """Agreement against cost above; below who decides, and what the labels cover.

    Parameters: `ways`: of a pilot, the router first; `run`: what a run's audits say, and what a document cost in it;
    `sla`: what was asked for; `deciders`: kind of document → who decides → documents, in order the tiers, the judge,
    and the judge for an audit; `reach`: way to choose → distance of each document to the nearest labelled one,
    (documents,); `known`: the agreement that a run really had, where that can be known.
    """
    below = alt.hconcat(_deciders(deciders), _reach(reach), spacing=60).resolve_scale(color="independent")
    chart = alt.vconcat(_ways(ways, run, sla, known), below, spacing=40, title=_title(title))
    return (
        chart.resolve_scale(color="independent", shape="independent")
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridColor="#eeeeee")
        .configure_title(fontSize=14, anchor="start", offset=12, subtitleFontSize=12, subtitleColor="#555555")
        .configure_legend(labelFontSize=12, labelLimit=400)
        .configure_view(stroke=None)
        .properties(padding=16, background="white")
    )


def _title(title: str) -> alt.TitleParams:
    return alt.TitleParams(title, fontSize=16, anchor="start", offset=18)


def _ways(ways: Sequence[Way], run: tuple[Share, float], sla: float, known: Share | None) -> alt.LayerChart:
    router, *others = ways
    rows = [
        {**_point("router, without audits", router.agreement, router.cost, _ROUTER), "at": router.agreement.high},
        *(_point(way.name, way.agreement, way.cost, _SIMPLER) for way in others),
        {**_point("router in the run, by audits", run[0], run[1], _RUN), "at": run[0].low},
    ]
    kinds = alt.Scale(domain=[_SIMPLER, _ROUTER, _RUN], range=[_GREY, KEPT, MARK])
    base = alt.Chart(_data(rows)).encode(
        x=alt.X(
            "cost:Q",
            title="cost of a document (1: a question to the judge)",
            scale=alt.Scale(domain=[-0.02, 1.12], nice=False),
            axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1.0], format=".1f"),
        ),
        color=alt.Color("kind:N", scale=kinds, title=None, legend=alt.Legend(orient="bottom", direction="horizontal")),
    )
    floor = np.floor(20 * min(row["low"] for row in rows)) / 20
    shares = alt.Scale(domain=[floor, 1.02], nice=False, zero=False)
    named = "decisions that are the judge's"
    ticks = np.arange(round(20 * floor), 21) / 20
    percent = alt.Axis(format=".0%", values=ticks.tolist())
    share = alt.Y("agreement:Q", title=named, scale=shares, axis=percent)
    asked = alt.Chart(_data([{"sla": sla, "name": f"asked for: {sla:.0%}"}])).encode(
        y=alt.Y("sla:Q", title=named, scale=shares, axis=percent)
    )
    line = asked.mark_rule(color=DROPPED, strokeDash=[6, 4])
    label = asked.mark_text(color=DROPPED, align="right", dy=-8, fontSize=12).encode(x=alt.value(_WIDTH), text="name:N")
    intervals = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=named, scale=shares), y2="high:Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(y=share)
    named_at = base.encode(y=alt.Y("at:Q", title=named, scale=shares, axis=percent), text="name:N")
    layers: list[Any] = [line, label, intervals, points, *_names(named_at)]
    if known is not None:
        there = alt.Chart(_data([{"cost": run[1], "agreement": known.value}]))
        layers.append(
            there.mark_point(shape="diamond", size=160, color="black", strokeWidth=1.5).encode(x="cost:Q", y=share)
        )
    subtitle = "Points with their 95 % intervals (Wilson); costs are stated, not measured."
    subtitle += " Diamond: what all decisions of the run really agreed on." if known is not None else ""
    return alt.layer(*layers).properties(
        width=_WIDTH,
        height=_HEIGHT,
        title=alt.TitleParams("Agreement with the judge, and what it costs", subtitle=subtitle),
    )


def _names(base: alt.Chart) -> list[alt.Chart]:
    """The names of points, on white; that of the router is left of it, as the run costs a little more."""
    layers = []
    for of, align, dx in (("==", "right", -10), ("!=", "left", 10)):
        some = base.transform_filter(f"datum.kind {of} '{_ROUTER}'")
        place: dict[str, Any] = {"align": align, "dx": dx, "dy": -9, "fontSize": 12}
        layers.append(some.mark_text(**place, stroke="white", strokeWidth=4).encode(color=alt.value("white")))
        layers.append(some.mark_text(**place))
    return layers


def _point(name: str, agreement: Share, cost: float, kind: str) -> dict[str, Any]:
    return {
        "name": name,
        "agreement": agreement.value,
        "at": agreement.value,
        "low": agreement.low,
        "high": agreement.high,
        "cost": cost,
        "kind": kind,
    }


def _deciders(deciders: Mapping[str, Mapping[str, int]]) -> alt.Chart:
    known = list(next(iter(deciders.values())))
    of_known = dict(zip(known, [*_TIERS[: len(known) - 2], DROPPED, UNKNOWN], strict=True))
    order = [name for name in known if any(of[name] for of in deciders.values())]
    rows = [
        {
            "of": f"{kind} ({sum(of.values()):,})",
            "decided by": name,
            "share": of[name] / sum(of.values()),
            "at": at,
        }
        for kind, of in sorted(deciders.items(), key=lambda it: -sum(it[1].values()))
        for at, name in enumerate(order)
    ]
    kinds = list(dict.fromkeys(row["of"] for row in rows))
    colors = alt.Scale(domain=order, range=[of_known[name] for name in order])
    return (
        alt.Chart(_data(rows))
        .mark_bar()
        .encode(
            y=alt.Y("of:N", sort=kinds, title=None, axis=alt.Axis(labelLimit=200, domain=False, ticks=False)),
            x=alt.X(
                "share:Q",
                title="share of the documents",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format=".0%", tickCount=5),
            ),
            color=alt.Color(
                "decided by:N", scale=colors, title=None, legend=alt.Legend(orient="bottom", direction="horizontal")
            ),
            order="at:Q",
        )
        .properties(
            width=300,
            height=_LOWER,
            title=alt.TitleParams("Who decides", subtitle="By kind of document, with how many there are"),
        )
    )


def _reach(reach: Mapping[str, Float64Array]) -> alt.Chart:
    rows = [
        {"chosen": name, "distance": distance, "share": share}
        for name, values in reach.items()
        for share, distance in zip(_QUANTILES.tolist(), np.quantile(values, _QUANTILES).tolist(), strict=True)
    ]
    most = max(float(np.quantile(values, 0.995)) for values in reach.values())
    colors = alt.Scale(domain=list(reach), range=[KEPT, UNKNOWN])
    return (
        alt.Chart(_data(rows))
        .mark_line(strokeWidth=2.5, clip=True)
        .encode(
            x=alt.X(
                "distance:Q",
                title="distance to the nearest labelled one, by standardised features",
                scale=alt.Scale(domain=[0, most], nice=False),
            ),
            y=alt.Y("share:Q", title="share of the documents", axis=alt.Axis(format=".0%")),
            color=alt.Color(
                "chosen:N",
                scale=colors,
                title=None,
                sort=list(reach),
                legend=alt.Legend(orient="bottom", direction="horizontal"),
            ),
        )
        .properties(
            width=330,
            height=_LOWER,
            title=alt.TitleParams("What the labels cover", subtitle="Documents with a labelled one as near as that"),
        )
    )


def _data(rows: Sequence[Mapping[str, Any]]) -> alt.InlineData:
    return alt.InlineData(values=[dict(row) for row in rows])


def picture(chart: alt.TopLevelMixin) -> bytes:
    """A chart as PNG."""
    import vl_convert

    found: bytes = vl_convert.vegalite_to_png(chart.to_dict(validate=False), scale=1.5)
    return found
