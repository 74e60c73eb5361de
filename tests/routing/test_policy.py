"""The frozen policy: as JSON and back, what is refused, margins of scores, and routing by it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import Float64Array, Int64Array
from gneiss.errors import ModelError
from gneiss.routing.http_judge import HttpJudge
from gneiss.routing.policy import Calibration, JudgeEntry, Policy, Scorer, Terms, Tier
from gneiss.routing.predictor import new_predictor
from gneiss.routing.serve import route
from gneiss.routing.walk import walk

POLICY = Policy(
    tiers=(
        Tier(Scorer("cheap", 0.5), (0.0, 0.5, 1.0), (-12.0, 0.0, 12.0), 0.01),
        Tier(Scorer("perplexity", 300.0, "below"), (-1000.0, -300.0, -10.0), (-12.0, 0.0, 12.0), 0.1),
    ),
    judge=JudgeEntry(http=HttpJudge("http://127.0.0.1:1/v1", "m", "Is it good?", key_variable="KEY")),
    judge_cost=1.0,
    cost_unit="judge",
    terms=Terms(0.95),
    debt=0.5,
    weights=tuple(tuple(tuple(w) for w in of_tier) for of_tier in new_predictor(2)[0].tolist()),
    calibration=Calibration(950, 1000, 0.2),
)


def test_a_policy_as_json_and_back() -> None:
    content = POLICY.to_json()
    assert Policy.of_json(content, "policy.json") == POLICY
    assert Policy.of_json(content, "policy.json").to_json() == content
    assert str(POLICY.calibration.agreement) == "95.0 % (93.5 to 96.2 %, of 1,000)"
    assert POLICY.reads == ("cheap", "perplexity")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("tiers", [], "weights"),
        ("weights", [[[1.0] * 5] * 2] * 2, "weights"),
        ("weights", [[[1.0] * 6] * 2], "weights"),
        ("weights", [[[float("nan")] * 6] * 2] * 2, "weights|finite"),
        ("debt", -1.0, "debt"),
        ("debt", "1", "debt"),
        ("judge_cost", 0.0, "cost of the judge"),
        ("terms", {"sla": 0.9, "audit_share": 2.0}, "shares"),
        ("judge", {}, "one of"),
        ("judge", {"function": "a:b", "http": {"url": "http://h", "model": "m", "question": "q"}}, "one of"),
        ("judge", {"http": {"url": "http://user:pw@h", "model": "m", "question": "q"}}, "key_variable"),
        ("terms", {"sla": 0.9, "on_failure": "ignore"}, "stop"),
        ("more", 1, "more"),
    ],
)
def test_what_is_no_policy_is_refused(key: str, value: object, said: str) -> None:
    changed = {**json.loads(POLICY.to_json()), key: value}
    with pytest.raises(ModelError, match=rf"^here/policy\.json: .*({said})"):
        Policy.of_json(json.dumps(changed).encode(), "here/policy.json")


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b"[" * 100_000])
def test_bytes_that_are_no_policy_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="no policy"):
        Policy.of_json(content, "policy.json")


@pytest.mark.parametrize("scores", [(0.0, 0.0), (1.0, 0.5), (1.0,)])
def test_scores_of_a_tier_rise(scores: tuple[float, ...]) -> None:
    with pytest.raises(ModelError, match="rising"):
        replace(POLICY.tiers[0], scores=scores, margins=(-1.0, 1.0)[: len(scores)])


def test_margins_of_scores() -> None:
    above, below = POLICY.tiers
    assert above.margins_of(np.array([-9.0, 0.25, 0.5, 0.75, 9.0, np.nan])).tolist() == [-12, -6, 0, 6, 12, 0]
    assert below.margins_of(np.array([2000.0, 300.0, 155.0, 1.0, np.nan])).tolist() == [-12, 0, 6, 12, 0]


@given(st.integers(0, 99), st.sampled_from([0.0, 0.05, 0.3, 0.8, 5.0]))
def test_routing_is_the_walk_of_each_document_and_runs_no_tier_in_vain(seed: int, debt: float) -> None:
    rng = np.random.default_rng(seed)
    policy = replace(POLICY, debt=debt)
    known = rng.normal(0, 6, (50, 2))
    ran = np.zeros((50, 2), np.bool_)

    def margins(tier: int, positions: Int64Array) -> Float64Array:
        ran[positions, tier] = True
        return known[positions, tier]

    routed = route(policy, 50, margins)
    weights = np.array(policy.weights)
    expected = [walk(weights, row, policy.costs, debt, policy.terms.thrift) for row in known]
    assert routed.tier.tolist() == [tier for tier, _, _ in expected]
    assert routed.last.tolist() == [last for _, last, _ in expected]
    assert routed.expected.tolist() == [hoped for _, _, hoped in expected]
    assert routed.margin.tolist() == [row[last] for row, (_, last, _) in zip(known, expected, strict=True)]
    assert ran.sum(axis=1).tolist() == [last + 1 for _, last, _ in expected]


def test_nothing_is_routed_of_nothing() -> None:
    assert len(route(POLICY, 0, lambda tier, positions: np.zeros(0)).tier) == 0
