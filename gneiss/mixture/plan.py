"""The plan of a mixture: how often each document of some runs is in it, made before anything is written.

A cell is the documents of a source that are treated alike: those of one bucket, and one factor. Two steps, in exact
fractions: sources share the budget, then the cells of a source share what it has, each step in proportion to weights
and up to what caps allow (what one cannot take goes to the others). What a cell has is then documents: all of them as
often as it goes into whole numbers, and those whose ids have the lowest hashes once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from itertools import groupby
from typing import Protocol

import numpy as np

from gneiss.errors import InputError, did_you_mean
from gneiss.quantiles import Bins

#: Repetitions of a document by default: up to four epochs are worth about as much as new data (Muennighoff et al. 2023,
#: arXiv 2305.16264).
MAX_REPETITION = 4
#: Weights are whole numbers of this part of a token, so that fractions of many categories stay short.
_GRID = 10**12
_DECIMALS = Context(prec=30, Emin=-300, Emax=300)


@dataclass(frozen=True)
class Cell:
    """Documents that are treated alike.

    factor: by which they count more than others; place: the part of their category's tokens that they are, by rising
    score, [low, high) within 0 and 1; None without a score.
    """

    source: str
    bucket: str
    documents: int
    tokens: int
    category: str = ""
    factor: Fraction = Fraction(1)
    place: tuple[Fraction, Fraction] | None = None


@dataclass(frozen=True)
class Curve:
    """Repetitions by quality: none of the lowest share `drop` of a category's tokens, rising to `best` for the highest.

    As in OLMo 3 (Ai2 2025), which dropped 40 % and repeated the best up to seven times. Above `drop` it is a power of
    the share of tokens, so steep that the budget is met: repetitions(x) = best * ((x - drop) / (1 - drop)) ** power.
    """

    drop: Fraction = Fraction(2, 5)
    best: Fraction = Fraction(7)

    def __post_init__(self) -> None:
        if not (0 <= self.drop < 1 and self.best > 0):
            raise InputError(
                f"curve: drop {float(self.drop):g}, best {float(self.best):g}: expected a share from 0 to below 1, and"
                " repetitions above 0"
            )

    def power_for(self, repetitions: Fraction) -> Fraction:
        """The power with which the mean over all tokens is `repetitions`; 0 where no power gives so many."""
        return max(self.best * (1 - self.drop) / repetitions - 1, Fraction(0))

    def mean(self, place: tuple[Fraction, Fraction], power: Fraction) -> Fraction:
        """The mean repetitions of a part of the tokens, [low, high).

        >>> Curve(Fraction(1, 2), Fraction(4)).mean((Fraction(1, 2), Fraction(1)), Fraction(1))
        Fraction(2, 1)
        """
        low, high = ((max(end, self.drop) - self.drop) / (1 - self.drop) for end in place)
        if low == high:
            return Fraction(0)
        area = (_power(high, power + 1) - _power(low, power + 1)) * self.best * (1 - self.drop) / (power + 1)
        return _rounded(area / (place[1] - place[0]))


@dataclass(frozen=True)
class Policy:
    """How a budget is shared.

    temperature: shares of categories of sources are those of their tokens to the power 1 / temperature, 1: natural;
    curve: of repetitions by quality, within each source; targets: source → its share of the budget, the others share
    the rest; max_repetition: of a document, a mean over those of a cell; max_share: of the budget, of each source.
    """

    temperature: Fraction = Fraction(1)
    curve: Curve | None = None
    targets: Mapping[str, Fraction] = field(default_factory=dict)
    max_repetition: Fraction = Fraction(MAX_REPETITION)
    max_share: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.temperature < 1 or self.max_repetition <= 0 or not 0 < self.max_share <= 1:
            raise InputError(
                f"temperature {float(self.temperature):g}, max_repetition {float(self.max_repetition):g}, max_share"
                f" {float(self.max_share):g}: expected 1 or more, a number above 0, and a share above 0"
            )
        if any(share < 0 for share in self.targets.values()) or sum(self.targets.values()) > 1:
            raise InputError("targets: expected shares of the budget from 0 on, at most 1 together")


@dataclass(frozen=True)
class Part:
    """What a mixture has of a cell.

    wanted: tokens by weights and targets alone, without caps; tokens, documents: with copies; whole: how often every
    document is in it; below: those whose hashes are smaller are in it once more.
    """

    cell: Cell
    wanted: int
    tokens: int
    documents: int
    whole: int
    below: int

    @property
    def repetitions(self) -> float:
        """How often a token is in the mixture, on average."""
        return self.tokens / self.cell.tokens if self.cell.tokens else 0.0


@dataclass(frozen=True)
class MixturePlan:
    """A mixture: the budget in tokens, the seed of hashes and of the order, and what there is of each cell."""

    budget: int
    seed: int
    parts: tuple[Part, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the mixture."""
        return sum(part.tokens for part in self.parts)

    @property
    def documents(self) -> int:
        """Documents of the mixture, copies included."""
        return sum(part.documents for part in self.parts)

    @property
    def shortfall(self) -> int:
        """Tokens of the budget that caps do not allow, or that round to no document."""
        return max(self.budget - self.tokens, 0)

    def of_sources(self) -> Iterator[tuple[str, tuple[Part, ...]]]:
        """The parts of each source."""
        for source, parts in groupby(self.parts, key=lambda part: part.cell.source):
            yield source, tuple(parts)


class Hashes(Protocol):
    """The tokens of a cell's documents by the hashes of their ids."""

    def __call__(self, cell: Cell) -> tuple[Bins, int]:
        """Tokens and documents by hash, and how many bits of a hash were dropped."""


def share_budget(cells: Sequence[Cell], budget: int, policy: Policy, hashes: Hashes, seed: int = 0) -> MixturePlan:
    """Share a budget of tokens among cells, which are given source by source.

    The tokens of the mixture differ from what caps allow by about half a document, as does each source with a target:
    what one source has too much or too little, the next one makes up for. Raises InputError for a budget of nothing,
    for targets of sources that there are not, and where no cell has tokens.
    """
    if budget < 1:
        raise InputError(f"budget {budget}: expected 1 token or more")
    sources = {source: list(own) for source, own in groupby(cells, key=lambda cell: cell.source)}
    for name in policy.targets:
        if name not in sources:
            raise InputError(f"targets: no source {name!r}{did_you_mean(name, sources)}")
    if not any(cell.tokens for cell in cells):
        raise InputError("the runs kept no tokens; there is nothing to mix")
    bounds = {source: sum((_bound(cell, policy) for cell in own), Fraction(0)) for source, own in sources.items()}
    shares = _of_sources(sources, Fraction(budget), policy, bounds)
    wanted = _of_sources(sources, Fraction(budget), policy, None)
    parts: list[Part] = []
    left_over = Fraction(0)
    for source, own in sources.items():
        kept_back, left_over = (left_over, Fraction(0)) if source in policy.targets else (Fraction(0), left_over)
        of_cells = _of_cells(own, shares[source], policy, is_capped=True)
        without = _of_cells(own, wanted[source], policy, is_capped=False)
        for cell, exact, asked in zip(own, of_cells, without, strict=True):
            part = _part(cell, exact, _within(left_over, cell, exact, policy), asked, hashes)
            if exact and part.tokens != exact:
                left_over += exact - part.tokens
            parts.append(part)
        left_over += kept_back
    return MixturePlan(budget, seed, tuple(parts))


def fill(amount: Fraction, weights: Sequence[Fraction], bounds: Sequence[Fraction | None]) -> list[Fraction]:
    """Share an amount in proportion to weights, at most its bound for each; less than the amount where bounds end it.

    >>> [int(share) for share in fill(Fraction(12), [Fraction(1)] * 3, [Fraction(2), None, None])]
    [2, 5, 5]
    """
    left, weight = amount, sum(weights, Fraction(0))
    ends = sorted(
        (bound / own, at)
        for at, (own, bound) in enumerate(zip(weights, bounds, strict=True))
        if own and bound is not None
    )
    full = 0
    for scale, at in ends:
        if scale * weight >= left:
            break
        full, left, weight = full + 1, left - scale * weights[at], weight - weights[at]
    found = [left * own / weight if weight else Fraction(0) for own in weights]
    for scale, at in ends[:full]:
        found[at] = scale * weights[at]
    return found


def _of_sources(
    sources: Mapping[str, Sequence[Cell]], budget: Fraction, policy: Policy, bounds: Mapping[str, Fraction] | None
) -> dict[str, Fraction]:
    """What each source has; bounds: what it can give, None: without end."""
    named = {source: share * budget for source, share in policy.targets.items()}
    rest = [source for source in sources if source not in named]
    weights = _tempered([cell for own in sources.values() for cell in own], policy.temperature)
    of_source = dict.fromkeys(sources, Fraction(0))
    for (source, _), own in weights.items():
        of_source[source] += own
    most = {source: min(bounds[source], policy.max_share * budget) if bounds else None for source in sources}
    left = budget - sum(named.values(), Fraction(0))
    filled = fill(left, [of_source[source] for source in rest], [most[source] for source in rest])
    found = dict(zip(rest, filled, strict=True))
    for source, own in named.items():
        bound = most[source]
        found[source] = own if bound is None else min(own, bound)
    return found


def _tempered(cells: Sequence[Cell], temperature: Fraction) -> dict[tuple[str, str], Fraction]:
    """(Source, category) → its weight."""
    tokens: dict[tuple[str, str], Fraction] = {}
    for cell in cells:
        key = cell.source, cell.category
        tokens[key] = tokens.get(key, Fraction(0)) + cell.tokens * cell.factor
    return {key: _power(own, 1 / temperature) for key, own in tokens.items()}


def _of_cells(cells: Sequence[Cell], amount: Fraction, policy: Policy, *, is_capped: bool) -> list[Fraction]:
    """What each cell of a source has of an amount."""
    natural: dict[tuple[str, str], Fraction] = {}
    for cell in cells:
        key = cell.source, cell.category
        natural[key] = natural.get(key, Fraction(0)) + cell.tokens * cell.factor
    of_category = _tempered(cells, policy.temperature)
    weights = []
    curve = policy.curve
    tokens = sum(cell.tokens for cell in cells)
    mean = amount / tokens if tokens else Fraction(0)
    for cell in cells:
        key = cell.source, cell.category
        own = cell.tokens * cell.factor
        if curve is not None and mean:
            own *= mean if cell.place is None else curve.mean(cell.place, curve.power_for(mean))
        weights.append(_rounded(own * of_category[key] / natural[key]) if natural[key] else Fraction(0))
    if not tokens:  # a target for a source that kept nothing: all of it is missing
        weights = [Fraction(1)] * len(cells)
    return fill(amount, weights, [_bound(cell, policy) if is_capped else None for cell in cells])


def _bound(cell: Cell, policy: Policy) -> Fraction:
    """The most tokens that a mixture may have of a cell."""
    if not cell.factor:
        return Fraction(0)
    bound = policy.max_repetition * cell.tokens
    if policy.curve is not None and cell.place is not None:
        bound = min(bound, policy.curve.mean(cell.place, Fraction(0)) * cell.tokens * cell.factor)
    return bound


def _within(left_over: Fraction, cell: Cell, exact: Fraction, policy: Policy) -> Fraction:
    """What is left over, as far as a cell may have more than it has."""
    return min(left_over, _bound(cell, policy) - exact)


def _part(cell: Cell, exact: Fraction, left_over: Fraction, asked: Fraction, hashes: Hashes) -> Part:
    """The documents that are nearest to a number of tokens, and to what earlier cells left over."""
    if not cell.tokens:
        return Part(cell, round(asked), 0, 0, 0, 0)
    whole = int(exact // cell.tokens)
    more = exact - whole * cell.tokens
    if not more:  # all of it, or nothing: what is left over is for other cells
        return Part(cell, round(asked), whole * cell.tokens, whole * cell.documents, whole, 0)
    bins, shift = hashes(cell)
    before = np.concatenate([[0], np.cumsum(bins.amounts[:, 0])])
    wanted = float(min(max(more + left_over, Fraction(0)), Fraction(cell.tokens)))
    count = int(np.argmin(np.abs(before - wanted)))
    if count == len(bins.keys):
        return Part(cell, round(asked), (whole + 1) * cell.tokens, (whole + 1) * cell.documents, whole + 1, 0)
    tokens = whole * cell.tokens + int(before[count])
    documents = whole * cell.documents + int(bins.amounts[:count, 1].sum())
    return Part(cell, round(asked), tokens, documents, whole, int(bins.keys[count]) << shift)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    """A power, to 30 digits where it is no fraction, the same on every machine."""
    if exponent == 1 or not base:
        return base
    if exponent.denominator == 1 and exponent <= 64:
        return base ** int(exponent)
    decimal = _DECIMALS.divide(Decimal(base.numerator), Decimal(base.denominator))
    power = _DECIMALS.divide(Decimal(exponent.numerator), Decimal(exponent.denominator))
    return Fraction(_DECIMALS.power(decimal, power))


def _rounded(weight: Fraction) -> Fraction:
    return Fraction(round(weight * _GRID), _GRID)
