"""Forecasts: the features of a document from what is cheap to see of it, such as its first 1,500 characters."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import Float, Float64Array

#: Forecasts that vary less than this share of what they forecast make everything look covered.
LEAST_VARIANCE_RATIO = 0.5


@njit(cache=True, nogil=True)
def ridge(inputs: Float64Array, features: Float64Array, penalty: Float) -> Float64Array:
    """Weights (inputs, features) of least squared error plus penalty times their squares; penalty > 0.

    From inputs (rows, inputs), of which one may be constant, and features (rows, features), by Cholesky's factors of
    the normal equations, with sums in one order: equal on every machine.

    >>> ridge(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[2.0], [5.0]]), 1e-12).round(6)
    array([[2.],
           [3.]])
    """
    size, outputs = inputs.shape[1], features.shape[1]
    factor = np.zeros((size, size))
    weights = np.zeros((size, outputs))
    for row in range(len(inputs)):
        for a in range(size):
            for b in range(a + 1):
                factor[a, b] += inputs[row, a] * inputs[row, b]
            for k in range(outputs):
                weights[a, k] += inputs[row, a] * features[row, k]
    for a in range(size):
        factor[a, a] += penalty
        for b in range(a + 1):
            for c in range(b):
                factor[a, b] -= factor[a, c] * factor[b, c]
            factor[a, b] = np.sqrt(factor[a, a]) if a == b else factor[a, b] / factor[b, b]
    for k in range(outputs):
        for a in range(size):
            for b in range(a):
                weights[a, k] -= factor[a, b] * weights[b, k]
            weights[a, k] /= factor[a, a]
        for a in range(size - 1, -1, -1):
            for b in range(a + 1, size):
                weights[a, k] -= factor[b, a] * weights[b, k]
            weights[a, k] /= factor[a, a]
    return weights


@njit(cache=True, nogil=True)
def predicted(inputs: Float64Array, weights: Float64Array) -> Float64Array:
    """The forecasts of `ridge`'s weights: (rows, features)."""
    found = np.zeros((len(inputs), weights.shape[1]))
    for row in range(len(inputs)):
        for a in range(inputs.shape[1]):
            for k in range(weights.shape[1]):
                found[row, k] += inputs[row, a] * weights[a, k]
    return found


def variance_ratio(forecasts: Float64Array, features: Float64Array) -> float:
    """The variance of forecasts over that of the features, summed over features; 1 where features do not vary.

    Far below 1, forecasts have shrunk to the mean.

    >>> variance_ratio(np.array([[1.0], [3.0]]), np.array([[0.0], [4.0]]))
    0.25
    """
    whole = _variance(features)
    return float(_variance(forecasts)) / float(whole) if whole > 0 else 1.0


@njit(cache=True, nogil=True)
def _variance(values: Float64Array) -> Float:
    """Summed over columns."""
    total = 0.0
    for k in range(values.shape[1]):
        mean = 0.0
        for row in range(len(values)):
            mean += values[row, k] / len(values)
        for row in range(len(values)):
            total += (values[row, k] - mean) ** 2 / len(values)
    return total
