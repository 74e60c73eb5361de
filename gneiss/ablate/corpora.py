"""Candidate corpora: a finished run or a folder of Parquet files, and the documents that each seed draws from it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa
import xxhash

from gneiss.errors import InputError, first_line
from gneiss.output import layout
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.parquet import open_parquet
from gneiss.report.held_out import Contamination, Identities, refuse_shared
from gneiss.store.place import Address, place_of

_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Corpus:
    """A corpus by its name and place. text, id: its columns, where it is a folder; a run knows its own."""

    name: str
    folder: Address
    text: str = "text"
    id: str = "id"

    @property
    def run(self) -> FinishedRun | None:
        """The finished run that it is, or None for a folder of Parquet files."""
        folder = place_of(self.folder)
        return open_run(folder) if (folder / layout.RUN_FILE).find() is not None else None

    def tables(self) -> Iterator[pa.Table]:
        """Its documents, some hundred at a time: `id`, null where it has none, and `text`, never null.

        Raises InputError for a folder without Parquet files, a file that cannot be read, or without the text column.
        """
        folder, run = place_of(self.folder), self.run
        if run is not None:
            columns = [name for name in (run.text, run.id) if name]
            for shard in run.shards:
                yield from (_named(table, run.text, run.id) for table in run.data_tables(shard, columns))
            return
        files = sorted(file.name for file in folder.files("*.parquet"))
        if not files:
            raise InputError(f"{folder}: expected a finished run, or a folder with Parquet files, found neither")
        for name in files:
            try:
                with open_parquet(folder / name) as file:
                    known = file.schema_arrow.names
                    if self.text not in known:
                        raise InputError(f"{folder / name}: no column {self.text!r}, found {', '.join(known)}")
                    id = self.id if self.id in known else None
                    columns = [column for column in (self.text, id) if column]
                    for batch in file.iter_batches(_BATCH_ROWS, columns=columns):
                        yield _named(pa.table(batch), self.text, id)
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{folder / name}: cannot read: {first_line(error)}") from error


def _named(table: pa.Table, text: str, id: str | None) -> pa.Table:
    ids = table[id].cast(pa.string()) if id else pa.nulls(table.num_rows, pa.string())
    named = pa.table({"id": ids, "text": table[text].cast(pa.large_string())})
    return named.filter(named["text"].is_valid())


@dataclass(frozen=True, eq=False)
class Pool:
    """Documents of a corpus, without those that share text with a held-out set.

    texts: (documents,), sorted by hash; keys: the hash of each text, and which of its copies it is, (documents,);
    documents, text_bytes: of the whole corpus, without those left out; contaminated: how many were left out.
    """

    name: str
    texts: tuple[str, ...]
    keys: tuple[tuple[int, int], ...]
    documents: int
    text_bytes: int
    contaminated: int

    @property
    def is_whole(self) -> bool:
        """Whether it holds the whole corpus, not a sample."""
        return len(self.texts) == self.documents

    @cached_property
    def digest(self) -> str:
        """xxh3-128 over its texts, in hexadecimal digits."""
        return xxhash.xxh3_128_hexdigest(repr(self.keys).encode())

    def order(self, seed: int) -> list[int]:
        """A seed's order of the documents: those that two corpora share come in the same order in both.

        >>> a, b = (pool_of_texts(name, texts) for name, texts in (("a", "pqrst"), ("b", "tsp")))
        >>> [a.texts[i] for i in a.order(1) if a.texts[i] in b.texts] == [b.texts[i] for i in b.order(1)]
        True
        """
        return sorted(range(len(self.texts)), key=lambda i: (_hash(seed, *self.keys[i]), self.keys[i]))

    def half(self, seed: int, second: bool) -> Pool:
        """One of two random halves, other ones for each seed: corpora between which there is no difference."""
        chosen = [i for i in range(len(self.texts)) if (_hash(~seed, *self.keys[i]) & 1 == 1) == second]
        texts, keys = tuple(self.texts[i] for i in chosen), tuple(self.keys[i] for i in chosen)
        return replace(self, name=f"{self.name}, half {1 + second}", texts=texts, keys=keys)


def _hash(*numbers: int) -> int:
    return xxhash.xxh3_64_intdigest(repr(numbers).encode())


def read_pool(corpus: Corpus, contamination: Contamination, most_bytes: int) -> Pool:
    """Read a corpus, and leave out what is contaminated.

    Parameters: `most_bytes`: of UTF-8 that are kept in memory; of a larger corpus the documents with the smallest
    hashes, a random sample. Raises InputError: see `Corpus.tables`, an id that a held-out set has, nothing left.
    """
    from gneiss.batch import TextBatch

    kept: list[tuple[int, int, int, str]] = []  # a heap, the largest hash first
    copies: Counter[int] = Counter()
    size = documents = text_bytes = contaminated = 0
    for table in corpus.tables():
        refuse_shared(corpus.name, table["id"].to_pylist(), Identities(contamination.held_out.ids))
        texts = table["text"].to_pylist()
        for text, is_contaminated in zip(texts, contamination.of(TextBatch.of(texts)).tolist(), strict=True):
            if is_contaminated:
                contaminated += 1
                continue
            own_bytes, hash_ = len(text.encode()), xxhash.xxh3_64_intdigest(text.encode())
            documents, text_bytes, size = documents + 1, text_bytes + own_bytes, size + own_bytes
            heapq.heappush(kept, (-_hash(hash_, copies[hash_]), hash_, copies[hash_], text))
            copies[hash_] += 1
            while size > most_bytes and len(kept) > 1:
                size -= len(heapq.heappop(kept)[3].encode())
    if not text_bytes:
        raise InputError(f"{corpus.name}: all {contaminated} documents share text with a held-out set, or are empty")
    kept.sort(reverse=True)
    keys = tuple((hash_, copy) for _, hash_, copy, _ in kept)
    return Pool(corpus.name, tuple(text for *_, text in kept), keys, documents, text_bytes, contaminated)


def pool_of_texts(name: str, texts: Sequence[str]) -> Pool:
    """A pool of texts at hand, none of which is left out.

    >>> pool_of_texts("two", ["a", "b"]).documents
    2
    """
    copies: Counter[int] = Counter()
    found = []
    for text in texts:
        hash_ = xxhash.xxh3_64_intdigest(text.encode())
        found.append((_hash(hash_, copies[hash_]), hash_, copies[hash_], text))
        copies[hash_] += 1
    found.sort()
    keys = tuple((hash_, copy) for _, hash_, copy, _ in found)
    size = sum(len(text.encode()) for text in texts)
    return Pool(name, tuple(text for *_, text in found), keys, len(texts), size, 0)
