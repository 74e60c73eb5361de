"""Units: what windows are made of, bytes or tokens, and the way from units back to bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gneiss.arrays import AnyArray, Int64Array, read_only
from gneiss.batch import TextBatch, Tokens
from gneiss.errors import InputError


class Tokenizer(Protocol):
    """Anything that turns a batch into tokens with byte offsets."""

    def tokens(self, batch: TextBatch) -> Tokens:
        """The tokens of every document of the batch, in order."""


@dataclass(frozen=True, eq=False)
class Units:
    """A corpus as windows see it: the documents' units one after another.

    values: uint8 or int32 (units,); bounds: int64 (documents + 1,): document i is `values[bounds[i]:bounds[i + 1]]`;
    starts: int64 (units,), first byte of each unit in its document, or None where a unit is a byte;
    sizes: int64 (documents,), bytes of each document.
    """

    values: AnyArray
    bounds: Int64Array
    starts: Int64Array | None
    sizes: Int64Array

    @classmethod
    def of_bytes(cls, batch: TextBatch) -> Units:
        """Bytes as units; shares the batch's buffer."""
        first, last = int(batch.offsets[0]), int(batch.offsets[-1])
        return cls(batch.data[first:last], batch.offsets - first, None, np.diff(batch.offsets))

    @classmethod
    def of_tokens(cls, batch: TextBatch, tokens: Tokens) -> Units:
        """Tokens as units.

        Raises InputError when the tokens are not ordered offsets into the documents of the batch.
        """
        sizes = np.diff(batch.offsets)
        counts = np.diff(tokens.documents)
        shapes_fit = len(tokens.documents) == len(batch) + 1 and len(tokens.ids) == len(tokens.starts)
        if not shapes_fit or tokens.documents[0] != 0 or tokens.documents[-1] != len(tokens.ids) or (counts < 0).any():
            raise InputError(
                f"tokenizer: {len(tokens.ids)} ids, {len(tokens.starts)} starts and {len(tokens.documents)} document "
                f"bounds do not fit {len(batch)} documents"
            )
        in_order = np.diff(tokens.starts) >= 0
        document_starts = tokens.documents[1:-1]
        inner = document_starts[(document_starts > 0) & (document_starts < len(tokens.ids))]
        in_order[inner - 1] = True
        if not in_order.all() or ((tokens.starts < 0) | (tokens.starts > np.repeat(sizes, counts))).any():
            raise InputError("tokenizer: the byte offsets of tokens must rise inside each document and stay in it")
        return cls(read_only(tokens.ids), tokens.documents, tokens.starts, sizes)

    def byte_offsets(self, documents: Int64Array, positions: Int64Array) -> Int64Array:
        """Bytes in `documents` of units of them, each position from 0 to the document's length inclusive."""
        if self.starts is None:
            return positions
        positions = self.bounds[documents] + positions
        at_end = positions == self.bounds[documents + 1]
        if len(self.starts) == 0:
            return self.sizes[documents]
        return np.where(at_end, self.sizes[documents], self.starts[np.where(at_end, 0, positions)])
