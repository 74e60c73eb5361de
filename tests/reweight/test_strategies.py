"""Scores: their values by the formulas of the paper, their range, and the names that are refused."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from gneiss.reweight.schedules import Anneal, temperature  # noqa: E402
from gneiss.reweight.strategies import STRATEGIES, strategy_of  # noqa: E402

FORMULAS = {
    "uniform": lambda h: 0.0,
    "linupper": lambda h: min(h + 1, 1),
    "linear": lambda h: (h + 1) / 2,
    "quadratic": lambda h: 1 - h * h,
    "extremes": abs,
}
H = [i / 64 - 1 for i in range(129)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_scores_are_the_papers(name: str) -> None:
    scores = strategy_of(name)(torch.tensor(H, dtype=torch.float64)).tolist()
    assert scores == [FORMULAS[name](h) for h in H]
    assert all(0 <= score <= 1 for score in scores)


def test_upper_is_refused_as_it_has_two_meanings() -> None:
    with pytest.raises(ValueError, match="'linupper' or 'linear'"):
        strategy_of("upper")
    with pytest.raises(ValueError, match="expected one of uniform, linupper"):
        strategy_of("focal")


def test_a_temperature_anneals_in_its_inverse() -> None:
    anneal = Anneal(start=math.inf, end=0.4, steps=100, since=50)
    assert [temperature(anneal, step) for step in (0, 50, 150, 10_000)] == [math.inf, math.inf, 0.4, 0.4]
    assert temperature(anneal, 100) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="above 0"):
        temperature(lambda step: 1.0 - step, 1)
