"""Tables and charts in a notebook, which need no network, and in which documents stay text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from gneiss.report.markup import table

if TYPE_CHECKING:
    import altair as alt

#: By which a notebook knows a chart that it can draw itself, with tooltips.
VEGA_LITE = "application/vnd.vegalite.v6.json"
_WIDTH = 640


def show(*parts: pa.Table | alt.TopLevelMixin) -> None:
    """Display tables and charts in the output of a notebook's cell, one below the other.

    A notebook that cannot draw Vega-Lite shows a picture. Charts need the extra `notebook`.

    >>> report.show(report.overview(outcomes), report.funnel_chart(report.funnel(outcomes)))  # doctest: +SKIP
    """
    from IPython.display import display

    for part in parts:
        display({"text/html": table(part)} if isinstance(part, pa.Table) else _drawn(part), raw=True)


def _drawn(chart: alt.TopLevelMixin) -> dict[str, Any]:
    import vl_convert

    spec = chart.to_dict(validate=False)
    if spec.get("width") == "container":
        spec["width"] = _WIDTH
    return {VEGA_LITE: spec, "image/svg+xml": vl_convert.vegalite_to_svg({**spec, "background": "white"})}
