"""Who waits for a lost head, and what is whole once it is back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.coding.guard import back_filled, is_certain, is_in_guard_band

SCORES = st.lists(st.floats(-2, 3) | st.just(float("nan")) | st.just(0.5), max_size=40)


@given(SCORES, st.floats(0, 1), st.floats(-1, 2))
def test_the_guard_band_holds_the_nearest(scores: list[float], share: float, threshold: float) -> None:
    found = is_in_guard_band(np.array(scores, np.float64), threshold, share).tolist()
    there = [at for at, score in enumerate(scores) if score == score]
    by_distance = sorted(there, key=lambda at: abs(scores[at] - threshold))
    waiting = by_distance[: int(np.ceil(share * len(there) - 1e-9))]
    assert [at for at, waits in enumerate(found) if waits] == sorted(waiting)


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.booleans()), max_size=20))
def test_back_filled_scores_are_those_of_the_head(pairs: list[tuple[float, bool]]) -> None:
    truth = np.array([score for score, _ in pairs], np.float64)
    is_final = np.array([final for _, final in pairs], np.bool_)
    decoded = np.where(is_final, truth, -7.0)
    before = decoded.copy()
    assert (back_filled(decoded, is_final, truth[~is_final]) == truth).all()
    assert (decoded == before).all()


def test_documents_without_a_score_are_certain() -> None:
    assert is_certain(np.array([np.nan]), np.array([0.0])).tolist() == [True]
