"""Hashing and comparing ranges."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from gneiss.dedup.words import common_prefix, common_suffix, fold_product, hash_range, load_word

ALL_ONES = 2**64 - 1


@njit
def fold(a: np.uint64, b: np.uint64) -> np.uint64:
    return fold_product(a, b)


@njit
def load(octets: np.ndarray, position: int) -> np.uint64:
    return load_word(octets, position)


@given(a=st.integers(0, ALL_ONES), b=st.integers(0, ALL_ONES))
def test_fold_product(a: int, b: int) -> None:
    assert int(fold(np.uint64(a), np.uint64(b))) == (a * b >> 64) ^ (a * b & ALL_ONES)


@given(data=st.binary(min_size=8, max_size=30), at=st.integers(0, 22))
def test_load_word(data: bytes, at: int) -> None:
    at = min(at, len(data) - 8)
    assert int(load(np.frombuffer(data, np.uint8), at)) == int.from_bytes(data[at : at + 8], "little")


@given(one=st.binary(max_size=40), other=st.binary(max_size=40), shared=st.binary(max_size=40))
def test_common_prefix_and_suffix(one: bytes, other: bytes, shared: bytes) -> None:
    def length_of_common(a: bytes, b: bytes) -> int:
        return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))

    a, b = shared + one, shared + other
    octets, limit = np.frombuffer(a + b, np.uint8), min(len(a), len(b))
    assert common_prefix(octets, 0, len(a), limit) == length_of_common(a, b)
    a, b = one + shared, other + shared
    octets = np.frombuffer(a + b, np.uint8)
    assert common_suffix(octets, len(a), len(a + b), limit) == length_of_common(a[::-1], b[::-1])


@given(before=st.binary(max_size=20), data=st.binary(max_size=100), seed=st.integers(0, ALL_ONES))
def test_a_hash_is_of_the_range_alone(before: bytes, data: bytes, seed: int) -> None:
    octets = np.frombuffer(before + data + b"after", np.uint8)
    alone = np.frombuffer(data + b"\0", np.uint8)
    found = hash_range(octets, len(before), len(before + data), np.uint64(seed))
    assert found == hash_range(alone, 0, len(data), np.uint64(seed))


def test_hashes_of_regular_text_differ() -> None:
    """Repeated bytes are multiples of (2^64 - 1) / 255, which a careless product folds to one value."""
    texts = {b"%c%c%c" % (a, b, c) + fill * n for a in b"ou" for b in b"o-" for c in b"ey-"
             for fill in (b"-", b"\0", b"ab", b"\xff") for n in (20, 31, 32, 64, 197)}  # fmt: skip
    hashes = {int(hash_range(np.frombuffer(text, np.uint8), 0, len(text), np.uint64(seed))) for text in texts
              for seed in range(200)}  # fmt: skip
    assert len(hashes) == 200 * len(texts)
