"""Messages: what is packed comes back; whatever else arrives is refused, and never more than that."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors.numpy import save

from gneiss.errors import InputError
from gneiss.model_training.federated.message import (
    MOST_HEADER_BYTES,
    Message,
    number,
    packed,
    require_arrays,
    unpacked,
    whole_number,
)

MOST = 1 << 22
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
metas = st.dictionaries(st.text(max_size=8), values, max_size=4)
numbers = st.floats(-1e6, 1e6, width=32)
named = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=2, max_side=5), elements=numbers),
    max_size=3,
)
SOUND = Message({"round": 1}, {"x": np.arange(6, dtype=np.float32).reshape(3, 2), "y": np.zeros((3, 2), np.float32)})


def as_file(header: Any, data: bytes = b"") -> bytes:
    said = json.dumps(header).encode()
    return struct.pack("<Q", len(said)) + said + data


@given(metas, named)
def test_what_is_packed_comes_back_and_equal_messages_have_equal_bytes(
    meta: dict[str, Any], arrays: dict[str, Any]
) -> None:
    content = packed(Message(meta, arrays))
    found = unpacked(content, MOST)
    assert found.meta == meta
    assert found.arrays.keys() == arrays.keys()
    assert all(np.array_equal(found.arrays[name], arrays[name]) for name in arrays)
    turned = Message(dict(reversed(meta.items())), dict(reversed(arrays.items())))
    assert packed(turned) == content == packed(found)


@given(st.binary(max_size=300) | st.builds(as_file, values, st.binary(max_size=30)))
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="message"):
        unpacked(content, MOST)


@given(st.integers(0, len(packed(SOUND)) - 1), st.integers(0, 7))
def test_a_bit_that_is_turned_is_refused_or_changes_a_number_or_a_name(place: int, bit: int) -> None:
    content = bytearray(packed(SOUND))
    content[place] ^= 1 << bit
    with suppress(InputError):
        found = unpacked(bytes(content), MOST)
        require_arrays(found, {"x": (3, 2), "y": (3, 2)})
        assert all(np.isfinite(array).all() for array in found.arrays.values())


@given(st.integers(0, len(packed(SOUND)) - 1))
def test_a_part_is_refused(length: int) -> None:
    with pytest.raises(InputError, match="message"):
        unpacked(packed(SOUND)[:length], MOST)


def _with(array: Any) -> bytes:
    return save({"x": np.asarray(array)}, {"gneiss_message": "{}"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bytes(MOST + 1), "at most 4,194,304 bytes"),
        (struct.pack("<Q", 10**9) + b"{}", "header of at most 1,048,576 bytes, found 1,000,000,000"),
        (struct.pack("<Q", MOST_HEADER_BYTES + 1) + b" " * (MOST_HEADER_BYTES + 1), "header of at most"),
        (_with(np.zeros(2)), "expected float32, found float64"),
        (_with(np.array([0.0, np.nan], np.float32)), "at most 1e\\+06"),
        (_with(np.array([-np.inf], np.float32)), "at most 1e\\+06"),
        (_with(np.array([2e6], np.float32)), "at most 1e\\+06"),
        (save({}, {"gneiss_message": "[]"}), "JSON values by name, found list"),
        (save({}, {"gneiss_message": '{"a": NaN}'}), "NaN is no JSON value"),
        (save({}, {"gneiss_message": "[" * 100_000}), "safetensors with JSON values"),
        (save({}, {"gneiss_message": '{"a":' + "9" * 10_000 + "}"}), "safetensors with JSON values"),
        (save({}), "safetensors with JSON values"),
        (as_file({"__metadata__": {"gneiss_message": "{}"}, "x": {"dtype": "F32", "shape": [2**62, 4],
         "data_offsets": [0, 0]}}), "safetensors with JSON values"),
        (as_file({"__metadata__": {"gneiss_message": "{}"}, "x": {"dtype": "BF16", "shape": [1],
         "data_offsets": [0, 2]}}, b"00"), "message"),
    ],
)  # fmt: skip
def test_hostile_messages_are_refused(content: bytes, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        unpacked(content, MOST)


def test_arrays_of_other_names_or_shapes_are_refused() -> None:
    require_arrays(SOUND, {"x": (3, 2), "y": (3, 2)})
    with pytest.raises(InputError, match="expected the arrays x, found x, y"):
        require_arrays(SOUND, {"x": (3, 2)})
    with pytest.raises(InputError, match=r"array 'y': expected the shape \(6,\), found \(3, 2\)"):
        require_arrays(SOUND, {"x": (3, 2), "y": (6,)})


@pytest.mark.parametrize("value", [None, True, "1", 1.0, -1, 11, 10**30, [1]])
def test_values_out_of_bounds_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="steps: expected a whole number from 0 to 10"):
        whole_number(Message({"steps": value}), "steps", 0, 10)
    if value != 1.0:
        with pytest.raises(InputError, match="rate: expected a number from 0 to 10"):
            number(Message({"rate": value}), "rate", 0, 10)
    assert whole_number(Message({"steps": 10}), "steps", 0, 10) == 10
