"""Pooled networks in safetensors, read without trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gneiss.arrays import Float32Array, Float64Array
from gneiss.batch import TextBatch
from gneiss.errors import ModelError, first_line
from gneiss.filters.pooled_kernel import PLACES, pooled_scores

#: The name of a model's file in its folder, and of what it says of itself.
FILE, _METADATA = "pooled.safetensors", "gneiss_pooled"
_VERSION = 1
_LARGEST = 1e9  # of a weight: no sum of their products overflows


@dataclass(frozen=True, eq=False)
class PooledNetwork:
    """A network over groups of three words, which are known by their hash.

    table: float32 (buckets, 3, outputs), what a word is worth in each place of a group; bias: float64 (outputs,);
    weights: float64 (2 * outputs,), of the means and then of the maxima; last_bias: float64 (1,). Raises ModelError
    where these do not fit each other, or are not finite.
    """

    table: Float32Array
    bias: Float64Array
    weights: Float64Array
    last_bias: Float64Array

    def __post_init__(self) -> None:
        buckets, outputs = len(self.table) if self.table.ndim else 0, self.bias.size
        shapes = {"table": (buckets, PLACES, outputs), "bias": (outputs,), "weights": (2 * outputs,), "last_bias": (1,)}
        for name, shape in shapes.items():
            array, dtype = getattr(self, name), np.float32 if name == "table" else np.float64
            if array.shape != shape or array.dtype != dtype or not array.size:
                raise ModelError(
                    f"{name}: expected {np.dtype(dtype)} {shape}, all above 0, found {array.dtype} {array.shape}"
                )
            if not np.abs(array).max() <= _LARGEST:  # not true of NaN either
                raise ModelError(f"{name}: NaN, infinite or absurdly large weights; fetch or train it again")

    def scores(self, batch: TextBatch) -> Float64Array:
        """The probability of each text, float64 (documents,); NaN for one without words."""
        return pooled_scores(batch.data, batch.offsets, self.table, self.bias, self.weights, float(self.last_bias[0]))


def write_network(network: PooledNetwork) -> bytes:
    """The bytes of a network's file: the same network, the same bytes."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(array) for name, array in _arrays(network).items()}, {
        _METADATA: json.dumps({"version": _VERSION})
    })  # fmt: skip


def is_network(path: Path) -> bool:
    """Whether a file says that it is a pooled network, sound or not."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return _METADATA in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def read_network(path: Path) -> PooledNetwork:
    """Read a network. Raises ModelError naming the file: it is none, or its parts do not fit each other."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            says: Any = json.loads((file.metadata() or {})[_METADATA])
            arrays = {name: file.get_tensor(name) for name in ("table", "bias", "weights", "last_bias")}
        if says != {"version": _VERSION}:
            raise ValueError(f"expected version {_VERSION}, found {says!r}")
        return PooledNetwork(**arrays)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, ModelError) as error:
        raise ModelError(f"{path}: expected a model of `gneiss train pooled`: {first_line(error)}") from error


def _arrays(network: PooledNetwork) -> Mapping[str, Float32Array | Float64Array]:
    return {
        "table": network.table,
        "bias": network.bias,
        "weights": network.weights,
        "last_bias": network.last_bias,
    }
