"""A coded network in place of a lost one: COIN beside averaging, distillation and the other network.

    python scripts/experiments/coin.py [--quick] [--json]

Images of ten classes, 8 × 8: those of scikit-learn where it is installed, and made-up ones, on an even and on a noisy
ground. Two experts are fine-tuned from one base, on images and on images that are inverted and transposed; each is lost
in turn, and decoded from the coded network and the other expert. Equal figures for equal versions, on one kind of
processor, but for seconds, which are CPU time by `time.process_time`; nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: more threads only wait for each other at this size
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.model_training.coding.barycenter import average, barycenter, distilled, fisher, mixture, probabilities
from gneiss.model_training.coding.linear import coded, decoded, even_coefficients, vandermonde_coefficients
from gneiss.model_training.networks import Parameters, backward, fitted, forward, new_network

CLASSES, SIDE, IMAGES = 10, 8, 1800
BASE, FISHER, TESTED = 600, 200, 500
BASE_STEPS, EXPERT_STEPS = 150, 400
#: Of Adam, full batches.
BASE_RATE = 3e-3
#: Of experts: how far they move from their base.
RATES = (1e-3, 3e-3)
#: The share of decisions with the smallest gap between the two best classes, which waits.
DEFERRED = 0.2
Images: TypeAlias = tuple[Float64Array, Int64Array]
Domain: TypeAlias = "Callable[[Float64Array], Float64Array]"


def made_up(seed: int, noise: float = 0.0) -> Images:
    """G1: ten random glyphs of uneven and broken strokes, with empty columns left and right; noise: all over them."""
    rng = np.random.default_rng([1, seed])
    glyphs = np.zeros((CLASSES, SIDE, SIDE))
    glyphs[:, :, 2:-2] = rng.random((CLASSES, SIDE, SIDE - 4)) < 0.4
    labels = rng.integers(0, CLASSES, IMAGES)
    shape = (IMAGES, SIDE, SIDE)
    images = glyphs[labels] * rng.uniform(0.3, 1.0, shape) * (rng.random(shape) < 0.6)
    images = images + noise * rng.standard_normal(shape)
    return images.reshape(IMAGES, -1), labels


def noisy(seed: int) -> Images:
    """G1 with noise on every pixel."""
    return made_up(seed, noise=0.25)


def digits(_seed: int) -> Images:
    """Handwritten digits (E. Alpaydin and C. Kaynak, 1998), as scikit-learn ships them."""
    from sklearn.datasets import load_digits  # type: ignore[import-not-found,unused-ignore]

    images, labels = load_digits(return_X_y=True)
    return images / 16, labels.astype(np.int64)


def same(images: Float64Array) -> Float64Array:
    """Domain A."""
    return images


def inverted(images: Float64Array) -> Float64Array:
    """Domain B: inverted and transposed."""
    return 1 - images.reshape(-1, SIDE, SIDE).transpose(0, 2, 1).reshape(len(images), -1)


def trained(start: Parameters, data: Images, steps: int, rate: float, draw: np.random.Generator) -> Parameters:
    """A network after so many steps of Adam on labelled images."""
    images, labels = data

    def gradient(parameters: Parameters, rows: Int64Array) -> Parameters:
        entering = forward(parameters, images[rows])
        error = probabilities(parameters, images[rows])
        error[np.arange(len(rows)), labels[rows]] -= 1
        return backward(parameters, entering, error / len(rows))[0]

    rows = len(images)
    return fitted(start, gradient, rows, draw, epochs=steps, learning_rate=rate, l2=1e-4, batch=rows, decays=False)


@dataclass(frozen=True, eq=False)
class Experts:
    """Networks fine-tuned from one base; inputs: unlabelled images of each; tested: (images, labels) of each."""

    networks: Sequence[Parameters]
    inputs: Sequence[Float64Array]
    tested: Sequence[Images]


def experts(
    data: Images,
    depth: int,
    base_has_both: bool,
    seed: int,
    rate: float = RATES[0],
    domains: Sequence[Domain] = (same, inverted),
    questions: Sequence[Callable[[Int64Array], Int64Array]] = (),
) -> Experts:
    """Experts of domains; questions: what each is asked of a class, by default which one it is."""
    images, labels = data
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(images))
    first, rest, last = order[:BASE], order[BASE:-TESTED], order[-TESTED:]
    start = new_network((SIDE * SIDE, *[64] * depth, CLASSES), draw)
    parts = np.array_split(first, len(domains)) if base_has_both else [first]
    seen = np.concatenate([domain(images[part]) for domain, part in zip(domains, parts, strict=False)])
    base = trained(start, (seen, labels[first]), BASE_STEPS, BASE_RATE, draw)
    asked = questions or [lambda own: own] * len(domains)
    return Experts(
        [
            trained(base, (domain(images[rest]), question(labels[rest])), EXPERT_STEPS, rate, draw)
            for domain, question in zip(domains, asked, strict=True)
        ],
        [domain(images[first[:FISHER]]) for domain in domains],
        [(domain(images[last]), question(labels[last])) for domain, question in zip(domains, asked, strict=True)],
    )


def of_losses(found: Experts, draw: np.random.Generator) -> dict[str, float]:
    """Accuracy where an expert is lost, mean over which one, for each way; agreement, and CPU-seconds of building."""
    beta = even_coefficients(len(found.networks))[0]
    together = np.concatenate(found.inputs)
    began = time.process_time()
    fishers = [fisher(network, own) for network, own in zip(found.networks, found.inputs, strict=True)]
    merged = barycenter(found.networks, fishers, beta)
    built = time.process_time()
    plain = average(found.networks, beta)
    wanted = mixture(found.networks, beta, together)
    after = time.process_time()
    taught = distilled(plain, wanted, together, 400, draw)
    ended = time.process_time()
    on_all = barycenter(found.networks, [fisher(network, together) for network in found.networks], beta)
    ways = {
        "average": plain,
        "COIN": merged,
        "COIN, Fisher on all images": on_all,
        "COIN, distilled": distilled(merged, wanted, together, 150, draw),
        "distilled": taught,
    }
    shown = {name: _decoded_figures(found, network, beta) for name, network in ways.items()}
    pairs = [
        (probabilities(network, tested), labels)
        for network, (tested, labels) in zip(found.networks, found.tested, strict=True)
    ]
    others = [
        (probabilities(found.networks[lost - 1], tested), labels) for lost, (tested, labels) in enumerate(found.tested)
    ]
    return {
        "original": _mean_accuracy(pairs),
        **{name: accuracy for name, (accuracy, _) in shown.items()},
        "other network": _mean_accuracy(others),
        **{f"agreement, {name}": agreement for name, (_, agreement) in shown.items()},
        "seconds, COIN": built - began,
        "seconds, distilled": ended - after,
    }


def _decoded_figures(found: Experts, network: Parameters, beta: Float64Array) -> tuple[float, float]:
    """Mean over losses of accuracy, and of agreement with the lost expert on decisions that need not wait."""
    accuracies, agreements = [], []
    for lost, (images, labels) in enumerate(found.tested):
        known = [probabilities(expert, images) for expert in found.networks]
        answers: list[Float64Array | None] = [*known]
        answers[lost] = None
        p = decoded(answers, [probabilities(network, images)], beta[None])[lost]
        best = np.sort(p, axis=1)
        gaps = best[:, -1] - best[:, -2]
        stands = np.argsort(gaps, kind="stable")[int(DEFERRED * len(gaps)) :]
        accuracies.append(float((p.argmax(axis=1) == labels).mean()))
        agreements.append(float((p.argmax(axis=1) == known[lost].argmax(axis=1))[stands].mean()))
    return float(np.mean(accuracies)), float(np.mean(agreements))


def _mean_accuracy(pairs: Sequence[tuple[Float64Array, Int64Array]]) -> float:
    return float(np.mean([(p.argmax(axis=1) == labels).mean() for p, labels in pairs]))


def _over_seeds(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {**means, "worst COIN": min(row["COIN"] for row in rows)}


def figures(
    fixture: Callable[[int], Images], depth: int, base_has_both: bool, seeds: int, **changes: Any
) -> dict[str, float]:
    """Means over seeds, and the worst seed of COIN."""
    rows = [
        of_losses(experts(fixture(seed), depth, base_has_both, seed, **changes), np.random.default_rng(seed))
        for seed in range(seeds)
    ]
    return _over_seeds(rows)


def linear_errors() -> dict[str, float]:
    """The most that a decoded score of six linear heads is off, 300 features that sum to 1, 1,000 rows."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(300) for _ in range(6)]
    inputs = rng.dirichlet(np.full(300, 0.05), 1000)
    scores = [inputs @ own for own in weights]
    rows = even_coefficients(6)
    (whole,) = coded(weights, rows)
    (as_float32,) = coded([own.astype(np.float32) for own in weights], rows.astype(np.float32))
    one = decoded([None, *scores[1:]], [inputs @ whole], rows)[0]
    short = decoded([None, *scores[1:]], [inputs @ as_float32.astype(np.float64)], rows)[0]
    two_rows = vandermonde_coefficients(6, 2)
    two = decoded([None, None, *scores[2:]], [inputs @ own for own in coded(weights, two_rows)], two_rows)
    return {
        "float64": float(np.abs(one - scores[0]).max()),
        "float32 table": float(np.abs(short - scores[0]).max()),
        "two of six lost, float64": float(max(np.abs(two[head] - scores[head]).max() for head in two)),
    }


def rotated(images: Float64Array) -> Float64Array:
    """Domain C, for three experts."""
    return np.rot90(images.reshape(-1, SIDE, SIDE), axes=(1, 2)).reshape(len(images), -1)


def limits(fixture: Callable[[int], Images], seeds: int) -> dict[str, dict[str, float]]:
    """Where coding is no good, or not needed: three experts, two questions, one shared question; depth 1."""
    two_questions = (lambda label: label, lambda label: (7 * label + 3) % CLASSES)
    return {
        "three experts, base of all": figures(fixture, 1, True, seeds, domains=(same, inverted, rotated)),
        "two questions about the same images": figures(
            fixture, 1, True, seeds, domains=(same, same), questions=two_questions
        ),
        "one question about the same images": figures(fixture, 1, True, seeds, domains=(same, same)),
    }


def tables(quick: bool, fixtures: Sequence[str] = ()) -> dict[str, Any]:
    """All figures; with `quick` two seeds of one fixture, digits where they are there."""
    there = fixtures or tuple(available())
    chosen, seeds = (there[:1], 2) if quick else (there, 5)
    made: dict[str, Any] = {"linear": linear_errors()}
    for name in chosen:
        made[name] = {
            f"base of {'A and B' if both else 'A'}, depth {depth}, rate {rate:g}": figures(
                FIXTURES[name], depth, both, seeds, rate=rate
            )
            for both in (True, False)
            for depth in (1, 2)
            for rate in RATES
        }
        made[f"{name}, limits"] = limits(FIXTURES[name], seeds)
    return made


FIXTURES: Mapping[str, Callable[[int], Images]] = {"digits": digits, "made up": made_up, "noisy": noisy}


def available() -> Iterator[str]:
    """The fixtures that can be had here."""
    for name, fixture in FIXTURES.items():
        try:
            fixture(0)
        except ModuleNotFoundError:
            continue
        yield name


COLUMNS = ("original", "average", "COIN", "worst COIN", "COIN, Fisher on all images", "COIN, distilled", "distilled")
OTHERS = ("other network", "agreement, average", "agreement, COIN", "agreement, distilled", "seconds, COIN",
          "seconds, distilled")  # fmt: skip


def lines(made: Mapping[str, Any]) -> list[str]:
    """The tables as Markdown."""
    found = ["## COIN: a coded network in place of a lost one", "", "Linear heads, largest error of a decoded score:"]
    found += [f"- {name}: {error:.1e}" for name, error in made["linear"].items()]
    for name, rows in made.items():
        if name == "linear":
            continue
        for columns in (COLUMNS, OTHERS):
            found += ["", f"| {name} | {' | '.join(columns)} |", f"| --- | {' | '.join('--:' for _ in columns)} |"]
            found += [
                f"| {setting} | {' | '.join(f'{row[column]:.3f}' for column in columns)} |"
                for setting, row in rows.items()
            ]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer seeds, one fixture")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    made = tables(given.quick)
    print(json.dumps(made, indent=1) if given.json else "\n".join(lines(made)))


if __name__ == "__main__":
    main()
