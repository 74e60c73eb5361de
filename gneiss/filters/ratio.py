"""Fractions of counts, which are missing where there is nothing to divide by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> pa.Array:
    """part / whole, float64 (documents,), null where the whole is 0.

    >>> ratio(np.array([1, 0]), np.array([4, 0])).to_pylist()
    [0.25, None]
    """
    return pa.array(part / np.maximum(whole, 1), mask=whole == 0)
