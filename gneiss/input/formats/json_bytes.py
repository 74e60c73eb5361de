"""Which of the next bytes matter: 32 at a time, by vector instructions, which numba has no words for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

#: Bytes that are looked at together, which must be readable.
STRIDE = 32
_intrinsic: Any = intrinsic  # its published type keeps the typing context among the arguments
_BYTES = ir.VectorType(ir.IntType(8), STRIDE)


@_intrinsic  # type: ignore[untyped-decorator]
def ends_or_escapes(_: Any, data: Any, at: Any) -> Any:
    """The first of STRIDE bytes at a place that is a quote, a backslash or a control character; STRIDE if none is."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        found = _loaded(context, builder, signature, arguments)
        quote, backslash = (builder.icmp_unsigned("==", found, _all(byte)) for byte in b'"\\')
        control = builder.icmp_unsigned("<", found, _all(32))
        return _first(builder, builder.or_(builder.or_(quote, backslash), control))

    return types.int64(data, at), code


@_intrinsic  # type: ignore[untyped-decorator]
def copy_to_escape(_: Any, data: Any, at: Any, out: Any, to: Any) -> Any:
    """Copy STRIDE bytes; the first of them that is a backslash, STRIDE if none is."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        found = _loaded(context, builder, signature, arguments)
        target = context.make_array(signature.args[2])(context, builder, arguments[2]).data
        builder.store(found, _vector_at(builder, target, arguments[3]), align=1)
        return _first(builder, builder.icmp_unsigned("==", found, _all(ord("\\"))))

    return types.int64(data, at, out, to), code


def _all(byte: int) -> ir.Constant:
    return ir.Constant(_BYTES, [byte] * STRIDE)


def _vector_at(builder: ir.IRBuilder, pointer: ir.Value, at: ir.Value) -> ir.Value:
    return builder.bitcast(builder.gep(pointer, [at]), _BYTES.as_pointer())


def _loaded(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
    source = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    return builder.load(_vector_at(builder, source, arguments[1]), align=1)


def _first(builder: ir.IRBuilder, matches: ir.Value) -> ir.Value:
    """The number of the first byte that matches: what follows the last one counts as a match."""
    bits = builder.zext(builder.bitcast(matches, ir.IntType(STRIDE)), ir.IntType(64))
    behind = builder.or_(bits, ir.Constant(ir.IntType(64), 1 << STRIDE))
    return builder.cttz(behind, ir.Constant(ir.IntType(1), 1))
