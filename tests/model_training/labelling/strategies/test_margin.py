"""Margin against a plain oracle."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.labelling.strategies.margin import nearest_to_half

SCORES = st.one_of(st.floats(0, 1), st.sampled_from([0.25, 0.5, 0.75, float("nan")]))


@given(st.lists(st.tuples(SCORES, st.booleans(), st.integers(-1, 4)), max_size=30), st.integers(0, 12), st.booleans())
def test_the_nearest_to_half_one_of_a_cluster(
    rows: list[tuple[float, bool, int]], count: int, has_clusters: bool
) -> None:
    expected: list[int] = []
    known = {cluster for _, is_labelled, cluster in rows if is_labelled}
    for row in sorted(
        range(len(rows)), key=lambda row: (abs(rows[row][0] - 0.5), row) if rows[row][0] >= 0 else (2, row)
    ):
        score, is_labelled, cluster = rows[row]
        if is_labelled or not score >= 0 or (has_clusters and cluster >= 0 and cluster in known):
            continue
        expected.append(row)
        known.add(cluster)
    scores = np.array([score for score, _, _ in rows], np.float64)
    is_labelled = np.array([labelled for _, labelled, _ in rows], np.bool_)
    clusters = np.array([cluster for _, _, cluster in rows], np.int64) if has_clusters else None
    assert nearest_to_half(scores, is_labelled, count, clusters).tolist() == expected[:count]
