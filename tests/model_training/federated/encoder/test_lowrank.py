"""Adapters and their strategies against a loop over sites, ranks and weights in plain Python; their invariants."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.model_training.federated.encoder.adapters import AdapterSpace, Form, Matrix
from gneiss.model_training.federated.encoder.lowrank import (
    AdamW,
    AdapterAnswer,
    AdapterState,
    AdapterTask,
    LowRank,
    fedara,
    fedlora,
    ffa_lora,
)
from gneiss.model_training.federated.encoder.ranks import Budget, Importance
from gneiss.model_training.federated.strategies.steps import Gradient

MATRICES = (Matrix("q", 3, 2), Matrix("down", 2, 4))
RANK, HEAD, STEPS, RATE, ROUNDS = 3, 2, 4, 0.05, 6
DOCUMENTS = {"a": 7, "b": 1, "c": 3}
FORMS: tuple[Form, ...] = ("svd", "lora", "frozen_a")
seeds = st.integers(0, 1000)


def space_of(form: Form, seed: int = 0) -> AdapterSpace:
    return AdapterSpace(MATRICES, RANK, HEAD, form, seed)


def strategy_of(name: str, seed: int = 0) -> LowRank:
    space = space_of("svd", seed)
    match name:
        case "fedlora":
            return fedlora(space, STEPS, RATE)
        case "ffa_lora":
            return ffa_lora(space, STEPS, RATE)
    return fedara(space, STEPS, RATE, ROUNDS, ranks_left=1 if name == "fedara" else RANK)


def named(space: AdapterSpace, alive: np.ndarray) -> list[tuple[str, int, str, int]]:
    """What the numbers of a vector are: matrix, rank, part, place; the head's matrix is empty."""
    found = []
    for at, matrix in enumerate(space.matrices):
        for rank in range(space.rank):
            if not alive[at * space.rank + rank]:
                continue
            a = [(matrix.name, rank, "a", place) for place in range(matrix.inputs)]
            e = [(matrix.name, rank, "e", 0)]
            b = [(matrix.name, rank, "b", place) for place in range(matrix.outputs)]
            found += {"svd": a + e + b, "lora": a + b, "frozen_a": b}[space.form]
    return found + [("", 0, "head", place) for place in range(space.head)]


def bowl(space: AdapterSpace, alive: np.ndarray, seed: int, site: str) -> Gradient:
    """A gradient that is the same for a weight whatever other ranks live."""
    draws = [
        np.random.default_rng([seed, ord(site), *map(ord, "".join(map(str, name)))]) for name in named(space, alive)
    ]
    bottom = np.array([draw.normal() for draw in draws])
    steep = np.array([draw.uniform(0.2, 2) for draw in draws])
    return lambda w: (steep * (w - bottom)).astype(w.dtype)


def one_round(strategy: LowRank, state: AdapterState, round_: int, seed: int) -> AdapterState:
    task = strategy.task(state, round_)
    answers = {
        site: strategy.answer(task, bowl(strategy.space, task.alive, seed, site), documents)
        for site, documents in DOCUMENTS.items()
    }
    return strategy.aggregate(state, answers)


def by_hand(strategy: LowRank, seed: int, rounds: int) -> tuple[dict[tuple[str, int, str, int], float], set[int]]:
    """(weights by name, live ranks) after some rounds."""
    space, everything = strategy.space, np.ones(strategy.space.ranks, np.bool_)
    x = dict(zip(named(space, everything), space.begin().astype(float).tolist(), strict=True))
    alive = set(range(space.ranks))
    numbers = {matrix.name: at for at, matrix in enumerate(space.matrices)}
    for round_ in range(rounds):
        mask = np.isin(np.arange(space.ranks), list(alive))
        names = named(space, mask)
        budget = space.ranks if strategy.budget is None else strategy.budget.ranks(round_)
        differences: dict[tuple[str, int, str, int], float] = dict.fromkeys(names, 0.0)
        votes = dict.fromkeys(alive, 0)
        for site, documents in DOCUMENTS.items():
            gradient = bowl(space, mask, seed, site)
            w = [x[name] for name in names]
            m, v, mean, variation = ([0.0] * len(names) for _ in range(4))
            for step in range(1, strategy.steps + 1):
                g = gradient(np.array(w)).tolist()
                for i in range(len(names)):
                    important = abs(w[i] * g[i])
                    mean[i] = 0.85 * mean[i] + 0.15 * important
                    variation[i] = 0.85 * variation[i] + 0.15 * abs(important - mean[i])
                    m[i] = 0.9 * m[i] + 0.1 * g[i]
                    v[i] = 0.999 * v[i] + 0.001 * g[i] ** 2
                    down = m[i] / (1 - 0.9**step) / (math.sqrt(v[i] / (1 - 0.999**step)) + 1e-8)
                    w[i] -= strategy.optimizer.rate * (down + 0.01 * w[i])
            for i, name in enumerate(names):
                differences[name] += documents * (w[i] - x[name])
            if budget < len(alive):
                scores = dict.fromkeys(alive, 0.0)
                for i, (matrix, rank, part, _) in enumerate(names):
                    if matrix:
                        size = {"a": space.matrices[numbers[matrix]].inputs, "e": 1}.get(
                            part, space.matrices[numbers[matrix]].outputs
                        )
                        scores[numbers[matrix] * space.rank + rank] += mean[i] * variation[i] / size
                for rank in sorted(alive, key=lambda rank: (-scores[rank], rank))[:budget]:
                    votes[rank] += 1
        x = {name: x[name] + differences[name] / sum(DOCUMENTS.values()) for name in names}
        if budget < len(alive):
            alive = {rank for rank in alive if votes[rank] >= strategy.least_share * len(DOCUMENTS)}
            x = {
                name: value
                for name, value in x.items()
                if not name[0] or numbers[name[0]] * space.rank + name[1] in alive
            }
    return x, alive


@pytest.mark.parametrize("name", ["fedlora", "ffa_lora", "fedara", "no ranks dropped"])
@given(seed=seeds)
def test_strategies_are_their_equations(name: str, seed: int) -> None:
    strategy = strategy_of(name, seed)
    state = strategy.begin()
    state = replace(state, x=state.x.astype(np.float64))
    for round_ in range(ROUNDS):
        state = one_round(strategy, state, round_, seed)
    expected, alive = by_hand(strategy, seed, ROUNDS)
    assert set(np.flatnonzero(state.alive).tolist()) == alive
    assert state.x == pytest.approx(np.array([expected[each] for each in named(strategy.space, state.alive)]), rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
@given(seed=seeds)
def test_nothing_is_added_at_the_start(form: Form, seed: int) -> None:
    """And yet A and B are not zero where E is, else nothing would ever move."""
    space = space_of(form, seed)
    alive = np.ones(space.ranks, np.bool_)
    adapters, head = space.adapters(space.begin(), alive)
    assert [adapter.product.shape for adapter in adapters.values()] == [(3, 2), (2, 4)]
    assert not any(adapter.product.any() for adapter in adapters.values())
    assert not head.any()
    assert all(adapter.a.all() for adapter in adapters.values())
    assert all(adapter.b.any() for adapter in adapters.values()) is (form == "svd")


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_a_vector_has_the_numbers_of_the_formula(form: Form, data: st.DataObject) -> None:
    """Live ranks of a matrix times (o + i + 1), and the head; without E one less a rank, without A only o."""
    space = space_of(form)
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=space.ranks, max_size=space.ranks)))
    of_rank = {"svd": (6, 7), "lora": (5, 6), "frozen_a": (3, 2)}[form]
    assert space.size(alive) == alive[:3].sum() * of_rank[0] + alive[3:].sum() * of_rank[1] + 2
    everything = np.ones(space.ranks, np.bool_)
    kept = space.kept(space.begin(), everything, alive)
    assert len(kept) == space.size(alive) == len(named(space, alive))
    adapters, _ = space.adapters(kept, alive)
    assert set(adapters) == {matrix.name for matrix, live in zip(MATRICES, space.live(alive), strict=True) if live}
    before, _ = space.adapters(space.begin(), everything)
    for at, matrix in enumerate(MATRICES):
        if matrix.name in adapters:
            own = alive.reshape(2, 3)[at]
            assert (adapters[matrix.name].a == before[matrix.name].a[own]).all()
            assert (adapters[matrix.name].b == before[matrix.name].b[own]).all()


@given(seed=seeds)
def test_a_product_is_that_of_its_parts(seed: int) -> None:
    space = space_of("svd")
    alive = np.ones(space.ranks, np.bool_)
    x = np.random.default_rng(seed).normal(size=space.size(alive))
    for adapter in space.adapters(x, alive)[0].values():
        assert adapter.e is not None
        assert adapter.product == pytest.approx(2 * adapter.b.T @ np.diag(adapter.e) @ adapter.a)


@pytest.mark.parametrize("least_share", [0.0, 0.3, 0.5, 1.0])
@given(seed=seeds)
def test_ranks_only_go(least_share: float, seed: int) -> None:
    strategy = replace(strategy_of("fedara", seed), least_share=least_share)
    state = strategy.begin()
    for round_ in range(ROUNDS):
        after = one_round(strategy, state, round_, seed)
        assert not (after.alive & ~state.alive).any()
        assert len(after.x) == strategy.space.size(after.alive)
        state = after
    assert state.alive.all() == (least_share == 0)


@given(seed=seeds)
def test_a_mean_of_adapters_is_that_of_what_they_add_if_a_is_frozen(seed: int) -> None:
    """The mean of B·A over sites: FFA-LoRA's server has it, that of FedLoRA has the product of two means."""
    errors = {}
    for name in ("ffa_lora", "fedlora"):
        strategy = strategy_of(name, seed)
        state = one_round(strategy, strategy.begin(), 0, seed)
        task = strategy.task(state, 1)
        answers = {
            site: strategy.answer(task, bowl(strategy.space, task.alive, seed, site), documents)
            for site, documents in DOCUMENTS.items()
        }
        means = {matrix.name: np.zeros((matrix.outputs, matrix.inputs)) for matrix in MATRICES}
        for answer in answers.values():
            added, _ = strategy.space.adapters(state.x + answer.difference, state.alive)
            for matrix, adapter in added.items():
                means[matrix] += adapter.product * answer.documents / sum(DOCUMENTS.values())
        found, _ = strategy.space.adapters(strategy.aggregate(state, answers).x, state.alive)
        errors[name] = max(np.abs(found[matrix].product - mean).max() for matrix, mean in means.items())
    assert errors["ffa_lora"] < 1e-6
    assert errors["fedlora"] > 1e-5


@given(seed=seeds)
def test_an_aggregate_does_not_depend_on_who_comes_first(seed: int) -> None:
    strategy = strategy_of("fedara", seed)
    state, draw = strategy.begin(), np.random.default_rng(seed)
    answers = {
        site: AdapterAnswer(draw.normal(size=state.x.shape).astype(np.float32), documents, draw.random(6) < 0.5)
        for site, documents in DOCUMENTS.items()
    }
    one, other = (
        strategy.aggregate(state, dict(pairs)) for pairs in (answers.items(), reversed(list(answers.items())))
    )
    assert one.x.tobytes() == other.x.tobytes()
    assert one.x.dtype == np.float32
    assert (one.alive == other.alive).all()


def test_a_site_keeps_as_many_ranks_as_it_may_even_if_none_matters() -> None:
    """Without gradients all scores are 0."""
    strategy = strategy_of("fedara")
    state = strategy.begin()
    keeps = strategy.answer(AdapterTask(state.x, state.alive, 2), np.zeros_like, 1).keeps
    assert keeps is not None
    assert keeps.tolist() == [True, True, False, False, False, False]


def test_everything_may_go_where_no_site_agrees_and_the_head_is_left() -> None:
    strategy = strategy_of("fedara")
    state = strategy.begin()
    difference = np.ones_like(state.x)
    answers = {str(at): AdapterAnswer(difference, 1, np.arange(6) == at) for at in range(3)}
    after = strategy.aggregate(state, answers)
    assert not after.alive.any()
    assert after.x.tolist() == [1.0, 1.0]
    assert strategy.space.adapters(after.x, after.alive)[0] == {}
    again = one_round(strategy, after, ROUNDS - 1, 0)
    assert len(again.x) == HEAD


def test_magnitude_is_the_size_of_e() -> None:
    strategy = replace(strategy_of("fedara"), score="magnitude")
    state = strategy.begin()
    x = state.x.copy()
    rows, _ = strategy.space.rows(x, state.alive)
    rows[0][:, 2] = (0.1, -0.3, 0.2)
    rows[1][:, 4] = (-0.25, 0.0, 0.05)
    found = strategy.space.rank_scores(x, state.alive, Importance.begin(x), "magnitude")
    assert found == pytest.approx([0.1, 0.3, 0.2, 0.25, 0.0, 0.05])


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="form svd"):
        LowRank(space_of("lora"), STEPS, AdamW(), Budget.of(6, 2, 10))
    with pytest.raises(InputError, match="expected 6 ranks at first, found 5"):
        LowRank(space_of("svd"), STEPS, AdamW(), Budget.of(5, 2, 10))
    with pytest.raises(InputError, match="expected one of svd, lora, frozen_a, found 'qr'"):
        replace(space_of("svd"), form="qr")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rank of 1 to 1024, found 0"):
        replace(space_of("svd"), rank=0)
