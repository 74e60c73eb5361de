"""Weighted quantiles of a corpus by counts that merge in any order: exact while distinct values are few.

A sketch counts what documents amount to (tokens, documents) by group and value. Past `MOST_BINS` values it drops the
lowest bit of all values, and another, until they fit: floats keep their order, so a bin is an interval of them, and its
relative width is 2**(shift - 52). How many bits are dropped depends on the corpus, not on how its parts are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import AnyArray, Float64Array, Int64Array, UInt64Array

#: Values that are told apart, of all groups together.
MOST_BINS = 1 << 22
_SIGN = np.uint64(1 << 63)
#: What a missing value of a column is called in a category. A value is never: its brackets are escaped.
MISSING = "(none)"
_ESCAPES = (("%", "%25"), ("/", "%2F"), ("(", "%28"))
#: Values that are held before they are counted together with others.
_WAITING = 1 << 20


@dataclass(frozen=True, eq=False)
class Bins:
    """Counts by value. keys: of values, rising, without dropped bits, uint64 (bins,); amounts: int64 (bins, n)."""

    keys: UInt64Array
    amounts: Int64Array

    def coarser(self, bits: int) -> Bins:
        """The same with fewer bits."""
        return counted(self.keys >> np.uint64(bits), self.amounts) if bits else self


def counted(keys: UInt64Array, amounts: Int64Array) -> Bins:
    """Bins of keys in any order, (values,), and what they amount to, (values, n)."""
    order = np.argsort(keys, kind="stable")
    keys, amounts = keys[order], amounts[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(keys), 1), np.bool_), keys[1:] != keys[:-1]]))
    return Bins(keys[starts], np.add.reduceat(amounts, starts, axis=0) if len(starts) else amounts)


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a corpus amounts to by group and value. shift: bits that are dropped of each value, 0 where it is exact.

    >>> left = Sketch.of({"en": keys_of(np.array([0.5, 0.1]))}, {"en": np.array([[7], [1]])})
    >>> right = Sketch.of({"en": keys_of(np.array([0.5]))}, {"en": np.array([[2]])})
    >>> left.merged(right).bins["en"].amounts.tolist()
    [[1], [9]]
    """

    shift: int = 0
    bins: Mapping[str, Bins] = field(default_factory=dict)

    @classmethod
    def of(
        cls, keys: Mapping[str, UInt64Array], amounts: Mapping[str, Int64Array], most_bins: int = MOST_BINS
    ) -> Sketch:
        """Of values by group: keys (values,), and amounts int64 (values, n)."""
        return cls._fitted(0, {group: counted(keys[group], amounts[group]) for group in keys}, most_bins)

    @classmethod
    def of_all(
        cls, parts: Iterable[tuple[Sequence[str], Int64Array, UInt64Array, Int64Array]], most_bins: int = MOST_BINS
    ) -> Sketch:
        """Of portions of a corpus: names of groups, and for each value the index of its group, its key, its amounts."""
        found = cls()
        for keys, amounts in _portions(parts):
            found = found.merged(cls.of(keys, amounts, most_bins), most_bins)
        return found

    @property
    def relative_error(self) -> float:
        """By how much values of one bin differ at most, relative to them."""
        return 2.0 ** (self.shift - 52) if self.shift else 0.0

    def merged(self, other: Sketch, most_bins: int = MOST_BINS) -> Sketch:
        """The sketch of both corpora."""
        shift = max(self.shift, other.shift)
        found: dict[str, Bins] = {}
        for sketch in (self, other):
            for group, bins in sketch.bins.items():
                own = bins.coarser(shift - sketch.shift)
                if group in found:
                    keys = np.concatenate([found[group].keys, own.keys])
                    own = counted(keys, np.concatenate([found[group].amounts, own.amounts]))
                found[group] = own
        return self._fitted(shift, found, most_bins)

    @classmethod
    def _fitted(cls, shift: int, bins: Mapping[str, Bins], most_bins: int) -> Sketch:
        while sum(len(of.keys) for of in bins.values()) > max(most_bins, len(bins)) and shift < 63:
            shift, bins = shift + 1, {group: of.coarser(1) for group, of in bins.items()}
        return cls(shift, bins)


def _portions(
    parts: Iterable[tuple[Sequence[str], Int64Array, UInt64Array, Int64Array]],
) -> Iterator[tuple[dict[str, UInt64Array], dict[str, Int64Array]]]:
    keys: dict[str, list[UInt64Array]] = {}
    amounts: dict[str, list[Int64Array]] = {}
    waiting = 0
    for names, group, own_keys, own_amounts in parts:
        order = np.argsort(group, kind="stable")
        bounds = np.searchsorted(group[order], np.arange(len(names) + 1))
        for at, name in enumerate(names):
            rows = order[bounds[at] : bounds[at + 1]]
            if len(rows):
                keys.setdefault(name, []).append(own_keys[rows])
                amounts.setdefault(name, []).append(own_amounts[rows])
        waiting += len(group)
        if waiting >= _WAITING:
            yield _joined(keys), _joined(amounts)
            keys, amounts, waiting = {}, {}, 0
    yield _joined(keys), _joined(amounts)


def _joined(arrays: Mapping[str, list[AnyArray]]) -> dict[str, AnyArray]:
    return {name: np.concatenate(parts) for name, parts in arrays.items()}


def keys_of(values: Float64Array) -> UInt64Array:
    """Keys in the order of finite values, of which 0.0 and -0.0 are one, uint64 (values,).

    >>> np.argsort(keys_of(np.array([2.0, -1.0, 0.0, -3.0]))).tolist()
    [3, 1, 2, 0]
    """
    bits = (values + 0.0).view(np.uint64)
    keys: UInt64Array = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return keys


def values_of(keys: UInt64Array) -> Float64Array:
    """The values of keys, float64 (keys,)."""
    bits: UInt64Array = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
    return bits.view(np.float64)


def quantiles_of(weights: Int64Array, quantiles: int) -> Int64Array:
    """The quantile from 0 of each of some values, in order, by weight: where the middle of its weight is, int64.

    Equal values are in one quantile, so one that holds most of the weight leaves others empty; a constant is in the
    middle. weights × quantiles must stay below 2**62.

    >>> quantiles_of(np.array([1, 1, 1, 1]), 4).tolist(), quantiles_of(np.array([5]), 4).tolist()
    ([0, 1, 2, 3], [2])
    """
    total = max(int(weights.sum()), 1)
    doubled = 2 * np.cumsum(weights) - weights
    found: Int64Array = np.minimum(quantiles * doubled // (2 * total), quantiles - 1)
    return found


def cuts_of(bins: Bins, shift: int, quantiles: int) -> list[float]:
    """From which value on a value is in each quantile but the first; those above the largest value are left out.

    The first of the amounts is the weight. `np.searchsorted(cuts, values, side="right")` is the quantile of values.
    """
    found = quantiles_of(bins.amounts[:, 0], quantiles)
    starts = np.searchsorted(found, np.arange(1, quantiles))
    cuts: list[float] = values_of(bins.keys[starts[starts < len(found)]] << np.uint64(shift)).tolist()
    return cuts


def scores_of(table: pa.Table, scores: Sequence[str]) -> Float64Array:
    """The largest finite score of each row, float64 (rows,); NaN where there is none."""
    found = np.full(table.num_rows, np.nan)
    for name in scores:
        values = pc.fill_null(table[name].cast(pa.float64(), safe=False), np.nan).to_numpy()
        found = np.fmax(found, np.where(np.isfinite(values), values, np.nan))
    return found


def categories_of(table: pa.Table, by: Sequence[str]) -> tuple[pa.Array, Int64Array]:
    """The categories of some rows, as strings, and the index of that of each row, int64 (rows,)."""
    if not by:
        return pa.array([""] if table.num_rows else [], pa.string()), np.zeros(table.num_rows, np.int64)
    parts = []
    for name in by:
        values = table[name].cast(pa.string())
        for found, escape in _ESCAPES:
            values = pc.replace_substring(values, found, escape)
        parts.append(pc.fill_null(values, MISSING))
    joined = pc.binary_join_element_wise(*parts, "/").combine_chunks()
    encoded = joined.dictionary_encode()
    return encoded.dictionary, encoded.indices.cast(pa.int64()).to_numpy(zero_copy_only=False)
