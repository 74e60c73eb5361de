"""What a simulation came to, and the card of its model: sites by counts and sums, and what central training reaches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gneiss.model_training.federated.card_sections import head_lines, leaving_lines, sites_lines, use_lines
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.privacy import DELTA, Protection
from gneiss.model_training.federated.strategies.by_name import REGIONAL
from gneiss.model_training.source import markdown_table
from gneiss.version import __version__


@dataclass(frozen=True)
class Outcome:
    """What a strategy came to.

    accuracy: on the documents held out at sites, by their labels; rounds: of the server, or updates by arrival;
    rounds_to_target: until it was nearly as accurate as central training, by the last figures of every site, None for
    never; vectors_to_target: that moved until then, either way, as long as the model; bytes_moved: of all messages.
    """

    strategy: str
    by_arrival: bool
    accuracy: float
    rounds: int
    rounds_to_target: int | None
    vectors_to_target: float | None
    bytes_moved: int


@dataclass(frozen=True)
class Simulation:
    """A simulation, and the model that it wrote.

    strategy: of the model, and the reason for it; sites: their documents of the low and of the high label; regions: the
    sites of each, if there are any; held_out: how the model does on the documents held out at each site, or in each
    region where the strategy is of regions; central: the accuracy of central training; behind: by how much less
    accurate a strategy is that is taken to have arrived; outcomes: of all strategies that were tried; protection: of
    each vector that sites answered; vectors: the most that any of them answered for the model.
    """

    strategy: str
    reason: str
    sites: Mapping[str, tuple[int, int]]
    regions: Mapping[str, tuple[str, ...]]
    held_out: Mapping[str, Mapping[str, Any]]
    central: float
    behind: float
    outcomes: tuple[Outcome, ...]
    federation: Federation
    min_documents: int
    protection: Protection | None
    vectors: int
    model_sha256: str

    @property
    def asked(self) -> Mapping[str, tuple[int, int]]:
        """Documents of the low and of the high label at whom the coordinator asks: sites, or regions."""
        if self.strategy not in REGIONAL:
            return self.sites
        return {
            region: (sum(self.sites[site][0] for site in own), sum(self.sites[site][1] for site in own))
            for region, own in self.regions.items()
        }

    @property
    def outcome(self) -> Outcome:
        """That of the model."""
        return next(one for one in self.outcomes if one.strategy == self.strategy)


def simulation_card(made: Simulation, model_file: str) -> str:
    """The card of the model, as Markdown that is also readable on a terminal."""
    federation = made.federation
    behind = 100 * (made.central - made.outcome.accuracy)
    trimmed = ", its mean without the largest and the smallest answer in each weight" if federation.is_trimmed else ""
    where = f" in {len(made.regions)} regions" if made.regions else ""
    lines = [
        *head_lines(
            model_file.removesuffix(".bin"),
            federation,
            f"{__version__} across {len(made.sites)} sites{where}, simulated on one machine",
            f"{made.strategy}, {made.reason}{trimmed}",
        ),
        *sites_lines("region" if made.strategy in REGIONAL else "site", federation, made.asked, made.held_out),
        "Which texts are held out is decided by a hash of the text, the same share of each label at each site.",
        "",
        "## Compared with one place",
        "",
        *markdown_table(*outcome_rows(made)),
        "",
        f"Central training is AMSGrad on all documents at once; the model is {behind:.1f} points behind it. Where one",
        f"machine may read all documents, train there. The target is {100 * made.behind:g} points below central",
        f"training; vectors are as long as the model has features, {federation.shape[0]:,}.",
        *_inner_lines(made),
        "",
        *leaving_lines(f"A feature of fewer than {made.min_documents} documents of a site has no gradient there."),
        *_protection_lines(made),
        *use_lines(model_file, federation, made.model_sha256),
        "- in rounds, the same labels and settings give the same file; by arrival, the log of its rounds does",
        "",
    ]
    return "\n".join(lines)


def _inner_lines(made: Simulation) -> list[str]:
    if made.strategy not in REGIONAL:
        return []
    inner = made.federation.rates.region_rounds
    return [
        f"In each round a region does {inner} of its own; what moves within it is not counted. Central training has",
        f"{inner} times as many steps for that; strategies of single sites have not.",
    ]


def _protection_lines(made: Simulation) -> list[str]:
    """What is guaranteed of the vectors that leave a site."""
    protection = made.protection
    if protection is None:
        return []
    lines = [f"Each vector of an answer is shortened to a norm of {protection.clip_norm:g}."]
    if protection.noise_std:
        one, every = protection.epsilon(DELTA), protection.epsilon_of_all(DELTA, made.vectors)
        lines += [
            f"Each of its weights then gets Gaussian noise of deviation {protection.noise_std:g}. So whether a site's",
            f"vectors or zeros were sent is ({one:.3g}, {DELTA:g})-differentially private of one vector, and",
            f"({every:.3g}, {DELTA:g})-differentially private of the {made.vectors:,} that a site answered at most.",
            "Numbers of documents, and sums over those held out, have no noise. In this simulation noise is of a seed.",
        ]
    return [*lines, ""]


def outcome_rows(made: Simulation) -> list[tuple[object, ...]]:
    """A table of strategies, central training first."""
    return [
        ("strategy", "accuracy", "rounds", "to target", "vectors to target", "MB moved"),
        ("central training", f"{made.central:.1%}", "", "", "", ""),
        *(
            (
                f"{one.strategy}{' (updates)' if one.by_arrival else ''}",
                f"{one.accuracy:.1%}",
                one.rounds,
                "never" if one.rounds_to_target is None else one.rounds_to_target,
                "" if one.vectors_to_target is None else f"{one.vectors_to_target:,.0f}",
                f"{one.bytes_moved / 1e6:,.1f}",
            )
            for one in made.outcomes
        ),
    ]
