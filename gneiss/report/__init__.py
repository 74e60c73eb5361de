"""What a run did, to look at: tables that notebook, page and terminal share, over annotations as a DuckDB view.

Charts need the extra `report`; importing this package does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gneiss.report.agreement import Comparison, compare
from gneiss.report.by_value import breakdown
from gneiss.report.counting import Outcomes, outcomes
from gneiss.report.cuts import first_copies, passages
from gneiss.report.decisions import Amount, Decided, total
from gneiss.report.differing import Difference, diff
from gneiss.report.distributions import Threshold, distribution, labels, quantiles, thresholds
from gneiss.report.documents import open_documents
from gneiss.report.examples import near_thresholds
from gneiss.report.notebook import show
from gneiss.report.scores import correlations, drift, warnings
from gneiss.report.sweeping import Knob, Swept, curve, knobs, pick, sweep
from gneiss.report.tables import combinations, funnel, marginal, overview, rules

if TYPE_CHECKING:
    from gneiss.report.charts import (
        breakdown_chart,
        combinations_chart,
        correlations_chart,
        curve_chart,
        distribution_chart,
        drift_chart,
        effects_chart,
        funnel_chart,
        rules_chart,
    )

__all__ = [
    "Amount",
    "Comparison",
    "Decided",
    "Difference",
    "Knob",
    "Outcomes",
    "Swept",
    "Threshold",
    "breakdown",
    "breakdown_chart",
    "combinations",
    "combinations_chart",
    "compare",
    "correlations",
    "correlations_chart",
    "curve",
    "curve_chart",
    "diff",
    "distribution",
    "distribution_chart",
    "drift",
    "drift_chart",
    "effects_chart",
    "first_copies",
    "funnel",
    "funnel_chart",
    "knobs",
    "labels",
    "marginal",
    "near_thresholds",
    "open_documents",
    "outcomes",
    "overview",
    "passages",
    "pick",
    "quantiles",
    "rules",
    "rules_chart",
    "show",
    "sweep",
    "thresholds",
    "total",
    "warnings",
]


def __getattr__(name: str) -> Any:
    # altair takes a second to import, and is there with an extra only
    if not name.endswith("_chart") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from gneiss.report import charts
    except ModuleNotFoundError as missing:
        if missing.name != "altair":
            raise
        raise ImportError(f"{name} needs altair: pip install 'gneiss-curation[report]'") from missing
    return getattr(charts, name)
