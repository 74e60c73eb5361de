"""Least squares with a penalty, by conjugate gradients: float64 sums in a fixed order, no BLAS."""

from __future__ import annotations

import numpy as np

from gneiss.arrays import Float64Array
from gneiss.model_training.logistic import Scaling, newton_direction


def fit_least_squares(features: Float64Array, numbers: Float64Array, l2: float) -> tuple[Float64Array, float]:
    """(weights, bias) of least mean squared error / 2 + l2/2 · |weights|², of features in deviations from their mean.

    Parameters: `features`: (documents, features); `numbers`: (documents,). Returns weights, (features,), 0 of a feature
    that is always the same.

    >>> weights, bias = fit_least_squares(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]), 1e-9)
    >>> round(float(weights[0]), 6), round(bias, 6)
    (2.0, 1.0)
    """
    scaling = Scaling.of(features)
    scaled = scaling.scaled(features)
    gradient = -(scaled * numbers[:, None]).sum(axis=0) / len(numbers)
    found = -newton_direction(scaled, np.ones(len(numbers)), gradient, l2)
    return scaling.unscaled(found)
