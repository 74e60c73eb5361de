"""Routing on the fixture L1: what each way of deciding agrees with the judge on, and costs, beside its baselines.

Part of models.py. Costs are milliseconds a document, and stated, not measured. L1 is synthetic: 23 sources of unequal
size, shift and ambiguity; a judge that keeps what is above the 65 % quantile of a hidden quality; three tiers that see
it with ever less noise, a part of which they share.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gneiss.arrays import Float64Array
from gneiss.routing.fold import Feedback, Settings, Tiers, fold
from gneiss.routing.pilot import pilot, way_of
from gneiss.routing.policy import JudgeEntry, Terms, TierEntry
from gneiss.routing.static import calibrated_cascade, random_mix

SOURCES, DOCUMENTS, PILOT, FROZEN_PILOT = 23, 12_946, 600, 3_000
NOISE = np.array([0.62, 0.33, 0.105])
COSTS_MS = (0.08, 0.53, 2.57)
SLAS, JUDGES_MS = (0.90, 0.95, 0.98), (25.7, 257.0)
#: Name → what `fold` is called with, and V.
ROUTERS: dict[str, tuple[dict[str, Any], float]] = {
    "plain, full feedback, V .3": ({"feedback": Feedback.full, "is_plain": True}, 0.3),
    "sequential, full feedback, V .3": ({"feedback": Feedback.full}, 0.3),
    "sequential, audits, V .1": ({}, 0.1),
    "sequential, audits, V .3": ({}, 0.3),
    "sequential, audits, V 1": ({}, 1.0),
    "sequential, audits, V .1, blocks of 256": ({"block": 256}, 0.1),
    "predicted feedback, V .1": ({"feedback": Feedback.predicted}, 0.1),
}


def l1(seed: int, judge_ms: float = JUDGES_MS[0]) -> tuple[Tiers, Float64Array]:
    """The fixture: tiers of (documents,), and a draw for each document."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, SOURCES + 1)
    source = rng.choice(SOURCES, DOCUMENTS, p=shares / shares.sum())
    shift, ambiguity = rng.normal(0, 0.5, SOURCES), np.exp(rng.normal(0, 0.35, SOURCES))
    quality = shift[source] + rng.normal(size=DOCUMENTS)
    cut = np.quantile(quality, 0.65)
    shared, own = rng.normal(size=(DOCUMENTS, 1)), rng.normal(size=(DOCUMENTS, len(NOISE)))
    margins = 6 * (quality[:, None] - cut + ambiguity[source, None] * NOISE * (0.5 * shared + 0.866 * own))
    return Tiers(margins, quality > cut, np.array([*COSTS_MS, judge_ms])), rng.random(DOCUMENTS)


def frozen(seed: int, sla: float, judge_ms: float = JUDGES_MS[0]) -> tuple[float, float, float]:
    """A policy of a pilot on 3,000 documents, frozen: agreement and cost on the others, and a random mix's cost there.

    Audits of 1 % are in the cost, and not in the agreement.
    """
    tiers, _ = l1(seed, judge_ms)
    entries = [TierEntry(f"tier {k}", cost=cost) for k, cost in enumerate(COSTS_MS)]
    judge = JudgeEntry(function="fixture:judge")
    first, rest = slice(0, FROZEN_PILOT), slice(FROZEN_PILOT, None)
    policy = pilot(entries, tiers.margins[first], tiers.verdicts[first], judge, judge_ms, "ms", Terms(sla)).policy
    margins = np.stack([tier.margins_of(tiers.margins[rest, k]) for k, tier in enumerate(policy.tiers)], axis=1)
    unseen = Tiers(margins, tiers.verdicts[rest], tiers.costs)
    way = way_of(policy, unseen)
    return way.agreement.value, way.cost + policy.audits_cost, random_mix(unseen, sla).cost


def rows(slas: Sequence[float], judges_ms: Sequence[float], seeds: int) -> Iterator[dict[str, Any]]:
    """A row for each SLA, judge and way: mean and worst agreement, and mean cost."""
    for judge_ms in judges_ms:
        for sla in slas:
            found: dict[str, list[tuple[float, float]]] = {}
            for seed in range(seeds):
                tiers, draws = l1(seed, judge_ms)
                mix = random_mix(tiers, sla)
                cascade = calibrated_cascade(tiers.rows(slice(0, PILOT)), sla).on(tiers.rows(slice(PILOT, None)))
                for static in (mix, cascade):
                    found.setdefault(static.name, []).append((static.agreement, static.cost))
                agreement, cost, _ = frozen(seed, sla, judge_ms)
                found.setdefault("frozen policy, pilot of 3,000", []).append((agreement, cost))
                for name, (options, thrift) in ROUTERS.items():
                    folded = fold(tiers, Settings(sla, thrift), draws, **options)
                    found.setdefault(name, []).append((folded.agreement, float(folded.cost.mean())))
            for name, pairs in found.items():
                agreements, costs = zip(*pairs, strict=True)
                yield {
                    "sla": sla,
                    "judge_ms": judge_ms,
                    "way": name,
                    "agreement": float(np.mean(agreements)),
                    "worst": min(agreements),
                    "cost_ms": float(np.mean(costs)),
                }


def tables(quick: bool) -> dict[str, Any]:
    """SLA and judge → the rows of a table, means over three seeds; with `quick` fewer SLAs, and the cheaper judge."""
    slas, judges_ms = (SLAS[1:], JUDGES_MS[:1]) if quick else (SLAS, JUDGES_MS)
    return {
        f"agreement of {sla:.2f} asked for, judge of {judge_ms} ms": list(rows([sla], [judge_ms], 3))
        for judge_ms in judges_ms
        for sla in slas
    }


def lines(made: Mapping[str, Any]) -> list[str]:
    """The tables as Markdown."""
    found = ["## Routing: a judge's decisions without asking it about all", ""]
    for setting, ways in made.items():
        found += [f"L1, {setting}", "", "| way | agreement | worst seed | ms a document |"]
        found.append("| --- | --: | --: | --: |")
        found += [
            f"| {row['way']} | {row['agreement']:.3f} | {row['worst']:.3f} | {row['cost_ms']:.2f} |" for row in ways
        ]
        found.append("")
    return found
