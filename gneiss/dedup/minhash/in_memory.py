"""All stages in one process: duplicate documents among texts that are at hand."""

from __future__ import annotations

import pyarrow as pa

from gneiss.batch import Texts
from gneiss.dedup.minhash.clusters import clusters
from gneiss.dedup.minhash.criteria import Criterion, ExactDuplicates, NearDuplicates
from gneiss.dedup.minhash.keys import shard_keys
from gneiss.dedup.minhash.matching import matched
from gneiss.dedup.minhash.normalization import ExactNormalization, Normalization
from gneiss.dedup.spans import compact

SCHEMA = pa.schema([("document", pa.int64()), ("first", pa.int64()), ("size", pa.int64())])


def find_near_duplicates(
    texts: Texts,
    *,
    bands: int = 14,
    rows: int = 8,
    shingle_words: int = 5,
    normalize: Normalization = "words",
    seed: int = 1,
) -> pa.Table:
    """Clusters of documents that share many shingles of words, found by MinHash.

    Parameters: `texts`: (documents,) strings, a list or an Arrow array; a null takes no part. The others: as for
    `NearDuplicates`. Returns int64 columns `document`, `first`, the earliest document of its cluster, and `size`, its
    documents, for each document in a cluster of two or more, in order. Raises InputError for parameters out of range.

    >>> from gneiss.dedup import find_near_duplicates
    >>> page = "It was the best of times, it was the worst of times, it was the age of wisdom"
    >>> find_near_duplicates([page, "Call me Ishmael.", page.upper() + "!"]).to_pylist()
    [{'document': 0, 'first': 0, 'size': 2}, {'document': 2, 'first': 0, 'size': 2}]
    """
    return _find(texts, NearDuplicates(bands, rows, shingle_words, normalize, seed))


def find_exact_duplicates(texts: Texts, *, normalize: ExactNormalization = "spaces") -> pa.Table:
    """Clusters of documents with the same text.

    Parameters: `texts`: as for `find_near_duplicates`, which says what is returned; `normalize`: `none`, `spaces` or
    `words`, as for `ExactDuplicates`. Raises InputError for another normalization.

    >>> from gneiss.dedup import find_exact_duplicates
    >>> find_exact_duplicates(["a b", "A b", "a\\n b "]).to_pylist()
    [{'document': 0, 'first': 0, 'size': 2}, {'document': 2, 'first': 0, 'size': 2}]
    """
    return _find(texts, ExactDuplicates(normalize))


def _find(texts: Texts, criterion: Criterion) -> pa.Table:
    batch, positions = compact(texts)
    (found,) = clusters(matched(shard_keys(batch, criterion)), [len(batch)])
    columns = [positions[found.column(name).to_numpy()] for name in ("row", "first_row")]
    return pa.table([*columns, found.column("size").cast(pa.int64())], schema=SCHEMA)
