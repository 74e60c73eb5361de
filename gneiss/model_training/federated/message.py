"""Messages between a coordinator and sites: JSON values and named float32 arrays, as bytes of safetensors.

A message is read as what anybody might have sent: nothing of it is used before its size, form and numbers are checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from gneiss.arrays import Float32Array
from gneiss.errors import InputError, first_line, printable

#: The most that a number of an array may be, either side of 0.
LARGEST = 1e6
#: What a message may have beside its numbers: JSON values, names and shapes.
MOST_HEADER_BYTES = 1 << 20
_METADATA = "gneiss_message"
_LENGTH_BYTES = 8


@dataclass(frozen=True, eq=False)
class Message:
    """A task or an answer. meta: JSON values; arrays: name → float32 numbers."""

    meta: Mapping[str, Any]
    arrays: Mapping[str, Float32Array] = field(default_factory=dict)


def most_bytes_of(features: int) -> int:
    """The most bytes of a message about weights of so many features: two vectors, and what it says beside."""
    return 2 * 4 * features + MOST_HEADER_BYTES


def packed(message: Message) -> bytes:
    """The bytes of a message: equal messages, equal bytes.

    >>> unpacked(packed(Message({"round": 3}, {"x": np.ones(2, np.float32)})), most_bytes=1000).meta
    {'round': 3}
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in message.arrays.items()}
    return save(arrays, {_METADATA: json.dumps(message.meta, sort_keys=True, allow_nan=False)})


def unpacked(content: bytes, most_bytes: int, largest: float = LARGEST) -> Message:
    """The message that bytes are. Raises InputError for any that no `packed` makes, and for what is larger."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(content) > most_bytes:
        raise InputError(f"message: expected at most {most_bytes:,} bytes, found {len(content):,}")
    header_bytes = int.from_bytes(content[:_LENGTH_BYTES], "little")
    if not 0 < header_bytes <= min(MOST_HEADER_BYTES, len(content) - _LENGTH_BYTES):
        raise InputError(
            f"message: expected a header of at most {MOST_HEADER_BYTES:,} bytes, found {header_bytes:,} in"
            f" {len(content):,}"
        )
    try:
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + header_bytes])
        meta = json.loads(header["__metadata__"][_METADATA], parse_constant=_refuse)
        arrays = load(content)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise InputError(f"message: expected safetensors with JSON values: {printable(first_line(error))}") from error
    if not isinstance(meta, dict):
        raise InputError(f"message: expected JSON values by name, found {type(meta).__name__}")
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise InputError(f"message: array '{printable(name)}': expected float32, found {array.dtype}")
        if array.size and not np.abs(array).max() <= largest:  # nor is NaN
            raise InputError(f"message: array '{printable(name)}': expected numbers of at most {largest:g} either side")
    return Message(meta, arrays)


def require_arrays(message: Message, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError where a message has not the arrays of these names and shapes, or others too."""
    if message.arrays.keys() != shapes.keys():
        raise InputError(f"message: expected the arrays {_names(shapes)}, found {_names(message.arrays)}")
    for name, shape in shapes.items():
        if (found := message.arrays[name].shape) != shape:
            raise InputError(f"message: array '{name}': expected the shape {shape}, found {found}")


def whole_number(message: Message, name: str, low: int, high: int) -> int:
    """A value of a message. Raises InputError for one that is no whole number, or out of bounds."""
    value = message.meta.get(name)
    if type(value) is not int or not low <= value <= high:
        raise InputError(f"message: {name}: expected a whole number from {low} to {high}, found {_said(value)}")
    return value


def number(message: Message, name: str, low: float, high: float) -> float:
    """A value of a message. Raises InputError for one that is no number, or out of bounds."""
    value = message.meta.get(name)
    if type(value) not in {int, float} or not low <= value <= high:  # type: ignore[operator]
        raise InputError(f"message: {name}: expected a number from {low:g} to {high:g}, found {_said(value)}")
    return float(value)  # type: ignore[arg-type]


def _said(value: object) -> str:
    return printable(repr(value)[:80])


def _names(names: Mapping[str, Any]) -> str:
    return printable(", ".join(sorted(names))[:200]) or "none"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")
