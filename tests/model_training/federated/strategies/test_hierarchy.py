"""MTGC against a loop over sites and weights in plain Python, its invariants, and losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.federated.strategies.hierarchy import Hierarchy, Region
from gneiss.model_training.federated.strategies.steps import Gradient
from gneiss.model_training.federated.strategies.strategy import Answer, ServerState

SIZE = 20
REGIONS = {"north": ("a", "b"), "south": ("c",), "west": ("d", "e", "f")}
FORMS = {
    "mtgc": Hierarchy(2, 3, 0.1),
    "z only": Hierarchy(2, 3, 0.1, corrects_regions=False),
    "y only": Hierarchy(2, 3, 0.1, corrects_sites=False),
    "hfedavg": Hierarchy(2, 3, 0.1, corrects_sites=False, corrects_regions=False),
    "short": Hierarchy(2, 3, 0.1, largest_norm=0.5),
}
seeds = st.integers(0, 1000)


def bowl(seed: int, site: str) -> Gradient:
    fixed = np.random.default_rng([seed, ord(site)])
    bottom, steep = fixed.normal(size=SIZE), fixed.uniform(0.2, 2, SIZE)
    return lambda w: (steep * (w - bottom)).astype(w.dtype)


def bowls(seed: int, region: str) -> dict[str, Gradient]:
    return {site: bowl(seed, site) for site in REGIONS[region]}


def global_round(
    form: Hierarchy, state: ServerState, seed: int, asked: tuple[str, ...] = tuple(REGIONS)
) -> ServerState:
    answers = {region: form.answer(task, bowls(seed, region)) for region, task in form.tasks(state, asked).items()}
    return form.aggregate(state, answers)


def by_hand(form: Hierarchy, seed: int, count: int) -> list[float]:
    x, y = [0.0] * SIZE, {region: [0.0] * SIZE for region in REGIONS}
    every = range(SIZE)
    for _ in range(count):
        ends = {}
        for region, sites in REGIONS.items():
            inner, z = list(x), {site: [0.0] * SIZE for site in sites}
            for _ in range(form.region_rounds):
                of_sites = {}
                for site in sites:
                    gradient, w = bowl(seed, site), list(inner)
                    for _ in range(form.steps):
                        g = gradient(np.array(w)).tolist()
                        g = [
                            g[i] + z[site][i] * form.corrects_sites + y[region][i] * form.corrects_regions
                            for i in every
                        ]
                        factor = min(1.0, form.largest_norm / math.sqrt(sum(value**2 for value in g)))
                        w = [w[i] - form.rate * g[i] * factor for i in every]
                    of_sites[site] = w
                inner = [sum(w[i] for w in of_sites.values()) / len(sites) for i in every]
                for site in sites:
                    z[site] = [z[site][i] + (of_sites[site][i] - inner[i]) / (form.steps * form.rate) for i in every]
            ends[region] = inner
        x = [sum(end[i] for end in ends.values()) / len(ends) for i in every]
        span = form.steps * form.region_rounds * form.rate
        for region in REGIONS:
            y[region] = [y[region][i] + (ends[region][i] - x[i]) / span for i in every]
    return x


@pytest.mark.parametrize("name", FORMS)
@given(seed=seeds)
def test_mtgc_is_its_equations(name: str, seed: int) -> None:
    form = FORMS[name]
    state = form.begin(np.zeros(SIZE), tuple(REGIONS))
    for _ in range(3):
        state = global_round(form, state, seed)
    assert state.x == pytest.approx(by_hand(form, seed, 3), abs=1e-10)


@given(seed=seeds, type_=st.sampled_from([np.float32, np.float64]))
def test_corrections_add_up_to_nothing(seed: int, type_: type) -> None:
    form = FORMS["mtgc"]
    state = form.begin(np.zeros(SIZE, type_), tuple(REGIONS))
    for _ in range(4):
        state = global_round(form, state, seed)
        assert nothing(list(state.tracked.values()))
    region = Region(state.x, {site: np.zeros(SIZE, type_) for site in REGIONS["west"]})
    for _ in range(4):
        region = form.region_round(region, state.tracked["west"], bowls(seed, "west"))
        assert nothing(list(region.corrections.values()))
    assert region.x.dtype == state.x.dtype == type_


def nothing(corrections: list[np.ndarray]) -> bool:
    """Whether they add up to nothing, beside the largest of them."""
    largest = max(float(np.abs(one).max()) for one in corrections)
    return float(np.abs(np.sum(corrections, axis=0, dtype=np.float64)).max()) <= 1e-4 * max(largest, 1e-6)


@given(seed=seeds)
def test_a_site_that_is_lost_takes_its_correction_along(seed: int) -> None:
    form = FORMS["mtgc"]
    sites = bowls(seed, "west")
    region = Region(np.zeros(SIZE), {site: np.zeros(SIZE) for site in sites})
    region = form.region_round(region, None, sites)
    del sites["e"]
    left = form.region_round(region, None, sites)
    assert set(left.corrections) == {"d", "f"}
    assert nothing(list(left.corrections.values()))
    mean = (region.corrections["d"] + region.corrections["f"]) / 2
    alone = Region(region.x, {site: region.corrections[site] - mean for site in ("d", "f")})
    assert left.x == pytest.approx(form.region_round(alone, None, sites).x, abs=1e-12)


@given(seed=seeds)
def test_a_region_that_is_lost_keeps_its_correction_for_when_it_is_back(seed: int) -> None:
    form = FORMS["mtgc"]
    state = global_round(form, form.begin(np.zeros(SIZE), tuple(REGIONS)), seed)
    asked = ("north", "west")
    assert nothing([task.correction for task in form.tasks(state, asked).values()])
    without = global_round(form, state, seed, asked)
    assert np.array_equal(without.tracked["south"], state.tracked["south"])
    assert nothing(list(without.tracked.values()))
    back = form.tasks(without, tuple(REGIONS))["south"].correction
    assert back == pytest.approx(state.tracked["south"], abs=1e-9)


def test_answers_are_averaged_over_those_that_came() -> None:
    form = FORMS["mtgc"]
    state = form.begin(np.zeros(2), ("a", "b", "c"))
    after = form.aggregate(state, {"a": Answer(np.ones(2)), "c": Answer(np.full(2, 3.0))})
    assert np.array_equal(after.x, [2.0, 2.0])
