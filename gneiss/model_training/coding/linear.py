"""Codes of linear heads: scores are linear in weights, so those of a lost head follow from a coded one's.

A coded head has the weights v_c = Σ β_i v_i, and so the scores z_c = Σ β_i z_i. Where head j is lost,
z_j = (z_c - Σ_{i≠j} β_i z_i) / β_j. Sums are taken in the order of the heads, without BLAS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.errors import InputError

#: By how much an operation may round, relative to its result.
UNIT = 2.0**-53
UNIT_FLOAT32 = 2.0**-24


def even_coefficients(heads: int) -> Float64Array:
    """β of one coded head, (1, heads): all count alike.

    >>> even_coefficients(4)
    array([[0.25, 0.25, 0.25, 0.25]])
    """
    if heads < 2:
        raise InputError(f"coding: expected 2 heads or more, found {heads}")
    return np.full((1, heads), 1.0 / heads)


def vandermonde_coefficients(heads: int, spares: int) -> Float64Array:
    """β of several coded heads, (spares, heads), each summing to 1: any `spares` losses can be undone.

    Row s is 1^s, 2^s, …: such a matrix has no singular square part, as its nodes are positive. Raises InputError.

    >>> vandermonde_coefficients(3, 2) * [[3], [6]]
    array([[1., 1., 1.],
           [1., 2., 3.]])
    """
    if not 1 <= spares < heads:
        raise InputError(f"coding: expected 1 to {heads - 1} coded heads for {heads}, found {spares}")
    rows = np.arange(1.0, heads + 1) ** np.arange(spares)[:, None]
    found: Float64Array = rows / rows.sum(axis=1, keepdims=True)
    return found


def coded(of_heads: Sequence[Float64Array], coefficients: Float64Array) -> Float64Array:
    """What coded heads have, (spares, …), where heads have these arrays of one shape; coefficients: (spares, heads).

    Arrays may be weights, or scores. Raises InputError for shapes that differ, and coefficients of 0.
    """
    if coefficients.ndim != 2 or coefficients.shape[1] != len(of_heads):
        raise InputError(f"coding: expected coefficients of {len(of_heads)} heads, found {coefficients.shape}")
    if not (np.isfinite(coefficients).all() and coefficients.all()):
        raise InputError("coding: expected coefficients other than 0: a head of coefficient 0 cannot be decoded")
    if len(shapes := {array.shape for array in of_heads}) > 1:
        raise InputError(f"coding: expected heads of one shape, found {', '.join(map(str, sorted(shapes)))}")
    return np.stack([weighted_sum(row, of_heads) for row in coefficients])


def decoded(
    of_heads: Sequence[Float64Array | None], of_coded: Sequence[Float64Array], coefficients: Float64Array
) -> dict[int, Float64Array]:
    """What lost heads would have had: head → array.

    Parameters: `of_heads`: scores of each head, None of a lost one; `of_coded`: those of coded heads, at least as many
    as are lost; `coefficients`: (coded heads, heads). Raises InputError where too many are lost.

    >>> scores = [np.array([1.0, 4.0]), np.array([3.0, 0.0])]
    >>> decoded([scores[0], None], coded(scores, even_coefficients(2)), even_coefficients(2))
    {1: array([3., 0.])}
    """
    lost = [head for head, found in enumerate(of_heads) if found is None]
    if len(lost) > len(of_coded):
        raise InputError(f"coding: {len(lost)} heads are lost, and {len(of_coded)} coded ones left")
    if not lost:
        return {}
    rows = coefficients[: len(lost)]
    there = [head for head, found in enumerate(of_heads) if found is not None]
    known = [array for array in of_heads if array is not None]
    rest = [
        of_coded[spare] - weighted_sum(row[there], known) if there else of_coded[spare]
        for spare, row in enumerate(rows)
    ]
    if len(lost) == 1:
        return {lost[0]: rest[0] / rows[0, lost[0]]}
    inverse = np.linalg.inv(rows[:, lost])
    return {head: weighted_sum(row, rest) for head, row in zip(lost, inverse, strict=True)}


def rounding_bound(
    entries: Int64Array, masses: Float64Array, largest: float, coefficients: Float64Array, lost: int, unit: float = UNIT
) -> Float64Array:
    """How far a decoded score may lie from what the lost head computes, by rounding, (documents,).

    A bound in the manner of N. Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.1, taken twice.

    Parameters: `entries`: how many features a document has, (documents,); `masses`: the sum of their absolute values;
    `largest`: see `largest_weight`; `coefficients`: (heads,), of the one coded head; `lost`: the lost head; `unit`: by
    how much a weight of the coded head is rounded, relatively.
    """
    operations = entries + 2 * len(coefficients) + 6
    reach = masses * largest
    bound: Float64Array = 2 * (2 * operations * UNIT + unit) * reach / abs(coefficients[lost])
    return bound


def largest_weight(weights: Sequence[Float64Array], coefficients: Float64Array) -> float:
    """max over features of Σ |β_i v_i|, of one coded head: how much a feature of 1 moves a score on its way at most."""
    return float(weighted_sum(np.abs(coefficients), [np.abs(array) for array in weights]).max(initial=0.0))


def weighted_sum(coefficients: Float64Array, arrays: Sequence[Float64Array]) -> Float64Array:
    """Σ β_i a_i, in the order of the arrays."""
    total: Float64Array = coefficients[0] * arrays[0]
    for coefficient, array in zip(coefficients[1:], arrays[1:], strict=True):
        total = total + coefficient * array
    return total
