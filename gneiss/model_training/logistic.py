"""Logistic regression by Newton's method: float64 sums in a fixed order, no BLAS, no random numbers.

The directions are found by conjugate gradients (Hestenes and Stiefel, 1952), so that no matrix of features by features
is held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float64Array
from gneiss.filters.fasttext_models.output import exp

#: Newton steps, halvings of one, and steps of conjugate gradients, at most; the gradient at which all ends.
_STEPS, _HALVINGS, _INNER_STEPS, _SMALLEST = 50, 20, 200, 1e-8


@dataclass(frozen=True, eq=False)
class Logistic:
    """P(positive) = 1 / (1 + exp(-(features · weights + bias))). weights: float64 (features,)."""

    weights: Float64Array
    bias: float


@dataclass(frozen=True, eq=False)
class Scaling:
    """Features in deviations from their mean, and back. mean, deviation: (features,), the second 1 of one that is 0."""

    mean: Float64Array
    deviation: Float64Array
    varies: BoolArray

    @classmethod
    def of(cls, features: Float64Array) -> Scaling:
        """That of features, (documents, features)."""
        mean, deviation = features.mean(axis=0), features.std(axis=0)
        varies = deviation > 1e-12
        return cls(mean, np.where(varies, deviation, 1.0), varies)

    def scaled(self, features: Float64Array) -> Float64Array:
        """(documents, features + 1): those that never vary are 0, and the last is 1, for the bias."""
        found = np.ones((len(features), features.shape[1] + 1))
        found[:, :-1] = np.where(self.varies, (features - self.mean) / self.deviation, 0.0)
        return found

    def unscaled(self, weights: Float64Array) -> tuple[Float64Array, float]:
        """(weights, bias) of features as they were, of weights of scaled ones, (features + 1,)."""
        found = np.where(self.varies, weights[:-1] / self.deviation, 0.0)
        return found, float(weights[-1] - (found * self.mean).sum())


def fit_logistic(features: Float64Array, is_positive: BoolArray, l2: float) -> Logistic:
    """The model of least mean log loss + l2/2 · |weights|², weights of features in deviations from their mean.

    features: (documents, features); is_positive: (documents,), with both labels. A feature that is always the same has
    the weight 0.

    >>> model = fit_logistic(np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([False, False, True, True]), 0.1)
    >>> round(float(model.weights[0]), 3), round(float(model.weights[0] * 1.5 + model.bias), 6)
    (1.361, 0.0)
    """
    scaling = Scaling.of(features)
    found = _fitted(scaling.scaled(features), is_positive.astype(np.float64), l2)
    return Logistic(*scaling.unscaled(found))


@njit(cache=True, nogil=True)
def _fitted(features: Float64Array, labels: Float64Array, l2: float) -> Float64Array:
    """Weights, (features,), of which the last, the bias, is not drawn to 0."""
    weights = np.zeros(features.shape[1])
    gradient, curvature = _gradient(features, labels, weights, l2)
    for _ in range(_STEPS):
        size = _dot(gradient, gradient)
        if size < _SMALLEST * _SMALLEST:
            break
        direction = newton_direction(features, curvature, gradient, l2)
        share = 1.0
        for _ in range(_HALVINGS):
            tried = weights - share * direction
            tried_gradient, tried_curvature = _gradient(features, labels, tried, l2)
            if _dot(tried_gradient, tried_gradient) < size:
                break
            share /= 2
        else:
            break  # no step makes the gradient smaller: it is as small as sums of this length can be
        weights, gradient, curvature = tried, tried_gradient, tried_curvature
    return weights


@njit(cache=True, nogil=True)
def _gradient(
    features: Float64Array, labels: Float64Array, weights: Float64Array, l2: float
) -> tuple[Float64Array, Float64Array]:
    """Of the mean loss, (features,); and p (1 - p) of each document, (documents,)."""
    documents, curvature = len(features), np.empty(len(features))
    gradient = np.zeros(len(weights))
    for document in range(documents):
        logit = _dot(features[document], weights)
        part = exp(-abs(logit))
        probability = 1 / (1 + part) if logit > 0 else part / (1 + part)
        curvature[document] = probability * (1 - probability)
        for feature in range(len(weights)):
            gradient[feature] += (probability - labels[document]) * features[document, feature]
    gradient /= documents
    gradient[:-1] += l2 * weights[:-1]
    return gradient, curvature


@njit(cache=True, nogil=True)
def newton_direction(
    features: Float64Array, curvature: Float64Array, gradient: Float64Array, l2: float
) -> Float64Array:
    """The solution of curvature · direction = gradient, nearly."""
    direction, left, along = np.zeros(len(gradient)), gradient.copy(), gradient.copy()
    size = start = _dot(left, left)
    for _ in range(_INNER_STEPS):
        if size <= 1e-20 * start:
            break
        bent = np.zeros(len(gradient))
        for document in range(len(features)):
            factor = curvature[document] * _dot(features[document], along) / len(features)
            for feature in range(len(gradient)):
                bent[feature] += factor * features[document, feature]
        bent[:-1] += l2 * along[:-1]
        step = size / _dot(along, bent)
        direction += step * along
        left -= step * bent
        before, size = size, _dot(left, left)
        along = left + size / before * along
    return direction


@njit(cache=True, nogil=True, inline="always")
def _dot(a: Float64Array, b: Float64Array) -> float:
    total = 0.0
    for position in range(len(a)):
        total += a[position] * b[position]
    return total
