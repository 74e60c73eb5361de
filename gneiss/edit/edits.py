"""Edits: disjoint replacements of UTF-8 bytes, applied once; text outside is copied byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np

from gneiss.arrays import Int64Array, UInt8Array
from gneiss.batch import TextBatch


@dataclass(frozen=True, eq=False)
class Edits:
    """Replacements in a text batch: bytes `start[i]:end[i]` of document `document[i]` become `replacement` i.

    document, start, end: int64 (edits,), sorted by document and start, disjoint; offsets count from the document's
    first byte. replacement: a text for each edit; None where all are cuts.
    """

    document: Int64Array
    start: Int64Array
    end: Int64Array
    replacement: TextBatch | None = None

    @classmethod
    def none(cls) -> Edits:
        """No edits."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty)

    def __len__(self) -> int:
        return len(self.document)

    @property
    def inserted_bytes(self) -> Int64Array:
        """Bytes of each edit's replacement, int64 (edits,)."""
        return np.zeros(len(self), np.int64) if self.replacement is None else np.diff(self.replacement.offsets)

    def removed_bytes(self, documents: int) -> Int64Array:
        """Bytes removed from each of `documents` documents, int64 (documents,)."""
        return _per_document(self.document, self.end - self.start, documents)

    def check(self, batch: TextBatch) -> None:
        """Raise ValueError when the edits are not sorted and disjoint, or reach outside their document."""
        document, start, end = self.document, self.start, self.end
        is_inside = ((document >= 0) & (document < len(batch)) & (start >= 0) & (start <= end)).all()
        is_inside = is_inside and (end <= np.diff(batch.offsets)[document]).all()
        step = np.diff(document)
        if not (is_inside and ((step > 0) | ((step == 0) & (start[1:] >= end[:-1]))).all()):
            raise ValueError("edits must be sorted, disjoint, and lie inside their documents")

    def shifted(self, documents: int) -> Edits:
        """The same edits, with document numbers shifted by `documents`."""
        return replace(self, document=self.document + documents)

    @classmethod
    def concatenated(cls, parts: Sequence[Edits]) -> Edits:
        """The edits of consecutive batches as one."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return cls.none()
        texts = None
        if any(part.replacement for part in parts):
            texts = TextBatch.of([text for part in parts for text in _texts_of(part)])
        document = np.concatenate([part.document for part in parts])
        start, end = np.concatenate([part.start for part in parts]), np.concatenate([part.end for part in parts])
        return cls(document, start, end, texts)

    def apply(self, batch: TextBatch) -> TextBatch:
        """The edited batch; the batch itself if there are no edits.

        Raises ValueError when the edits are not sorted and disjoint, or reach outside their document.

        >>> edits = Edits(np.array([1, 1]), np.array([0, 4]), np.array([4, 6]), TextBatch.of(["", "ab"]))
        >>> edits.apply(TextBatch.of(["a", "und so", "c"])).texts()
        ['a', 'ab', 'c']
        """
        if len(self) == 0:
            return batch
        self.check(batch)
        grown = _per_document(self.document, self.inserted_bytes - (self.end - self.start), len(batch))
        offsets = np.zeros(len(batch) + 1, np.int64)
        np.cumsum(np.diff(batch.offsets) + grown, out=offsets[1:])
        if len(self) <= _FEW:
            return TextBatch(self._joined(batch), offsets)
        from gneiss.edit.kernel import copy

        data = np.empty(offsets[-1], np.uint8)
        texts = self.replacement or _EMPTY
        bounds = texts.offsets if self.replacement else np.zeros(len(self) + 1, np.int64)
        copy(batch.data, batch.offsets, self.document, self.start, self.end, texts.data, bounds, data)
        return TextBatch(data, offsets)

    def _joined(self, batch: TextBatch) -> UInt8Array:
        """The bytes of the edited batch: what is left between edits, and what takes their place."""
        first = batch.offsets[self.document]
        starts = [batch.offsets[0], *(first + self.end).tolist()]
        ends = [*(first + self.start).tolist(), batch.offsets[-1]]
        data = batch.data.data
        pieces = [data[start:end] for start, end in zip(starts, ends, strict=True)]
        if self.replacement:
            texts, bounds = self.replacement.data.data, self.replacement.offsets.tolist()
            inserted = (texts[start:end] for start, end in pairwise(bounds))
            pieces = [*chain.from_iterable(zip(pieces, inserted, strict=False)), pieces[-1]]
        return np.frombuffer(bytearray().join(pieces), np.uint8)

    def then(self, other: Edits) -> Edits:
        """Both edits over the same text. Where they overlap these take precedence; the others keep the rest.

        The replacement of an edit of `other` goes to the first byte that it keeps; an edit that keeps none is dropped.
        Raises ValueError if an edit removes nothing.

        >>> cut = Edits(np.array([0]), np.array([2]), np.array([5]))
        >>> named = Edits(np.array([0]), np.array([1]), np.array([7]), TextBatch.of(["*"]))
        >>> cut.then(named).apply(TextBatch.of(["abcdefgh"])).texts()
        ['a*h']
        """
        from gneiss.edit.kernel import merged

        if len(self) == 0 or len(other) == 0:
            return self if len(other) == 0 else other
        if (self.start == self.end).any() or (other.start == other.end).any():
            raise ValueError("edits that remove nothing cannot be combined with others")
        document, start, end, origin = merged(
            self.document, self.start, self.end, other.document, other.start, other.end
        )
        if self.replacement is None and other.replacement is None:
            return Edits(document, start, end)
        texts = [*_texts_of(self), *_texts_of(other), ""]
        return Edits(document, start, end, TextBatch.of([texts[i] for i in origin.tolist()]))


#: Up to so many edits are joined without a kernel: the first one costs a process .3 s, and many processes need none.
_FEW = 10_000
_EMPTY = TextBatch(np.empty(0, np.uint8), np.zeros(1, np.int64))


def _texts_of(edits: Edits) -> list[str]:
    return [""] * len(edits) if edits.replacement is None else edits.replacement.texts()


def _per_document(document: Int64Array, amount: Int64Array, documents: int) -> Int64Array:
    total = np.zeros(documents, np.int64)
    np.add.at(total, document, amount)
    return total
