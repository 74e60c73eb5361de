"""Bytes eight at a time: hashing and comparing ranges of a buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from gneiss.arrays import Int, UInt8Array

_intrinsic: Any = intrinsic  # its published type keeps the typing context among the arguments


@_intrinsic  # type: ignore[untyped-decorator]
def load_word(typingctx: Any, octets: Any, position: Any) -> Any:
    """The eight bytes of a contiguous uint8 array that start at a position, unaligned and unchecked, as uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(octets, types.int64), generate


@_intrinsic  # type: ignore[untyped-decorator]
def fold_product(typingctx: Any, a: Any, b: Any) -> Any:
    """The two halves of the 128-bit product of two uint64, exclusive-ored (the mixing step of wyhash)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        high = builder.lshr(product, ir.Constant(wide, 64))
        return builder.trunc(builder.xor(product, high), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@njit(cache=True, nogil=True)
def hash_range(octets: UInt8Array, start: Int, end: Int, seed: np.uint64) -> np.uint64:
    """A 64-bit hash of the bytes `start` to `end`, which must lie in the buffer."""
    length = end - start
    # Text is never a factor as it stands: multiples of 2^64 - 1 over a small number, such as eight equal bytes, are
    # where folding loses information.
    secret = (seed ^ np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xD1B54A32D192ED03)
    secret ^= secret >> np.uint64(29)
    one = fold_product(secret, np.uint64(length) ^ np.uint64(0x8CB92BA72F3D8DD7))
    two = one ^ np.uint64(0xA0761D6478BD642F)
    position = start
    while end - position >= 32:
        one = fold_product(load_word(octets, position) ^ secret, load_word(octets, position + 8) ^ one)
        two = fold_product(load_word(octets, position + 16) ^ secret, load_word(octets, position + 24) ^ two)
        position += 32
    while end - position >= 8:
        one = fold_product(load_word(octets, position) ^ secret, one ^ np.uint64(0xE7037ED1A0B428DB))
        position += 8
    tail = np.uint64(0)
    if length >= 8:
        tail = load_word(octets, end - 8)
    else:
        for at in range(start, end):
            tail = (tail << np.uint64(8)) | np.uint64(octets[at])
    two = fold_product(tail ^ secret, two ^ np.uint64(0x589965CC75374CC3))
    return np.uint64(fold_product(one ^ np.uint64(0x1D8E4E27C47D124F), two ^ np.uint64(0x9FB21C651E98DF25)))


@njit(cache=True, nogil=True)
def common_prefix(octets: UInt8Array, a: Int, b: Int, limit: Int) -> Int:
    """How many bytes from a and from b on are equal, at most `limit`; both ranges must lie in the buffer."""
    length = 0
    while limit - length >= 8 and load_word(octets, a + length) == load_word(octets, b + length):
        length += 8
    while length < limit and octets[a + length] == octets[b + length]:
        length += 1
    return length


@njit(cache=True, nogil=True)
def common_suffix(octets: UInt8Array, a: Int, b: Int, limit: Int) -> Int:
    """How many bytes before a and before b are equal, at most `limit`; both ranges must lie in the buffer."""
    length = 0
    while limit - length >= 8 and load_word(octets, a - length - 8) == load_word(octets, b - length - 8):
        length += 8
    while length < limit and octets[a - length - 1] == octets[b - length - 1]:
        length += 1
    return length
