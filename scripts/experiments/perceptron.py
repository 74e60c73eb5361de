"""A network of one hidden layer on sparse rows, without biases: what the fixture S3 trains."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Float64Array, Int, Int32Array, Int64Array
from gneiss.filters.fasttext_models.output import exp
from gneiss.model_training.federated.linear import SCALE, Examples
from gneiss.model_training.federated.strategies.steps import Gradient, Weights

HIDDEN = 32


def new_perceptron(features: int, outputs: int, draw: np.random.Generator) -> Float32Array:
    """Small weights of both layers, flat: (features, hidden) and (hidden, outputs)."""
    return draw.normal(0, 0.01, features * HIDDEN + HIDDEN * outputs).astype(np.float32)


def perceptron_gradient(examples: Examples, outputs: int, batch: int, draw: np.random.Generator) -> Gradient:
    """The gradient of the mean log loss on one mini-batch after another."""
    rows = examples.rows

    def of_the_next_batch(weights: Weights) -> Weights:
        chosen = draw.integers(0, len(examples), batch)
        gradient = np.zeros_like(weights)
        _add_gradient(weights, rows.starts, rows.columns, rows.values, examples.labels, chosen, outputs, gradient)
        return gradient

    return of_the_next_batch


def perceptron_accuracy(weights: Weights, examples: Examples, outputs: int) -> float:
    """The share of labels that are predicted."""
    rows = examples.rows
    said = _predicted(weights, rows.starts, rows.columns, rows.values, outputs)
    return float((said == examples.labels).mean())


@njit(cache=True, nogil=True)
def _forward(
    weights: Weights, at: Int, end: Int, columns: Int32Array, values: Float32Array, hidden: Float64Array,
    out: Float64Array,
) -> None:  # fmt: skip
    hidden[:], out[:] = 0.0, 0.0
    width, second = len(hidden), len(weights) - len(hidden) * len(out)
    for entry in range(at, end):
        for unit in range(width):
            hidden[unit] += weights[columns[entry] * width + unit] * (values[entry] * SCALE)
    for unit in range(width):
        hidden[unit] = max(hidden[unit], 0.0)
        for output in range(len(out)):
            out[output] += hidden[unit] * weights[second + unit * len(out) + output]


@njit(cache=True, nogil=True)
def _add_gradient(
    weights: Weights, starts: Int64Array, columns: Int32Array, values: Float32Array, labels: Int64Array,
    chosen: Int64Array, outputs: int, gradient: Weights,
) -> None:  # fmt: skip
    width = HIDDEN
    hidden, error, back = np.empty(width), np.empty(outputs), np.empty(width)
    second = len(weights) - width * outputs
    for row in chosen:
        _forward(weights, starts[row], starts[row + 1], columns, values, hidden, error)
        largest, total = error.max(), 0.0
        for output in range(outputs):
            error[output] = exp(error[output] - largest)
            total += error[output]
        for output in range(outputs):
            error[output] = (error[output] / total - (output == labels[row])) / len(chosen)
        for unit in range(width):
            back[unit] = 0.0
            if hidden[unit] > 0:
                for output in range(outputs):
                    back[unit] += error[output] * weights[second + unit * outputs + output]
                    gradient[second + unit * outputs + output] += error[output] * hidden[unit]
        for entry in range(starts[row], starts[row + 1]):
            for unit in range(width):
                gradient[columns[entry] * width + unit] += back[unit] * (values[entry] * SCALE)


@njit(cache=True, nogil=True)
def _predicted(
    weights: Weights, starts: Int64Array, columns: Int32Array, values: Float32Array, outputs: int
) -> Int64Array:
    found = np.empty(len(starts) - 1, np.int64)
    hidden, out = np.empty(HIDDEN), np.empty(outputs)
    for row in range(len(found)):
        _forward(weights, starts[row], starts[row + 1], columns, values, hidden, out)
        found[row] = out.argmax()
    return found
