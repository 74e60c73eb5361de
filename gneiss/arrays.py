"""Types of arrays and of kernels' scalars; docstrings state shapes and units."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Int64Array: TypeAlias = npt.NDArray[np.int64]
Int32Array: TypeAlias = npt.NDArray[np.int32]
Int8Array: TypeAlias = npt.NDArray[np.int8]
UInt8Array: TypeAlias = npt.NDArray[np.uint8]
UInt32Array: TypeAlias = npt.NDArray[np.uint32]
UInt64Array: TypeAlias = npt.NDArray[np.uint64]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Float32Array: TypeAlias = npt.NDArray[np.float32]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
AnyArray: TypeAlias = npt.NDArray[Any]
#: An int or a float, of Python or NumPy, as a kernel takes and returns it; numba does not tell them apart.
Int: TypeAlias = Any
Float: TypeAlias = Any


def distinct_values(values: AnyArray) -> AnyArray:
    """The distinct values, rising. `np.unique` alone hashes them, which takes a hundred times as long as sorting.

    >>> distinct_values(np.array([3, 1, 3])).tolist(), distinct_values(np.empty(0)).tolist()
    ([1, 3], [])
    """
    ordered = np.sort(values)
    firsts: BoolArray = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    found: AnyArray = ordered[firsts]
    return found


def read_only(values: AnyArray) -> AnyArray:
    """A contiguous read-only view: what Arrow buffers are anyway, so that numba compiles for one kind only."""
    values = np.ascontiguousarray(values)
    if values.flags.writeable:
        values = values.view()
        values.flags.writeable = False
    return values
