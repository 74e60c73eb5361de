"""Strategies of rounds against loops over sites and weights in plain Python, and what must hold of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.model_training.federated.rounds import asked_sites, rounds
from gneiss.model_training.federated.strategies.by_name import ROUNDS, Rates
from gneiss.model_training.federated.strategies.steps import AMSGrad, Descent, Gradient
from gneiss.model_training.federated.strategies.strategy import Answer, ServerState, Strategy

SIZE, STEPS = 20, 4
SITES = ("a", "b", "c")
STRATEGIES = {
    name: strategy(Rates(STEPS, 0.02 if strategy(Rates()).local.optimizer else 0.1, 0.05))
    for name, strategy in ROUNDS.items()
}
seeds = st.integers(0, 1000)


def quadratic(seed: int, site: str) -> Callable[[np.random.Generator], Gradient]:
    """Noisy gradients of a bowl whose bottom is the site's own."""
    fixed = np.random.default_rng([seed, ord(site)])
    bottom, steep = fixed.normal(size=SIZE), fixed.uniform(0.2, 2, SIZE)
    return lambda draw: lambda w: (steep * (w - bottom) + 0.1 * draw.normal(size=SIZE)).astype(w.dtype)


def bowls(seed: int) -> dict[str, Callable[[np.random.Generator], Gradient]]:
    return {site: quadratic(seed, site) for site in SITES}


def states(strategy: Strategy, seed: int, count: int = 4, share: float = 0.67) -> list[ServerState]:
    return list(islice(rounds(strategy, np.zeros(SIZE), bowls(seed), share=share, seed=seed), count))


def by_hand(name: str, seed: int, count: int, share: float) -> list[float]:
    """The equations, a weight at a time; nothing of the library but the draws and who is asked."""
    from gneiss.model_training.federated.linear import draw_of

    given_ = bowls(seed)
    x = [0.0] * SIZE
    tracked = {site: [0.0] * SIZE for site in SITES}
    server = [[0.0] * SIZE for _ in range(3)]
    beta1, beta2, epsilon = 0.9, 0.99, 1e-3
    for round_ in range(count):
        y = [sum(tracked[site][i] for site in SITES) / len(SITES) for i in range(SIZE)]
        moved, answered = [], {}
        for site in asked_sites(SITES, share, seed, round_):
            gradient = given_[site](draw_of(seed, round_, site))
            c = [y[i] - tracked[site][i] for i in range(SIZE)]
            w = list(x)
            m, v, largest, total = [0.0] * SIZE, [0.0] * SIZE, [0.0] * SIZE, [0.0] * SIZE
            for _ in range(STEPS):
                g = gradient(np.array(w)).tolist()
                for i in range(SIZE):
                    if name in {"fedavg", "fedadam"}:
                        w[i] -= 0.1 * g[i]
                    elif name == "scaffold":
                        w[i] -= 0.1 * (g[i] + c[i])
                        total[i] += g[i]
                    else:
                        used = g[i] + c[i] if name == "fadam_gt" else g[i]
                        m[i] = beta1 * m[i] + (1 - beta1) * used
                        v[i] = beta2 * v[i] + (1 - beta2) * used**2
                        largest[i] = max(largest[i], v[i])
                        d = m[i] / (math.sqrt(largest[i]) + epsilon)
                        w[i] -= 0.02 * (d + c[i] if name == "fadam_et" else d)
                        total[i] += d if name == "fadam_et" else g[i]
            moved.append([w[i] - x[i] for i in range(SIZE)])
            answered[site] = [t / STEPS for t in total]
        for i in range(SIZE):
            d = sum(one[i] for one in moved) / len(moved)
            if name == "fedadam":
                m, v, largest = server
                m[i] = beta1 * m[i] + (1 - beta1) * d
                v[i] = beta2 * v[i] + (1 - beta2) * d**2
                largest[i] = max(largest[i], v[i])
                x[i] += 0.05 * m[i] / (math.sqrt(largest[i]) + epsilon)
            else:
                x[i] += d
        tracked |= answered
    return x


@pytest.mark.parametrize("name", STRATEGIES)
@given(seed=seeds, share=st.sampled_from([0.34, 0.67, 1.0]))
def test_a_strategy_is_its_equations(name: str, seed: int, share: float) -> None:
    found = states(STRATEGIES[name], seed, 4, share)[-1].x
    assert found == pytest.approx(by_hand(name, seed, 4, share), abs=1e-10)


@pytest.mark.parametrize("name", ["scaffold", "fadam_et", "fadam_gt"])
@given(seed=seeds)
def test_y_is_the_mean_over_all_sites_also_of_those_that_were_not_asked(name: str, seed: int) -> None:
    for state in states(STRATEGIES[name], seed, 5, 0.34):
        mean = np.mean([state.tracked[site] for site in SITES], axis=0)
        assert state.tracked_mean == pytest.approx(mean, rel=1e-5, abs=1e-12)


@given(seed=seeds)
def test_corrections_add_up_to_nothing(seed: int) -> None:
    strategy = STRATEGIES["fadam_gt"]
    for state in states(strategy, seed, 3, 0.34):
        corrections = [strategy.task(state, site).correction for site in SITES]
        assert np.sum(corrections, axis=0) == pytest.approx(np.zeros(SIZE), abs=1e-12)


@given(seed=seeds)
def test_what_is_tracked_are_gradients_as_they_came(seed: int) -> None:
    """A mean of corrected gradients would refer to itself."""
    strategy = STRATEGIES["fadam_gt"]
    state = states(strategy, seed, 2, 0.34)[-1]
    seen = []

    def gradient(w: np.ndarray) -> np.ndarray:
        seen.append(np.sin(w) + 1)
        return seen[-1]

    answer = strategy.answer(strategy.task(state, "a"), gradient)
    assert answer.tracked == pytest.approx(np.mean(seen, axis=0), abs=1e-12)


@given(seed=seeds, type_=st.sampled_from([np.float32, np.float64]))
def test_of_one_site_fadam_gt_is_local_amsgrad_bit_for_bit(seed: int, type_: type) -> None:
    sites = {"a": quadratic(seed, "a")}
    x = np.zeros(SIZE, type_)
    gt, local = (
        [state.x.tobytes() for state in islice(rounds(strategy, x, sites, seed=seed), 4)]
        for strategy in (STRATEGIES["fadam_gt"], STRATEGIES["local_adam"])
    )
    assert gt == local


@given(seed=seeds)
def test_without_a_correction_fadam_gt_is_local_adam(seed: int) -> None:
    zero = np.zeros(SIZE)
    gradient = bowls(seed)["b"]
    gt, local = (
        strategy.answer(
            replace(strategy.task(strategy.begin(zero, SITES), "b"), x=zero), gradient(np.random.default_rng(seed))
        )
        for strategy in (STRATEGIES["fadam_gt"], STRATEGIES["local_adam"])
    )
    assert np.array_equal(gt.difference, local.difference)


class Unscaled(AMSGrad):
    """AMSGrad with v̂ = 1."""

    def step(self, moments, gradient):
        _, after = super().step(moments, gradient)
        return after.mean, after


@given(seed=seeds)
def test_without_moments_fadam_gt_is_scaffold(seed: int) -> None:
    plain = Strategy(Descent(STEPS, 0.1, Unscaled(0.0, 0.0, 0.0)), "gradient")
    for one, other in zip(states(plain, seed), states(STRATEGIES["scaffold"], seed), strict=True):
        assert one.x == pytest.approx(other.x, abs=1e-12)


@given(seed=seeds)
def test_the_order_of_answers_changes_no_byte(seed: int) -> None:
    for strategy in STRATEGIES.values():
        state = states(strategy, seed, 1)[0]
        answers = {
            site: strategy.answer(strategy.task(state, site), bowls(seed)[site](np.random.default_rng(seed)))
            for site in SITES
        }
        backwards = {site: answers[site] for site in reversed(SITES)}
        assert strategy.aggregate(state, answers).x.tobytes() == strategy.aggregate(state, backwards).x.tobytes()


def test_a_site_that_does_not_answer_keeps_its_y() -> None:
    strategy = STRATEGIES["fadam_gt"]
    state = states(strategy, 1, 2, 1.0)[-1]
    one = strategy.aggregate(state, {"b": Answer(np.ones(SIZE), np.ones(SIZE))})
    assert np.array_equal(one.tracked["a"], state.tracked["a"])
    assert np.array_equal(one.tracked["b"], np.ones(SIZE))


def test_all_strategies_take_the_same_batches() -> None:
    """Equal draws for equal site and round, whatever the method; a repeated task gives the same answer."""
    drawn = {}
    for name, strategy in STRATEGIES.items():
        seen: list[float] = []

        def site(draw: np.random.Generator, seen: list[float] = seen) -> Gradient:
            def gradient(w: np.ndarray) -> np.ndarray:
                seen.append(draw.random())
                return np.zeros_like(w)

            return gradient

        list(islice(rounds(strategy, np.zeros(2), dict.fromkeys(SITES, site), share=0.67, seed=3), 3))
        drawn[name] = seen
    assert len(drawn["fedavg"]) == 3 * 2 * STEPS
    assert all(seen == drawn["fedavg"] for seen in drawn.values())


def test_sites_are_asked_in_order_and_by_share() -> None:
    assert asked_sites(("b", "a", "c", "d"), 1.0, 0, 0) == ("a", "b", "c", "d")
    assert len(asked_sites("abcdefghij", 0.5, 7, 3)) == 5
    assert len({asked_sites("abcdefghij", 0.5, 7, round_) for round_ in range(9)}) > 1


def test_a_trimmed_strategy_withstands_one_site() -> None:
    trimmed = replace(STRATEGIES["fedavg"], is_trimmed=True)
    state = trimmed.begin(np.zeros(2), "abcde")
    answers = {site: Answer(np.full(2, 0.1)) for site in "abcd"} | {"e": Answer(np.array([1e6, -1e6]))}
    assert trimmed.aggregate(state, answers).x == pytest.approx([0.1, 0.1])
    assert abs(STRATEGIES["fedavg"].aggregate(state, answers).x).max() > 1e5


@pytest.mark.parametrize("name", ["scaffold", "local_adam", "fadam_et", "fadam_gt"])
def test_a_trimmed_mean_is_for_plain_descent(name: str) -> None:
    with pytest.raises(InputError, match="plain gradient descent"):
        replace(STRATEGIES[name], is_trimmed=True)
