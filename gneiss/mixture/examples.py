"""Examples of buckets: the documents of each whose hashes are lowest, with the head of their texts."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from gneiss.input.columns import values_at
from gneiss.loader.order import mixed
from gneiss.mixture.buckets import FoundBuckets
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.finished_run import FinishedRun, FinishedShard

#: How much of a text is read into an example, in characters.
CHARACTERS = 1_500


@dataclass(frozen=True)
class Example:
    """A document of a bucket: its id, its score, and the first characters of its text."""

    id: str | None
    score: float | None
    text: str


def examples_of(found: FoundBuckets, per_bucket: int) -> dict[str, list[Example]]:
    """Up to `per_bucket` documents of each bucket that has some. Raises InputError."""
    lowest: dict[str, list[tuple[int, int, int]]] = {}  # hash, negative for a heap; number of the shard; document of it
    known: dict[tuple[int, int], tuple[str | None, float | None]] = {}
    run = found.run
    for number, shard in enumerate(run.shards):
        for first, table in run.batches(shard, found.buckets.reads, found.buckets.layers):
            kept = table.filter(pa.array(kept_mask(table)))
            if not kept.num_rows:
                continue
            columns = found.buckets.columns(kept)
            hashes = mixed(np.arange(first, first + kept.num_rows, dtype=np.uint64))
            order = np.argsort(hashes, kind="stable")
            encoded = columns["bucket"].dictionary_encode()
            bucket = encoded.indices.to_numpy()[order]
            for at, name in enumerate(encoded.dictionary.to_pylist()):
                for row in order[np.flatnonzero(bucket == at)[:per_bucket]].tolist():
                    place = (number, first - shard.first_document + row)
                    held = lowest.setdefault(name, [])
                    heapq.heappush(held, (-int(hashes[row]), *place))
                    known[place] = kept["id"][row].as_py(), columns["score"][row].as_py()
                    if len(held) > per_bucket:
                        _, *dropped = heapq.heappop(held)
                        del known[dropped[0], dropped[1]]
    return {
        name: [
            Example(*known[number, document], _text(run, run.shards[number], document))
            for _, number, document in sorted(held, reverse=True)
        ]
        for name, held in lowest.items()
    }


def _text(run: FinishedRun, shard: FinishedShard, document: int) -> str:
    table = next(run.data_tables(shard, [run.text], document))
    text: str = values_at(table, run.text)[0].as_py() or ""
    return text[:CHARACTERS]
