"""What an index holds of verified near-duplicates, beside keys: shingle sets, and who is in whose cluster.

| stage | over | keeps |
| --- | --- | --- |
| `kept_sets` | shards | the shingle sets of all documents, without those that have the words of an earlier one |
| `kept_stars` | shards | each document in a cluster that is not its first, with that one |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray, Int64Array
from gneiss.corpus_steps.step import Batches, Segment, Stage, StepCorpus
from gneiss.corpus_steps.union import Union
from gneiss.errors import InputError

if TYPE_CHECKING:
    from gneiss.dedup.minhash.criteria import NearDuplicates
    from gneiss.dedup.minhash.shingle_sets import ShingleSets

#: A shingle set: 32-bit hashes, as steps from one to the next.
SETS = pa.schema([("row", pa.uint32()), ("steps", pa.list_(pa.uint32()))])


def kept_stages(step: NearDuplicates, verifiers: int, corpus: StepCorpus) -> Sequence[Stage]:
    """The stages; `verifiers`: of the stage `verified`."""
    from gneiss.dedup.minhash import verified

    shards = len(corpus.shards)
    return (
        Stage("kept_sets", shards, SETS, partial(_kept_sets, step, verifiers), is_kept=True),
        Stage("kept_stars", shards, verified.SCHEMA, partial(_kept_stars, verifiers), is_kept=True),
    )


def kept_sets(segments: Sequence[Segment], shard: int, rows: Int64Array) -> pa.ListArray:
    """The shingle sets, as steps, of some documents of a shard, by its number in the union; int64 (documents,), rising.

    Raises InputError where one is missing.
    """
    for segment in segments:
        if shard < len(segment.shards):
            break
        shard -= len(segment.shards)
    wanted = pa.array(rows.astype(np.uint32))
    found = [
        batch.filter(pc.is_in(batch.column("row"), value_set=wanted)) for batch in segment.batches("kept_sets", shard)
    ]
    if sum(batch.num_rows for batch in found) != len(rows):
        raise InputError(f"index: shard {segment.shards[shard][0]!r} lacks shingle sets; its files are damaged")
    return pa.concat_arrays([batch.column("steps") for batch in found])


def kept_stars(segments: Sequence[Segment]) -> Iterator[pa.RecordBatch]:
    """The documents of all segments in clusters, as pairs with the first of each, by numbers of the union.

    One whose first is of an output that this run is not made against stands for itself.
    """
    from gneiss.dedup.minhash.verified import SCHEMA

    own_first = 0  # the number of the first shard of the output
    first = 0  # and of the segment
    against: int | None = -1
    for segment in segments:
        if segment.against != against:
            against, own_first = segment.against, first
        for shard in range(len(segment.shards)):
            for batch in segment.batches("kept_stars", shard):
                first_shard = np.asarray(batch.column("first_shard").to_numpy()).astype(np.int64)
                is_foreign = first_shard < segment.before
                moved = first_shard if against is None else first_shard - segment.before + own_first
                columns = [np.full(batch.num_rows, first + shard, np.uint32), batch.column("row")]
                columns += [moved.astype(np.uint32), *batch.columns[3:]]
                placed = pa.record_batch(columns, schema=SCHEMA)
                yield placed if against is None else placed.filter(pa.array(~is_foreign))
        first += len(segment.shards)


def lists_of(sets: ShingleSets) -> pa.ListArray:
    """Shingle sets as lists of steps."""
    return pa.ListArray.from_arrays(pa.array(sets.bounds.astype(np.int32)), pa.array(sets.steps))


def _kept_sets(step: NearDuplicates, verifiers: int, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.minhash.keys import slices

    texts, is_copy = corpus.texts(shard), _copies(verifiers, corpus, shard)
    for start, end in slices(texts):
        sets = step.shingle_sets(texts.slice(start, end), ~is_copy[start:end])
        has_words = np.flatnonzero(np.diff(sets.bounds))
        rows = (start + has_words).astype(np.uint32)
        yield pa.record_batch([rows, lists_of(sets.of(has_words))], schema=SETS)


def _kept_stars(verifiers: int, corpus: StepCorpus, shard: int) -> Batches:
    from gneiss.dedup.corpus_scope.records import column
    from gneiss.dedup.minhash.verified import SCHEMA

    found = corpus.batch("clusters", 0, shard)
    members = found.filter(found.column("similarity").is_valid())
    shards = np.full(members.num_rows, Union.of(corpus).before + shard, np.uint32)
    firsts = [members.column(name) for name in ("row", "first_shard", "first_row", "similarity")]
    is_copy = _copies(verifiers, corpus, shard)[column(members, "row")]
    return [pa.record_batch([shards, *firsts, is_copy], schema=SCHEMA)]


def _copies(verifiers: int, corpus: StepCorpus, shard: int) -> BoolArray:
    """Which documents of a shard have the words of an earlier one."""
    from gneiss.dedup.corpus_scope.records import column

    is_copy = np.zeros(corpus.shards[shard].rows, np.bool_)
    for batch in corpus.across("verified", verifiers, shard):
        is_copy[column(batch.filter(batch.column("is_copy")), "row")] = True
    return is_copy
