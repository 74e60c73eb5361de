"""Verified near-duplicates, against the definition written out slowly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.arrays import UInt64Array
from gneiss.batch import TextBatch
from gneiss.dedup import find_near_duplicates, preference
from gneiss.dedup.minhash import candidates as candidates_module
from gneiss.dedup.minhash import shingle_sets as shingle_sets_module
from gneiss.dedup.minhash.candidates import candidates
from gneiss.dedup.minhash.criteria import NearDuplicates, Verification
from gneiss.dedup.minhash.in_memory import verified_within
from gneiss.dedup.minhash.keys import KNOWN, PlacedKeys, placed_keys, places, shard_keys
from gneiss.dedup.minhash.shingle_sets import ShingleSets, shingle_sets, similarities
from gneiss.dedup.minhash.verified import Pairs, verified
from gneiss.dedup.preference import Cuts
from gneiss.errors import InputError
from tests.dedup.minhash import oracle
from tests.dedup.minhash.test_minhash import EMPTY, near_keys, through_file
from tests.dedup.minhash.test_stars import by_ranges, rows_of

Found = list[tuple[int, int, int, float | None]]

few_words = st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join)
documents = few_words | st.sampled_from(["a b c d e f", "A b c, d e  f", "a b c d e g", "a b c d e", *EMPTY[:2]])
corpora = st.lists(st.lists(documents, max_size=8), min_size=1, max_size=4)
verifications = st.builds(
    Verification,
    similarity=st.sampled_from(["jaccard", "containment"]),
    at_least=st.sampled_from([0.2, 0.5, 0.75, 1.0]),
    clusters=st.sampled_from(["star", "complete"]),
)
criteria = st.builds(
    NearDuplicates, bands=st.integers(1, 5), rows=st.integers(1, 2), shingle_words=st.integers(1, 3),
    verify=verifications,
)  # fmt: skip


def expected(texts: Sequence[str], near: NearDuplicates, most_compared: int, order: list[int] | None = None) -> Found:
    assert near.verify
    words = [oracle.normalized(text, near.normalize) for text in texts]
    sets = [oracle.shingles(word, near.shingle_words) for word in words]
    return oracle.verified([near_keys(text, near) for text in texts], words, sets, near.verify, most_compared, order)


def found(
    shards: list[list[str]], near: NearDuplicates, partitions: int, passes: int, orders: list[UInt64Array] | None = None
) -> Found:
    """Clusters by the rounds, every batch through a file, pairs of the later partitions first."""
    assert near.verify
    keys = [
        through_file(shard_keys(TextBatch.of(texts), near, partitions, order=orders[shard] if orders else None))
        for shard, texts in enumerate(shards)
    ]
    sent = [
        batch
        for partition in reversed(range(partitions))
        for batch in through_file(list(candidates([batches[partition] for batches in keys], passes)))
    ]
    pairs = Pairs.of(sent)
    every = np.concatenate([places(shard, np.arange(len(texts))) for shard, texts in enumerate(shards)])
    sets = near.shingle_sets(
        TextBatch.of([text for texts in shards for text in texts]), np.isin(every, pairs.compared())
    )
    batches = [verified(pairs.where(pairs.later % 2 == odd), every, sets, near.verify) for odd in (1, 0)]
    starts = np.cumsum([0, *map(len, shards)])
    cuts = Cuts(np.zeros(1, np.uint64), starts[len(starts) // 2 :][:1])
    clusters, _ = by_ranges(through_file(batches), starts, cuts, near.verify.clusters == "complete", starts[:1])
    return rows_of(clusters, starts)


@given(corpora, criteria, st.integers(1, 3), st.integers(1, 2), st.integers(1, 3))
def test_as_the_oracle(
    shards: list[list[str]], near: NearDuplicates, partitions: int, passes: int, most_compared: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates_module, "MOST_COMPARED", most_compared)
        texts = [text for of_shard in shards for text in of_shard]
        assert found(shards, near, partitions, passes) == expected(texts, near, most_compared)


@given(corpora, criteria, st.integers(0, 3), st.integers(1, 2), st.integers(1, 3))
def test_known_documents_are_compared_as_those_at_hand(
    shards: list[list[str]], near: NearDuplicates, before: int, passes: int, most_compared: int
) -> None:
    """An index has keys in order of keys, not of documents."""
    before = min(before, len(shards))
    keys = [shard_keys(TextBatch.of(texts), near)[0] for texts in shards]
    parts = PlacedKeys.joined(list(placed_keys(keys[:before])))
    indexed = np.lexsort((parts.row, parts.shard, parts.low, parts.high))
    columns = [getattr(parts, name)[indexed] for name in KNOWN.names]
    known = [pa.record_batch(columns, schema=KNOWN)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates_module, "MOST_COMPARED", most_compared)
        whole = pa.Table.from_batches(candidates(keys, passes))
        grown = pa.Table.from_batches(candidates(keys[before:], passes, known, before))
    own = whole.filter(pc.greater_equal(whole["shard"], before))
    assert sorted(grown.to_pylist(), key=repr) == sorted(own.to_pylist(), key=repr)


@given(corpora, criteria, st.data())
def test_the_preferred_come_first(shards: list[list[str]], near: NearDuplicates, data: st.DataObject) -> None:
    texts = [text for of_shard in shards for text in of_shard]
    values = data.draw(st.lists(st.sampled_from([None, -1.5, 0.0, 2.0, 7.0]), min_size=len(texts), max_size=len(texts)))
    ordered = sorted(
        range(len(texts)), key=lambda document: -9 if values[document] is None else values[document], reverse=True
    )
    order = sorted(range(len(texts)), key=lambda row: (values[row] is None, -(values[row] or 0.0), row))
    assert [values[row] for row in order] == [values[row] for row in ordered]
    bounds = np.cumsum([len(of_shard) for of_shard in shards])[:-1]
    orders = np.split(preference.order_of(pa.array(values, pa.float64())), bounds)
    assert found(shards, near, 2, 1, orders) == expected(texts, near, candidates_module.MOST_COMPARED, order)


@given(st.lists(documents | st.none(), max_size=12), criteria)
def test_in_memory_as_in_rounds(texts: list[str | None], near: NearDuplicates) -> None:
    parameters = {name: getattr(near, name) for name in ("bands", "rows", "shingle_words", "verify")}
    table = find_near_duplicates(texts, **parameters)
    rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert rows == found([[text or "" for text in texts]], near, 1, 1)


def test_no_chain_is_a_cluster() -> None:
    """Neighbours resemble each other, the ends share nothing: every second document is a representative."""
    words = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)]
    texts = [" ".join(words[start : start + 12]) for start in range(40)]
    table = find_near_duplicates(texts, bands=60, rows=1, shingle_words=1, verify=0.8)
    assert table.column("first").to_pylist() == [2 * (n // 2) for n in range(40)]
    assert set(table.column("similarity").to_pylist()) == {None, 11 / 13}


def test_the_same_frame_with_other_data_is_not_joined() -> None:
    frame = [f"frame{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)]
    pages = [" ".join([*frame, *(f"{chr(97 + page)}{chr(97 + n)}" for n in range(25))]) for page in range(20)]
    unverified = find_near_duplicates(pages)
    assert unverified.num_rows > 1
    assert find_near_duplicates(pages, verify=0.8).num_rows == 0


def test_what_is_written_within_one_document_is_one_shingle() -> None:
    verification = Verification("containment", 1.0)
    near = NearDuplicates(bands=20, rows=1, shingle_words=2, verify=verification)
    of_shard, pairs = verified_within(TextBatch.of(["a b a b a b c d e f", "a b a"]), near, verification)
    assert pairs.column("similarity").to_pylist() == [1.0]
    assert of_shard.column("row").to_pylist() == [0, 1]


def test_copies_in_a_bucket_are_compared_once() -> None:
    texts = ["a b c d e f g"] * 300 + ["a b c d e f h"] * 300
    near = NearDuplicates(bands=8, rows=1, verify=Verification(at_least=0.5))
    (sent,) = candidates(shard_keys(TextBatch.of(texts), near))
    pairs = Pairs.of([sent])
    assert len(pairs) == 599
    assert pairs.compared().tolist() == [0, 300]
    assert find_near_duplicates(texts, bands=8, rows=1, verify=0.5).column("size").to_pylist() == [600] * 600


def test_a_bucket_costs_pairs_in_proportion() -> None:
    """Documents of one bucket, no two of which have the same words."""
    same = " ".join(f"same{chr(97 + n)}" for n in range(26))
    texts = [f"{same} {n:b}".replace("0", "o").replace("1", "l") for n in range(2000)]
    keys = shard_keys(TextBatch.of(texts), NearDuplicates(bands=1, rows=1, shingle_words=1, verify=Verification()))
    (sent,) = candidates(keys)
    assert sent.num_rows <= 2000 * candidates_module.MOST_COMPARED
    assert sent.num_rows > 1000 * candidates_module.MOST_COMPARED


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"at_least": 0.0}, "verify: at_least: expected above 0 and up to 1, found 0.0"),
        ({"at_least": float("nan")}, "at_least: expected above 0 and up to 1, found nan"),
        ({"similarity": "cosine"}, "similarity: expected one of jaccard, containment, found 'cosine'"),
        ({"clusters": "chain"}, "clusters: expected one of star, complete, found 'chain'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Verification(**parameters)  # type: ignore[arg-type]


def test_shingle_sets_that_lack_are_found() -> None:
    near = NearDuplicates(verify=Verification())
    texts = TextBatch.of(["a b c d e f g", "a b c d e f g h"])
    pairs = Pairs(np.array([1]), np.zeros(1, np.uint64), np.array([0]), np.zeros(1, np.uint64), np.array([False]))
    sets = near.shingle_sets(texts, np.ones(2, np.bool_))
    with pytest.raises(InputError, match="a document without its shingle set"):
        verified(pairs, np.array([0]), sets, Verification())


few_hashes = st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 255).map(lambda number: number << 24), max_size=30)


@given(st.lists(st.lists(st.integers(0, 400), max_size=500), max_size=4), st.integers(1, 3))
def test_shingle_sets_are_sorted_without_repeats(given_words: list[list[int]], shingle_words: int) -> None:
    """As text they are as many; whatever comes before a document has no part in its set."""
    texts = [" ".join(f"w{number:x}" for number in numbers) for numbers in given_words]
    sets = shingle_sets(TextBatch.of(texts), shingle_words)
    for number, text in enumerate(texts):
        own = sets.hashes[slice(*sets.bounds[number : number + 2])]
        assert own.tolist() == sorted({*own.tolist()})
        assert len(own) == len(oracle.shingles(text, shingle_words))
        alone = shingle_sets(TextBatch.of([text]), shingle_words)
        assert own.tolist() == alone.hashes.tolist()


@given(few_hashes, few_hashes, st.integers(0, 12), st.integers(1, 14), st.booleans())
def test_similarities_by_upper_bits(one: list[int], other: list[int], more: int, fewest: int, is_rounded: bool) -> None:
    """Of so few shingles all bits would count: fewer are asked for."""
    hashes = [sorted(set(one)), sorted(set(other))]
    sizes = np.array([len(own) for own in hashes])
    sets = ShingleSets(np.array([*hashes[0], *hashes[1]], np.uint32), np.append(0, np.cumsum(sizes)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shingle_sets_module, "_BITS_MORE", more)
        patched.setattr(shingle_sets_module, "_FEWEST_BITS", fewest)
        bits = min(min(32, max(fewest, len(own).bit_length() + more)) for own in hashes)
        given_sets = sets.rounded() if is_rounded else sets
        similarity = similarities(given_sets, np.array([0]), np.array([1])).tolist()
    upper, lower = (Counter(value >> (32 - bits) for value in own) for own in hashes)
    shared = (upper & lower).total()
    assert similarity == [shared / max(1, int(sizes.sum()) - shared)]
    assert similarities(sets, np.array([0]), np.array([1]), containment=True).tolist() == [
        len({*one} & {*other}) / max(1, int(sizes.min()))
    ]
