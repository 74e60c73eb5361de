"""The loss log: losses that training records for every sequence and the documents in it, for the next curation.

Each rank has a folder of segments, new files that appear only when complete. A row is one of three kinds:
`sequence` (id: the sequence), `document` (id: the document's dense index; one span of it), `position` (id: a bucket of
positions, over all spans of the step). Steps that are logged again, after a resume or a return to a checkpoint within a
process, replace their earlier rows. A step is in one segment, so that none is taken for logged again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Float64Array, Int, Int64Array
from gneiss.errors import InputError
from gneiss.loader import packing
from gneiss.output.parquet import write_parquet
from gneiss.store.place import Address, Place, place_of

KINDS = ("sequence", "document", "position")
SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("id", pa.int64()),
        pa.field("sequence", pa.int64()),  # null for positions
        pa.field("epoch", pa.int32()),  # of a document's span
        pa.field("first_position", pa.int32()),  # of the first token of a span that has a loss
        pa.field("tokens", pa.int64()),  # that have a finite loss
        pa.field("loss_sum", pa.float64()),
        pa.field("weight", pa.float64()),  # of the sequence
        pa.field("skipped_tokens", pa.int64()),  # of a sequence, whose loss was NaN or infinite
    ]
)
#: Positions in a span: 0, 1, 2-3, 4-7, …: a bucket for each power of two.
BUCKETS = 40


class LossLog:
    """Writes the log of one rank; `flush` at every checkpoint, `close` (or `with`) at the end.

    Parameters: `folder`: the same for all ranks; `rank`: the global one; `segment_rows`: rows held before they are
    written, with all of their step. A killed process loses rows that were not flushed, just as its checkpoint lost
    those steps. When training goes on at an earlier step, earlier rows of this rank for that step and later ones are
    void; to resume with another number of ranks, use a new folder.

    >>> with LossLog("losses", rank=0) as log:  # doctest: +SKIP
    ...     log.add(step, batch.sequences, losses, mask=mask, weights=weights)
    """

    def __init__(self, folder: Address, *, rank: int = 0, segment_rows: int = 200_000) -> None:
        self.folder = place_of(folder, "output") / rank_folder(rank)
        self._segment_rows = segment_rows
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._step: int | None = None
        self._next = 1 + max(segments(self.folder), default=0)

    def __enter__(self) -> LossLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, step: int, sequences: Sequence[packing.Sequence], losses: Any, *, mask: Any = None,
            weights: Any = None) -> None:  # fmt: skip
        """Log the losses of a micro-batch.

        Parameters: `step`: of the optimizer; `sequences`: of the batch; `losses`: (samples, tokens) arrays or tensors
        of any float type, the unweighted loss of predicting the *next* token at each position (one column may be
        missing at the end); `mask`: bool, which of them count, by default all that have a next token; `weights`:
        (samples,) what multiplied them, by default 1. A loss that is not finite is counted and left out.
        Raises InputError for wrong shapes.
        """
        values = _array(losses, np.float64)
        weight = np.ones(len(sequences)) if weights is None else _array(weights, np.float64)
        use = np.ones(values.shape, np.bool_) if mask is None else _array(mask, np.bool_)
        widest = max((len(s.tokens) for s in sequences), default=0)
        if values.ndim != 2 or use.shape != values.shape or len(values) != len(sequences) or weight.shape != (
            len(sequences),
        ):  # fmt: skip
            raise InputError(
                f"losses {values.shape}, mask {use.shape}, weights {weight.shape}: expected ({len(sequences)}, tokens),"
                f" the same, and ({len(sequences)},)"
            )
        if values.shape[1] < widest - 1:
            raise InputError(
                f"losses {values.shape}: expected {widest - 1} or more columns, a loss for each next token"
            )
        if sequences:
            if step != self._step and self._rows >= self._segment_rows:
                self.flush()
            table = _rows(step, sequences, values, use, weight)
            self._waiting.append(table)
            self._rows += table.num_rows
            self._step = step

    def flush(self) -> None:
        """Write the pending rows as a new segment."""
        if self._waiting:
            write_parquet([pa.concat_tables(self._waiting)], SCHEMA, self.folder, segment_name(self._next))
            self._next += 1
            self._waiting, self._rows = [], 0

    def close(self) -> None:
        """Write the pending rows."""
        self.flush()


def rank_folder(rank: int) -> str:
    """The folder of a rank in a log."""
    return f"rank-{rank:05d}"


def ranks(log: Place) -> list[str]:
    """The folders of the ranks that have written to a log."""
    found = (re.fullmatch(r"(rank-\d+)/.*", file.name) for file in log.files())
    return sorted({match[1] for match in found if match})


def segment_name(number: int) -> str:
    """The file of a segment."""
    return f"{number:06d}.parquet"


def segments(folder: Place) -> list[int]:
    """The numbers of the segments of a rank, in the order of writing."""
    found = (re.fullmatch(r"(\d+)\.parquet", file.name) for file in folder.files())
    return sorted(int(match[1]) for match in found if match)


def _rows(
    step: int, sequences: Sequence[packing.Sequence], losses: Float64Array, mask: BoolArray, weights: Float64Array
) -> pa.Table:
    spans = [sequence.spans for sequence in sequences]
    counts = np.array([len(span.document) for span in spans], np.int64)
    owner = np.repeat(np.arange(len(sequences)), counts)
    start = np.concatenate([span.start for span in spans]).astype(np.int64)
    length = np.concatenate([span.length for span in spans]).astype(np.int64)
    sums, tokens, first, skipped, bucket_sums, bucket_tokens = _tally(losses, mask, owner, start, length)
    ids = np.array([sequence.id for sequence in sequences], np.int64)
    has = np.flatnonzero(tokens)
    of_sequence = _columns(
        "sequence", ids, ids, None, None, np.bincount(owner, tokens, len(ids)), np.bincount(owner, sums, len(ids)),
        weights, np.bincount(owner, skipped, len(ids)),
    )  # fmt: skip
    document = np.concatenate([span.document for span in spans])[has]
    epoch = np.concatenate([span.epoch for span in spans])[has]
    of_document = _columns(
        "document", document, ids[owner[has]], epoch, first[has], tokens[has], sums[has], weights[owner[has]], None
    )
    buckets = np.flatnonzero(bucket_tokens)
    of_position = _columns(
        "position", buckets, None, None, None, bucket_tokens[buckets], bucket_sums[buckets], None, None
    )
    table = pa.concat_tables([of_sequence, of_document, of_position])
    return table.add_column(0, SCHEMA.field("step"), pa.array(np.full(table.num_rows, step, np.int64)))


def _columns(kind: str, *columns: AnyArray | None) -> pa.Table:
    ids = columns[0]
    assert ids is not None
    fields = list(SCHEMA)[2:]
    arrays = [
        pa.nulls(len(ids), field.type) if values is None else pa.array(values).cast(field.type)
        for field, values in zip(fields, columns, strict=True)
    ]
    return pa.Table.from_arrays(
        [pa.array([kind] * len(ids), pa.string()), *arrays], schema=pa.schema([SCHEMA.field("kind"), *fields])
    )


def _array(given: Any, dtype: type[np.generic]) -> AnyArray:
    """A NumPy array from an array, list or tensor; a tensor may be bfloat16, on a device, and part of a graph."""
    if hasattr(given, "detach"):
        given = given.detach()
        given = (given if dtype is np.bool_ else given.double()).cpu().numpy()
    return np.ascontiguousarray(given, dtype)


@njit(cache=True, nogil=True)
def bucket_of(position: Int) -> Int:
    """The bucket of a position in a span: 0 for 0, then 1 + ⌊log2⌋."""
    bucket = 0
    while position > 0 and bucket < BUCKETS - 1:
        position >>= 1
        bucket += 1
    return bucket


@njit(cache=True, nogil=True)
def _tally(
    losses: Float64Array, mask: BoolArray, owner: Int64Array, start: Int64Array, length: Int64Array
) -> tuple[Float64Array, Int64Array, Int64Array, Int64Array, Float64Array, Int64Array]:
    """Per span: loss sum, tokens, first position, skipped tokens; per bucket of positions: loss sum, tokens."""
    spans = len(owner)
    sums, tokens, skipped = np.zeros(spans), np.zeros(spans, np.int64), np.zeros(spans, np.int64)
    first = np.zeros(spans, np.int64)
    bucket_sums, bucket_tokens = np.zeros(BUCKETS), np.zeros(BUCKETS, np.int64)
    for span in range(spans):
        row = owner[span]
        for position in range(length[span]):
            column = start[span] + position - 1  # a token's loss is at the position that predicts it
            if column < 0 or column >= losses.shape[1] or not mask[row, column]:
                continue
            loss = losses[row, column]
            if not math.isfinite(loss):
                skipped[span] += 1
                continue
            if tokens[span] == 0:
                first[span] = position
            tokens[span] += 1
            sums[span] += loss
            bucket = bucket_of(position)
            bucket_sums[bucket] += loss
            bucket_tokens[bucket] += 1
    return sums, tokens, first, skipped, bucket_sums, bucket_tokens
