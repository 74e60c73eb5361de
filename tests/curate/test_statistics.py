"""Statistics: merging in any order gives the same, nothing is lost in JSON, and bins are where they say."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from functools import reduce
from itertools import pairwise
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import BoolArray
from gneiss.curate.measure import Measurable
from gneiss.curate.statistics import ColumnStatistics, Statistics, bin_edge, bins_of

smallest_edge = 2.0**-1028  # of the bins above zero
subnormal = st.floats(-(2.0**-1022), 2.0**-1022, allow_subnormal=True)
numbers = (
    st.floats(allow_nan=False)
    | subnormal
    | st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, 5e-324, -5e-324, 1e300])
)


def measure_column(column: pa.ChunkedArray, kept: BoolArray) -> ColumnStatistics:
    return Measurable.of(column).measured(kept)


def measured(values: list[float | None], kept: list[bool] | None = None) -> ColumnStatistics:
    column = pa.chunked_array([pa.array(values, pa.float64())])
    return measure_column(column, np.array(kept if kept is not None else [True] * len(values), np.bool_))


# Bins.


@given(numbers)
def test_a_number_lies_in_its_bin(number: float) -> None:
    """The edge is the smallest magnitude of a bin that is at most 1.6 % wide; its sign is the number's."""
    (bin_,) = bins_of(np.array([number])).tolist()
    edge = bin_edge(bin_)
    assert math.copysign(1, edge) == (math.copysign(1, number) if abs(number) >= smallest_edge else 1)
    assert abs(edge) <= abs(number)
    if math.isfinite(number):
        assert abs(number) < abs(bin_edge(bin_ + 1))
        assert abs(number) - abs(edge) < max(abs(edge) * (1 / 64) * (1 + 1e-12), smallest_edge)
    assert bins_of(np.array([edge])).tolist() == [bin_]


@given(subnormal)
def test_subnormal_bins_are_the_same_on_both_sides_of_zero(number: float) -> None:
    above, below = bins_of(np.array([abs(number), -abs(number)])).tolist()
    assert bin_edge(above) == -bin_edge(below) == abs(number) // smallest_edge * smallest_edge
    assert (above == below) == (abs(number) < smallest_edge)


@pytest.mark.parametrize(
    "number", [0.0, 0.25, 1.0, -1.0, 100.0, -3.5, math.inf, -math.inf, 2.0**-1022, 2.0**-1028, -(2.0**-1027)]
)
def test_a_bin_begins_exactly_at_its_edge(number: float) -> None:
    (bin_,) = bins_of(np.array([number])).tolist()
    assert bin_edge(bin_) == number
    below = math.nextafter(number, 0)
    if number and math.isfinite(number):
        assert bins_of(np.array([below])).tolist() != [bin_]


def test_minus_zero_is_zero() -> None:
    assert bins_of(np.array([0.0, -0.0])).tolist() == [0, 0]
    assert measured([-0.0, 0.0]).quantile(0.5) == 0.0


@given(
    st.lists(st.floats(1e-3, 1e6) | st.floats(-1e6, -1e-3) | st.just(0.0), min_size=1, max_size=60), st.floats(0.01, 1)
)
def test_a_quantile_is_within_one_bin_of_numpys(values: list[float], share: float) -> None:
    found = measured(values).quantile(share)
    exact = float(np.quantile(values, share, method="inverted_cdf"))
    assert found is not None
    assert abs(found) <= abs(exact)
    assert bins_of(np.array([found])).tolist() == bins_of(np.array([exact])).tolist()


def test_quantiles_of_infinities_and_of_nothing() -> None:
    assert measured([-math.inf, 1.0, math.inf]).quantile(0.01) == -math.inf
    assert measured([-math.inf, 1.0, math.inf]).quantile(1.0) == math.inf
    assert measured([None, math.nan]).quantile(0.5) is None
    assert measured([]).quantile(0.5) is None


@given(st.lists(st.tuples(st.none() | st.just(math.nan) | numbers, st.booleans()), max_size=40))
def test_every_document_is_counted_once(rows: list[tuple[float | None, bool]]) -> None:
    values, kept = [value for value, _ in rows], [is_kept for _, is_kept in rows]
    found = measured(values, kept)
    real = [value for value in values if value is not None and not math.isnan(value)]
    assert found.missing == values.count(None)
    assert found.nan == len(values) - values.count(None) - len(real)
    assert found.bins == Counter(bins_of(np.array(real)).tolist())
    assert found.documents == len(real) == found.bins.total()
    kept_real = [v for v, k in rows if k and v is not None and not math.isnan(v)]
    assert found.kept_bins == Counter(bins_of(np.array(kept_real)).tolist())


def test_integers_are_counted_as_numbers_and_strings_and_booleans_as_values() -> None:
    kept = np.array([True, False, True])
    integers = measure_column(pa.chunked_array([pa.array([2**62, None, 3])]), kept)
    assert (integers.missing, integers.bins.total(), integers.kept_bins.total()) == (1, 2, 2)
    strings = measure_column(pa.chunked_array([pa.array(["cc", "hq", None])]), kept)
    assert (strings.missing, strings.values, strings.kept_values) == (
        1,
        Counter({"cc": 1, "hq": 1}),
        Counter({"cc": 1}),
    )
    booleans = measure_column(pa.chunked_array([pa.array([True, True, False])]), kept)
    assert (booleans.values, booleans.kept_values) == (
        Counter({"True": 2, "False": 1}),
        Counter({"True": 1, "False": 1}),
    )


# Merging.


def some_statistics(seed: int) -> Statistics:
    pick = random.Random(seed)
    n = pick.randrange(0, 30)
    scores = [pick.choice([None, math.nan, pick.uniform(-1, 1)]) for _ in range(n)]
    labels = pa.chunked_array([pa.array([pick.choice(["cc", "hq", None]) for _ in range(n)], pa.string())])
    kept = np.array([pick.random() < 0.5 for _ in range(n)], np.bool_)
    return Statistics(
        Counter({"rows": n, "kept": int(kept.sum()), "dropped": n - int(kept.sum()), "quarantined": 0}),
        Counter({"first": pick.randrange(5)}),
        Counter({pick.choice(["null text", "invalid UTF-8"]): pick.randrange(3)}),
        {"first": Counter({pick.choice(["10", "?1", "00"]): n}), f"phase-{seed % 2}": Counter({"1": n})},
        Counter({"quality": pick.randrange(4)}),
        {"score": measured(scores, kept.tolist()), "label": measure_column(labels, kept)},
    )


def merged(parts: list[Statistics]) -> Statistics:
    def plus(whole: Statistics, part: Statistics) -> Statistics:
        whole += part
        return whole

    return reduce(plus, parts, Statistics())


@given(st.lists(st.integers(0, 1000), max_size=6), st.randoms(use_true_random=False))
@pytest.mark.slow
def test_merging_in_any_order_and_grouping_gives_the_same(seeds: list[int], shuffler: random.Random) -> None:
    parts = [some_statistics(seed) for seed in seeds]
    whole = merged(parts)
    shuffled = list(parts)
    shuffler.shuffle(shuffled)
    at = shuffler.randrange(len(parts) + 1)
    halves = merged([merged(shuffled[:at]), merged(shuffled[at:])])
    for other in (merged(shuffled), halves):
        assert json.dumps(other.to_json(), sort_keys=True) == json.dumps(whole.to_json(), sort_keys=True)
    assert parts == [some_statistics(seed) for seed in seeds], "the parts are untouched"


@given(st.integers(0, 1000))
def test_json_holds_everything(seed: int) -> None:
    statistics = some_statistics(seed)
    written = json.dumps(statistics.to_json())
    assert Statistics.from_json(json.loads(written)) == statistics
    assert json.dumps(Statistics.from_json(json.loads(written)).to_json()) == written


def test_json_of_nothing() -> None:
    assert Statistics.from_json(Statistics().to_json()) == Statistics()


@given(
    st.lists(st.tuples(st.none() | st.sampled_from([*"abcdefgh", "(other)"]), st.booleans()), max_size=40),
    st.sets(st.integers(0, 40)),
    st.booleans(),
)
def test_counts_of_values_do_not_depend_on_how_the_documents_are_cut(
    rows: list[tuple[str | None, bool]], cuts: set[int], is_backwards: bool
) -> None:
    def part(start: int, end: int) -> Statistics:
        strings = pa.chunked_array([pa.array([value for value, _ in rows[start:end]], pa.string())])
        kept = np.array([is_kept for _, is_kept in rows[start:end]], np.bool_)
        return Statistics.from_json(Statistics(columns={"label": measure_column(strings, kept)}).to_json())

    with mock.patch("gneiss.curate.statistics._MOST_VALUES", 3):
        whole = merged([part(0, len(rows))]).to_json()
        parts = [part(start, end) for start, end in pairwise(sorted({0, len(rows), *(cut % 41 for cut in cuts)}))]
        assert merged(parts[::-1] if is_backwards else parts).to_json() == (whole if parts else Statistics().to_json())
    if parts:
        found = whole["columns"]["label"]
        exact = Counter(value for value, _ in rows if value not in (None, "(other)"))
        shown = {value: count for value, count in found["values"].items() if value != "(other)"}
        assert len(shown) == min(3, len(exact))
        assert shown == {value: exact[value] for value in shown}
        assert sum(found["values"].values()) == len(rows) - found["missing"]
        assert sum(found["kept_values"].values()) == sum(is_kept for value, is_kept in rows if value is not None)
        assert found["kept_values"].keys() <= found["values"].keys()


def test_of_very_many_values_a_thousand_are_counted_and_the_rest_together() -> None:
    whole = Statistics()
    for shard in range(3):
        strings = pa.chunked_array([pa.array([f"{shard}-{i}" for i in range(1300)] * 2)])
        whole += Statistics(columns={"label": measure_column(strings, np.ones(2600, np.bool_))})
        assert len(whole.columns["label"].values) == 1001
    assert whole.columns["label"].documents == 7800
    assert whole.columns["label"].values["(other)"] == 5800


# Rules.


def test_patterns_tell_how_often_each_rule_is_true_false_and_unknown() -> None:
    statistics = Statistics(
        patterns={"only": Counter({"10": 5, "1?": 2, "00": 1, "0!": 3})}, decisive=Counter({"b": 5})
    )
    assert statistics.rule_counts("only", ["a", "b"]) == {
        "a": {"true": 7, "false": 4, "unknown": 0, "errors": 0, "decisive": 0},
        "b": {"true": 0, "false": 6, "unknown": 5, "errors": 3, "decisive": 5},
    }
    never = statistics.rule_counts("never reached", ["a"])
    assert never == {"a": {"true": 0, "false": 0, "unknown": 0, "errors": 0, "decisive": 0}}
