"""Edits: disjoint replacements in the UTF-8 bytes of documents, applied once; text outside is copied byte for byte."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from gneiss.batch import TextBatch

Numbers = npt.NDArray[np.int64]
Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Edits:
    """Cuts in a text batch: bytes `start[i]:stop[i]` of document `document[i]` are left out.

    Three int64 arrays (edits,), sorted by document and start, disjoint; offsets count from the document's first byte.
    """

    document: Numbers
    start: Numbers
    stop: Numbers

    @classmethod
    def none(cls) -> Edits:
        """No edit at all."""
        empty = np.empty(0, np.int64)
        return cls(empty, empty, empty)

    def __len__(self) -> int:
        return len(self.document)

    def removed_bytes(self, documents: int) -> Numbers:
        """Bytes cut from each of `documents` documents, int64 (documents,)."""
        removed = np.zeros(documents, np.int64)
        np.add.at(removed, self.document, self.stop - self.start)
        return removed

    def apply(self, batch: TextBatch) -> TextBatch:
        """The batch without the cut bytes; the batch itself where there is nothing to cut.

        Raises ValueError when the edits are not sorted and disjoint, or reach outside their document.

        >>> cut = Edits(np.array([1]), np.array([0]), np.array([4]))
        >>> cut.apply(TextBatch.of(["a", "und so", "c"])).texts()
        ['a', 'so', 'c']
        """
        if len(self) == 0:
            return batch
        if not _well_formed(batch.offsets, self.document, self.start, self.stop):
            raise ValueError("edits must be sorted, disjoint, and lie inside their documents")
        removed = self.removed_bytes(len(batch))
        offsets = np.zeros(len(batch) + 1, np.int64)
        np.cumsum(np.diff(batch.offsets) - removed, out=offsets[1:])
        data = np.empty(offsets[-1], np.uint8)
        _copy_outside(batch.data, batch.offsets, self.document, self.start, self.stop, data)
        return TextBatch(data, offsets)


@njit(cache=True, nogil=True)
def _well_formed(offsets: Numbers, document: Numbers, start: Numbers, stop: Numbers) -> bool:
    for i in range(len(document)):
        if not 0 <= document[i] < len(offsets) - 1:
            return False
        length = offsets[document[i] + 1] - offsets[document[i]]
        if not 0 <= start[i] <= stop[i] <= length:
            return False
        if i and (document[i] < document[i - 1] or (document[i] == document[i - 1] and start[i] < stop[i - 1])):
            return False
    return True


@njit(cache=True, nogil=True)
def _copy_outside(
    data: Octets, offsets: Numbers, document: Numbers, start: Numbers, stop: Numbers, out: Octets
) -> None:
    read, written = offsets[0], 0
    for i in range(len(document)):
        cut_from = offsets[document[i]] + start[i]
        out[written : written + cut_from - read] = data[read:cut_from]
        written += cut_from - read
        read = offsets[document[i]] + stop[i]
    out[written:] = data[read : offsets[-1]]
