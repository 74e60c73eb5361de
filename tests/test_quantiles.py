"""Quantiles: a sketch against a sort, merged in any order, and what it is off by once it is coarse."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.quantiles import Sketch, cuts_of, keys_of, quantiles_of, values_of

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
#: Values with their tokens, of two groups.
DOCUMENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 0.5])), st.integers(0, 99))
)


def sketch_of(documents: Sequence[tuple[str, float, int]], most_bins: int = 1 << 22) -> Sketch:
    names = sorted({group for group, _, _ in documents})
    group = np.array([names.index(name) for name, _, _ in documents], np.int64)
    values = np.array([value for _, value, _ in documents], np.float64)
    tokens = np.array([count for _, _, count in documents], np.int64)
    return Sketch.of_all([(names, group, keys_of(values), np.stack([tokens, np.ones_like(tokens)], axis=1))], most_bins)


def plain(sketch: Sketch) -> dict[str, dict[int, list[int]]]:
    return {
        group: dict(zip(bins.keys.tolist(), bins.amounts.tolist(), strict=True)) for group, bins in sketch.bins.items()
    }


@given(st.lists(FLOATS))
def test_keys_are_in_the_order_of_values_and_give_them_back(values: list[float]) -> None:
    array = np.array(values, np.float64)
    keys = keys_of(array)
    assert (values_of(keys) == array).all()
    for low, high in pairwise(values):
        a, b = keys_of(np.array([low, high]))
        assert (a < b, a == b) == (low < high, low == high)


@given(DOCUMENTS, st.integers(0, 5), st.integers(2, 9))
def test_merging_is_the_sketch_of_both_whatever_the_order(
    documents: list[tuple[str, float, int]], parts: int, most_bins: int
) -> None:
    whole = sketch_of(documents, most_bins)
    merged = Sketch()
    for part in reversed([documents[at :: parts + 1] for at in range(parts + 1)]):
        merged = merged.merged(sketch_of(part, most_bins), most_bins)
    assert merged.shift == whole.shift
    assert plain(merged) == plain(whole)


@given(DOCUMENTS)
def test_a_sketch_that_fits_is_exact(documents: list[tuple[str, float, int]]) -> None:
    sketch = sketch_of(documents)
    expected: dict[str, dict[float, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for group, value, tokens in documents:
        expected[group][value][0] += tokens
        expected[group][value][1] += 1
    assert sketch.shift == 0
    for group, bins in sketch.bins.items():
        assert dict(zip(values_of(bins.keys).tolist(), bins.amounts.tolist(), strict=True)) == expected[group]


@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.integers(1, 99)), min_size=1, max_size=60), st.integers(2, 20))
def test_cuts_against_a_sort_with_the_error_that_is_stated(values: list[tuple[float, int]], quantiles: int) -> None:
    exact = cuts_of(sketch_of([("a", *pair) for pair in values]).bins["a"], 0, quantiles)
    tokens: dict[float, int] = defaultdict(int)
    for value, count in values:
        tokens[value] += count
    total, before, expected = sum(tokens.values()), 0, dict[int, float]()
    for value in sorted(tokens):
        quantile = min(quantiles * (2 * before + tokens[value]) // (2 * total), quantiles - 1)
        before += tokens[value]
        for passed in range(1, quantile + 1):
            expected.setdefault(passed, value)
    assert exact == [expected[number] for number in sorted(expected)]
    coarse = sketch_of([("a", *pair) for pair in values], 4)
    found = cuts_of(coarse.bins["a"], coarse.shift, quantiles)
    order = np.sort(np.array(list(tokens)))
    for cut in found:  # a cut is at the low end of a bin, within the stated error of a value that is there
        nearest = order[np.searchsorted(order, cut)]
        assert nearest - cut <= coarse.relative_error * nearest


def test_equal_values_are_in_one_quantile_and_a_constant_in_the_middle() -> None:
    assert quantiles_of(np.array([10**15]), 20).tolist() == [10]
    assert quantiles_of(np.array([0, 0]), 20).tolist() == [0, 0]
    assert quantiles_of(np.array([97, 1, 1, 1]), 4).tolist() == [1, 3, 3, 3]


@pytest.mark.parametrize("quantiles", [2, 20, 1000])
def test_trillions_of_tokens_do_not_overflow(quantiles: int) -> None:
    weights = np.full(1000, 10**12, np.int64)
    found = quantiles_of(weights, quantiles)
    assert found.tolist() == [quantiles * (2 * at + 1) // 2000 for at in range(1000)]
