"""Fractions of counts, missing for a divisor of 0."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array


def ratio(part: Int64Array, whole: Int64Array) -> pa.Array:
    """part / whole, float64 (documents,), null if the whole is 0.

    >>> ratio(np.array([1, 0]), np.array([4, 0])).to_pylist()
    [0.25, None]
    """
    return pa.array(part / np.maximum(whole, 1), mask=whole == 0)
