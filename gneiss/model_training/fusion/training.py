"""Fusion models from labels and the annotations of a finished run, with a card of what simpler ways would reach."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.errors import InputError
from gneiss.filters.fusion_model import FILE, Block, FusionModel, Method, bounds_of, standardised, write_model
from gneiss.model_training.evaluation import evaluate
from gneiss.model_training.fusion.baselines import baselines
from gneiss.model_training.fusion.card import Fusion, Judged, Pattern, fusion_card
from gneiss.model_training.fusion.examples import LabelledRun, read_labelled_run
from gneiss.model_training.fusion.methods import (
    Examples,
    Learning,
    fit_laser,
    fit_masked,
    laser_networks,
    laser_probabilities,
    masked_probabilities,
    propensity_weights,
)
from gneiss.model_training.labels import Rule
from gneiss.model_training.networks import Parameters
from gneiss.model_training.source import CARD, claim
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, place_of

MethodChoice: TypeAlias = Literal["auto", "masked", "laser"]


def train_fusion(
    labels: Path,
    annotations: Address | FinishedRun,
    blocks: Sequence[Block],
    output: Path,
    *,
    label: str = "label",
    positive: Sequence[str] = ("hq",),
    score_threshold: float | None = None,
    method: MethodChoice = "auto",
    held_out_share: float = 0.2,
    learning: Learning = Learning(),  # noqa: B008 - a frozen value
) -> Fusion:
    """Train a model that scores a document from whatever annotations it has; write fusion.safetensors and MODEL.md.

    Parameters: `labels`: Parquet with a label, and `shard` and `row`, or `id`, of documents of the run; `annotations`:
    a finished run; `blocks`: annotations that come and go together; `output`: its own folder; `label`, `positive`,
    `score_threshold`: as for `train_quality`; `method`: `masked`, one network on all blocks and their mask; `laser`, an
    extractor and a head for each block; `auto`, of these the one with less log loss on the documents held out.
    Raises InputError for what cannot be trained on, OutputError when the folder holds something else.
    """
    if not 0.05 <= held_out_share <= 0.5:
        raise InputError(f"held_out_share: expected 0.05 to 0.5, found {held_out_share:g}")
    rule = Rule(label, tuple(positive)) if score_threshold is None else Rule(label, at_least=score_threshold)
    run = annotations if isinstance(annotations, FinishedRun) else open_run(annotations)
    labelled = read_labelled_run(labels, run, blocks, rule)
    claim(output, FILE)
    is_held_out = _held_out(labelled.labels, held_out_share)
    mean, deviation = _scale(labelled, ~is_held_out, blocks)
    examples = _examples(labelled, blocks, mean, deviation)
    trained, held_out = examples.taken(~is_held_out), examples.taken(is_held_out)
    weights = propensity_weights(trained.patterns, trained.labels)
    weighted = replace(trained, weights=weights)
    found: dict[Method, Parameters] = {"masked": fit_masked(weighted, learning), "laser": fit_laser(weighted, learning)}
    scores: Mapping[Method, Float64Array] = {
        "masked": masked_probabilities(found["masked"], held_out),
        "laser": laser_probabilities(found["laser"], held_out),
    }
    share = float(trained.labels.mean())
    losses = {name: log_loss(score, held_out.labels, share) for name, score in scores.items()}
    best: Method = "masked" if losses["masked"] <= losses["laser"] else "laser"
    chosen: Method = best if method == "auto" else method
    model = FusionModel(chosen, tuple(blocks), mean, deviation, _networks(chosen, found[chosen], len(blocks)))
    content = write_model(model)
    write_bytes(content, place_of(output), FILE)
    fusion = Fusion(
        path=output / FILE,
        method=chosen,
        is_auto=method == "auto",
        blocks=tuple(blocks),
        rule=rule,
        labelled=labelled,
        trained=len(trained.labels),
        trained_positives=int(trained.labels.sum()),
        is_weighted=bool(np.ptp(weights)),
        learning=learning,
        held_out=evaluate(scores[chosen], held_out.labels > 0),
        ways=(
            *(judged(name, score, held_out.labels, share) for name, score in scores.items()),
            *(
                Judged(name) if scorer is None else judged(name, scorer(held_out), held_out.labels, share)
                for name, scorer in baselines(trained, [block.name for block in blocks], learning)
            ),
        ),
        patterns=_patterns(trained, held_out, scores[chosen], [block.name for block in blocks]),
        held_out_share=held_out_share,
        model_sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
    )
    write_bytes(fusion_card(fusion).encode(), place_of(output), CARD)
    return fusion


def judged(name: str, scores: Float64Array, labels: Float64Array, share: float) -> Judged:
    """Accuracy and log loss of scores; share: what stands for a missing one."""
    filled = np.where(np.isnan(scores), share, scores)
    right = float(((filled > 0.5) == (labels > 0)).mean())
    return Judged(name, int((~np.isnan(scores)).sum()), right, log_loss(scores, labels, share))


def log_loss(scores: Float64Array, labels: Float64Array, share: float) -> float:
    """The mean of -log of the probability that was given to the label."""
    filled = np.clip(np.where(np.isnan(scores), share, scores), 1e-6, 1 - 1e-6)
    return float(-np.log(np.where(labels > 0, filled, 1 - filled)).mean())


def _held_out(labels: Float64Array, share: float) -> BoolArray:
    """The first documents of each label, which are in the order of a hash."""
    held_out = np.zeros(len(labels), np.bool_)
    for label in (0.0, 1.0):
        rows = np.flatnonzero(labels == label)
        held_out[rows[: round(share * len(rows))]] = True
    return held_out


def _scale(labelled: LabelledRun, rows: BoolArray, blocks: Sequence[Block]) -> tuple[Float64Array, Float64Array]:
    """Mean and deviation of each feature over the rows where its block is there. Raises InputError for one that is not.

    A feature that is always the same has the deviation 1.
    """
    bounds = bounds_of(blocks).tolist()
    mean, deviation = np.zeros(bounds[-1]), np.ones(bounds[-1])
    for number, block in enumerate(blocks):
        of_block = slice(bounds[number], bounds[number + 1])
        values = labelled.features[rows & labelled.there[:, number], of_block]
        if not len(values):
            raise InputError(f"block {block.name!r}: it is there for none of the documents to train on; leave it out")
        mean[of_block] = values.mean(axis=0)
        spread = values.std(axis=0)
        deviation[of_block] = np.where(spread > 0, spread, 1.0)
    return mean, deviation


def _examples(labelled: LabelledRun, blocks: Sequence[Block], mean: Float64Array, deviation: Float64Array) -> Examples:
    features = standardised(labelled.features, labelled.there, blocks, mean, deviation)
    bounds: Int64Array = bounds_of(blocks)
    parts = tuple(np.split(features, bounds[1:-1], axis=1))
    return Examples(parts, labelled.there, labelled.labels, np.ones(len(labelled.labels)))


def _networks(method: Method, parameters: Parameters, blocks: int) -> tuple[tuple[Float64Array, ...], ...]:
    if method == "masked":
        return (tuple(parameters),)
    extractors, heads = laser_networks(parameters, blocks)
    return tuple(tuple(network) for network in (*extractors, *heads))


def _patterns(trained: Examples, held_out: Examples, scores: Float64Array, names: Sequence[str]) -> tuple[Pattern, ...]:
    """Every pattern of blocks that occurs, most blocks first."""
    before, after = trained.patterns, held_out.patterns
    found = []
    for pattern in sorted({*before.tolist(), *after.tolist()}, key=lambda bits: (-bits.bit_count(), bits)):
        rows = after == pattern
        right = (scores[rows] > 0.5) == (held_out.labels[rows] > 0)
        blocks = tuple(name for number, name in enumerate(names) if pattern >> number & 1)
        accuracy = float(right.mean()) if rows.any() else None
        found.append(Pattern(blocks, int((before == pattern).sum()), int(rows.sum()), accuracy))
    return tuple(found)
