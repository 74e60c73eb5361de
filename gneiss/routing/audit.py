"""Audits: documents on which all tiers and the judge are run, whatever the router would have done."""

from __future__ import annotations

import xxhash
from numba import njit

from gneiss.arrays import Float, Int

#: How fast audits of a stream become rarer.
_EXPONENT = 0.25


@njit(cache=True, nogil=True)
def audit_share(number: Int, first: Float, least: Float) -> Float:
    """The probability that a document is audited: max(least, min(1, first/number^¼)); `number` counts from 1."""
    return max(least, min(1.0, first / number**_EXPONENT))


def draw(seed: int, content: bytes) -> float:
    """A number from 0 up to 1 that depends on seed and content only: it is audited where this is below the share.

    >>> draw(0, b"one") == draw(0, b"one") != draw(1, b"one")
    True
    """
    # 53 bits, which a float holds: all 64 would round some hashes up to 1
    return (xxhash.xxh3_64_intdigest(content, seed) >> 11) / 2.0**53
