"""From a fastText model's outputs to probabilities, with fastText's own tables and tie-breaking."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Float, Float64Array, Int64Array
from gneiss.batch import TextBatch

#: float64 (documents, labels) probabilities, and int64 (documents,) the most probable label or -1 for no prediction.
Predictions: TypeAlias = tuple[Float64Array, Int64Array]


@dataclass(frozen=True)
class Predictor:
    """A loaded model: its labels without prefix, and its predictor for a batch.

    predict(batch, joined): the texts are read stripped and with their lines joined by spaces (joined), or with a space
    for every line feed.
    """

    labels: tuple[str, ...]
    predict: Callable[[TextBatch, bool], Predictions]


_CELLS = 512  # fastText looks the logistic function up in a table over [-8, 8]
_LARGEST = 8


@njit(cache=True, nogil=True)
def softmax(sums: Float64Array, features: Int64Array) -> Predictions:
    """Probabilities from sums over features of every label's output less the first label's.

    sums: (documents, labels - 1); features: (documents,). Of equally probable labels the last is on top, as in
    fastText; a document without features has none on top.
    """
    documents, labels = sums.shape[0], sums.shape[1] + 1
    probabilities, top = np.zeros((documents, labels)), np.full(documents, -1)
    for document in range(documents):
        if features[document] == 0:
            continue
        largest = 0.0
        for label in range(1, labels):
            largest = max(largest, sums[document, label - 1] / features[document])
        total = 0.0
        for label in range(labels):
            output = sums[document, label - 1] / features[document] if label > 0 else 0.0
            probabilities[document, label] = exp(output - largest)
            total += probabilities[document, label]
        for label in range(labels):
            probabilities[document, label] /= total
        top[document] = _last_largest(probabilities[document])
    return probabilities, top


@njit(cache=True, nogil=True)
def sigmoid(sums: Float64Array, features: Int64Array) -> Predictions:
    """Probabilities from sums over features of every label's output, each label by itself.

    sums: (documents, labels); features: (documents,). Steps of 1/32 in the output, as in fastText's table.
    """
    cells = np.empty(_CELLS + 1, np.float32)
    for cell in range(_CELLS + 1):
        cells[cell] = 1 / (1 + exp(_LARGEST - cell * 2.0 * _LARGEST / _CELLS))
    probabilities, top = np.zeros(sums.shape), np.full(len(sums), -1)
    for document in range(len(sums)):
        if features[document] == 0:
            continue
        for label in range(sums.shape[1]):
            output = np.float32(sums[document, label] / features[document])
            if output > np.float32(_LARGEST):
                probabilities[document, label] = 1.0
            elif output >= np.float32(-_LARGEST):
                place = (output + np.float32(_LARGEST)) * np.float32(_CELLS) / np.float32(2 * _LARGEST)
                probabilities[document, label] = cells[int(place)]
        top[document] = _last_largest(probabilities[document])
    return probabilities, top


@njit(cache=True, nogil=True)
def exp(x: Float) -> Float:
    """e to the x to within 1e-15, by sums and products only: the same bits on every processor."""
    if x < -700.0:
        return 0.0
    power = math.floor(x * 1.4426950408889634 + 0.5)
    rest = x - power * 0.6931471803691238 - power * 1.9082149292705877e-10  # log 2 in two parts: the first is exact
    value = 1.0
    for term in range(13, 0, -1):
        value = 1.0 + rest * value / term
    return math.ldexp(value, int(power))


@njit(cache=True, nogil=True)
def _last_largest(values: Float64Array) -> int:
    best = 0
    for index in range(1, len(values)):
        if values[index] >= values[best]:
            best = index
    return best
