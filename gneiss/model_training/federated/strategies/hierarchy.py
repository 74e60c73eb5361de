"""MTGC: sites in regions, with corrections on two time scales (Fang et al., NeurIPS 2024, arXiv 2409.18448).

A site is corrected towards its region, z_i, within a global round; a region towards all, y_j, from round to round. With
either left out, or both (hierarchical FedAvg), these are the paper's ablations. Gradient descent only: there is no
theory for Adam inside. All sites of a region take part in a global round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gneiss.model_training.federated.strategies.steps import Descent, Gradient, Weights, mean
from gneiss.model_training.federated.strategies.strategy import Answer, ServerState, Strategy, Task


@dataclass(frozen=True, eq=False)
class Region:
    """What a region knows within a global round: weights, and z_i of every site."""

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

    #: Names of the vectors that a region answers.
    answered = ("difference",)

    @property
    def site(self) -> Strategy:
        """How a site of a region steps."""
        local = Descent(self.steps, self.rate, largest_norm=self.largest_norm)
        return Strategy(local, "gradient" if self.corrects_sites or self.corrects_regions else None, is_tracked=False)

    def begin(self, x: Weights, regions: Sequence[str]) -> ServerState:
        """The state before the first global round."""
        if not self.corrects_regions:
            return ServerState(x)
        return ServerState(x, {region: np.zeros_like(x) for region in sorted(regions)})

    def tasks(self, state: ServerState, asked: Sequence[str]) -> dict[str, Task]:
        """What each of the regions that are asked is sent.

        Corrections are centred over those that are asked: one that was lost keeps its own for when it is back.
        """
        if not self.corrects_regions:
            return dict.fromkeys(asked, Task(state.x))
        corrections = centred({region: state.tracked[region] for region in asked})
        return {region: Task(state.x, corrections[region]) for region in asked}

    def answer(self, task: Task, sites: Mapping[str, Gradient]) -> Answer:
        """What a region answers: the inner rounds of its sites."""
        region = self.begin_region(task.x, tuple(sites))
        for _ in range(self.region_rounds):
            region = self.region_round(region, task.correction, sites)
        return Answer(region.x - task.x)

    def region_round(self, region: Region, correction: Weights | None, sites: Mapping[str, Gradient]) -> Region:
        """One round in a region, of the sites that are there; a site that is lost takes its z with it.

        Raises KeyError for a site that the region did not begin with.
        """
        tasks = self.site_tasks(region, correction, tuple(sites))
        return self.next_region(region, {site: self.site.answer(tasks[site], sites[site]) for site in tasks})

    def begin_region(self, x: Weights, sites: Sequence[str]) -> Region:
        """A region before its first round."""
        return Region(x, {site: np.zeros_like(x) for site in sorted(sites)})

    def site_tasks(self, region: Region, correction: Weights | None, sites: Sequence[str]) -> dict[str, Task]:
        """What the sites of a region are sent, with y_j of the region if it has one."""
        if not self.corrects_sites:
            return dict.fromkeys(sorted(sites), Task(region.x, correction))
        own = centred({site: region.corrections[site] for site in sites})
        return {site: Task(region.x, z if correction is None else z + correction) for site, z in own.items()}

    def next_region(self, region: Region, answers: Mapping[str, Answer]) -> Region:
        """The region after a round, with the sites that answered, one at least."""
        step = mean([answers[site].difference for site in sorted(answers)])
        x = (region.x + step).astype(region.x.dtype)
        left = centred({site: region.corrections[site] for site in answers})
        if not self.corrects_sites:
            return Region(x, left)
        span = self.steps * self.rate
        moved = {site: (answers[site].difference - step) / span for site in left}
        return Region(x, {site: (z + moved[site]).astype(x.dtype) for site, z in left.items()})

    def aggregate(self, state: ServerState, answers: Mapping[str, Answer]) -> ServerState:
        """The state after a global round, from the answers of at least one region; in whatever order they came."""
        step = mean([answers[region].difference for region in sorted(answers)])
        x = (state.x + step).astype(state.x.dtype)
        if not self.corrects_regions:
            return ServerState(x)
        span = self.steps * self.region_rounds * self.rate
        corrections = {**state.tracked}
        for region, answer in answers.items():
            moved = (answer.difference - step) / span
            corrections[region] = (corrections[region] + moved).astype(x.dtype)
        return ServerState(x, corrections)


def centred(corrections: Mapping[str, Weights]) -> dict[str, Weights]:
    """Corrections less their mean, so that they add up to nothing; by name."""
    ordered = sorted(corrections)
    centre = mean([corrections[name] for name in ordered])
    return {name: (corrections[name] - centre).astype(corrections[name].dtype) for name in ordered}
