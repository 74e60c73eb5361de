"""What a router must beat: one tier for all documents, a random mix, and a cascade of fixed thresholds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from gneiss.arrays import BoolArray, Float64Array
from gneiss.routing.fold import Tiers

#: At which quantiles of the margins' sizes a cascade may stop, beside at all and at none.
_STOPS = np.arange(1, 12) / 12


@dataclass(frozen=True)
class Static:
    """A choice made beforehand: the share of decisions that agree with the judge's, the mean cost.

    asked: the share of documents that the judge is asked about.
    """

    name: str
    agreement: float
    cost: float
    asked: float


def tiers_alone(tiers: Tiers) -> tuple[Static, ...]:
    """Each tier for all documents; the judge last."""
    agreements = [*tiers.agrees.mean(axis=0).tolist(), 1.0]
    return tuple(
        Static("judge", agreement, float(tiers.costs[k]), 1.0)
        if k == tiers.margins.shape[1]
        else Static(f"tier {k}", agreement, float(tiers.costs[k]), 0.0)
        for k, agreement in enumerate(agreements)
    )


def random_mix(tiers: Tiers, sla: float) -> Static:
    """Tier 0, and the judge for as many documents drawn at random as the share asked for needs."""
    agreement = float(tiers.agrees[:, 0].mean())
    share = max(0.0, (sla - agreement) / (1 - agreement)) if agreement < 1 else 0.0
    return Static("random mix", max(agreement, sla), float(tiers.costs[0] + share * tiers.costs[-1]), share)


@dataclass(frozen=True, eq=False)
class Cascade:
    """Tier after tier, stopping where a margin is large enough: stops, float64 (tiers,); the judge where none is."""

    stops: Float64Array

    def on(self, tiers: Tiers) -> Static:
        """What it does on documents."""
        agrees, cost, is_asked = _cascade(tiers, self.stops)
        return Static("cascade", float(agrees.mean()), float(cost.mean()), float(is_asked.mean()))


def calibrated_cascade(tiers: Tiers, sla: float) -> Cascade:
    """The cheapest cascade that agrees often enough on these documents, of those that stop at their quantiles."""
    sizes = np.abs(tiers.margins)
    choices = [[0.0, *np.quantile(sizes[:, k], _STOPS).tolist(), np.inf] for k in range(sizes.shape[1])]
    best, least = np.full(sizes.shape[1], np.inf), np.inf
    for stops in itertools.product(*choices):
        agrees, cost, _ = _cascade(tiers, np.array(stops))
        if agrees.mean() >= sla and cost.mean() < least:
            best, least = np.array(stops), float(cost.mean())
    return Cascade(best)


def _cascade(tiers: Tiers, stops: Float64Array) -> tuple[BoolArray, Float64Array, BoolArray]:
    """Whether each document's decision agrees, its cost, and whether the judge is asked."""
    is_enough = np.abs(tiers.margins) >= stops
    is_asked = np.asarray(~is_enough.any(axis=1))
    last = np.where(is_asked, len(stops) - 1, is_enough.argmax(axis=1))
    cost = np.cumsum(tiers.costs)[last] + np.where(is_asked, tiers.costs[-1], 0.0)
    return is_asked | tiers.agrees[np.arange(len(last)), last], cost, is_asked
