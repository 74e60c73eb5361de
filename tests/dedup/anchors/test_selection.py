"""Sampling: every window has one owner, and equal windows have equal anchors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from gneiss.dedup.anchors.periods import longest_period, periodic_stretches
from gneiss.dedup.anchors.selection import periodic_copies, select_anchors
from tests.dedup import corpora


@pytest.mark.parametrize("kind", [np.uint8, np.int32])
@pytest.mark.parametrize("seed", range(12))
def test_every_window_has_one_owner_that_its_content_decides(seed: int, kind: type) -> None:
    random = np.random.default_rng(seed)
    length = int(random.integers(2, 160))
    k = max(1, length // 2)
    values, bounds = corpora.concatenated(corpora.patchwork(random, length))
    anchors = select_anchors(values.astype(kind), bounds, length, k, seed)
    np.testing.assert_array_equal(periodic_copies(values.astype(kind), bounds, length, k), anchors.copies)
    owners = np.zeros(len(values) + 1, np.int64)
    anchor_of: dict[bytes, tuple[int, int]] = {}
    for begin, left, count, key in zip(anchors.begin, anchors.left, anchors.count, anchors.key, strict=True):
        for window in range(begin, begin + int(count)):
            owners[window] += 1
            offset = int(begin) + int(left) - window
            assert 0 <= offset <= length - k
            content = values[window : window + length].tobytes()
            assert anchor_of.setdefault(content, (offset, int(key))) == (offset, int(key))
    for start, count, source in anchors.copies:
        owners[start : start + count] += 1
        for n in range(count):
            assert (values[start + n : start + n + length] == values[source + n : source + n + length]).all()
    expected = np.zeros(len(values) + 1, np.int64)
    for low, high in pairwise(bounds):
        expected[low : max(low, high - length + 1)] = 1
    np.testing.assert_array_equal(owners, expected)


@pytest.mark.parametrize(("length", "expected"), [(100, 2 / 52), (200, 2 / 102), (400, 2 / 202)])
def test_density_is_that_of_minimizers(length: int, expected: float) -> None:
    values, bounds = corpora.concatenated([corpora.letters(np.random.default_rng(1), 200_000)])
    assert len(select_anchors(values, bounds, length, length // 2, 1).begin) / len(values) == pytest.approx(
        expected, rel=0.1
    )


@pytest.mark.parametrize("name", corpora.hard(60_000))
def test_no_text_has_many_more_anchors(name: str) -> None:
    values, bounds = corpora.concatenated(corpora.hard(60_000)[name])
    assert len(select_anchors(values, bounds, 100, 50, 1).begin) / len(values) < 2.5 * 2 / 52


def stretches_as_defined(text: bytes, low: int, high: int, k: int) -> set[tuple[int, int, int]]:
    """Maximal stretches of at least k bytes, with their shortest period, for the periods that are looked for."""
    found: dict[tuple[int, int], int] = {}
    for period in range(1, longest_period(k, 1) + 1):
        start = low
        while start + period < high:
            end = start + period
            while end < high and text[end] == text[end - period]:
                end += 1
            if end - start >= k:
                found.setdefault((start, end), period)
            start = end - period + 1
    return {(start, end, period) for (start, end), period in found.items()}


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.slow
def test_periodic_stretches(seed: int) -> None:
    random = np.random.default_rng(seed)
    k = int(random.integers(13, 120))
    documents = corpora.patchwork(random, k)
    values, bounds = corpora.concatenated(documents)
    for row in range(len(documents)):
        low, high = int(bounds[row]), int(bounds[row + 1])
        found = periodic_stretches(values, low, high, k, 1)
        assert {tuple(stretch) for stretch in found.tolist()} == stretches_as_defined(values.tobytes(), low, high, k)
        assert found[:, 0].tolist() == sorted(found[:, 0].tolist())
