"""What a run did, to look at: tables that notebook, page and terminal share, over annotations as a DuckDB view."""

from gneiss.report.agreement import Comparison, compare
from gneiss.report.by_value import breakdown
from gneiss.report.counting import Outcomes, outcomes
from gneiss.report.cuts import first_copies, passages
from gneiss.report.decisions import Amount, Decided, total
from gneiss.report.differing import Difference, diff
from gneiss.report.distributions import Threshold, distribution, labels, quantiles, thresholds
from gneiss.report.documents import open_documents
from gneiss.report.plots import (
    html_table,
    kept_shares,
    patterns_table,
    plot_histogram,
    plot_kept_share,
    plot_rules,
)
from gneiss.report.scores import correlations, drift, warnings
from gneiss.report.sweeping import Knob, Swept, knobs, pick, sweep
from gneiss.report.tables import combinations, funnel, marginal, overview, rules

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
    "combinations",
    "compare",
    "correlations",
    "diff",
    "distribution",
    "drift",
    "first_copies",
    "funnel",
    "html_table",
    "kept_shares",
    "knobs",
    "labels",
    "marginal",
    "open_documents",
    "outcomes",
    "overview",
    "passages",
    "patterns_table",
    "pick",
    "plot_histogram",
    "plot_kept_share",
    "plot_rules",
    "quantiles",
    "rules",
    "sweep",
    "thresholds",
    "total",
    "warnings",
]
