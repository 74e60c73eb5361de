"""What a run did, to look at: its annotations as a DuckDB view, and pictures of its statistics."""

from gneiss.report.documents import open_documents
from gneiss.report.plots import (
    Threshold,
    displayed_bins,
    html_table,
    is_logarithmic,
    kept_shares,
    patterns_table,
    plot_histogram,
    plot_kept_share,
    plot_rules,
    shown_range,
    thresholds,
)

__all__ = [
    "Threshold",
    "displayed_bins",
    "html_table",
    "is_logarithmic",
    "kept_shares",
    "open_documents",
    "patterns_table",
    "plot_histogram",
    "plot_kept_share",
    "plot_rules",
    "shown_range",
    "thresholds",
]
