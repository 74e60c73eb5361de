"""Fusion models: blocks of annotations, how they become features, and the networks that score them; in safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from gneiss.arrays import BoolArray, Float64Array, Int64Array
from gneiss.errors import ModelError, first_line

if TYPE_CHECKING:
    import pyarrow as pa

Method: TypeAlias = Literal["masked", "laser"]
#: The most blocks, and the most features of a model.
MOST_BLOCKS, MOST_FEATURES = 16, 4096
#: Layers: of an extractor after its features, of a head, and of the network with a mask between both ends.
EXTRACTOR, HEAD, MASKED = (32, 16), (16, 32, 1), (128,)
#: Features stay within so many standard deviations of the mean.
MOST_DEVIATIONS = 20.0
#: The name of a model's file in its folder, and of what it says of itself.
FILE, _METADATA = "fusion.safetensors", "gneiss_fusion"
_VERSION = 1


@dataclass(frozen=True)
class BlockColumn:
    """An annotation: a number or a boolean; values: those of a string, each of which is a feature of 1 or 0."""

    name: str
    values: tuple[str, ...] = ()

    @property
    def features(self) -> int:
        """How many it becomes."""
        return len(self.values) or 1


@dataclass(frozen=True)
class Block:
    """Annotations that are there together: a block is missing where any of them is."""

    name: str
    columns: tuple[BlockColumn, ...]

    @property
    def features(self) -> int:
        """How many its columns become."""
        return sum(column.features for column in self.columns)


@dataclass(frozen=True, eq=False)
class FusionModel:
    """A model. mean, deviation: of each feature, float64 (features,).

    networks: of `masked` one, of `laser` an extractor for each block and then a head for each; each the weights
    (inputs, outputs) and biases (outputs,) of its layers.
    """

    method: Method
    blocks: tuple[Block, ...]
    mean: Float64Array
    deviation: Float64Array
    networks: tuple[tuple[Float64Array, ...], ...]

    @property
    def bounds(self) -> Int64Array:
        """Where the features of each block begin and end, int64 (blocks + 1,)."""
        return bounds_of(self.blocks)

    def scores(self, features: Float64Array, there: BoolArray) -> tuple[Float64Array, Float64Array]:
        """(score, spread) of documents by their standardised features, float64 (documents,); NaN without any block."""
        from gneiss.filters.fusion_kernel import laser_scores, masked_scores

        packed = [np.concatenate([array.ravel() for array in network]) for network in self.networks]
        if self.method == "masked":
            sizes = np.array([features.shape[1] + len(self.blocks), *MASKED, 1])
            return masked_scores(features, there, self.bounds, sizes, packed[0])
        extractors, heads = packed[: len(self.blocks)], packed[len(self.blocks) :]
        starts = np.cumsum([0, *map(len, extractors)])
        return laser_scores(
            features, there, self.bounds, np.array(EXTRACTOR), np.concatenate(extractors), starts, np.array(HEAD),
            np.concatenate(heads),
        )  # fmt: skip

    def standardised(self, features: Float64Array, there: BoolArray) -> Float64Array:
        """Features in deviations from the mean; 0 in a block that is not there."""
        return standardised(features, there, self.blocks, self.mean, self.deviation)


def bounds_of(blocks: Sequence[Block]) -> Int64Array:
    """Where the features of each block begin and end, int64 (blocks + 1,)."""
    bounds: Int64Array = np.cumsum([0, *(block.features for block in blocks)])
    return bounds


def encoded(
    blocks: Sequence[Block], annotations: Sequence[Sequence[pa.Array] | None], documents: int
) -> tuple[Float64Array, BoolArray]:
    """Features, float64 (documents, features), and which blocks are there, bool (documents, blocks).

    annotations: for each block those of its columns, or None where there are none. Raises ModelError for a type that a
    column cannot have. A value that is NaN or infinite is not there.
    """
    features = np.zeros((documents, sum(block.features for block in blocks)))
    there = np.zeros((documents, len(blocks)), np.bool_)
    at = 0
    for number, (block, arrays) in enumerate(zip(blocks, annotations, strict=True)):
        there[:, number] = arrays is not None
        for column, array in zip(block.columns, arrays or [None] * len(block.columns), strict=True):
            if array is not None:
                values, valid = _features_of(column, array)
                features[:, at : at + column.features] = values
                there[:, number] &= valid
            at += column.features
    return features, there


def _features_of(column: BlockColumn, array: pa.Array) -> tuple[Float64Array, BoolArray]:
    import pyarrow as pa
    import pyarrow.compute as pc

    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_null(array.type):
        return np.zeros((len(array), column.features)), valid
    is_string = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if is_string is not bool(column.values):
        expected = f"one of the strings {', '.join(column.values)}" if column.values else "numbers"
        raise ModelError(f"fusion: the annotation {column.name!r}: expected {expected}, found {array.type}")
    if column.values:
        place = pc.index_in(array, pa.array(column.values, array.type)).fill_null(-1).to_numpy(zero_copy_only=False)
        return (place[:, None] == np.arange(len(column.values))).astype(np.float64), valid
    try:
        numbers = array.cast(pa.int64()) if pa.types.is_boolean(array.type) else array
        values = numbers.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise ModelError(f"fusion: the annotation {column.name!r}: expected numbers, found {array.type}") from error
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0)[:, None], valid & finite


def standardised(
    features: Float64Array, there: BoolArray, blocks: Sequence[Block], mean: Float64Array, deviation: Float64Array
) -> Float64Array:
    """Features in deviations from the mean, at most 20; 0 in a block that is not there."""
    found: Float64Array = np.clip((features - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return found * np.repeat(there, [block.features for block in blocks], axis=1)


def write_model(model: FusionModel) -> bytes:
    """The bytes of a model's file: the same model, the same bytes."""
    from safetensors.numpy import save

    arrays = {"mean": model.mean, "deviation": model.deviation}
    for number, network in enumerate(model.networks):
        arrays |= {f"network.{number:02}.{layer}": np.ascontiguousarray(array) for layer, array in enumerate(network)}
    says = {"version": _VERSION, "method": model.method, "blocks": [asdict(block) for block in model.blocks]}
    return save(arrays, {_METADATA: json.dumps(says, ensure_ascii=False)})


def read_model(path: Path) -> FusionModel:
    """Read a model. Raises ModelError naming the file: it is no fusion model, or its parts do not fit each other."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            says = json.loads((file.metadata() or {})[_METADATA])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if says["version"] != _VERSION:
            raise ValueError(f"expected version {_VERSION}, found {says['version']}")
        return _model(says, arrays)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path}: expected a model of `gneiss train fusion`: {first_line(error)}") from error


def _model(says: Mapping[str, object], arrays: Mapping[str, Float64Array]) -> FusionModel:
    """What a file holds, checked. Raises KeyError, TypeError and ValueError."""
    given = says["blocks"]
    if not isinstance(given, list):
        raise TypeError("expected a list of blocks")
    blocks = tuple(Block(str(block["name"]), tuple(map(_column, block["columns"]))) for block in given)
    check_blocks(blocks)
    features = sum(block.features for block in blocks)
    method: Method = "laser" if says["method"] == "laser" else "masked"
    if says["method"] != method:
        raise ValueError(f"expected the method masked or laser, found {says['method']!r}")
    all_sizes: list[tuple[int, ...]] = [(features + len(blocks), *MASKED, 1)]
    if method == "laser":
        all_sizes = [*((block.features, *EXTRACTOR) for block in blocks), *([HEAD] * len(blocks))]
    shapes: dict[str, tuple[int, ...]] = {"mean": (features,), "deviation": (features,)}
    for number, sizes in enumerate(all_sizes):
        for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
            shapes[f"network.{number:02}.{2 * layer}"] = (inputs, outputs)
            shapes[f"network.{number:02}.{2 * layer + 1}"] = (outputs,)
    if arrays.keys() != shapes.keys():
        raise ValueError(f"expected the arrays {', '.join(sorted(shapes))}, found {', '.join(sorted(arrays))}")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            raise ValueError(f"{name}: expected finite float64 {shape}, found {array.dtype} {array.shape}")
    if not (arrays["deviation"] > 0).all():
        raise ValueError("deviation: expected numbers above 0")
    networks = tuple(
        tuple(arrays[f"network.{number:02}.{layer}"] for layer in range(2 * (len(sizes) - 1)))
        for number, sizes in enumerate(all_sizes)
    )
    return FusionModel(method, blocks, arrays["mean"], arrays["deviation"], networks)


def _column(given: Mapping[str, object]) -> BlockColumn:
    values = given["values"]
    if not isinstance(values, list):
        raise TypeError("expected a list of values")
    return BlockColumn(str(given["name"]), tuple(map(str, values)))


def check_blocks(blocks: Sequence[Block]) -> None:
    """Raise ValueError for blocks that no model can have."""
    if not 1 <= len(blocks) <= MOST_BLOCKS:
        raise ValueError(f"expected 1 to {MOST_BLOCKS} blocks, found {len(blocks)}")
    if len({block.name for block in blocks}) < len(blocks):
        raise ValueError("two blocks have one name")
    for block in blocks:
        if not block.columns:
            raise ValueError(f"the block {block.name!r} has no annotations")
        for column in block.columns:
            if len(set(column.values)) < len(column.values):
                raise ValueError(f"the annotation {column.name!r} has a value twice")
    if (features := sum(block.features for block in blocks)) > MOST_FEATURES:
        raise ValueError(f"expected at most {MOST_FEATURES} features, found {features}")
