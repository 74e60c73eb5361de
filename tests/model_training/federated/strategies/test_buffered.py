"""Rules for arrivals: a schedule by hand, the equations, no delay, and replay."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.federated.clock import Event, arrivals
from gneiss.model_training.federated.rounds import rounds
from gneiss.model_training.federated.strategies.buffered import Buffered, BufferedState
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, ROUNDS, Rates
from gneiss.model_training.federated.strategies.steps import AMSGrad

SIZE = 6


def by_arrival(name: str, rate: float, buffer_size: int = 1) -> Buffered:
    return ARRIVALS[name](Rates(server_rate=rate, buffer_size=buffer_size))


RULES = {
    "fedasync": by_arrival("fedasync", 1.0),
    "fedbuff": by_arrival("fedbuff", 1.5, 2),
    "fadas": by_arrival("fadas", 0.1, 2),
    "fadas_da": by_arrival("fadas_da", 0.1, 2),
}
#: (site, the update count of the weights that it was sent, difference in every weight) of 8 arrivals.
SCHEDULE = [
    ("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 1.0), ("c", 0, 4.0), ("a", 2, 1.0), ("b", 1, -2.0), ("d", 0, 8.0),
    ("a", 3, 1.0),
]  # fmt: skip
#: τ of each of them where two arrivals make an update.
DELAYS = [0, 0, 0, 1, 0, 1, 3, 0]
LARGEST_DELAYS = [0, 1, 1, 3]


def received(rule: Buffered) -> list[BufferedState]:
    state = rule.begin(np.zeros(1))
    states = []
    for site, base, difference in SCHEDULE:
        state = rule.receive(state, site, base, np.full(1, difference))
        states.append(state)
    return states


def test_delays_are_updates_since_the_weights_that_were_sent() -> None:
    rule = by_arrival("fedbuff", 1.0, 2)
    state = rule.begin(np.zeros(1))
    seen = []
    for site, base, difference in SCHEDULE:
        seen.append(state.updates - base)
        after = rule.receive(state, site, base, np.full(1, difference))
        if after.buffer:
            assert (after.buffer[-1].site, after.buffer[-1].delay) == (site, seen[-1])
        state = after
    assert seen == DELAYS
    assert state.updates == 4
    assert not state.buffer


def test_fedasync_by_hand() -> None:
    x, at = 0.0, received(by_arrival("fedasync", 0.5))
    for update, ((_, base, difference), state) in enumerate(zip(SCHEDULE, at, strict=True)):
        x += 0.5 * 0.6 * (1 + update - base) ** -0.5 * difference
        assert state.x[0] == pytest.approx(x, abs=1e-12)
        assert state.updates == update + 1


def test_fedbuff_by_hand() -> None:
    x = 0.0
    for update, state in enumerate(received(by_arrival("fedbuff", 1.5, 2))[1::2]):
        pair = list(zip(SCHEDULE, DELAYS, strict=True))[2 * update : 2 * update + 2]
        x += 1.5 * sum((1 + delay) ** -0.5 * difference for (_, _, difference), delay in pair) / 2
        assert state.x[0] == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("is_adaptive", [False, True])
def test_fadas_by_hand(is_adaptive: bool) -> None:
    x = m = v = largest = 0.0
    rule = by_arrival("fadas_da", 0.3, 2) if is_adaptive else by_arrival("fadas", 0.3, 2)
    for update, state in enumerate(received(rule)[1::2]):
        d = sum(difference for _, _, difference in SCHEDULE[2 * update : 2 * update + 2]) / 2
        m, v = 0.9 * m + 0.1 * d, 0.99 * v + 0.01 * d * d
        largest = max(largest, v)
        delay = LARGEST_DELAYS[update]
        rate = 0.3 / delay if is_adaptive and delay > 1 else 0.3
        x += rate * m / (largest**0.5 + 1e-3)
        assert state.x[0] == pytest.approx(x, abs=1e-12)


def test_the_rate_is_divided_by_the_delay() -> None:
    """min(η, 1/τ_max), as the paper's text has it, would leave η = .03 alone up to a delay of 33."""
    rule = by_arrival("fadas_da", 0.03, 2)
    state = BufferedState(np.zeros(1), 10, moments=AMSGrad().begin(np.zeros(1)))
    state = rule.receive(rule.receive(state, "a", 9, np.ones(1)), "b", 0, np.ones(1))
    plain = BufferedState(np.zeros(1), 10, moments=AMSGrad().begin(np.zeros(1)))
    plain = by_arrival("fadas", 0.03, 2).receive(
        by_arrival("fadas", 0.03, 2).receive(plain, "a", 9, np.ones(1)), "b", 0, np.ones(1)
    )
    assert state.x[0] == pytest.approx(plain.x[0] / 10, rel=1e-12)


def test_a_step_has_no_bias_correction() -> None:
    state = by_arrival("fadas", 1.0, 1).receive(by_arrival("fadas", 1.0, 1).begin(np.zeros(1)), "a", 0, np.ones(1))
    assert state.x[0] == pytest.approx(0.1 / (0.1 + 1e-3), rel=1e-12)


def pull(seed: int, x: np.ndarray, site: str) -> np.ndarray:
    """Half way to a site's own place."""
    place = np.random.default_rng([seed, ord(site)]).normal(size=SIZE)
    return 0.5 * (place - x)


def events(rule: Buffered, seed: int, count: int, least: float = 0.5) -> list[Event]:
    return list(
        islice(
            arrivals(
                rule,
                np.zeros(SIZE),
                "abcdef",
                lambda x, site, task: pull(seed + task, x, site),
                lambda site, draw: draw.uniform(least, 20.0 if site == "f" else 1.5),
                concurrency=4,
                seed=seed,
            ),
            count,
        )
    )


@given(st.integers(0, 1000))
def test_without_delay_fadas_is_fedams_bit_for_bit(seed: int) -> None:
    """All sites at once, all as fast: the buffered rule, the clock, and rounds give the same bytes."""
    sites = "abc"

    def gradient(site: str):
        return lambda draw: lambda w: -pull(seed, w, site)

    in_rounds = [
        state.x.tobytes()
        for state in islice(
            rounds(
                ROUNDS["fedadam"](Rates(1, 1.0, 0.1)),
                np.zeros(SIZE),
                {site: gradient(site) for site in sites},
                seed=seed,
            ),
            4,
        )
    ]
    buffered = arrivals(
        by_arrival("fadas", 0.1, 3),
        np.zeros(SIZE),
        sites,
        lambda x, site, task: x - 1.0 * -pull(seed, x, site) - x,
        lambda site, draw: 2.0,
        concurrency=3,
        seed=seed,
    )
    assert [event.state.x.tobytes() for event in islice(buffered, 12)][2::3] == in_rounds


@pytest.mark.parametrize("name", RULES)
@given(st.integers(0, 1000))
def test_a_replay_of_the_log_gives_the_same_bytes(name: str, seed: int) -> None:
    """From any state in the midst: what was in flight started from weights that were made before."""
    rule = RULES[name]
    seen = events(rule, seed, 30)
    made = {0: np.zeros(SIZE)} | {event.state.updates: event.state.x for event in seen}
    assert max(event.delay for event in seen) > 0
    for stop in (0, 7, 20):
        state = seen[stop].state
        for event in seen[stop + 1 :]:
            base = state.updates - event.delay
            state = rule.receive(state, event.site, base, pull(seed + event.task, made[base], event.site))
            assert state.x.tobytes() == event.state.x.tobytes()


def test_a_site_has_one_task_at_a_time_and_none_is_left_idle() -> None:
    seen = events(RULES["fedbuff"], 5, 200)
    assert {event.site for event in seen} == set("abcdef")
    assert [event.seconds for event in seen] == sorted(event.seconds for event in seen)
    slow = [event for event in seen if event.site == "f"]
    assert len(slow) < len(seen) / 10
    assert max(event.delay for event in slow) > 3


def test_a_task_begins_at_every_arrival_from_the_weights_of_then() -> None:
    """Not M tasks after each update, and not from the weights of before."""
    given_: list[tuple[float, int]] = []

    def local(x: np.ndarray, site: str, task: int) -> np.ndarray:
        return np.ones(1)

    found = arrivals(
        by_arrival("fedbuff", 1.0, 2),
        np.zeros(1),
        "ab",
        local,
        lambda site, draw: 1.0 if site == "a" else 2.5,
        concurrency=2,
    )
    for event in islice(found, 7):
        given_.append((event.seconds, event.delay))
    # a at 1, 2 (update 1), b at 2.5, a at 3 (update 2), 4, b at 5 (update 3), a
    assert given_ == [(1.0, 0), (2.0, 0), (2.5, 1), (3.0, 0), (4.0, 0), (5.0, 1), (5.0, 1)]
