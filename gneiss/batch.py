"""Text batches: consecutive documents over Arrow buffers, with shared views that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int32Array, Int64Array, UInt8Array, read_only
from gneiss.errors import InputError

__all__ = ["TextBatch", "Texts"]

#: White space, as words, lines and normal forms share it: that of `str.split`. Code points, hexadecimal, inclusive.
SPACE_RANGES = "9-D 1C-20 85 A0 1680 2000-200A 2028-2029 202F 205F 3000"
Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
View = TypeVar("View")


@dataclass(frozen=True, eq=False)
class TextBatch:
    """Consecutive documents as UTF-8: document i is `data[offsets[i]:offsets[i + 1]]`.

    data: uint8 (bytes,); offsets: int64 (documents + 1,), not necessarily starting at 0. No document is null.
    annotations: of the documents, by name, (documents,): those that an annotator reads.

    >>> batch = TextBatch.of(["one", "zwei ü"])
    >>> len(batch), batch.size_bytes, batch.text(1)
    (2, 10, 'zwei ü')
    """

    data: UInt8Array
    offsets: Int64Array
    _views: dict[Callable[[TextBatch], Any], Any] = field(default_factory=dict, repr=False)
    annotations: Mapping[str, pa.Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", read_only(self.data))
        object.__setattr__(self, "offsets", read_only(self.offsets))

    @classmethod
    def of(cls, texts: Texts) -> TextBatch:
        """Wrap strings, or an Arrow string array without copying its text.

        Raises InputError for nulls and for arrays that are not strings; the text of an Arrow array must be valid UTF-8.
        """
        array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.large_string())
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())])
        if pa.types.is_string(array.type) or pa.types.is_string_view(array.type):
            array = array.cast(pa.large_string())
        if not pa.types.is_large_string(array.type):
            raise InputError(f"texts: expected an array of strings, found {array.type}")
        if array.null_count:
            raise InputError(f"texts: {array.null_count} of {len(array)} are null; drop or replace them first")
        _, offsets, data = array.buffers()
        if len(array) == 0:
            return cls(np.empty(0, np.uint8), np.zeros(1, np.int64))
        return cls(
            np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8),
            np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1],
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def size_bytes(self) -> int:
        """Bytes of UTF-8 text in all documents."""
        return int(self.offsets[-1] - self.offsets[0])

    def text(self, document: int) -> str:
        """The text of one document."""
        return self.data[self.offsets[document] : self.offsets[document + 1]].tobytes().decode()

    def texts(self) -> list[str]:
        """All documents as Python strings, for libraries that require them."""
        return [self.text(document) for document in range(len(self))]

    def slice(self, start: int, end: int) -> TextBatch:
        """Documents `start` to `end`, sharing the buffers."""
        annotations = {name: values.slice(start, end - start) for name, values in self.annotations.items()}
        return TextBatch(self.data, self.offsets[start : end + 1], annotations=annotations)

    def taken(self, positions: Int64Array) -> TextBatch:
        """The documents at some positions; the batch itself where these are all."""
        if len(positions) == len(self):
            return self
        at = pa.array(positions)
        annotations = {name: values.take(at) for name, values in self.annotations.items()}
        return TextBatch.of(self.to_arrow().take(at)).annotated(annotations)

    def annotated(self, annotations: Mapping[str, pa.Array]) -> TextBatch:
        """The same documents with annotations, sharing buffers and views."""
        return TextBatch(self.data, self.offsets, self._views, annotations)

    def placed(self, rows: Int64Array, documents: int) -> TextBatch:
        """`documents` documents over the same bytes: the texts at the given positions, the others empty."""
        sizes = np.zeros(documents, np.int64)
        sizes[rows] = np.diff(self.offsets)
        return TextBatch(self.data, np.cumsum(np.append(self.offsets[0], sizes)))

    def to_arrow(self) -> pa.LargeStringArray:
        """The documents as an Arrow large_string array over the same buffers."""
        buffers = [None, pa.py_buffer(np.ascontiguousarray(self.offsets)), pa.py_buffer(self.data)]
        return pa.LargeStringArray.from_buffers(len(self), buffers[1], buffers[2])

    def view(self, definition: Callable[[TextBatch], View]) -> View:
        """The result of `definition` for this batch, computed at most once and shared by all annotators."""
        if definition not in self._views:
            self._views[definition] = definition(self)
        return cast("View", self._views[definition])


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of a batch: document i has the tokens `documents[i]` to `documents[i + 1]`.

    ids: int32 (tokens,); starts: int64 (tokens,), the byte at which each token starts in its own document; documents:
    int64 (documents + 1,), starting at 0. A token reaches to the start of the next one, the last of a document to the
    document's end, and may start inside a UTF-8 character (byte-level BPE).
    """

    ids: Int32Array
    starts: Int64Array
    documents: Int64Array
