"""What a training across organisations came to, and the card of its model: sites by counts and sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gneiss.model_training.federated.asking import times_asked
from gneiss.model_training.federated.card_sections import head_lines, leaving_lines, sites_lines, use_lines
from gneiss.model_training.federated.checkpoint import Record
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.privacy import DELTA, Protection
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, of_rounds
from gneiss.model_training.source import markdown_table
from gneiss.version import __version__


@dataclass(frozen=True)
class Made:
    """A training, and the model that it wrote.

    reason: for its strategy; sites: their documents of the low and of the high label; held_out: how the model does on
    the documents held out at each; records: a line on every round.
    """

    federation: Federation
    reason: str
    sites: Mapping[str, tuple[int, int]]
    held_out: Mapping[str, Mapping[str, Any]]
    records: tuple[Record, ...]
    model_sha256: str

    @property
    def accuracy(self) -> float:
        """Over the documents held out at all sites; 0 where there are none."""
        documents, correct = (
            sum(int(one[name]) for one in self.held_out.values()) for name in ("documents", "correct")
        )
        return correct / max(1, documents)

    @property
    def bytes_moved(self) -> int:
        """Of all messages about rounds."""
        return sum(record["bytes_down"] + record["bytes_up"] for record in self.records)


def card(made: Made, model_file: str) -> str:
    """The card of the model, as Markdown that is also readable on a terminal."""
    federation = made.federation
    lost = sum(len(record["lost"]) for record in made.records)
    lines = [
        *head_lines(
            model_file.removesuffix(".bin"),
            federation,
            f"{__version__} across {len(federation.sites)} sites by NVIDIA FLARE",
            f"{federation.strategy}, {made.reason}",
        ),
        *sites_lines("site", federation, made.sites, made.held_out),
        f"Accuracy over all documents held out: {made.accuracy:.1%}. {len(made.records)} rounds moved"
        f" {made.bytes_moved / 1e6:,.1f} MB; {lost} times a site that was asked was lost.",
        "",
        "What training on all documents in one place would reach is not known, as nobody may read them all. Where",
        "somebody may, train there.",
        "",
        *leaving_lines("Each site has a list of what it sent."),
        *_protection_lines(made),
        *use_lines(model_file, federation, made.model_sha256),
        "",
    ]
    return "\n".join(lines)


def _protection_lines(made: Made) -> list[str]:
    """What is guaranteed of the vectors that left sites, as they say themselves."""
    federation = made.federation
    by_arrival = federation.strategy in ARRIVALS
    vectors = 1 if by_arrival else len(of_rounds(federation.strategy, federation.rates).answered)
    asked = times_asked(made.records)
    said = {site: meta for record in made.records for site, meta in record.get("protection", {}).items()}
    rows = []
    for site in sorted(said):
        protection, sent = Protection(**said[site]), vectors * asked[site]
        epsilons = (protection.epsilon(DELTA), protection.epsilon_of_all(DELTA, sent))
        rows.append((site, protection.clip_norm, protection.noise_std, sent, *(f"{one:.3g}" for one in epsilons)))
    if not rows:
        return []
    return [
        "Some sites shorten each vector to a norm, and add Gaussian noise. Whether their vectors or zeros were sent is",
        f"(ε, {DELTA:g})-differentially private; numbers of documents, and sums over those held out, have no noise.",
        "",
        *markdown_table(("site", "norm", "noise", "vectors sent, at most", "ε of one", "ε of all"), *rows),
        "",
    ]
