"""Documents at sites that are unlike each other: the fixtures S1, S2 and S3, all synthetic.

A document is a bag of words, drawn from the words of its domain and label. S1: two labels, whose mix differs from site
to site. S2: ten domains to tell apart, sites in regions. S3: the same at sites of which some are slow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.model_training.federated.features import SparseRows
from gneiss.model_training.federated.linear import Examples, pooled

DOMAINS, SITES, DOCUMENTS = 10, 20, 150
VALIDATED, TESTED = 1000, 2000
REGIONS, SITES_OF_A_REGION = 4, 4
_FLIPPED = 0.05

#: Of S2: where the mix of domains differs.
Regime: TypeAlias = Literal["both", "sites", "regions"]


@dataclass(frozen=True, eq=False)
class Silos:
    """Documents of sites, and others that are drawn evenly: to choose settings by, and to test on."""

    vocabulary: int
    sites: Mapping[str, Examples]
    validated: Examples
    tested: Examples

    @property
    def pooled(self) -> Examples:
        """All sites in one place."""
        return pooled(list(self.sites.values()))


def s1(alpha: float, seed: int) -> Silos:
    """Labels of 20 sites, each with its own prior ~ Beta(α, α) and its own mix of domains."""
    draw = np.random.Generator(np.random.PCG64([101, seed]))
    words = _Words.drawn(draw, 2048, domains=1.0, shared=1.2, own=0.6)
    validated, tested = (words.even(draw, count, of_domains=False) for count in (VALIDATED, TESTED))
    sites = {}
    for name in _names(SITES):
        prior, mix = draw.beta(alpha, alpha), draw.dirichlet(np.full(DOMAINS, 0.5))
        domains, labels = draw.choice(DOMAINS, DOCUMENTS, p=mix), (draw.random(DOCUMENTS) < prior).astype(np.int64)
        sites[name] = words.documents(draw, domains, labels, of_domains=False)
    return Silos(2048, sites, validated, tested)


def s2(regime: Regime, seed: int) -> tuple[Silos, dict[str, tuple[str, ...]]]:
    """Domains of 4 x 4 sites, and the sites of each region; where a level is not in `regime`, its shares are equal."""
    draw = np.random.Generator(np.random.PCG64([101, seed]))
    words = _Words.drawn(draw, 512, domains=0.35, shared=0.6, own=0.6)
    validated, tested = (words.even(draw, count, of_domains=True) for count in (VALIDATED, TESTED))
    names = _names(REGIONS * SITES_OF_A_REGION)
    regions = {f"region{n}": tuple(names[n * SITES_OF_A_REGION :][:SITES_OF_A_REGION]) for n in range(REGIONS)}
    of_regions = _shares(draw, REGIONS, regime in ("both", "regions"))
    sites = {}
    for number, members in enumerate(regions.values()):
        of_sites = _shares(draw, SITES_OF_A_REGION, regime in ("both", "sites"))
        for place, name in enumerate(members):
            mix = of_regions[:, number] * of_sites[:, place]
            sites[name] = words.of_mix(draw, mix / mix.sum())
    return Silos(512, sites, validated, tested), regions


def s3(seed: int) -> Silos:
    """Domains of 20 sites, each with its own mix ~ Dirichlet(.1)."""
    draw = np.random.Generator(np.random.PCG64([101, seed]))
    words = _Words.drawn(draw, 1024, domains=1.0, shared=1.2, own=0.6)
    validated, tested = (words.even(draw, count, of_domains=True) for count in (VALIDATED, TESTED))
    sites = {name: words.of_mix(draw, draw.dirichlet(np.full(DOMAINS, 0.1))) for name in _names(SITES)}
    return Silos(1024, sites, validated, tested)


def seconds_of(site: str, draw: np.random.Generator) -> float:
    """How long a task takes at a site of S3: the first half are fast, the last fifth slow."""
    if is_slow(site):
        return float(draw.uniform(50, 80))
    return float(draw.uniform(1, 2) if _place(site) < 0.5 else draw.uniform(3, 5))


def is_slow(site: str) -> bool:
    """Whether it is of the last fifth."""
    return _place(site) >= 0.8


def _place(site: str) -> float:
    return int(site.removeprefix("site")) / SITES


@dataclass(frozen=True, eq=False)
class _Words:
    """Cumulative probabilities of words, float64 (domains, labels, words)."""

    cumulative: Float64Array

    @classmethod
    def drawn(cls, draw: np.random.Generator, count: int, *, domains: float, shared: float, own: float) -> _Words:
        """Words by rank, tilted by domain, and by label in the same way everywhere and in a domain's own."""
        of_domain = draw.normal(0, domains, (DOMAINS, count))
        of_label = np.zeros((DOMAINS, count))
        of_label[:, draw.choice(count, 300, replace=False)] = draw.normal(0, shared, 300)
        for domain in range(DOMAINS):
            of_label[domain, draw.choice(count, 100, replace=False)] += draw.normal(0, own, 100)
        base = -np.log(np.arange(count) + 10.0)
        logits = base + of_domain[:, None] + np.array([-0.5, 0.5])[:, None] * of_label[:, None]
        probabilities = np.exp(logits - logits.max(axis=2, keepdims=True))
        return cls(np.cumsum(probabilities / probabilities.sum(axis=2, keepdims=True), axis=2))

    def even(self, draw: np.random.Generator, count: int, *, of_domains: bool) -> Examples:
        """Documents of all domains and both labels alike."""
        return self.documents(draw, draw.integers(0, DOMAINS, count), draw.integers(0, 2, count), of_domains=of_domains)

    def of_mix(self, draw: np.random.Generator, mix: Float64Array) -> Examples:
        """Those of a site by its mix of domains, which are to be told apart."""
        domains = draw.choice(DOMAINS, DOCUMENTS, p=mix)
        return self.documents(draw, domains, draw.integers(0, 2, DOCUMENTS), of_domains=True)

    def documents(
        self, draw: np.random.Generator, domains: Int64Array, labels: Int64Array, *, of_domains: bool
    ) -> Examples:
        """Documents of these domains and labels, some of the labels flipped; features as shares of the length."""
        lengths = np.clip(np.round(draw.lognormal(4, 0.5, len(domains))), 10, 400).astype(np.int64)
        count = self.cumulative.shape[2]
        row = np.repeat(np.arange(len(domains)), lengths)
        at = draw.random(len(row))
        word = np.empty(len(row), np.int64)
        for domain in range(DOMAINS):
            for label in range(2):
                rows = (domains[row] == domain) & (labels[row] == label)
                word[rows] = np.searchsorted(self.cumulative[domain, label], at[rows])
        cells, counts = np.unique(row * count + np.minimum(word, count - 1), return_counts=True)
        starts = np.searchsorted(cells, np.arange(len(domains) + 1) * count)
        values = (counts / lengths[cells // count]).astype(np.float32)
        is_flipped = draw.random(len(labels)) < _FLIPPED
        said = domains if of_domains else np.where(is_flipped, 1 - labels, labels)
        return Examples(SparseRows(starts, (cells % count).astype(np.int32), values), said)


def _shares(draw: np.random.Generator, places: int, differ: bool) -> Float64Array:
    """How each domain is dealt to places, (domains, places)."""
    if differ:
        return draw.dirichlet(np.full(places, 0.1), DOMAINS)
    return np.full((DOMAINS, places), 1 / places)


def _names(count: int) -> list[str]:
    return [f"site{number:02}" for number in range(count)]
