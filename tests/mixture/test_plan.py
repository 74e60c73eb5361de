"""Plans: shares against a search for the level, curves against sums, caps, targets, rounding to documents."""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.mixture.plan import Cell, Curve, MixturePlan, Policy, fill, share_budget
from gneiss.quantiles import Bins, counted


class Corpus:
    """Cells of documents of random lengths, with the hashes of their ids."""

    def __init__(self, documents: Mapping[tuple[str, str], int], seed: int = 0, longest: int = 400) -> None:
        draw = np.random.default_rng(seed)
        self.bins: dict[Cell, Bins] = {}
        for number, ((source, bucket), count) in enumerate(documents.items()):
            tokens = draw.integers(1, longest, count)
            amounts = np.stack([tokens, np.ones(count, np.int64)], axis=1)
            quantile = int(bucket[1:]) if bucket.startswith("q") else None
            place = None if quantile is None else (Fraction(quantile - 1, 4), Fraction(quantile, 4))
            cell = Cell(source, bucket, count, int(tokens.sum()), place=place)
            self.bins[cell] = counted(draw.integers(0, 1 << 63, count).astype(np.uint64) + np.uint64(number), amounts)

    @property
    def cells(self) -> list[Cell]:
        """In the order of sources."""
        return list(self.bins)

    def __call__(self, cell: Cell) -> tuple[Bins, int]:
        """The documents of a cell by hash."""
        return self.bins[cell], 0

    def plan(self, budget: int, policy: Policy = Policy()) -> MixturePlan:  # noqa: B008
        return share_budget(self.cells, budget, policy, self)


FOUR = {("web", f"q{number}"): 2500 for number in range(1, 5)}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 50))), max_size=8), st.integers(1, 300)
)
def test_fill_against_a_search_for_the_level(given_: list[tuple[int, int | None]], amount: int) -> None:
    weights = [Fraction(weight) for weight, _ in given_]
    bounds = [None if bound is None else Fraction(bound) for _, bound in given_]
    found = fill(Fraction(amount), weights, bounds)

    def at_level(level: float) -> list[float]:
        return [
            min(level * float(weight), float("inf") if bound is None else float(bound))
            for weight, bound in zip(weights, bounds, strict=True)
        ]

    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(at_level(middle)) >= amount else (middle, high)
    assert [float(share) for share in found] == pytest.approx(at_level(high), abs=1e-6)
    assert sum(found) <= amount


@given(st.fractions(0, Fraction(9, 10), max_denominator=50), st.integers(1, 12), st.integers(1, 40))
def test_a_curve_against_a_sum_over_small_steps(drop: Fraction, best: int, power: int) -> None:
    curve = Curve(drop, Fraction(best))
    exponent = Fraction(power, 7)
    x = (np.arange(8_000) + 0.5) / 8_000
    repetitions = np.where(x >= drop, best * (np.maximum(x - float(drop), 0) / (1 - float(drop))) ** float(exponent), 0)
    for quarter in range(4):
        place = Fraction(quarter, 4), Fraction(quarter + 1, 4)
        expected = repetitions[quarter * 2_000 : (quarter + 1) * 2_000].mean()
        assert float(curve.mean(place, exponent)) == pytest.approx(expected, abs=0.02)


def test_a_curve_meets_the_budget_drops_the_worst_and_repeats_the_best() -> None:
    corpus = Corpus(FOUR)
    available = sum(cell.tokens for cell in corpus.cells)
    policy = Policy(curve=Curve(Fraction(2, 5), Fraction(7)), max_repetition=Fraction(7))
    for ratio in (0.3, 1.0, 2.5, 4.1):
        plan = corpus.plan(int(available * ratio), policy)
        assert plan.tokens == pytest.approx(plan.budget, rel=0.001)
        first, second, third, fourth = (part.repetitions for part in plan.parts)
        assert first == 0
        assert second <= third <= fourth <= 7
    saturated = corpus.plan(available * 9, policy)
    assert [part.repetitions for part in saturated.parts] == pytest.approx([0, 7 * 0.4, 7, 7], abs=0.02)
    assert saturated.shortfall == saturated.budget - saturated.tokens > 0


def test_a_small_budget_takes_the_best_and_large_powers_do_no_harm() -> None:
    corpus = Corpus(FOUR)
    plan = corpus.plan(500, Policy(curve=Curve()))
    assert [part.tokens > 0 for part in plan.parts] == [False, False, False, True]
    assert abs(plan.tokens - 500) <= 200


POLICIES = st.builds(
    Policy,
    temperature=st.sampled_from([Fraction(1), Fraction(3, 2), Fraction(5)]),
    curve=st.one_of(st.none(), st.builds(Curve, st.sampled_from([Fraction(0), Fraction(2, 5)]), st.just(Fraction(7)))),
    targets=st.sampled_from(
        [{}, {"a": Fraction(1, 2)}, {"a": Fraction(1, 5), "b": Fraction(4, 5)}, {"b": Fraction(0)}]
    ),
    max_repetition=st.sampled_from([Fraction(1), Fraction(5, 2), Fraction(8)]),
    max_share=st.sampled_from([Fraction(1), Fraction(2, 5)]),
)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["q1", "q2", "q4", "unscored"])), st.integers(1, 90)
    ),
    POLICIES,
    st.integers(1, 200_000),
    st.integers(0, 3),
)
def test_what_holds_of_every_plan(
    documents: dict[tuple[str, str], int], policy: Policy, budget: int, seed: int
) -> None:
    documents |= {("a", "q1"): 3, ("b", "q1"): 5}
    corpus = Corpus(dict(sorted(documents.items())), seed)
    plan = corpus.plan(budget, policy)
    room = 400 * 2  # a document for each source
    assert plan.tokens <= budget + room
    for source, parts in plan.of_sources():
        tokens = sum(part.tokens for part in parts)
        assert tokens <= policy.max_share * budget + room
        if source in policy.targets:
            assert tokens <= policy.targets[source] * budget + room
    for part in plan.parts:
        assert part.tokens <= policy.max_repetition * part.cell.tokens + 400
        bins, _ = corpus(part.cell)
        chosen = bins.keys < np.uint64(part.below)
        amounts = part.whole * bins.amounts.sum(axis=0) + bins.amounts[chosen].sum(axis=0)
        assert amounts.tolist() == [part.tokens, part.documents]
    if plan.shortfall > room and not policy.targets and policy.curve is None:  # then all have what caps allow
        for source, parts in plan.of_sources():
            full = min(policy.max_share * budget, sum(policy.max_repetition * part.cell.tokens for part in parts))
            assert sum(part.tokens for part in parts) >= full - room, source
    assert corpus.plan(budget, policy) == plan


def test_a_target_is_met_and_the_others_share_the_rest() -> None:
    corpus = Corpus({("web", "all"): 5000, ("code", "all"): 1000, ("books", "all"): 2000})
    plan = corpus.plan(600_000, Policy(targets={"code": Fraction(3, 10)}))
    shares = {source: sum(part.tokens for part in parts) / plan.tokens for source, parts in plan.of_sources()}
    assert shares == pytest.approx({"web": 0.5, "code": 0.3, "books": 0.2}, abs=0.01)
    assert plan.tokens == pytest.approx(600_000, rel=0.001)


def test_temperature_flattens() -> None:
    corpus = Corpus({("web", "all"): 6400, ("code", "all"): 100}, longest=2)  # a token each
    for temperature, share in ((1, 64 / 65), (2, 8 / 9), (1000, 0.5)):
        plan = corpus.plan(60, Policy(temperature=Fraction(temperature)))
        assert plan.parts[0].tokens / plan.tokens == pytest.approx(share, abs=0.03)


def test_what_caps_do_not_allow_is_said_by_bucket() -> None:
    corpus = Corpus({("web", "all"): 1000, ("code", "all"): 100})
    _, code = corpus.cells
    budget = 20 * code.tokens
    plan = corpus.plan(budget, Policy(targets={"code": Fraction(1, 2)}, max_repetition=Fraction(4)))
    assert plan.parts[1].tokens == 4 * code.tokens
    assert plan.parts[1].wanted == 10 * code.tokens
    assert plan.shortfall == budget - plan.tokens >= 6 * code.tokens - 400
    assert plan.parts[0].wanted - plan.parts[0].tokens <= 400


def test_a_budget_of_the_whole_takes_each_document_once() -> None:
    corpus = Corpus(FOUR)
    whole = sum(cell.tokens for cell in corpus.cells)
    assert {(part.whole, part.below) for part in corpus.plan(whole).parts} == {(1, 0)}
    assert {(part.whole, part.below) for part in corpus.plan(3 * whole).parts} == {(3, 0)}


def test_factors_count_and_a_source_can_be_empty() -> None:
    corpus = Corpus({("web", "light"): 2000, ("web", "heavy"): 2000})
    light, heavy = corpus.cells
    bins = {
        light: corpus.bins[light],
        (three := Cell("web", "heavy", heavy.documents, heavy.tokens, factor=Fraction(3))): corpus.bins[heavy],
    }
    plan = share_budget([light, three, Cell("none", "all", 0, 0)], light.tokens, Policy(), lambda cell: (bins[cell], 0))
    assert plan.parts[1].repetitions / plan.parts[0].repetitions == pytest.approx(3, rel=0.02)
    assert plan.parts[2].tokens == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Corpus(FOUR).plan(0), "budget 0: expected 1 token or more"),
        (lambda: Corpus(FOUR).plan(9, Policy(targets={"wbe": Fraction(1)})), "no source 'wbe'; did you mean 'web'"),
        (lambda: share_budget([Cell("a", "all", 0, 0)], 9, Policy(), Corpus({})), "kept no tokens"),
        (lambda: Policy(targets={"a": Fraction(2, 3), "b": Fraction(1, 2)}), "at most 1 together"),
        (lambda: Policy(max_repetition=Fraction(0)), "max_repetition 0"),
        (lambda: Policy(temperature=Fraction(1, 2)), "temperature 0.5"),
        (lambda: Curve(Fraction(1)), "drop 1, best 7"),
    ],
)
def test_what_cannot_be_planned_is_refused(make: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[operator]


def test_thousands_of_cells_are_planned_quickly() -> None:
    corpus = Corpus({(f"s{at // 100:02d}", f"q{1 + at % 4}" if at % 5 else f"b{at}"): 2 for at in range(4000)})
    began = time.process_time()
    plan = corpus.plan(100_000, Policy(curve=Curve(), temperature=Fraction(3)))
    assert time.process_time() - began < 20
    assert plan.tokens == pytest.approx(100_000, rel=0.2)
