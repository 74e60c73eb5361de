"""How a fusion model learns from blocks of which documents lack some: LASER, and one network with a mask.

LASER: Valdeira et al., 2025 (arXiv 2410.22564). Its loss sums over all tasks of a document, so that a document with m
blocks counts 2^m - 1 times; here it is divided by that, unless it is wanted as published. A block of a document that is
not there has features of 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.filters.fusion_model import EXTRACTOR, HEAD, MASKED
from gneiss.model_training.networks import Gradient, Parameters, backward, fitted, forward, new_network, probability

#: The share of blocks that the network with a mask does without, batch by batch.
BLOCK_DROPOUT = 0.3
#: Of an epoch: where documents are few, batches are small.
FEWEST_BATCHES = 16
#: Documents of each label that a pattern would have, if it said nothing of labels; with fewer it is a rare one.
FEWEST_EXPECTED = 20
_LEAST, _MOST = 0.1, 10.0


@dataclass(frozen=True)
class Learning:
    """Settings of the optimiser."""

    epochs: int = 20
    learning_rate: float = 4e-3
    l2: float = 1e-4
    batch: int = 128
    seed: int = 1


@dataclass(frozen=True, eq=False)
class Examples:
    """Documents to learn from.

    blocks: of each block its standardised features, float64 (documents, features), 0 where it is not there; there: bool
    (documents, blocks), at least one each; labels: float64 (documents,), 0 or 1; weights: float64 (documents,).
    """

    blocks: tuple[Float64Array, ...]
    there: BoolArray
    labels: Float64Array
    weights: Float64Array

    def taken(self, rows: Int64Array | BoolArray) -> Examples:
        """Some of them."""
        blocks = tuple(block[rows] for block in self.blocks)
        return Examples(blocks, self.there[rows], self.labels[rows], self.weights[rows])

    @property
    def patterns(self) -> Int64Array:
        """Of each document which blocks are there, as the sum of 2^block; int64 (documents,)."""
        found: Int64Array = self.there.astype(np.int64) @ (1 << np.arange(len(self.blocks), dtype=np.int64))
        return found


def propensity_weights(patterns: Int64Array, labels: Float64Array) -> Float64Array:
    """P(pattern) P(label) / P(pattern, label) of each document, within [0.1, 10], mean 1; float64 (documents,).

    Weighted so, which blocks a document has says nothing of its label. Rare patterns count as one pattern together:
    taken one by one, each document would have the share of its own label as its weight, and the more frequent label
    would win. Together they count the same if they are rare still. Few documents of one label alone make no pattern
    rare: there blocks say most about labels, and the bounds hold such weights.

    >>> propensity_weights(np.repeat([1, 2], 60), np.repeat([0.0, 1.0, 0.0, 1.0], (40, 20, 20, 40)))[[0, 59]].round(3)
    array([0.75, 1.5 ])
    """
    label = labels.astype(np.int64)
    _, pattern, documents = np.unique(patterns, return_inverse=True, return_counts=True)
    of_labels = np.bincount(label, minlength=2) / len(labels)
    is_rare = documents * of_labels.min() < FEWEST_EXPECTED
    pattern = np.where(is_rare[pattern], len(documents), pattern)
    counts = np.zeros((len(documents) + 1, 2))
    np.add.at(counts, (pattern, label), 1.0)
    weights = np.clip(counts.sum(axis=1)[:, None] * of_labels / np.maximum(counts, 1.0), _LEAST, _MOST)
    if counts[-1].sum() * of_labels.min() < FEWEST_EXPECTED:
        weights[-1] = 1.0
    own = weights[pattern, label]
    found: Float64Array = own / own.mean()
    return found


def new_laser(features: tuple[int, ...], draw: np.random.Generator) -> Parameters:
    """For each block an extractor, then for each block a head: what it needs grows as the number of blocks."""
    extractors = [new_network((size, *EXTRACTOR), draw) for size in features]
    return [array for network in (*extractors, *(new_network(HEAD, draw) for _ in features)) for array in network]


def laser_networks(parameters: Parameters, blocks: int) -> tuple[list[Parameters], list[Parameters]]:
    """The extractors and the heads."""
    layers = 2 * len(EXTRACTOR)
    extractors = [parameters[layers * k : layers * (k + 1)] for k in range(blocks)]
    rest = parameters[layers * blocks :]
    layers = 2 * (len(HEAD) - 1)
    return extractors, [rest[layers * k : layers * (k + 1)] for k in range(blocks)]


def task_weights(blocks: int) -> Float64Array:
    """[m, s - 1]: the weight of a task of head k drawn among the sets of s of m blocks with k: C(m-1, s-1) / s.

    Over all k and s the weights sum to 2^m - 1.

    >>> [float(m * task_weights(3)[m].sum()) for m in range(4)]
    [0.0, 1.0, 3.0, 7.0]
    """
    return np.array([[comb(m - 1, s - 1) / s if m else 0.0 for s in range(1, blocks + 1)] for m in range(blocks + 1)])


def laser_loss(
    parameters: Parameters, examples: Examples, keys: Float64Array, *, is_published: bool = False
) -> tuple[float, Parameters]:
    """The mean loss of documents and its gradient, over one set of blocks for each head and size.

    keys: (documents, blocks), uniform; the set of head k and size s is k and the s - 1 other blocks of least key.
    """
    rows, count = examples.there.shape
    extractors, heads = laser_networks(parameters, count)
    extracted = [forward(network, block) for network, block in zip(extractors, examples.blocks, strict=True)]
    representations = np.stack([entering[-1] for entering in extracted], axis=1)
    there = examples.there.sum(axis=1)
    weights = task_weights(count)[there] * (examples.weights / rows)[:, None]
    if not is_published:
        weights /= 2.0 ** there[:, None] - 1
    sizes = np.arange(1, count + 1)
    loss, of_heads = 0.0, []
    of_representations = np.zeros_like(representations)
    for k, head in enumerate(heads):
        own = np.where(examples.there, keys, np.inf)
        own[:, k] = -1.0
        order = np.argsort(own, axis=1)[:, :, None]
        means = np.cumsum(np.take_along_axis(representations, order, 1), axis=1) / sizes[:, None]
        asked = examples.there[:, k, None] & (sizes <= there[:, None])
        label = np.broadcast_to(examples.labels[:, None], asked.shape)[asked]
        entering = forward(head, means[asked])
        logits = entering[-1][:, 0]
        loss += float((weights[asked] * (np.logaddexp(0.0, logits) - label * logits)).sum())
        gradients, of_asked = backward(head, entering, (weights[asked] * (probability(logits) - label))[:, None])
        of_heads += gradients
        of_means = np.zeros_like(means)
        of_means[asked] = of_asked
        of_sorted = np.cumsum((of_means / sizes[:, None])[:, ::-1], axis=1)[:, ::-1]
        unsorted = np.empty_like(of_sorted)
        np.put_along_axis(unsorted, order, of_sorted, 1)
        of_representations += unsorted
    of_extractors: Parameters = []
    for k, (network, entering) in enumerate(zip(extractors, extracted, strict=True)):
        of_extractors += backward(network, entering, of_representations[:, k])[0]
    return loss, [*of_extractors, *of_heads]


def fit_laser(examples: Examples, learning: Learning, *, is_published: bool = False) -> Parameters:
    """Train LASER; see `new_laser` for what comes."""
    draw = np.random.Generator(np.random.PCG64(learning.seed))
    parameters = new_laser(tuple(block.shape[1] for block in examples.blocks), draw)

    def gradient(parameters: Parameters, rows: Int64Array) -> Parameters:
        keys = draw.random((len(rows), len(examples.blocks)))
        return laser_loss(parameters, examples.taken(rows), keys, is_published=is_published)[1]

    return _fitted(parameters, gradient, len(examples.labels), draw, learning)


def masked_loss(network: Parameters, examples: Examples) -> tuple[float, Parameters]:
    """The mean loss of documents, and its gradient, for one network that sees all blocks and their mask."""
    entering = forward(network, masked_inputs(examples))
    logits = entering[-1][:, 0]
    weights = examples.weights / len(logits)
    loss = float((weights * (np.logaddexp(0.0, logits) - examples.labels * logits)).sum())
    of_logits = weights * (probability(logits) - examples.labels)
    return loss, backward(network, entering, of_logits[:, None])[0]


def masked_inputs(examples: Examples) -> Float64Array:
    """The features of all blocks, 0 where one is not there, and 1 or 0 for each block."""
    return np.hstack([*examples.blocks, examples.there.astype(np.float64)])


def without(examples: Examples, there: BoolArray) -> Examples:
    """The same documents with fewer blocks."""
    blocks = tuple(block * there[:, k, None] for k, block in enumerate(examples.blocks))
    return Examples(blocks, there, examples.labels, examples.weights)


def fit_masked(examples: Examples, learning: Learning) -> Parameters:
    """Train one network on zero-filled blocks and their mask; in each batch blocks are left out at random."""
    draw = np.random.Generator(np.random.PCG64(learning.seed))
    inputs = sum(block.shape[1] for block in examples.blocks) + len(examples.blocks)
    network = new_network((inputs, *MASKED, 1), draw)

    def gradient(network: Parameters, rows: Int64Array) -> Parameters:
        chosen = examples.taken(rows)
        there = chosen.there & (draw.random(chosen.there.shape) >= BLOCK_DROPOUT)
        there = np.where(there.any(axis=1, keepdims=True), there, chosen.there)
        return masked_loss(network, without(chosen, there))[1]

    return _fitted(network, gradient, len(examples.labels), draw, learning)


def fit_network(inputs: Float64Array, labels: Float64Array, learning: Learning) -> Parameters:
    """Train a network of the same sizes on features that are all there."""
    draw = np.random.Generator(np.random.PCG64(learning.seed))
    network = new_network((inputs.shape[1], *MASKED, 1), draw)
    examples = Examples((inputs,), np.ones((len(labels), 0), np.bool_), labels, np.ones(len(labels)))
    return _fitted(
        network, lambda parameters, rows: masked_loss(parameters, examples.taken(rows))[1], len(labels), draw, learning
    )


def _fitted(
    parameters: Parameters, gradient: Gradient, rows: int, draw: np.random.Generator, learning: Learning
) -> Parameters:
    return fitted(
        parameters,
        gradient,
        rows,
        draw,
        epochs=learning.epochs,
        learning_rate=learning.learning_rate,
        l2=learning.l2,
        batch=min(learning.batch, max(1, rows // FEWEST_BATCHES)),
    )


def laser_probabilities(parameters: Parameters, examples: Examples) -> Float64Array:
    """The mean answer of the heads of the blocks that a document has, float64 (documents,)."""
    extractors, heads = laser_networks(parameters, len(examples.blocks))
    found = [forward(network, block)[-1] for network, block in zip(extractors, examples.blocks, strict=True)]
    count = examples.there.sum(axis=1)
    mean = (np.stack(found, axis=1) * examples.there[:, :, None]).sum(axis=1) / count[:, None]
    answers = np.stack([probability(forward(head, mean)[-1][:, 0]) for head in heads], axis=1)
    probabilities: Float64Array = (answers * examples.there).sum(axis=1) / count
    return probabilities


def masked_probabilities(network: Parameters, examples: Examples) -> Float64Array:
    """The answer of one network, float64 (documents,)."""
    return probability(forward(network, masked_inputs(examples))[-1][:, 0])
