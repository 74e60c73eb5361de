"""Routing on the fixture L1: what each way of deciding agrees with the judge on, and costs, beside its baselines.

    python scripts/experiments/models_routing.py [--quick] [--json]

Costs are milliseconds a document, and stated, not measured. L1 is synthetic: 23 sources of unequal size, shift and
ambiguity; a judge that keeps what is above the 65 % quantile of a hidden quality; three tiers that see it with ever
less noise, a part of which they share.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gneiss.arrays import Float64Array
from gneiss.routing.fold import Feedback, Settings, Tiers, fold
from gneiss.routing.pilot import best_threshold, pilot, tier_of, way_of
from gneiss.routing.policy import JudgeEntry, Scorer
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
    made = []
    for k, cost in enumerate(tiers.costs[:-1].tolist()):
        scores = tiers.margins[: FROZEN_PILOT // 3, k]
        threshold, keeps = best_threshold(scores, tiers.verdicts[: FROZEN_PILOT // 3])
        made.append(tier_of(Scorer(f"tier {k}", threshold, keeps), scores, cost))
    margins = np.stack([tier.margins_of(tiers.margins[:, k]) for k, tier in enumerate(made)], axis=1)
    judge = JudgeEntry(function="fixture:judge")
    first, rest = slice(0, FROZEN_PILOT), slice(FROZEN_PILOT, None)
    policy = pilot(tuple(made), margins[first], tiers.verdicts[first], judge, judge_ms, "ms", sla).policy
    unseen = Tiers(margins[rest], tiers.verdicts[rest], tiers.costs)
    way = way_of(policy, unseen)
    return way.agreement.value, way.cost + policy.audit_share * judge_ms, random_mix(unseen, sla).cost


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
    """The tables of routing, by name."""
    slas, judges_ms = (SLAS[1:], JUDGES_MS[:1]) if quick else (SLAS, JUDGES_MS)
    return {"routing": list(rows(slas, judges_ms, 3))}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="α .95 and .98, and the cheaper judge, only")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    found = tables(given.quick)
    if given.json:
        json.dump(found, sys.stdout, indent=1)
        print()
        return
    for row in found["routing"]:
        print(
            f"α {row['sla']:.2f}, judge {row['judge_ms']:5.1f} ms  {row['way']:40}"
            f" {row['agreement']:.3f} (worst {row['worst']:.3f}) {row['cost_ms']:7.2f} ms"
        )


if __name__ == "__main__":
    main()
