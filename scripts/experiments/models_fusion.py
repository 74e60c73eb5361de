"""Fusion: what a score is worth that is made of whatever blocks a document has, against simpler ways to one.

Four blocks of six features see parts of one latent; the label depends on products across blocks. In each table, the
accuracy in per cent with all blocks, and with each block missing with probability one half. Part of models.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np

from gneiss.arrays import BoolArray, Float64Array
from gneiss.model_training.fusion.baselines import baselines
from gneiss.model_training.fusion.methods import (
    Examples,
    Learning,
    fit_laser,
    fit_masked,
    laser_probabilities,
    masked_probabilities,
    propensity_weights,
)

BLOCKS, FEATURES, LATENT = 4, 6, 8
TRAINED, TESTED = 3000, 4000
NOISE = (0.3, 0.4, 0.5, 0.6)
#: Name → the probability that a block is there in a positive and in a negative document to learn from.
COLUMNS = {
    "half of the blocks missing": (0.5, 0.5),
    "complete, blocks lost later": (1.0, 1.0),
    "missing not at random": (0.7, 0.3),
}
Scores = Callable[[Examples], Float64Array]


@dataclass(frozen=True, eq=False)
class Fixture:
    """Documents to learn from, and to test on with all blocks and with half of them."""

    trained: Examples
    whole: Examples
    halved: Examples


def fixture(seed: int, positives: float, negatives: float) -> Fixture:
    """Fixture A1; positives, negatives: the probability that a block is there in a document to learn from."""
    fixed = np.random.Generator(np.random.PCG64([505]))
    own = [fixed.standard_normal((FEATURES, 2)) for _ in range(BLOCKS)]
    shared = [fixed.standard_normal((FEATURES, LATENT)) for _ in range(BLOCKS)]
    draw = np.random.Generator(np.random.PCG64([506, seed]))
    latent = draw.standard_normal((TRAINED + TESTED, LATENT))
    linear = latent[:, ::2] @ np.array([1.0, 0.9, 0.7, 0.5])
    score = linear + 1.2 * latent[:, 1] * latent[:, 3] + 1.2 * latent[:, 5] * latent[:, 7]
    labels = (score + 0.3 * draw.standard_normal(len(score)) > np.median(score)).astype(np.float64)
    blocks = []
    for k in range(BLOCKS):
        seen = latent[:, 2 * k : 2 * k + 2] @ own[k].T + 0.2 * latent @ shared[k].T
        seen += NOISE[k] * draw.standard_normal(seen.shape)
        seen[:, ::2] = 2 * np.tanh(seen[:, ::2] / 2)
        blocks.append(seen)
    trained, tested = slice(0, TRAINED), slice(TRAINED, None)
    there = _there(draw, np.where(labels[trained] > 0, positives, negatives))
    halved = _there(draw, np.full(TESTED, 0.5))
    rows = [block[trained][there[:, k]] for k, block in enumerate(blocks)]
    scaled = [(b - r.mean(axis=0)) / r.std(axis=0) for b, r in zip(blocks, rows, strict=True)]
    return Fixture(
        _examples(scaled, there, labels, trained),
        _examples(scaled, np.ones((TESTED, BLOCKS), np.bool_), labels, tested),
        _examples(scaled, halved, labels, tested),
    )


def _there(draw: np.random.Generator, probabilities: Float64Array) -> BoolArray:
    """Which blocks are there, of each document at least one."""
    there = draw.random((len(probabilities), BLOCKS)) < probabilities[:, None]
    at_least = draw.integers(BLOCKS, size=len(there))
    none = ~there.any(axis=1)
    there[none, at_least[none]] = True
    return there


def _examples(blocks: Sequence[Float64Array], there: BoolArray, labels: Float64Array, rows: slice) -> Examples:
    filled = tuple(np.where(there[:, [k]], block[rows], 0.0) for k, block in enumerate(blocks))
    return Examples(filled, there, labels[rows], np.ones(len(there)))


def laser(trained: Examples, seed: int, *, is_published: bool = False) -> Scores:
    """A scorer by LASER, its loss divided by 2^m - 1, or as published."""
    parameters = fit_laser(trained, Learning(seed=seed), is_published=is_published)
    return lambda documents: laser_probabilities(parameters, documents)


def masked(trained: Examples, seed: int) -> Scores:
    """A scorer by one network on zero-filled blocks and their mask."""
    network = fit_masked(trained, Learning(seed=seed))
    return lambda documents: masked_probabilities(network, documents)


def weighted(trained: Examples) -> Examples:
    """The same documents, by inverse propensity."""
    return replace(trained, weights=propensity_weights(trained.patterns, trained.labels))


def accuracy(scores: Float64Array, labels: Float64Array) -> float:
    """In per cent; a document without a score counts as a coin's throw."""
    right = np.where(np.isnan(scores), 0.5, (scores > 0.5) == (labels > 0))
    return 100 * float(right.mean())


def of_those_there(scores: Float64Array, labels: Float64Array) -> float:
    """The same, of the documents that have a score."""
    there = ~np.isnan(scores)
    return accuracy(scores[there], labels[there])


def bias(scores: Float64Array, labels: Float64Array) -> float:
    """The mean score less the share of positives."""
    return float(scores.mean() - labels.mean())


def measured(column: str, seed: int, *, with_baselines: bool = True) -> dict[str, Any]:
    """Way → its figures for one table and seed; None where a library is not installed."""
    given = fixture(seed, *COLUMNS[column])
    names = [f"block {k}" for k in range(BLOCKS)]
    ways: list[tuple[str, Scores | None]] = []
    if with_baselines:
        ways += baselines(given.trained, names, Learning(seed=seed))
    ways += [
        ("masked: zeros, mask and block dropout", masked(given.trained, seed)),
        ("masked, inverse propensity", masked(weighted(given.trained), seed)),
        ("LASER (normalised)", laser(given.trained, seed)),
        ("LASER, inverse propensity", laser(weighted(given.trained), seed)),
        ("LASER as published", laser(given.trained, seed, is_published=True)),
    ]
    figures: dict[str, Any] = {}
    for name, scorer in ways:
        if scorer is None:
            figures[name] = None
            continue
        whole, halved = scorer(given.whole), scorer(given.halved)
        judge = of_those_there if name.startswith("block ") else accuracy
        figures[name] = {
            "all": judge(whole, given.whole.labels),
            "half": judge(halved, given.halved.labels),
            "bias": None if np.isnan(halved).any() else bias(halved, given.halved.labels),
        }
    return figures


def tables(quick: bool) -> dict[str, Any]:
    """Table → way → figures, means over seeds: one with `quick`, else two."""
    made: dict[str, Any] = {}
    for column in COLUMNS:
        found = [measured(column, seed, with_baselines=column != "missing not at random") for seed in range(2 - quick)]
        made[column] = {name: _means([figures[name] for figures in found]) for name in found[0]}
    return made


def _means(figures: Sequence[Mapping[str, float | None] | None]) -> dict[str, float | None] | None:
    there = [figure for figure in figures if figure is not None]
    if not there:
        return None
    return {
        name: None if any(row[name] is None for row in there) else fmean(float(row[name] or 0.0) for row in there)
        for name in there[0]
    }


def lines(made: Mapping[str, Any]) -> list[str]:
    """The tables as Markdown."""
    found = ["## Fusion: one score from the blocks that there are", ""]
    for column, ways in made.items():
        found += [
            f"Trained with: {column}",
            "",
            "| way | all blocks | half missing | bias |",
            "| --- | --: | --: | --: |",
        ]
        for name, figures in ways.items():
            if figures is None:
                found.append(f"| {name} | not installed | | |")
            else:
                shift = "" if figures["bias"] is None else f"{figures['bias']:+.3f}"
                found.append(f"| {name} | {figures['all']:.1f} | {figures['half']:.1f} | {shift} |")
        found.append("")
    return found
