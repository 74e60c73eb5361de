"""Duplicate documents in rounds, against the oracle on all documents as one corpus."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.dedup import find_exact_duplicates, find_near_duplicates
from gneiss.dedup.minhash import keys as keys_module
from gneiss.dedup.minhash.criteria import Criterion, ExactDuplicates, NearDuplicates
from gneiss.dedup.minhash.joining import clusters
from gneiss.dedup.minhash.keys import shard_keys
from gneiss.dedup.minhash.matching import matched, partitions_for, passes_for
from gneiss.errors import InputError
from tests.dedup.minhash import oracle

Shards = list[list[str]]
Found = list[tuple[int, int, int]]

EMPTY = ["", " ", "\n\u3000", "-", "...", "\0"]
few_words = st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join)
variants = st.sampled_from(
    ["a b c d e f", "A b c, d e  f", "a b c d e g", "a b c d", "f e d c b a", "a b", "12 a", "7 a"]
)
documents = few_words | variants | st.sampled_from(EMPTY)
corpora = st.lists(st.lists(documents, max_size=6), min_size=1, max_size=5)
near_criteria = st.builds(
    NearDuplicates, bands=st.integers(1, 5), rows=st.integers(1, 3), shingle_words=st.integers(1, 4),
    normalize=st.sampled_from(["spaces", "words"]), seed=st.integers(0, 3),
)  # fmt: skip
exact_criteria = st.builds(ExactDuplicates, st.sampled_from(["none", "spaces", "words"]))


def through_file(batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """What a file of batches gives back: all have one schema."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    reader = pa.ipc.open_file(sink.getvalue())
    return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def found(
    shards: Shards, criterion: Criterion, partitions: int = 1, passes: int = 1, present: list[list[bool]] | None = None
) -> Found:
    """Clusters by the rounds, every batch through a file, partitions in an order of their own."""
    keys = []
    for shard, texts in enumerate(shards):
        here = None if present is None else np.array(present[shard], np.bool_)
        keys.append(through_file(shard_keys(TextBatch.of(texts), criterion, partitions, here)))
    edges = []
    for partition in random.Random(1).sample(range(partitions), partitions):
        edges += through_file(list(matched([batches[partition] for batches in keys], passes)))
    sizes = [len(texts) for texts in shards]
    starts = np.cumsum([0, *sizes])
    rows = []
    for start, batch in zip(starts, through_file(clusters(edges, sizes)), strict=False):
        for row, first_shard, first_row, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            assert first_row < sizes[first_shard]
            rows.append((int(start) + row, int(starts[first_shard]) + first_row, size))
    return rows


def near_keys(text: str, near: NearDuplicates) -> set[Hashable]:
    shingles = oracle.shingles(oracle.normalized(text, near.normalize), near.shingle_words)
    if not shingles:
        return set()
    permutations = near.permutations
    values = oracle.signature(shingles, permutations.factors.tolist(), permutations.summands.tolist())
    return {(band, *values[band * near.rows : (band + 1) * near.rows]) for band in range(near.bands)}


def exact_keys(text: str, exact: ExactDuplicates) -> set[Hashable]:
    text = text if exact.normalize == "none" else oracle.normalized(text, exact.normalize)
    return {text} if text else set()


@given(shards=corpora, near=near_criteria, partitions=st.integers(1, 4), passes=st.integers(1, 3))
@pytest.mark.slow
def test_near_duplicates_as_the_oracle(shards: Shards, near: NearDuplicates, partitions: int, passes: int) -> None:
    expected = oracle.components([near_keys(text, near) for texts in shards for text in texts])
    assert found(shards, near, partitions, passes) == expected


@given(shards=corpora, exact=exact_criteria, partitions=st.integers(1, 4), passes=st.integers(1, 3))
@pytest.mark.slow
def test_exact_duplicates_as_the_oracle(shards: Shards, exact: ExactDuplicates, partitions: int, passes: int) -> None:
    expected = oracle.components([exact_keys(text, exact) for texts in shards for text in texts])
    assert found(shards, exact, partitions, passes) == expected


@given(shards=corpora, criterion=near_criteria | exact_criteria, data=st.data())
@pytest.mark.slow
def test_documents_that_do_not_take_part(shards: Shards, criterion: Criterion, data: st.DataObject) -> None:
    present = [data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))) for texts in shards]
    emptied = [
        [text if here else "" for text, here in zip(texts, flags, strict=True)]
        for texts, flags in zip(shards, present, strict=True)
    ]
    assert found(shards, criterion, 2, present=present) == found(emptied, criterion, 2)


@given(texts=st.lists(documents, max_size=12), criterion=near_criteria | exact_criteria, data=st.data())
@pytest.mark.slow
def test_cuts_into_shards_and_slices_do_not_matter(texts: list[str], criterion: Criterion, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(texts)), max_size=4)))
    shards = [texts[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(texts)], strict=True)]
    whole = found([texts], criterion)
    assert found(shards, criterion, data.draw(st.integers(1, 5))) == whole
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keys_module, "_SLICE_BYTES", data.draw(st.integers(1, 20)))
        assert found([texts], criterion) == whole


@given(texts=st.lists(documents | st.none(), max_size=12), near=near_criteria)
def test_in_memory_as_in_rounds(texts: list[str | None], near: NearDuplicates) -> None:
    parameters = {name: getattr(near, name) for name in ("bands", "rows", "shingle_words", "normalize", "seed")}
    for table, criterion in (
        (find_near_duplicates(texts, **parameters), near),
        (find_exact_duplicates(pa.array(texts, pa.string()), normalize="words"), ExactDuplicates("words")),
    ):
        rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        assert rows == found([[text or "" for text in texts]], criterion)


def test_empty_documents_are_no_duplicates() -> None:
    assert find_near_duplicates(EMPTY * 2).num_rows == 0
    assert find_exact_duplicates(EMPTY[:3] * 2).num_rows == 0
    assert find_exact_duplicates(EMPTY * 2, normalize="words").num_rows == 0
    assert find_exact_duplicates(["", "\0", "\0"], normalize="none").column("document").to_pylist() == [1, 2]
    assert find_near_duplicates([]).num_rows == 0


def test_hostile_texts() -> None:
    texts = ["x" * 1_000_000, "\u0301" * 5, "\0" * 9, " \t" * 1000, "a " * 100_000, "\U0010ffff \0", "é" * 100_001]
    table = find_near_duplicates([*texts, *texts])
    alone = [2, 3, 9, 10]  # without words
    assert table.column("document").to_pylist() == [row for row in range(14) if row not in alone]
    assert table.column("first").to_pylist() == [row % 7 for row in range(14) if row not in alone]
    assert find_exact_duplicates([*texts, *texts], normalize="none").column("size").to_pylist() == [2] * 14


def test_a_hash_is_that_of_xxhash() -> None:
    (batch,) = shard_keys(TextBatch.of(["", "some text", " some\ttext"]), ExactDuplicates())
    value = xxhash.xxh3_128_intdigest(b"some text")
    assert batch.to_pylist() == [{"high": value >> 64, "low": value % 2**64, "row_step": step} for step in (1, 1)]


def test_a_chain_is_one_cluster() -> None:
    """Neighbours match, the ends share nothing."""
    words = [f"w{n}" for n in range(60)]
    texts = [" ".join(words[start : start + 12]) for start in range(48)]
    table = find_near_duplicates(texts, bands=60, rows=1, shingle_words=1, normalize="spaces")
    assert table.column("first").to_pylist() == [0] * 48
    assert table.column("size").to_pylist() == [48] * 48
    assert (
        find_near_duplicates([texts[0], texts[-1]], bands=60, rows=1, shingle_words=1, normalize="spaces").num_rows == 0
    )


@given(st.data())
def test_clusters_of_any_edges(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 6), max_size=6))
    places = [(shard, row) for shard, size in enumerate(sizes) for row in range(size)]
    pairs = (
        data.draw(st.lists(st.tuples(st.sampled_from(places), st.sampled_from(places)), max_size=30)) if places else []
    )
    neighbours: list[set[int]] = [set() for _ in places]
    for one, other in pairs:
        neighbours[places.index(one)].add(places.index(other))
        neighbours[places.index(other)].add(places.index(one))
    columns = [
        [one[0] for one, _ in pairs],
        [one[1] for one, _ in pairs],
        [o[0] for _, o in pairs],
        [o[1] for _, o in pairs],
    ]
    schema = next(iter(matched([]))).schema
    edges = pa.record_batch([pa.array(values, pa.uint32()) for values in columns], schema=schema)
    rows = []
    for shard, batch in enumerate(clusters([edges.slice(0, 7), edges.slice(7)], sizes)):
        for row, first_shard, first_row, size in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            rows.append((places.index((shard, row)), places.index((first_shard, first_row)), size))
    assert rows == oracle.components_of(neighbours)


def test_edges_that_do_not_fit_are_refused() -> None:
    (edges,) = matched(
        [*shard_keys(TextBatch.of(["a", "b"]), ExactDuplicates()), *shard_keys(TextBatch.of(["b"]), ExactDuplicates())]
    )
    assert edges.to_pylist() == [{"shard": 1, "row": 0, "first_shard": 0, "first_row": 1}]
    with pytest.raises(InputError, match="exchange: edges to shard 1"):
        clusters([edges], [2])
    with pytest.raises(InputError, match="exchange: edges to rows beyond"):
        clusters([edges], [1, 1])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bands": 0}, "bands: expected 1 to 1024, found 0"),
        ({"rows": 1025}, "rows: expected 1 to 1024, found 1025"),
        ({"shingle_words": 0}, "shingle_words: expected 1 to 1024, found 0"),
        ({"seed": -1}, "seed: expected 0 or more, found -1"),
        ({"normalize": "none"}, "normalize: expected one of spaces, words, found 'none'"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_near_duplicates(["a"], **parameters)  # type: ignore[arg-type]


def test_another_normalization_of_exact_duplicates_is_refused() -> None:
    with pytest.raises(InputError, match="normalize: expected one of none, spaces, words, found 'nfc'"):
        find_exact_duplicates(["a"], normalize="nfc")  # type: ignore[arg-type]


def test_flags_for_other_documents_are_refused() -> None:
    with pytest.raises(InputError, match="present: expected a flag for each of 1 documents, found 2"):
        shard_keys(TextBatch.of(["a"]), ExactDuplicates(), present=np.ones(2, np.bool_))


def test_partitions_get_their_share() -> None:
    batch = TextBatch.of([f"text {n}" for n in range(20_000)])
    sizes = [each.num_rows for each in shard_keys(batch, ExactDuplicates("none"), 16)]
    assert sum(sizes) == 20_000
    assert max(sizes) < 1.15 * 20_000 / 16
    (edges,) = matched(shard_keys(batch, ExactDuplicates("none")))
    assert edges.num_rows == 0


def test_passes_and_partitions_follow_memory() -> None:
    assert partitions_for(0, 14, 10**9) == passes_for(0, 10**9) == 1
    assert partitions_for(10**9, 14, 10**9) > 2 * partitions_for(10**9, 14, 3 * 10**9)
    assert len(list(matched(shard_keys(TextBatch.of(["a", "a"]), ExactDuplicates()), passes=4))) == 4


def test_near_duplicates_as_by_datasketch_from_text_to_clusters() -> None:
    from datasketch import MinHash, MinHashLSH  # which imports SciPy

    choose = random.Random(5)
    base = [" ".join(choose.choices([f"w{chr(97 + n)}" for n in range(26)], k=80)) for _ in range(12)]
    texts = []
    for _ in range(150):
        edited = choose.choice(base).split()
        for _ in range(choose.randint(0, 4)):
            edited[choose.randrange(len(edited))] = "Other,"
        texts.append("  ".join(edited).upper() if choose.random() < 0.3 else " ".join(edited))
    near = NearDuplicates()
    index = MinHashLSH(num_perm=112, params=(14, 8))
    sketches = []
    for document, text in enumerate(texts):
        permutations = (near.permutations.factors, near.permutations.summands)
        sketch = MinHash(112, hashfunc=oracle.hash_shingle, permutations=permutations, scheme="affine32")
        sketch.update_batch(oracle.shingles(oracle.normalized(text, "words"), 5))
        sketches.append(sketch)
        index.insert(document, sketch)
    expected = oracle.components_of([set(index.query(sketch)) for sketch in sketches])
    assert found([texts[:70], texts[70:]], near, 3) == expected
    assert 100 < len(expected) < 150
    assert len({first for _, first, _ in expected}) > 5
