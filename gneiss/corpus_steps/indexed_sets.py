"""Shingle sets in an index: of all documents of a run, without those that have the words of an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array
from gneiss.corpus_steps.step import Batches, Segment, Stage, StepCorpus
from gneiss.corpus_steps.union import known_place
from gneiss.errors import InputError

if TYPE_CHECKING:
    from gneiss.dedup.minhash.criteria import NearDuplicates
    from gneiss.dedup.minhash.shingle_sets import ShingleSets

#: The place of a document (`places`) and its shingle set: 32-bit hashes, as steps from one to the next.
SETS = pa.schema([("place", pa.int64()), ("steps", pa.list_(pa.uint32()))])
#: A shingle set as an index keeps it: the first bytes of all steps, the second, and so on, which are compressed apart.
KEPT = pa.schema([("row", pa.uint32()), *((f"bytes_{number}", pa.binary()) for number in range(4))])
# Hashes leave little to compress: at level 9, ten times as slow, files would be a hundredth to two smaller.
_LEVEL = 3
#: Changes whenever the same document gets another set than before.
FORMAT = 2


def kept_set_stage(step: NearDuplicates, verifiers: int, corpus: StepCorpus) -> Stage:
    """What an index keeps of shingle sets (`KEPT`); `verifiers`: of the stage `verified`."""
    return Stage(
        "kept_sets", len(corpus.shards), KEPT, partial(_kept_sets, step, verifiers), is_kept=True, level=_LEVEL
    )


def kept_sets(segments: Sequence[Segment], shard: int, rows: Int64Array) -> pa.ListArray:
    """The shingle sets, as steps, of some documents of a shard, by its number in the union; int64 (documents,), rising.

    Raises InputError where one is missing.
    """
    segment, shard = known_place(segments, shard)
    wanted = pa.array(rows.astype(np.uint32))
    found = [
        batch.filter(pc.is_in(batch.column("row"), value_set=wanted)) for batch in segment.batches("kept_sets", shard)
    ]
    if sum(batch.num_rows for batch in found) != len(rows):
        raise InputError(f"index: shard {segment.shards[shard][0]!r} lacks shingle sets; its files are damaged")
    return pa.concat_arrays([_steps_of(batch) for batch in found])


def lists_of(sets: ShingleSets) -> pa.ListArray:
    """Shingle sets as lists of steps."""
    return pa.ListArray.from_arrays(pa.array(sets.bounds.astype(np.int32)), pa.array(sets.steps))


def _kept_sets(step: NearDuplicates, verifiers: int, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.minhash.keys import slices

    assert step.verify
    texts, is_copy = corpus.texts(shard), copies_in(shard, verifiers, corpus)
    for start, end in slices(texts):
        sets = step.shingle_sets(texts.slice(start, end), ~is_copy[start:end])
        has_words = np.flatnonzero(np.diff(sets.bounds))
        kept = sets.of(has_words) if step.verify.similarity == "containment" else sets.of(has_words).rounded()
        yield _kept(start + has_words, lists_of(kept))


def _kept(rows: Int64Array, lists: pa.ListArray) -> pa.RecordBatch:
    """Shingle sets as an index keeps them (`KEPT`)."""
    octets = lists.flatten().to_numpy().astype("<u4").view(np.uint8).reshape(-1, 4)
    columns = [
        pa.Array.from_buffers(pa.binary(), len(lists), [None, lists.offsets.buffers()[1], pa.py_buffer(plane)])
        for plane in np.ascontiguousarray(octets.T)
    ]
    return pa.record_batch([rows.astype(np.uint32), *columns], schema=KEPT)


def _steps_of(kept: pa.RecordBatch) -> pa.ListArray:
    """The lists that shingle sets were kept of."""
    offsets = np.append(0, np.cumsum(pc.binary_length(kept.column(1)).to_numpy(), dtype=np.int32))
    planes = [np.frombuffer(b"".join(kept.column(name).to_pylist()), np.uint8) for name in KEPT.names[1:]]
    steps = np.stack(planes, axis=1).view("<u4").reshape(-1)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(steps, pa.uint32()))


def copies_in(shard: int, verifiers: int, corpus: StepCorpus) -> BoolArray:
    """Which documents of a shard have the words of an earlier one."""
    from gneiss.dedup.corpus_scope.records import column

    is_copy = np.zeros(corpus.shards[shard].rows, np.bool_)
    for batch in corpus.across("verified", verifiers, shard):
        is_copy[column(batch, "row")[column(batch, "is_copy")]] = True
    return is_copy
