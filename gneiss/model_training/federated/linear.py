"""A linear model on sparse rows: scores, and the loss and gradient of mini-batches.

Weights are (features, outputs). One output: logistic regression of label 1 against label 0; otherwise softmax over as
many labels. Sums are float64, in the order of a row's entries and of a batch's rows; no BLAS, no library's exponential.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float, Float32Array, Float64Array, Int, Int32Array, Int64Array
from gneiss.filters.fasttext_models.output import exp
from gneiss.model_training.federated.features import SparseRows
from gneiss.model_training.federated.strategies.steps import Gradient, Weights, squared_norm

#: What features are multiplied with in training: they are shares of a text's features, about 1/1,000 each, and so would
#: gradients be. A power of two, so that nothing is rounded. Weights of the model are as many times larger.
SCALE = 16.0


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled documents. rows: their features; labels: int64 (rows,), from 0."""

    rows: SparseRows
    labels: Int64Array

    def __len__(self) -> int:
        return len(self.labels)


def pooled(parts: Sequence[Examples]) -> Examples:
    """Examples of several sites as those of one."""
    sizes = np.concatenate([np.diff(part.rows.starts) for part in parts])
    rows = SparseRows(
        np.concatenate([[0], np.cumsum(sizes)]),
        np.concatenate([part.rows.columns for part in parts]),
        np.concatenate([part.rows.values for part in parts]),
    )
    return Examples(rows, np.concatenate([part.labels for part in parts]))


@dataclass(frozen=True)
class Sampling:
    """Which gradients a site computes.

    batch: documents of a mini-batch, drawn with replacement; l2: of all weights; min_documents: a feature that fewer
    documents of the site have gets no gradient, l2 included, so that no answer tells of it.
    """

    batch: int = 16
    l2: float = 1e-4
    min_documents: int = 5

    def gradient(self, examples: Examples, draw: np.random.Generator) -> Gradient:
        """The gradient of the loss on one mini-batch after another."""
        hidden = None if self.min_documents <= 1 else rare(examples.rows, self.min_documents)

        def of_the_next_batch(weights: Weights) -> Weights:
            chosen = draw.integers(0, len(examples), self.batch)
            _, found = _loss_and_gradient(weights, examples, chosen, self.l2)
            if hidden is not None:
                found[: len(hidden)][hidden] = 0
                found[len(hidden) :] = 0
            return found

        return of_the_next_batch


def draw_of(seed: int, round_: int, site: str) -> np.random.Generator:
    """The random numbers of a site in a round: a task that is done again gives the same answer."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, round_, crc32(site.encode())])))


def loss_and_gradient(
    weights: Weights, examples: Examples, chosen: Int64Array, l2: float = 0.0
) -> tuple[float, Weights]:
    """(loss, gradient): mean log loss of some rows plus l2/2 · ‖weights‖², and its gradient, (features, outputs)."""
    loss, gradient = _loss_and_gradient(weights, examples, chosen, l2)
    return loss + 0.5 * l2 * float(squared_norm(weights.ravel())), gradient


def _loss_and_gradient(weights: Weights, examples: Examples, chosen: Int64Array, l2: float) -> tuple[float, Weights]:
    """The loss without the l2 that the gradient has."""
    gradient = l2 * weights
    rows = examples.rows
    loss = _add_gradient(weights, rows.starts, rows.columns, rows.values, examples.labels, chosen, gradient)
    return float(loss), gradient


def logits(weights: Weights, rows: SparseRows) -> Float64Array:
    """z of every row, float64 (rows, outputs)."""
    return _logits(weights, rows.starts, rows.columns, rows.values)


def predicted(weights: Weights, rows: SparseRows) -> Int64Array:
    """The most probable label of every row; of equally probable ones the last, as fastText has it."""
    z = logits(weights, rows)
    if z.shape[1] == 1:
        return (z[:, 0] >= 0).astype(np.int64)
    found: Int64Array = z.shape[1] - 1 - z[:, ::-1].argmax(axis=1)
    return found


def rare(rows: SparseRows, min_documents: int) -> BoolArray:
    """Which columns, up to the last that occurs, fewer rows than that have."""
    return np.bincount(rows.columns) < min_documents


@njit(cache=True, nogil=True)
def _logits(weights: Weights, starts: Int64Array, columns: Int32Array, values: Float32Array) -> Float64Array:
    found = np.zeros((len(starts) - 1, weights.shape[1]))
    for row in range(len(found)):
        _logits_of(weights, starts[row], starts[row + 1], columns, values, found[row])
    return found


@njit(cache=True, nogil=True)
def _logits_of(
    weights: Weights, at: Int, end: Int, columns: Int32Array, values: Float32Array, out: Float64Array
) -> None:
    for entry in range(at, end):
        for output in range(len(out)):
            out[output] += weights[columns[entry], output] * (values[entry] * SCALE)


@njit(cache=True, nogil=True)
def _add_gradient(
    weights: Weights,
    starts: Int64Array,
    columns: Int32Array,
    values: Float32Array,
    labels: Int64Array,
    chosen: Int64Array,
    gradient: Weights,
) -> Float:
    """Add the gradient of the mean log loss of some rows; returns that loss."""
    loss = 0.0
    outputs = weights.shape[1]
    error = np.empty(outputs)
    for row in chosen:
        error[:] = 0.0
        _logits_of(weights, starts[row], starts[row + 1], columns, values, error)
        loss += _to_error(error, labels[row])
        for entry in range(starts[row], starts[row + 1]):
            for output in range(outputs):
                gradient[columns[entry], output] += error[output] * (values[entry] * SCALE) / len(chosen)
    return loss / len(chosen)


@njit(cache=True, nogil=True)
def _to_error(z: Float64Array, label: Int) -> Float:
    """Turn logits into probabilities less the truth, in place; returns the log loss."""
    if len(z) == 1:
        tail = exp(-abs(z[0]))
        against = z[0] if label == 0 else -z[0]  # the logit of the other label
        loss = max(against, 0.0) + math.log1p(tail)
        z[0] = (1.0 if z[0] > 0 else tail) / (1.0 + tail) - label
        return loss
    largest, total = z.max(), 0.0
    loss = largest - z[label]
    for output in range(len(z)):
        z[output] = exp(z[output] - largest)
        total += z[output]
    for output in range(len(z)):
        z[output] /= total
    z[label] -= 1.0
    return loss + math.log(total)
