"""MinHash signatures, against the oracle and against datasketch."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from gneiss.arrays import UInt32Array
from gneiss.batch import TextBatch
from gneiss.dedup.minhash.bands import bands_for, match_probability
from gneiss.dedup.minhash.criteria import NearDuplicates
from gneiss.dedup.minhash.shingles import hash_inner_word, hash_word, last_blank
from gneiss.dedup.minhash.signatures import Permutations, signatures
from gneiss.dedup.words import fold_product
from gneiss.errors import InputError
from tests.dedup.minhash import oracle

if TYPE_CHECKING:
    from datasketch import MinHash

words = st.text(alphabet="abc\0é中\u0301", min_size=1, max_size=20)
normal_texts = st.lists(words, max_size=12).map(" ".join)
HOSTILE = ["", "a", "\0", "\0 \0\0", "\u0301", "a" * 7, "a" * 8, "a" * 9, "a" * 15, "a" * 16, "x" * 100_000,
           "a " * 999 + "b", "aaaaaaaa " * 9 + "a", " ".join("abcdefghij" * 300), "é" * 4000]  # fmt: skip


def expected(texts: list[str], shingle_words: int, permutations: Permutations) -> list[list[int] | None]:
    """The signatures by the oracle; None without words."""
    factors, summands = permutations.factors.tolist(), permutations.summands.tolist()
    found = [oracle.shingles(text, shingle_words) for text in texts]
    return [oracle.signature(each, factors, summands) if each else None for each in found]


def ours(texts: list[str], shingle_words: int, permutations: Permutations) -> list[list[int] | None]:
    found, has_words = signatures(TextBatch.of(texts), shingle_words, permutations)
    return [row.tolist() if here else None for row, here in zip(found, has_words, strict=True)]


def by_datasketch(texts: list[str], shingle_words: int, permutations: Permutations) -> list[MinHash]:
    """datasketch's sketches, by our hash function and our permutations."""
    from datasketch import MinHash

    sketches = []
    for text in texts:
        sketches.append(
            MinHash(
                permutations.count,
                hashfunc=oracle.hash_shingle,
                permutations=(permutations.factors, permutations.summands),
                scheme="affine32",
            )
        )
        sketches[-1].update_batch(oracle.shingles(text, shingle_words))
    return sketches


@given(st.lists(normal_texts, max_size=5), st.integers(1, 6), st.integers(1, 20), st.integers(0, 3))
def test_as_the_oracle(texts: list[str], shingle_words: int, count: int, seed: int) -> None:
    permutations = Permutations(count, seed)
    assert ours(texts, shingle_words, permutations) == expected(texts, shingle_words, permutations)


def test_hostile_texts() -> None:
    for shingle_words in (1, 5):
        permutations = Permutations(3)
        assert ours(HOSTILE, shingle_words, permutations) == expected(HOSTILE, shingle_words, permutations)


def test_blocks_of_shingles_of_all_lengths() -> None:
    texts = [" ".join(map(str, range(count))) for count in (1023, 1024, 1025, 2048, 2500)]
    assert ours(texts, 1, Permutations(5)) == expected(texts, 1, Permutations(5))


@given(st.lists(normal_texts, max_size=5), st.integers(1, 6), st.integers(0, 3))
def test_as_datasketch(texts: list[str], shingle_words: int, seed: int) -> None:
    permutations = Permutations(112, seed)
    found, has_words = signatures(TextBatch.of(texts), shingle_words, permutations)
    for row, here, sketch in zip(found, has_words, by_datasketch(texts, shingle_words, permutations), strict=True):
        assert here == (not sketch.is_empty())
        assert np.array_equal(row, sketch.hashvalues)  # of an empty one, too


@given(st.lists(words, min_size=1, max_size=9), st.integers(0, 3))
def test_words_one_by_one(parts: list[str], spare: int) -> None:
    data = np.frombuffer(" ".join(parts).encode() + b"\xff" * spare, np.uint8)
    stop = len(data) - spare
    position = 0
    last = last_blank(data, 0, stop)
    for word in parts:
        end = position + len(word.encode())
        assert hash_word(data, position, stop) == (oracle.hash_word(word), end)
        if position <= last:
            assert last + 8 <= len(data)
            assert hash_inner_word(data, position) == (oracle.hash_word(word), end)
        position = end + 1


def test_signatures_of_slices_are_the_same() -> None:
    texts = ["one two three four five six", "", "seven eight", "a" * 30]
    whole, _ = signatures(TextBatch.of(texts), 2, Permutations(9))
    part, _ = signatures(TextBatch.of(texts).slice(2, 4), 2, Permutations(9))
    assert np.array_equal(part, whole[2:])


def test_permutations_never_change() -> None:
    permutations = Permutations(112, seed=1)
    assert permutations.factors[:3].tolist() == [2198257139, 619160823, 1339305889]
    assert permutations.summands[:3].tolist() == [4082210491, 4074418350, 1818173253]
    assert (permutations.factors % 2 == 1).all()
    assert np.array_equal(Permutations(7, seed=1).factors, permutations.factors[:7])
    assert not np.array_equal(Permutations(112, seed=2).factors, permutations.factors)


def sketched(sets: list[set[int]], permutations: Permutations) -> UInt32Array:
    found, _ = signatures(TextBatch.of([" ".join(map(str, each)) for each in sets]), 1, permutations)
    return found


@pytest.mark.parametrize("jaccard", [0.25, 0.5, 0.8])
def test_estimates_and_matches_are_as_often_as_they_should_be(jaccard: float) -> None:
    """Over 600 pairs of sets of 90 words: mean, variance and shared bands, each within four standard errors."""
    pairs, size, choose = 600, 90, random.Random(1)
    common = round(2 * size * jaccard / (1 + jaccard))
    jaccard = common / (2 * size - common)
    near = NearDuplicates()
    one, other = [], []
    for _ in range(pairs):
        drawn = choose.sample(range(10**9), 2 * size - common)
        one.append(set(drawn[:size]))
        other.append(set(drawn[size - common :]))
    equal = sketched(one, near.permutations) == sketched(other, near.permutations)
    estimates = equal.mean(axis=1)
    variance = jaccard * (1 - jaccard) / near.permutations.count
    assert abs(estimates.mean() - jaccard) < 4 * (variance / pairs) ** 0.5
    assert abs(estimates.var() / variance - 1) < 4 * (2 / pairs) ** 0.5
    share = equal.reshape(pairs, near.bands, near.rows).all(axis=2).any(axis=1).mean()
    likely = match_probability(jaccard, near.bands, near.rows)
    assert abs(share - likely) < 4 * (likely * (1 - likely) / pairs) ** 0.5 + 1e-9


@pytest.mark.slow
def test_hashes_of_shingles_are_spread() -> None:
    """100,000 shingles of few words: hardly more of them collide in 32 bits than of random numbers, 1.2."""
    choose = random.Random(2)
    found = {tuple(choose.choices("abcdefghijklmnop", k=5)) for _ in range(100_000)}
    hashes = {oracle.hash_shingle(shingle) for shingle in found}
    assert len(found) - len(hashes) <= 8
    bits = np.array(list(hashes), np.uint32)[:, None] >> np.arange(32, dtype=np.uint32) & np.uint32(1)
    assert (abs(bits.mean(axis=0) - 0.5) < 4 * 0.5 / len(hashes) ** 0.5).all()


@pytest.mark.parametrize(("threshold", "permutations", "weight"), [(0.5, 16, 0.5), (0.8, 24, 0.5), (0.8, 24, 0.9)])
def test_bands_for_a_threshold_err_least(threshold: float, permutations: int, weight: float) -> None:
    steps = (np.arange(20_000) + 0.5) / 20_000

    def error(bands: int, rows: int) -> float:
        likely = 1 - (1 - steps**rows) ** bands
        wrong, missed = likely[steps < threshold].sum(), (1 - likely)[steps >= threshold].sum()
        return float((1 - weight) * wrong + weight * missed)

    choices = [(bands, rows) for bands in range(1, permutations + 1) for rows in range(1, permutations // bands + 1)]
    assert bands_for(threshold, permutations, weight) == min(choices, key=lambda choice: error(*choice))


def test_bands_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match=r"threshold 1.5, permutations 112, .*: threshold must be in"):
        bands_for(1.5)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=20)
def test_the_oracle_folds_as_numba(one: int, other: int) -> None:
    assert folded(np.uint64(one), np.uint64(other)) == oracle.fold(one, other)


@njit
def folded(one, other):  # type: ignore[no-untyped-def]
    return fold_product(one, other)


def test_lsh_finds_the_same_candidates() -> None:
    """With datasketch's own index, over texts that share most of their words."""
    from datasketch import MinHashLSH

    choose = random.Random(3)
    base = [" ".join(choose.choices([f"w{n}" for n in range(50)], k=60)) for _ in range(6)]
    texts = []
    for _ in range(80):
        edited = choose.choice(base).split()
        for _ in range(choose.randint(0, 12)):
            edited[choose.randrange(len(edited))] = f"w{choose.randrange(50)}"
        texts.append(" ".join(edited))
    near = NearDuplicates(bands=10, rows=3, shingle_words=2, normalize="spaces")
    index = MinHashLSH(num_perm=30, params=(10, 3))
    sketches = by_datasketch(texts, 2, near.permutations)
    for document, sketch in enumerate(sketches):
        index.insert(document, sketch)
    keys = near.keys(TextBatch.of(texts), np.ones(len(texts), np.bool_))
    own: list[set[tuple[int, int]]] = [set() for _ in texts]
    for row, high, low in zip(keys.row.tolist(), keys.high.tolist(), keys.low.tolist(), strict=True):
        own[row].add((high, low))
    candidates = [
        {other for other in range(len(texts)) if own[other] & own[document]} for document in range(len(texts))
    ]
    assert candidates == [set(index.query(sketch)) for sketch in sketches]
    assert 2 * len(texts) < sum(map(len, candidates)) < len(texts) ** 2 / 2
