"""MTGC: sites in regions, with corrections on two time scales (Fang et al., NeurIPS 2024, arXiv 2409.18448).

A site is corrected towards its region, z_i, within a global round; a region towards all, y_j, from round to round. With
either left out, or both (hierarchical FedAvg), these are the paper's ablations. Gradient descent only: there is no
theory for Adam inside. All sites of a region take part in a global round.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gneiss.model_training.federated.steps import Descent, Gradient, Weights, mean
from gneiss.model_training.federated.strategy import Answer, Task


@dataclass(frozen=True, eq=False)
class RegionsState:
    """What the server knows between global rounds: weights, and y_j of every region."""

    x: Weights
    corrections: Mapping[str, Weights]


@dataclass(frozen=True)
class Hierarchy:
    """MTGC and its ablations.

    region_rounds: E, rounds in a region for each global one; steps: H, of a site in each; rate: γ; corrects_sites,
    corrects_regions: whether z and y are used; largest_norm: of the corrected gradient, which is shortened to it.
    """

    region_rounds: int
    steps: int
    rate: float
    corrects_sites: bool = True
    corrects_regions: bool = True
    largest_norm: float = 10.0

    def begin(self, x: Weights, regions: Sequence[str]) -> RegionsState:
        """The state before the first global round."""
        return RegionsState(x, {region: np.zeros_like(x) for region in sorted(regions)})

    def task(self, state: RegionsState, region: str, asked: Collection[str]) -> Task:
        """What a region is sent in a round for which these regions are asked.

        Corrections are centred over those that are asked: one that was lost keeps its own for when it is back.
        """
        if not self.corrects_regions:
            return Task(state.x)
        centre = mean([state.corrections[other] for other in sorted(asked)])
        return Task(state.x, (state.corrections[region] - centre).astype(state.x.dtype))

    def answer(self, task: Task, sites: Mapping[str, Gradient]) -> Answer:
        """What a region answers: the inner rounds of its sites."""
        region = Region(task.x, {site: np.zeros_like(task.x) for site in sorted(sites)})
        for _ in range(self.region_rounds):
            region = self.region_round(region, task.correction, sites)
        return Answer(region.x - task.x)

    def region_round(self, region: Region, correction: Weights | None, sites: Mapping[str, Gradient]) -> Region:
        """One round in a region, of the sites that are there; a site that is lost takes its z with it.

        Raises KeyError for a site that the region did not begin with.
        """
        left = centred({site: region.corrections[site] for site in sorted(sites)})
        descent = Descent(self.steps, self.rate, largest_norm=self.largest_norm)
        ends = {}
        for site, own in left.items():
            before = own if correction is None else own + correction
            ends[site] = region.x + descent.run(region.x, sites[site], before)[0]
        x = mean(list(ends.values())).astype(region.x.dtype)
        if not self.corrects_sites:
            return Region(x, left)
        span = self.steps * self.rate
        return Region(x, {site: own + (ends[site] - x) / span for site, own in left.items()})

    def aggregate(self, state: RegionsState, answers: Mapping[str, Answer]) -> RegionsState:
        """The state after a global round, from the answers of at least one region."""
        step = mean([answers[region].difference for region in sorted(answers)])
        x = (state.x + step).astype(state.x.dtype)
        if not self.corrects_regions:
            return RegionsState(x, state.corrections)
        span = self.steps * self.region_rounds * self.rate
        corrections = {**state.corrections}
        for region, answer in answers.items():
            moved = (answer.difference - step) / span
            corrections[region] = (corrections[region] + moved).astype(state.x.dtype)
        return RegionsState(x, corrections)


@dataclass(frozen=True, eq=False)
class Region:
    """What a region knows within a global round: weights, and z_i of every site."""

    x: Weights
    corrections: Mapping[str, Weights]


def centred(corrections: Mapping[str, Weights]) -> dict[str, Weights]:
    """Corrections less their mean, so that they add up to nothing."""
    centre = mean(list(corrections.values()))
    return {site: (own - centre).astype(own.dtype) for site, own in corrections.items()}
