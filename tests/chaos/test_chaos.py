"""A seeded share of `make chaos`, and that it would notice."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from multiprocessing.context import ForkServerContext

import pytest

from tests.chaos import chaos, jobs
from tests.chaos.chaos import JOBS, Outcome

RIGHT = Outcome(0, chaos.NODE, JOBS[0], 0.5, lost=0, doubled=0, is_equal=True, attempts=2, resumed=False)


@pytest.mark.processes
@pytest.mark.parametrize(
    ("victims", "moments"),
    [
        ([chaos.DRIVER], 2),
        # those on Ray take too long for continuous integration: `make chaos`
        pytest.param([chaos.DRIVER, chaos.WORKER, chaos.SERVER], 6, marks=pytest.mark.exhaustive),
    ],
)
def test_what_is_struck_loses_and_doubles_nothing(victims: list[str], moments: int, warm: ForkServerContext) -> None:
    with chaos.world(warm) as world:
        outcomes = list(chaos.struck(world, moments, chaos.moments(6, victims)))
    assert len(outcomes) == moments
    assert [outcome for outcome in outcomes if not outcome.is_right] == []


def test_moments_are_those_of_their_seed() -> None:
    first, same, other = (list(islice(chaos.moments(seed), 500)) for seed in (1, 1, 2))
    assert first == same != other
    assert {(moment.victim, moment.job) for moment in first} == {
        (victim, job) for victim in chaos.VICTIMS for job in JOBS
    }


@pytest.mark.parametrize(
    "wrong",
    [{"lost": 1}, {"doubled": 1}, {"is_equal": False}, {"attempts": 3}, {"resumed": True}],
)
def test_what_is_not_right_is_said(wrong: dict[str, int]) -> None:
    assert RIGHT.is_right
    assert replace(RIGHT, victim=chaos.DRIVER, resumed=True).is_right
    assert not replace(RIGHT, **wrong).is_right  # type: ignore[arg-type]


def test_the_table_adds_up() -> None:
    outcomes = [
        RIGHT,
        replace(RIGHT, job=jobs.EXTRACTION, lost=2, attempts=1),
        replace(RIGHT, victim=chaos.DRIVER, resumed=True),
    ]
    assert chaos.table(outcomes).splitlines()[2:] == [
        "| driver | 1 | 0 | 0 | 0 | 0 | 1 | 1 | 0 | 0 | 0 | 2 | 1 |",
        "| node | 1 | 0 | 0 | 0 | 1 | 2 | 1 | 2 | 0 | 0 | 2 | 0 |",
        "| all | 2 | 0 | 0 | 0 | 1 | 3 | 2 | 2 | 0 | 0 | 2 | 1 |",
    ]
