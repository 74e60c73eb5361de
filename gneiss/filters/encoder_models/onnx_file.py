"""ONNX files, as far as a graph of our own needs them: nodes, constants, inputs and outputs, as protocol buffers.

The format: onnx.proto of ONNX 1.15 (IR version 9, opset 20). A file is at most 2 GiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from gneiss.arrays import AnyArray

_IR_VERSION, _OPSET = 9, 20
#: The numbers of TensorProto.DataType.
_TYPES: Mapping[str, int] = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}
Attribute: TypeAlias = int | float | str | Sequence[int]


@dataclass(frozen=True)
class Node:
    """One operator; attributes are numbers, strings or lists of integers."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order of their execution; inputs, outputs: name → (type, dimensions, of which some are names)."""

    nodes: Sequence[Node]
    constants: Mapping[str, AnyArray]
    inputs: Mapping[str, tuple[str, Sequence[int | str]]]
    outputs: Mapping[str, tuple[str, Sequence[int | str]]]


def onnx_bytes(graph: Graph) -> bytes:
    """The bytes of the file: the same graph, the same bytes."""
    body: list[bytes | memoryview] = [
        *(_part(1, _node(node)) for node in graph.nodes),
        _part(2, b"gneiss"),
        *(piece for name, array in graph.constants.items() for piece in _constant(name, array)),
        *(_part(11, _value(name, *value)) for name, value in graph.inputs.items()),
        *(_part(12, _value(name, *value)) for name, value in graph.outputs.items()),
    ]
    opset = _part(8, _part(1, b"") + _number(2, _OPSET))
    return b"".join([_number(1, _IR_VERSION), _start(7, sum(map(len, body))), *body, opset])


def _node(node: Node) -> bytes:
    return b"".join(
        [
            *(_part(1, name.encode()) for name in node.inputs),
            *(_part(2, name.encode()) for name in node.outputs),
            _part(4, node.operator.encode()),
            *(_part(5, _attribute(name, value)) for name, value in node.attributes.items()),
        ]
    )


def _attribute(name: str, value: Attribute) -> bytes:
    given = _part(1, name.encode())
    if isinstance(value, str):
        return given + _part(4, value.encode()) + _number(20, 3)
    if isinstance(value, float):
        return given + b"\x15" + np.float32(value).tobytes() + _number(20, 1)
    if isinstance(value, int):
        return given + _number(3, value) + _number(20, 2)
    return given + b"".join(_number(8, number) for number in value) + _number(20, 7)


def _constant(name: str, array: AnyArray) -> tuple[bytes, memoryview]:
    """The field of an array: what is said of it, and its content, which is not copied."""
    dimensions = b"".join(_number(1, length) for length in array.shape)
    content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    said = dimensions + _number(2, _TYPES[array.dtype.name]) + _part(8, name.encode()) + _start(9, content.nbytes)
    return _start(5, len(said) + content.nbytes) + said, content.reshape(-1).view(np.uint8).data


def _value(name: str, type: str, dimensions: Sequence[int | str]) -> bytes:
    shape = b"".join(
        _part(1, _part(2, length.encode()) if isinstance(length, str) else _number(1, length)) for length in dimensions
    )
    return _part(1, name.encode()) + _part(2, _part(1, _number(1, _TYPES[type]) + _part(2, shape)))


def _part(number: int, content: bytes) -> bytes:
    """A field of bytes: text, or a message."""
    return _start(number, len(content)) + content


def _start(number: int, size_bytes: int) -> bytes:
    """What stands before so many bytes of a field."""
    return _varint(number << 3 | 2) + _varint(size_bytes)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value & (1 << 64) - 1)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
