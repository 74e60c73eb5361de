"""All stages in one process: duplicate documents among texts that are at hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.batch import TextBatch, Texts
from gneiss.dedup import preference
from gneiss.dedup.minhash.candidates import candidates
from gneiss.dedup.minhash.criteria import Criterion, ExactDuplicates, NearDuplicates, Verification
from gneiss.dedup.minhash.joining import clusters
from gneiss.dedup.minhash.keys import shard_keys
from gneiss.dedup.minhash.matching import matched
from gneiss.dedup.minhash.normalization import ExactNormalization, Normalization
from gneiss.dedup.minhash.stars import accepted, of_shard, sized, stars
from gneiss.dedup.minhash.verified import Pairs, verified
from gneiss.dedup.spans import compact

SCHEMA = pa.schema([("document", pa.int64()), ("first", pa.int64()), ("size", pa.int64())])


def verified_within(
    batch: TextBatch, near: NearDuplicates, verification: Verification, order: UInt64Array | None = None
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Verified clusters of one shard, as from `of_shard`, and the pairs that were compared, as from `verified`."""
    pairs = Pairs.of(candidates(shard_keys(batch, near, order=order)))
    place = pairs.compared()
    present = np.zeros(len(batch), np.bool_)
    present[place] = True
    found = verified(pairs, np.arange(len(batch)), near.shingle_sets(batch, present), verification)
    starts, whole = np.array([0, len(batch)]), preference.Cuts()
    before = list if verification.clusters == "complete" else None
    members = list(stars(list(accepted([found], starts, whole)), (), whole, 0, starts[:1], before=before))
    return of_shard(sized([members], starts)), found


def clusters_within(batch: TextBatch, criterion: Criterion, order: UInt64Array | None = None) -> pa.RecordBatch:
    """Clusters of one shard without verification, as from `resolved`."""
    orders = None if order is None else [pa.record_batch([order], schema=preference.SCHEMA)]
    (found,) = clusters(matched(shard_keys(batch, criterion)), [len(batch)], orders)
    return found


def find_near_duplicates(
    texts: Texts,
    *,
    bands: int = 14,
    rows: int = 8,
    shingle_words: int = 5,
    normalize: Normalization = "words",
    seed: int = 1,
    verify: float | Verification | None = None,
) -> pa.Table:
    """Clusters of documents that share many shingles of words, found by MinHash.

    Parameters: `texts`: (documents,) strings, a list or an Arrow array; nulls are ignored. The others: as for
    `NearDuplicates`; a number as `verify` is the minimum Jaccard similarity. Returns, for each document in a cluster of
    two or more, in order, the int64 columns `document`, `first` (the earliest document of the cluster) and `size` (of
    the cluster); with `verify` also `similarity` to the first document, null for the first itself. Raises InputError
    for parameters out of range.

    >>> from gneiss.dedup import find_near_duplicates
    >>> page = "It was the best of times, it was the worst of times, it was the age of wisdom"
    >>> find_near_duplicates([page, "Call me Ishmael.", page.upper() + "!"]).to_pylist()
    [{'document': 0, 'first': 0, 'size': 2}, {'document': 2, 'first': 0, 'size': 2}]
    """
    verification = Verification(at_least=verify) if isinstance(verify, int | float) else verify
    near = NearDuplicates(bands, rows, shingle_words, normalize, seed, verification)
    batch, positions = compact(texts)
    if verification is None:
        return _table(clusters_within(batch, near), positions)
    found, _ = verified_within(batch, near, verification)
    return _table(found, positions).append_column("similarity", found.column("similarity"))


def find_exact_duplicates(texts: Texts, *, normalize: ExactNormalization = "spaces") -> pa.Table:
    """Clusters of documents with the same text.

    Parameters: `texts`: as for `find_near_duplicates`, which describes the result; `normalize`: `none`, `spaces` or
    `words`, as for `ExactDuplicates`. Raises InputError for another normalization.

    >>> from gneiss.dedup import find_exact_duplicates
    >>> find_exact_duplicates(["a b", "A b", "a\\n b "]).to_pylist()
    [{'document': 0, 'first': 0, 'size': 2}, {'document': 2, 'first': 0, 'size': 2}]
    """
    batch, positions = compact(texts)
    return _table(clusters_within(batch, ExactDuplicates(normalize)), positions)


def _table(found: pa.RecordBatch, positions: Int64Array) -> pa.Table:
    columns = [positions[found.column(name).to_numpy()] for name in ("row", "first_row")]
    return pa.table([*columns, found.column("size").cast(pa.int64())], schema=SCHEMA)
