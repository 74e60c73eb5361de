"""Spans: which bytes of which document repeat what, and the texts without them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array
from gneiss.batch import TextBatch, Texts
from gneiss.dedup.boundaries import shrink_cuts
from gneiss.edit import Edits
from gneiss.errors import InputError

Boundary: TypeAlias = Literal["char", "word", "line", "sentence"]
BOUNDARIES: tuple[str, ...] = get_args(Boundary)
COLUMNS = ("document", "start", "end", "source_document", "source_start")
SCHEMA = pa.schema([(name, pa.int64()) for name in COLUMNS])


@dataclass(frozen=True, eq=False)
class Spans:
    """Duplicate spans of a list of texts: one row for each maximal span with consecutive sources.

    table: int64 columns `document` (row of the text), `start`, `end` (bytes of its UTF-8) and `source_document`,
    `source_start` (what the span repeats), sorted by document and start. Spans that touch are cut as one. The offsets
    are those of the definition and may lie inside a UTF-8 character; `cut` and `shrink` move them to a boundary.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def arrays(self) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array]:
        """The five columns as int64 arrays, in order."""
        document, start, end, source_document, source_start = (self.table[name].to_numpy() for name in COLUMNS)
        return document, start, end, source_document, source_start

    @classmethod
    def of_arrays(
        cls,
        document: Int64Array,
        start: Int64Array,
        end: Int64Array,
        source_document: Int64Array,
        source_start: Int64Array,
    ) -> Spans:
        """Spans from their five columns."""
        return cls(pa.table([document, start, end, source_document, source_start], schema=SCHEMA))

    def renumbered(self, rows: Int64Array) -> Spans:
        """The same spans where document `i` is row `rows[i]`, int64 (documents,), in order of rows."""
        document, start, end, source_document, source_start = self.arrays()
        order = np.argsort(rows[document], kind="stable")
        columns = (rows[document], start, end, rows[source_document], source_start)
        return Spans.of_arrays(*(column[order] for column in columns))

    def shrink(self, texts: Texts, boundary: Boundary = "char") -> Spans:
        """The same spans, each cut moved inwards to a boundary; cuts that become empty are gone.

        Parameters: `texts`: those the spans were found in; `boundary`: `char` (a whole UTF-8 character), `word` (not
        between two characters of a word, words being what `str.split` finds), `line` (just after a line feed, or an end
        of the document) or `sentence` (also where the white space after a full stop, an exclamation or a question mark
        ends, and right after such a mark of Chinese or Japanese). Raises InputError for another boundary, and for spans
        that do not fit the texts.

        >>> from gneiss.dedup import duplicate_spans
        >>> texts = ["the same words here", "and the same words too"]
        >>> spans = duplicate_spans(texts, min_length=10)
        >>> spans.table.to_pylist()[0]
        {'document': 1, 'start': 4, 'end': 19, 'source_document': 0, 'source_start': 0}
        >>> spans.shrink(texts, "word").table.to_pylist()[0]["end"]
        19
        """
        batch, positions = compact(texts)
        own = self._in_batch(batch, positions)._shrink_in(batch, boundary)
        return own.renumbered(positions) if len(own) else own

    def cut(self, texts: Texts, boundary: Boundary = "char") -> pa.LargeStringArray:
        """The texts without their duplicate spans; nulls stay null, all other text is copied byte for byte.

        Parameters: `texts`: those the spans were found in, (documents,); `boundary`: as for `shrink`.
        Raises InputError for another boundary, and for spans that do not fit the texts.

        >>> from gneiss.dedup import duplicate_spans
        >>> texts = ["the same words here", None, "and the same words too"]
        >>> duplicate_spans(texts, min_length=10).cut(texts).to_pylist()
        ['the same words here', None, 'and too']
        """
        batch, positions = compact(texts)
        document, start, end, _, _ = self._in_batch(batch, positions)._shrink_in(batch, boundary).arrays()
        cut = Edits(document, start, end).apply(batch)
        return _with_nulls(cut, positions, len(texts))

    def _in_batch(self, batch: TextBatch, positions: Int64Array) -> Spans:
        """The same spans over the documents that are not null, checked against them."""
        document, start, end, source_document, source_start = self.arrays()
        if len(document) == 0:
            return self
        inside = (document >= 0) & (np.maximum(document, source_document) <= positions.max(initial=-1))
        if inside.all():
            rows = np.searchsorted(positions, document)
            inside &= (
                (positions[rows] == document) & (start >= 0) & (start < end) & (end <= np.diff(batch.offsets)[rows])
            )
            ordered = (document[1:] > document[:-1]) | (start[1:] >= end[:-1])
            if inside.all() and ordered.all():
                sources = np.searchsorted(positions, source_document)
                return Spans.of_arrays(rows, start, end, sources, source_start)
        raise InputError("texts: these are not the texts that the spans were found in")

    def _shrink_in(self, batch: TextBatch, boundary: Boundary) -> Spans:
        if boundary not in BOUNDARIES:
            raise InputError(f"boundary: expected one of {', '.join(BOUNDARIES)}, found {boundary!r}")
        if not len(self):
            return self
        document, start, end, source_document, source_start = self.arrays()
        new_start, new_end = shrink_cuts(batch.data, batch.offsets, document, start, end, BOUNDARIES.index(boundary))
        left = new_start < new_end
        source_start = source_start + (new_start - start)
        columns = (document, new_start, new_end, source_document, source_start)
        return Spans.of_arrays(*(column[left] for column in columns))


def compact(texts: Texts) -> tuple[TextBatch, Int64Array]:
    """The texts that are not null, as a batch, and the row of each."""
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
    if array.null_count == 0:
        return TextBatch.of(array), np.arange(len(array), dtype=np.int64)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())  # Arrow cannot filter string views
    return TextBatch.of(array.drop_null()), np.flatnonzero(np.asarray(array.is_valid()))


def _with_nulls(batch: TextBatch, positions: Int64Array, length: int) -> pa.LargeStringArray:
    """A large_string array of `length` rows that holds the batch at `positions` and is null elsewhere."""
    if len(positions) == length:
        return batch.to_arrow()
    where = np.full(length, -1)
    where[positions] = np.arange(len(positions))
    return batch.to_arrow().take(pa.array(where, mask=where < 0))
