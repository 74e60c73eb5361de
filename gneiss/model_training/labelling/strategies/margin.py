"""Margin: the documents about which a model is least sure."""

from __future__ import annotations

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array


def nearest_to_half(
    scores: Float64Array, is_labelled: BoolArray, count: int, clusters: Int64Array | None = None
) -> Int64Array:
    """Rows of at most `count` documents without a label whose score is nearest to ½, of several the first.

    Parameters: `scores`: (documents,), probabilities, NaN for none; `clusters`: (documents,), of near-duplicates, -1
    for none: at most one document of each, and none of a cluster that has a label.

    >>> nearest_to_half(np.array([0.9, 0.4, 0.55, 0.5]), np.array([False, False, False, True]), 2)
    array([2, 1])
    """
    order = np.argsort(np.abs(scores - 0.5), kind="stable")
    order = order[~is_labelled[order] & ~np.isnan(scores[order])]
    if clusters is not None:
        own = clusters[order]
        first = np.zeros(len(order), np.bool_)
        first[np.unique(own, return_index=True)[1]] = True
        order = order[(own < 0) | (first & ~np.isin(own, clusters[is_labelled]))]
    return order[:count]
