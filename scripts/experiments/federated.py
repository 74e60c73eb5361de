"""Federated training: every strategy beside its baselines, on made-up documents at sites that are unlike each other.

    python scripts/experiments/federated.py [--quick] [--json]

S1: two labels whose mix differs from site to site. S2: sites in regions. S3: sites of which some are slow.
Equal figures for equal versions, on one kind of processor; nothing is written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
from perceptron import new_perceptron, perceptron_accuracy, perceptron_gradient
from silos import DOMAINS, Regime, Silos, is_slow, s1, s2, s3, seconds_of

from gneiss.model_training.federated.clock import Event, arrivals
from gneiss.model_training.federated.linear import Examples, Sampling, draw_of, predicted
from gneiss.model_training.federated.rounds import SiteGradient, asked_sites, rounds
from gneiss.model_training.federated.strategies.buffered import Buffered
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, REGIONAL, ROUNDS, Rates
from gneiss.model_training.federated.strategies.hierarchy import Hierarchy
from gneiss.model_training.federated.strategies.steps import Descent, Weights
from gneiss.model_training.federated.strategies.strategy import ServerState, Strategy

SEEDS = 3

S1_ROUNDS, S1_SHARE, S1_BEHIND = 25, 0.5, 0.03
S1_SERVER_RATE = 0.03  # of FedAdam
_PLAIN, _SCALED = (0.3, 1.0, 3.0), (0.003, 0.01, 0.03)
#: Names as they are shown, and the rates of sites that are tried.
S1_STRATEGIES = {
    "FedAvg": ("fedavg", _PLAIN),
    "SCAFFOLD": ("scaffold", _PLAIN),
    "FedAdam": ("fedadam", _PLAIN),
    "Local Adam": ("local_adam", _SCALED),
    "FAdamET": ("fadam_et", _SCALED),
    "FAdamGT": ("fadam_gt", _SCALED),
}
#: α and local steps, and the rate that `s1_chosen` finds for each strategy, in their order.
S1_SETTINGS = {
    (0.1, 10): (3.0, 3.0, 0.3, 0.03, 0.03, 0.03),
    (0.1, 40): (0.3, 1.0, 0.3, 0.01, 0.01, 0.003),
    (1.0, 10): (3.0, 3.0, 0.3, 0.01, 0.03, 0.01),
    (1.0, 40): (1.0, 0.3, 0.3, 0.01, 0.01, 0.003),
}

S2_ROUNDS, S2_STEPS, S2_BATCH, S2_RATES, S2_BEHIND = 12, 10, 8, (1.0, 3.0), 0.04
#: Where mixes differ, and rounds in a region for each global one; and the rate that `s2_chosen` finds for each form.
S2_SETTINGS: Mapping[tuple[Regime, int], tuple[float, ...]] = {
    ("both", 5): (3.0, 3.0, 3.0, 3.0),
    ("both", 10): (3.0, 3.0, 1.0, 1.0),
    ("sites", 5): (1.0, 3.0, 3.0, 3.0),
    ("regions", 5): (3.0, 3.0, 1.0, 1.0),
}
S2_FORMS = {"HFedAvg": "hfedavg", "z only": "mtgc_sites", "y only": "mtgc_regions", "MTGC": "mtgc"}

S3_STEPS, S3_BATCH, S3_RATE, S3_CONCURRENCY, S3_BUFFER = 20, 16, 0.3, 10, 5
S3_SECONDS = (30.0, 100.0, 200.0)
S3_RULES: Mapping[str, Buffered] = {
    name: ARRIVALS[rule](Rates(server_rate=rate, buffer_size=S3_BUFFER))
    for name, (rule, rate) in {
        "FedAsync": ("fedasync", 1.0),
        "FedBuff": ("fedbuff", 2.0),
        "FADAS": ("fadas", 0.01),
        "FADAS-da": ("fadas_da", 0.03),
        "FADAS, rate .3": ("fadas", 0.3),
        "FADAS-da, rate .3": ("fadas_da", 0.3),
    }.items()
}


def s1_candidates(steps: int) -> dict[str, list[Strategy]]:
    """Each strategy at three rates of its sites."""
    return {
        shown: [ROUNDS[name](Rates(steps, rate, S1_SERVER_RATE)) for rate in rates]
        for shown, (name, rates) in S1_STRATEGIES.items()
    }


def s1_known(alpha: float, steps: int) -> dict[str, Strategy]:
    """Each strategy at the rate that is known to be chosen."""
    return {
        shown: ROUNDS[name](Rates(steps, rate, S1_SERVER_RATE))
        for (shown, (name, _)), rate in zip(S1_STRATEGIES.items(), S1_SETTINGS[alpha, steps], strict=True)
    }


@cache
def s1_chosen(alpha: float, steps: int) -> dict[str, Strategy]:
    """Each strategy at the rate with which it is best on the validation documents of seed 0."""
    silos = s1(alpha, 0)
    return {
        name: max(candidates, key=lambda strategy: s1_curve(silos, strategy, 0, silos.validated).final)
        for name, candidates in s1_candidates(steps).items()
    }


@dataclass(frozen=True)
class Curve:
    """Test accuracy after each round."""

    accuracy: tuple[float, ...]

    @property
    def final(self) -> float:
        """After the last one."""
        return self.accuracy[-1]

    def rounds_to(self, target: float) -> int:
        """Rounds until it is there; one more than there are if never."""
        return next((at for at, value in enumerate(self.accuracy, 1) if value >= target), len(self.accuracy) + 1)


def accuracy(weights: Weights, examples: Examples) -> float:
    """The share of labels that are predicted."""
    return float((predicted(weights, examples.rows) == examples.labels).mean())


def curve(states: Iterator[ServerState], count: int, tested: Examples) -> Curve:
    """Of the first rounds."""
    return Curve(tuple(accuracy(state.x, tested) for state in islice(states, count)))


def linear_sites(silos: Silos, sampling: Sampling) -> dict[str, SiteGradient]:
    """The gradients of a linear model at each site."""
    return {name: _site(examples, sampling) for name, examples in silos.sites.items()}


def _site(examples: Examples, sampling: Sampling) -> SiteGradient:
    return lambda draw: sampling.gradient(examples, draw)


def central(silos: Silos, strategy: Strategy, batch: int, outputs: int, count: int, seed: int) -> Curve:
    """What the same steps reach where all documents are in one place, with the mini-batches of all sites."""
    states = rounds(
        strategy, _zeros(silos, outputs), {"all": _site(silos.pooled, Sampling(batch, min_documents=1))}, seed=seed
    )
    return curve(states, count, silos.tested)


def _zeros(silos: Silos, outputs: int) -> Weights:
    return np.zeros((silos.vocabulary, outputs), np.float32)


def s1_central(silos: Silos, seed: int) -> Curve:
    """AMSGrad in one place."""
    asked = round(S1_SHARE * len(silos.sites))
    return central(silos, ROUNDS["local_adam"](Rates(10, 0.01)), asked * Sampling().batch, 1, S1_ROUNDS, seed)


def s1_curve(silos: Silos, strategy: Strategy, seed: int, judged: Examples) -> Curve:
    """25 rounds of half of the sites."""
    states = rounds(
        strategy, _zeros(silos, 1), linear_sites(silos, Sampling(min_documents=1)), share=S1_SHARE, seed=seed
    )
    return curve(states, S1_ROUNDS, judged)


def of_s1(alpha: float, seed: int, strategies: Mapping[str, Strategy]) -> dict[str, dict[str, float]]:
    """Strategy → its rate, rounds to the target, floats up and down by the size of the model, final accuracy."""
    silos = s1(alpha, seed)
    in_one_place = s1_central(silos, seed).final
    asked = round(S1_SHARE * len(silos.sites))
    found = {"central": {"final": in_one_place}}
    for name, strategy in strategies.items():
        made = s1_curve(silos, strategy, seed, silos.tested)
        needed = made.rounds_to(in_one_place - S1_BEHIND)
        vectors = 2 if strategy.corrected is None else 4
        found[name] = {
            "rate": strategy.local.rate, "rounds": needed, "floats": needed * vectors * asked, "final": made.final
        }  # fmt: skip
    return found


def s2_form(name: str, region_rounds: int, rate: float) -> Hierarchy:
    """MTGC or an ablation, by the name that is shown."""
    return REGIONAL[S2_FORMS[name]](Rates(S2_STEPS, rate, region_rounds=region_rounds))


def s2_known(regime: Regime, region_rounds: int) -> dict[str, Hierarchy]:
    """Each form at the rate that is known to be chosen."""
    rates = S2_SETTINGS[regime, region_rounds]
    return {name: s2_form(name, region_rounds, rate) for name, rate in zip(S2_FORMS, rates, strict=True)}


@cache
def s2_chosen(regime: Regime, region_rounds: int) -> dict[str, Hierarchy]:
    """Each form at the rate with which it is best on the validation documents of seed 0."""
    silos, regions = s2(regime, 0)
    return {
        name: max(
            (s2_form(name, region_rounds, rate) for rate in S2_RATES),
            key=lambda form: s2_curve(silos, regions, form, 0, silos.validated).final,
        )
        for name in S2_FORMS
    }


def s2_curve(silos: Silos, regions: Mapping[str, Sequence[str]], form: Hierarchy, seed: int, judged: Examples) -> Curve:
    """12 global rounds of all sites."""
    sites = linear_sites(silos, Sampling(S2_BATCH, min_documents=1))
    state = form.begin(_zeros(silos, DOMAINS), tuple(regions))
    found = []
    for round_ in range(S2_ROUNDS):
        answers = {
            region: form.answer(task, {site: sites[site](draw_of(seed, round_, site)) for site in regions[region]})
            for region, task in form.tasks(state, tuple(regions)).items()
        }
        state = form.aggregate(state, answers)
        found.append(accuracy(state.x, judged))
    return Curve(tuple(found))


def of_s2(regime: Regime, seed: int, forms: Mapping[str, Hierarchy]) -> dict[str, dict[str, float]]:
    """Form → its rate, global rounds to the target, final accuracy."""
    silos, regions = s2(regime, seed)
    steps = S2_STEPS * max(form.region_rounds for form in forms.values())
    batch = S2_BATCH * len(silos.sites)
    in_one_place = central(silos, ROUNDS["fedavg"](Rates(steps, max(S2_RATES))), batch, DOMAINS, S2_ROUNDS, seed).final
    found = {"central": {"final": in_one_place}}
    for name, form in forms.items():
        made = s2_curve(silos, regions, form, seed, silos.tested)
        needed = made.rounds_to(in_one_place - S2_BEHIND)
        found[name] = {"rate": form.rate, "rounds": needed, "final": made.final}
    return found


def s3_events(silos: Silos, rule: Buffered, seed: int) -> Iterator[Event]:
    """Every arrival, with a perceptron at the sites."""
    descent = Descent(S3_STEPS, S3_RATE)

    def local(x: Weights, site: str, task: int) -> Weights:
        gradient = perceptron_gradient(silos.sites[site], DOMAINS, S3_BATCH, draw_of(seed, task, site))
        return descent.run(x, gradient)[0]

    x = new_perceptron(silos.vocabulary, DOMAINS, np.random.Generator(np.random.PCG64([103, seed])))
    return arrivals(rule, x, tuple(silos.sites), local, seconds_of, concurrency=S3_CONCURRENCY, seed=seed)


def s3_asynchronous(silos: Silos, rule: Buffered, seed: int, until: float = S3_SECONDS[-1]) -> dict[str, float]:
    """Accuracy at some seconds, the least in the last third (each second), updates, delays, the share of slow sites."""
    found: dict[str, float] = {}
    marks = [mark for mark in S3_SECONDS if mark <= until]
    late = [until * 2 / 3 + second for second in range(int(until / 3) + 1)]
    worst, arrived, slow, longest = 1.0, 0, 0, 0
    updates, before = 0, None
    for event in s3_events(silos, rule, seed):
        while marks and event.seconds > marks[0] and before is not None:
            found[f"{marks.pop(0):.0f} s"] = perceptron_accuracy(before, silos.tested, DOMAINS)
        while late and event.seconds > late[0] and before is not None:
            late.pop(0)
            worst = min(worst, perceptron_accuracy(before, silos.tested, DOMAINS))
        if event.seconds > until:
            break
        before, arrived, longest = event.state.x, arrived + 1, max(longest, event.delay)
        slow += is_slow(event.site)
        updates = event.state.updates
    return found | {"least": worst, "updates": updates, "longest delay": longest, "slow share": slow / arrived}


def s3_synchronous(silos: Silos, strategy: Strategy, seed: int) -> dict[str, float]:
    """Accuracy at some seconds where a round lasts as long as its slowest site."""
    draw = np.random.Generator(np.random.PCG64([104, seed]))
    share = S3_CONCURRENCY / len(silos.sites)

    def site(examples: Examples) -> SiteGradient:
        return lambda own: perceptron_gradient(examples, DOMAINS, S3_BATCH, own)

    x: Weights = new_perceptron(silos.vocabulary, DOMAINS, np.random.Generator(np.random.PCG64([103, seed])))
    states = rounds(strategy, x, {name: site(own) for name, own in silos.sites.items()}, share=share, seed=seed)
    found: dict[str, float] = {}
    marks, seconds, updates = list(S3_SECONDS), 0.0, 0
    while True:
        asked = asked_sites(tuple(silos.sites), share, seed, updates)
        seconds += max(seconds_of(name, draw) for name in asked)
        while marks and seconds > marks[0]:
            found[f"{marks.pop(0):.0f} s"] = perceptron_accuracy(x, silos.tested, DOMAINS)
        if not marks:
            return found | {"updates": updates}
        x = next(states).x
        updates += 1


def of_s3(seed: int) -> dict[str, dict[str, float]]:
    """Rule → its figures."""
    silos = s3(seed)
    found = {
        "synchronous FedAMS": s3_synchronous(silos, ROUNDS["fedadam"](Rates(S3_STEPS, S3_RATE, 0.3)), seed),
        "synchronous FedAvg": s3_synchronous(silos, ROUNDS["fedavg"](Rates(S3_STEPS, S3_RATE)), seed),
    }
    return found | {name: s3_asynchronous(silos, rule, seed) for name, rule in S3_RULES.items()}


def means(of_seeds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Of each figure of each way over seeds."""
    return {
        way: {name: fmean(one[way][name] for one in of_seeds) for name in figures}
        for way, figures in of_seeds[0].items()
    }


def tables(quick: bool) -> dict[str, dict[str, Any]]:
    """The tables by fixture and setting: means over three seeds; with `quick` of one, at rates that are known."""
    seeds = range(1 if quick else SEEDS)
    strategies, forms = (s1_known, s2_known) if quick else (s1_chosen, s2_chosen)
    return {
        "S1": {
            f"alpha {alpha}, {steps} local steps": means(
                [of_s1(alpha, seed, strategies(alpha, steps)) for seed in seeds]
            )
            for alpha, steps in S1_SETTINGS
        },
        "S2": {
            f"unlike: {regime}, {region_rounds} rounds in a region": means(
                [of_s2(regime, seed, forms(regime, region_rounds)) for seed in seeds]
            )
            for regime, region_rounds in S2_SETTINGS
        },
        "S3": {"slow sites of 50 to 80 s": means([of_s3(seed) for seed in seeds])},
    }


def lines(made: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> list[str]:
    """The tables as Markdown."""
    found = ["# Federated training", ""]
    for fixture, settings in made.items():
        for setting, ways in settings.items():
            names = list(dict.fromkeys(name for figures in ways.values() for name in figures))
            found += [f"{fixture}, {setting}", "", f"| way | {' | '.join(names)} |", f"| --- |{' --: |' * len(names)}"]
            for way, figures in ways.items():
                found.append(f"| {way} | {' | '.join(_shown(figures.get(name)) for name in names)} |")
            found.append("")
    return found


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if abs(value) < 1.5 else f"{value:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed instead of three, at rates that are known")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    made = tables(given.quick)
    print(json.dumps(made, indent=1) if given.json else "\n".join(lines(made)))


if __name__ == "__main__":
    main()
