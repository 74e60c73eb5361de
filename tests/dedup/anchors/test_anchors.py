"""The anchor engine against the suffix array, on corpora too large for the definition written out."""

from __future__ import annotations

from functools import partial
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pydivsufsort
import pytest

from gneiss.arrays import Int64Array
from gneiss.dedup import suffix_array
from gneiss.dedup.anchors import engine as anchors
from gneiss.dedup.anchors.grouping import group
from gneiss.dedup.anchors.selection import select_anchors
from gneiss.dedup.repeats import POLICIES, Repeats, cuts
from tests.dedup import corpora

HARD = corpora.hard(60_000)


def assert_same(found: Repeats, expected: Repeats, bounds: Int64Array, min_length: int) -> None:
    for policy in POLICIES:
        one, other = (cuts(repeats, bounds, min_length, policy) for repeats in (found, expected))
        for column in ("document", "start", "end", "source_document", "source_start"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column), f"{policy} {column}")


def check(values: npt.NDArray[np.uint8] | npt.NDArray[np.int32], bounds: Int64Array, min_length: int) -> None:
    expected = suffix_array.find_repeats(values, bounds, min_length)
    assert_same(anchors.find_repeats(values, bounds, min_length), expected, bounds, min_length)


@pytest.mark.parametrize("min_length", [12, 10_000, 2**31 - 1])
def test_windows_longer_than_any_document_repeat_nowhere(min_length: int) -> None:
    """Memory for windows of 2³¹ - 1 bytes would be 85 GB."""
    values, bounds = corpora.concatenated([b"hello hello", b"hello", b"hello hello"])
    check(values, bounds, min_length)
    assert len(anchors.find_repeats(values, bounds, min_length).start) == 0


@pytest.mark.parametrize("min_length", [1, 2, 30, 100, 200])
@pytest.mark.parametrize("name", HARD)
@pytest.mark.slow
def test_hard_corpora(name: str, min_length: int) -> None:
    with patch("gneiss.dedup.anchors.engine.suffix_array.find_repeats", side_effect=AssertionError("sorted instead")):
        values, bounds = corpora.concatenated(HARD[name])
        found = anchors.find_repeats(values, bounds, min_length)
    assert_same(found, suffix_array.find_repeats(values, bounds, min_length), bounds, min_length)


@pytest.mark.parametrize("kind", [np.uint8, np.int32])
@pytest.mark.parametrize("seed", range(60))
@pytest.mark.slow
def test_patchwork(seed: int, kind: type) -> None:
    random = np.random.default_rng(seed)
    min_length = int(random.integers(1, 160))
    values, bounds = corpora.concatenated(corpora.patchwork(random, min_length))
    check(values.astype(kind), bounds, min_length)


def test_patchworks_meet_every_way_of_matching() -> None:
    copies = large_groups = pairs = equal = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        min_length = int(random.integers(1, 160))
        values, bounds = corpora.concatenated(corpora.patchwork(random, min_length))
        found = select_anchors(values, bounds, min_length, max(1, min_length // 2), 1)
        links, _, large_bounds = group(found.key, found.content)
        copies += len(found.copies)
        large_groups += len(large_bounds) - 1
        pairs += int((links < -1).sum())
        equal += int((links >= 0).sum())
    assert min(copies, large_groups, pairs, equal) > 30


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 5])
def test_the_answer_does_not_depend_on_the_seed(seed: int) -> None:
    values, bounds = corpora.concatenated(corpora.patchwork(np.random.default_rng(3), 50))
    expected = suffix_array.find_repeats(values, bounds, 50)
    assert_same(anchors.find_repeats(values, bounds, 50, seed=seed), expected, bounds, 50)


@pytest.mark.parametrize("liars", [1, 3])
def test_hashes_that_lie_are_found_out(liars: int) -> None:
    """Contents of two bits only: most anchors that look like copies are not, and many large groups share a hash."""
    values, bounds = corpora.concatenated(corpora.patchwork(np.random.default_rng(5), 60))
    expected = suffix_array.find_repeats(values, bounds, 60)
    attempts = 0

    def weak(key: npt.NDArray[np.uint64], content: npt.NDArray[np.uint64]) -> object:
        nonlocal attempts
        attempts += 1
        return group(key, content & np.uint64(3) if attempts <= liars else content)

    with patch("gneiss.dedup.anchors.engine.group", weak):
        found = anchors.find_repeats(values, bounds, 60)
    assert attempts == min(liars + 1, 3)
    assert_same(found, expected, bounds, 60)


def test_kmers_with_one_hash_share_a_group_and_nothing_else() -> None:
    values, bounds = corpora.concatenated(corpora.patchwork(np.random.default_rng(6), 60))
    expected = suffix_array.find_repeats(values, bounds, 60)
    with patch("gneiss.dedup.anchors.engine.group", lambda key, content: group(key & np.uint64(7), content)):
        assert_same(anchors.find_repeats(values, bounds, 60), expected, bounds, 60)


def test_positions_of_64_bits() -> None:
    values, bounds = corpora.concatenated(HARD["ours: dashes of any length"])
    expected = suffix_array.find_repeats(values, bounds, 100)
    with patch("gneiss.dedup.anchors.selection.WIDE", 0), patch("gneiss.dedup.anchors.grouping.WIDE", 0):
        assert select_anchors(values, bounds, 100, 50, 1).begin.dtype == np.int64
        assert_same(anchors.find_repeats(values, bounds, 100), expected, bounds, 100)
    with patch("pydivsufsort.divsufsort", partial(pydivsufsort.divsufsort, force64=True)):
        assert_same(suffix_array.find_repeats(values, bounds, 100), expected, bounds, 100)


def test_windows_longer_than_a_block_and_than_16_bits() -> None:
    random = np.random.default_rng(8)
    text = corpora.letters(random, 90_000)
    documents = [text, b"x" + text[:-5] + b"y", corpora.letters(random, 70_000), text[3:80_000]]
    values, bounds = corpora.concatenated(documents)
    check(values, bounds, 70_000)
    check(values, bounds, 9_000)
