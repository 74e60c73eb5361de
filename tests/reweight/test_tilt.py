"""The closed form of the weights against a maximiser that knows only the objective, and what is proved of it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from gneiss.reweight.tilt import capped, tilt  # noqa: E402

Floats = npt.NDArray[np.float64]
scores_lists = st.lists(st.floats(0, 1), min_size=1, max_size=40)
temperatures = st.floats(0.05, 10)


def tensor(values: object) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def projected(point: Floats, upper: Floats, total: float) -> Floats:
    """The point of {1e-12 <= w <= upper, sum w = total} nearest to `point`, by bisection of its multiplier."""
    low, high = point.min() - total - 1, point.max() + total + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(point - middle, 1e-12, upper).sum() > total else (low, middle)
    return np.clip(point - low, 1e-12, upper)


def maximiser(scores: Floats, prior: Floats, r: float, cap: float = math.inf) -> Floats:
    """Mean-one weights that maximise sum w s - r sum w log(w / prior), by projected gradient ascent."""
    samples = len(scores)
    upper = np.full(samples, min(cap, samples))
    weights = projected(prior, upper, samples)
    for _ in range(800):
        gradient = scores - r * (np.log(weights / prior) + 1)
        weights = projected(weights + 0.5 * weights.min() / r * gradient, upper, samples)
    return weights


@pytest.mark.parametrize("r", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("has_prior", [False, True])
@pytest.mark.parametrize("cap", [math.inf, 1.1])
def test_the_closed_form_is_the_maximiser(r: float, has_prior: bool, cap: float) -> None:
    random = np.random.default_rng(7)
    scores = random.uniform(0, 1, 7)
    prior = random.uniform(0.5, 2, 7) if has_prior else np.ones(7)
    closed = tilt(tensor(scores), r, log_prior=tensor(np.log(prior)), cap=cap).numpy()
    assert closed == pytest.approx(maximiser(scores, prior, r, cap), rel=1e-4)
    assert cap == math.inf or closed.max() == pytest.approx(cap)


@given(scores_lists, temperatures)
def test_bounds_on_the_weights(scores: list[float], r: float) -> None:
    weights = tilt(tensor(scores), r)
    samples = len(scores)
    assert weights.mean().item() == pytest.approx(1)
    assert weights.max() <= weights.min() * math.exp(1 / r) * (1 + 1e-9)
    assert weights.max() / samples <= 1 / (1 + (samples - 1) * math.exp(-1 / r)) * (1 + 1e-9)
    by_score = weights[tensor(scores).argsort()]
    assert (by_score.diff() >= 0).all()


@given(st.integers(1, 300), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([1e-3, 0.4, 1.0, math.inf]))
def test_equal_scores_give_exactly_one(samples: int, score: float, r: float) -> None:
    ones = torch.ones(samples)
    assert torch.equal(tilt(score * ones, r), ones)
    tokens = torch.arange(1, samples + 1, dtype=torch.float32)
    assert torch.equal(tilt(score * ones, r, mass=tokens), ones)
    assert torch.equal(tilt(score * ones, r, cap=1.5), ones)
    assert torch.equal(tilt(score * ones, r, mass=tokens, groups=torch.arange(samples) % 3), ones)


def test_a_low_temperature_takes_the_largest_score() -> None:
    assert tilt(tensor([0.0, 0.9, 1.0, 0.2]), 1e-4).tolist() == pytest.approx([0, 0, 4, 0])


@given(scores_lists, temperatures, st.data())
def test_mass_counts_as_that_many_equal_samples(scores: list[float], r: float, data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(0, 4), min_size=len(scores), max_size=len(scores)))
    assume(any(copies))
    weights = tilt(tensor(scores), r, mass=tensor(copies))
    repeated = tilt(tensor(scores).repeat_interleave(torch.tensor(copies)), r)
    assert weights.repeat_interleave(torch.tensor(copies)).tolist() == pytest.approx(repeated.tolist())
    assert [w == 0 for w in weights.tolist()] == [n == 0 for n in copies]


@given(scores_lists, temperatures, st.data())
def test_every_group_keeps_its_mass(scores: list[float], r: float, data: st.DataObject) -> None:
    drawn = data.draw(
        st.lists(st.tuples(st.integers(-2, 3), st.floats(-3, 3)), min_size=len(scores), max_size=len(scores))
    )
    groups, log_prior = torch.tensor([g for g, _ in drawn]), tensor([p for _, p in drawn])
    weights = tilt(tensor(scores), r, log_prior=log_prior, groups=groups)
    prior = tilt(torch.zeros_like(log_prior), 1.0, log_prior=log_prior)
    assert prior.tolist() == pytest.approx((log_prior.exp() / log_prior.exp().mean()).tolist())
    for group in set(groups.tolist()):
        inside = groups == group
        assert weights[inside].sum().item() == pytest.approx(prior[inside].sum().item())
        alone = tilt(tensor(scores)[inside], r, log_prior=log_prior[inside])
        assert (weights[inside] / weights[inside].mean()).tolist() == pytest.approx(alone.tolist())


def capped_by_hand(weights: list[float], cap: float) -> list[float]:
    """Cap what is above, share the excess among the others in proportion, again until nothing is above."""
    weights = list(weights)
    at_cap: set[int] = set()
    while True:
        above = {i for i, weight in enumerate(weights) if weight > cap * (1 + 1e-12)}
        if not above:
            return weights
        at_cap |= above
        others = [i for i in range(len(weights)) if i not in at_cap]
        left = len(weights) - cap * len(at_cap)
        total = sum(weights[i] for i in others)
        weights = [cap if i in at_cap else weights[i] * left / total for i in range(len(weights))]


@given(scores_lists, temperatures, st.floats(1, 8))
def test_a_cap_shares_the_excess_in_proportion(scores: list[float], r: float, cap: float) -> None:
    free = tilt(tensor(scores), r)
    weights = tilt(tensor(scores), r, cap=cap)
    assert weights.mean().item() == pytest.approx(1)
    assert weights.max() <= cap * (1 + 1e-12)
    if cap > 1.01:
        assert weights.tolist() == pytest.approx(capped_by_hand(free.tolist(), cap), rel=1e-6)


@given(scores_lists, st.data())
def test_a_cap_holds_in_every_group(scores: list[float], data: st.DataObject) -> None:
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=len(scores), max_size=len(scores))))
    weights = tilt(tensor(scores), 0.2, groups=groups, cap=1.5)
    for group in set(groups.tolist()):
        inside = groups == group
        alone = tilt(tensor(scores)[inside], 0.2, cap=1.5)
        assert weights[inside].tolist() == pytest.approx(alone.tolist())


def test_a_prior_of_zero_is_a_weight_of_zero() -> None:
    log_prior = tensor([0.0, -math.inf, 0.0])
    assert tilt(tensor([0.5, 1.0, 0.5]), 1.0, log_prior=log_prior).tolist() == pytest.approx([1.5, 0, 1.5])
    nothing = tilt(tensor([0.5, 1.0]), 1.0, log_prior=tensor([-math.inf, -math.inf]))
    assert nothing.tolist() == [0, 0]
    groups = torch.tensor([0, 0, 1])
    assert tilt(tensor([0.5, 1.0, 1.0]), 1.0, log_prior=tensor([0.0, 0.0, -math.inf]), groups=groups)[2] == 0
    assert tilt(tensor([]), 1.0).tolist() == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 90.0, 103.0, 700.0, 744.0, 1e30, -1e30]), min_size=1, max_size=6),
    st.sampled_from([1 / 724, 0.01, 1.0, 1e6]),
    st.sampled_from([1.0, 1.1, 3.0, 1e9]),
    st.data(),
)
def test_capped_weights_are_finite_whatever_the_scores(
    dtype: torch.dtype, scores: list[float], r: float, cap: float, data: st.DataObject
) -> None:
    """Beside weights of zero and below the smallest normal number too."""
    draw = st.sampled_from([0.0, -1.0, -100.0, -744.0, -math.inf])
    log_prior = data.draw(st.lists(draw, min_size=len(scores), max_size=len(scores)))
    given_scores, prior = torch.tensor(scores, dtype=dtype), torch.tensor(log_prior, dtype=dtype)
    for groups in (None, torch.arange(len(scores)) % 2):
        weights = tilt(given_scores, r, log_prior=prior, groups=groups, cap=cap)
        assert torch.isfinite(weights).all()
        assert (weights >= 0).all()
        if groups is None:
            assert weights.max() <= cap * (1 + 1e-6)


def test_a_denormal_weight_beside_zero_is_raised_to_the_cap() -> None:
    weights = torch.tensor([[1e-310, 2.0, 0.0]], dtype=torch.float64)
    capped_weights = capped(weights, torch.ones_like(weights), torch.full((1, 1), 2 / 3, dtype=torch.float64), 1.0)
    assert capped_weights[0].tolist() == pytest.approx([2 / 3, 2 / 3, 0])
