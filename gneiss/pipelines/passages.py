"""Passages: what repeats in a file, the largest first, for people who tune a threshold by looking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import xxhash

from gneiss.curate.reading import read_documents
from gneiss.dedup import find_spans
from gneiss.errors import InputError
from gneiss.input.shard import cut_shards

CONTEXT_BYTES = 200


@dataclass(frozen=True)
class Passage:
    """A repeated passage: its text, how many copies are cut, where the first one is kept, and one cut in context."""

    text: str
    size_bytes: int
    cut_copies: int
    source_row: int
    row: int
    before: str
    after: str

    @property
    def cut_bytes(self) -> int:
        """Bytes that the cut copies take."""
        return self.size_bytes * self.cut_copies


def repeated_passages(
    file: str | Path,
    text: str = "text",
    *,
    min_length: int = 200,
    policy: Literal["protect", "union", "all"] = "protect",
) -> list[Passage]:
    """The repeated passages of a Parquet file by bytes cut, largest first.

    Parameters: `text`: the text column; `min_length`: bytes of a window; `policy`: as for dedup. A passage is a maximal
    piece of a cut with consecutive sources; equal ones count together. Raises InputError.
    """
    found = cut_shards(file, text=text, shard_max_bytes=2**62)
    if found.unreadable:
        raise InputError(f"{found.unreadable[0].file}: cannot read: {found.unreadable[0].reason}")
    passages: list[Passage] = []
    for shard in found.shards:
        documents = read_documents(shard, text, {})
        batch, rows = documents.batch, documents.batch_rows
        spans = find_spans(batch, min_length=min_length, policy=policy).shrink(batch.to_arrow())
        alike: dict[bytes, list[int]] = {}
        columns = [column.tolist() for column in spans.arrays()]
        for piece, (document, start, end) in enumerate(zip(*columns[:3], strict=True)):
            base = int(batch.offsets[document])
            content = batch.data[base + start : base + end].tobytes()
            alike.setdefault(xxhash.xxh3_128_digest(content), []).append(piece)
        for pieces in alike.values():
            document, start, end, source, _ = (column[pieces[0]] for column in columns)
            low, high = (int(edge) for edge in batch.offsets[document : document + 2])
            around = (
                batch.data[edge : edge + length].tobytes().decode(errors="ignore")
                for edge, length in (
                    (max(low, low + start - CONTEXT_BYTES), min(start, CONTEXT_BYTES)),
                    (low + start, end - start),
                    (low + end, min(high - low - end, CONTEXT_BYTES)),
                )
            )
            before, passage, after = around
            passages.append(
                Passage(passage, end - start, len(pieces), int(rows[source]), int(rows[document]), before, after)
            )
    return sorted(passages, key=lambda p: (-p.cut_bytes, p.row, p.text))
