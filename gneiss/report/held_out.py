"""Held-out sets: their texts by domain, and the documents of a corpus that are in them or share text with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import xxhash

from gneiss.annotation import files_of
from gneiss.curate.statistics import KEPT
from gneiss.errors import InputError
from gneiss.filters.evaluation_sets import read_rows, set_name
from gneiss.output import layout
from gneiss.output.finished_run import open_run
from gneiss.store.place import Address, place_of

if TYPE_CHECKING:
    from gneiss.arrays import BoolArray
    from gneiss.batch import TextBatch
    from gneiss.filters.contamination_kernel import NgramTable

#: Shorter held-out texts, in words, are not looked for: any page may have them.
MIN_WORDS = 8


def check_shared_words(words: int) -> None:
    """Raise InputError for so few words that any page may have them, and for more than are compared."""
    if not MIN_WORDS <= words <= 100:
        raise InputError(f"shared_words: expected {MIN_WORDS} to 100, found {words}")


@dataclass(frozen=True)
class Identities:
    """By what held-out documents are known: ids, and xxh3-128 of texts, as annotations have it."""

    ids: frozenset[str]
    hashes: frozenset[bytes] = frozenset()


@dataclass(frozen=True)
class HeldOut:
    """Texts that no model is trained on, by domain; ids: those of their rows, where they have any."""

    texts: Mapping[str, tuple[str, ...]]
    ids: frozenset[str] = frozenset()

    @cached_property
    def identities(self) -> Identities:
        """The ids and texts of its documents."""
        texts = (text for of_domain in self.texts.values() for text in of_domain)
        return Identities(self.ids, frozenset(xxhash.xxh3_128_digest(text.encode()) for text in texts))

    @cached_property
    def digest(self) -> str:
        """xxh3-128 over domains and texts."""
        found = xxhash.xxh3_128()
        for domain, texts in self.texts.items():
            for part in (domain, *texts):
                found.update(f"{len(part)}\0{part}".encode())
        return found.hexdigest()

    def first(self, domain_bytes: int) -> dict[str, tuple[str, ...]]:
        """The same texts in every process: at most `domain_bytes` of UTF-8 of each domain, chosen by their hashes.

        >>> HeldOut({"news": ("one two", "three")}).first(9)
        {'news': ('three', 'one ')}
        """
        chosen = {}
        for domain, texts in self.texts.items():
            left, taken = domain_bytes, []
            for text in sorted(texts, key=lambda text: xxhash.xxh3_64_intdigest(text.encode())):
                taken.append(text.encode()[:left].decode(errors="ignore"))
                left -= len(taken[-1].encode())
                if left <= 0:
                    break
            chosen[domain] = tuple(part for part in taken if part)
        return chosen


def read_held_out(paths: Sequence[Path], *, text: str = "text", id: str = "id", domain: str | None = None) -> HeldOut:
    """Read held-out sets: .jsonl, .parquet, or .txt with a text a line.

    Parameters: `paths`: files, or folders of files; each file is a domain of its name; `text`, `id`: columns;
    `domain`: the column that names the domain of a row, where a file has several.
    Raises ModelError for a file that cannot be read or has no texts, InputError where there is no file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "news.txt").write_text("Rain in the north.\\nSun in the south.\\n")
    ...     read_held_out([Path(folder)]).texts
    {'news': ('Rain in the north.', 'Sun in the south.')}
    """
    files: dict[str, Path] = {}
    for path in paths:
        for name, file in (files_of(path) if path.is_dir() else {path.name: path}).items():
            if set_name(name) in files:
                raise InputError(f"{file}: there is another held-out set {set_name(name)!r}; rename one")
            files[set_name(name)] = file
    if not files:
        raise InputError("held-out sets: expected a file or more, found none")
    texts: dict[str, list[str]] = {}
    ids: set[str] = set()
    for name, file in sorted(files.items()):
        rows: dict[int, dict[str, list[str]]] = {}
        for found in read_rows(file, [text, id, *([domain] if domain else [])]):
            rows.setdefault(found.row, {}).setdefault(found.field or text, []).append(found.text)
        for row in rows.values():
            ids.update(row.get(id, ()))
            of = row.get(domain, [name])[0] if domain else name
            texts.setdefault(of, []).extend(part for part in row.get(text, ()) if part.strip())
    if empty := next((name for name, found in texts.items() if not found), None):
        raise InputError(f"held-out set {empty!r}: expected texts in the column {text!r}, found none")
    return HeldOut({name: tuple(found) for name, found in sorted(texts.items())}, frozenset(ids))


@dataclass(frozen=True)
class Contamination:
    """Which documents have `shared_words` words in a row in common with a held-out text, or a shorter text whole.

    Words are those of the filter `contamination` (DC01): without case, punctuation and white space.

    >>> from gneiss.batch import TextBatch
    >>> held_out = HeldOut({"quiz": ("What has four legs at dawn, two at noon and three at dusk?",)})
    >>> batch = TextBatch.of(["WHAT has four legs at dawn? Two at noon and three at dusk.", "Nothing of it."])
    >>> Contamination(held_out, shared_words=12).of(batch).tolist()
    [True, False]
    """

    held_out: HeldOut
    shared_words: int = 32

    def __post_init__(self) -> None:
        check_shared_words(self.shared_words)

    @cached_property
    def _table(self) -> NgramTable:
        from gneiss.batch import TextBatch
        from gneiss.filters.contamination_kernel import ngram_table

        batches = (TextBatch.of(list(texts)) for texts in self.held_out.texts.values())
        return ngram_table(batches, self.shared_words, MIN_WORDS)

    def of(self, batch: TextBatch) -> BoolArray:
        """For each text of a batch, bool (documents,)."""
        from gneiss.filters.contamination_kernel import overlap

        found: BoolArray = overlap(batch, self._table).ngrams > 0
        return found


def identities_of(held_out: Sequence[Address]) -> Identities:
    """The documents of held-out sets: finished runs, of which those that are kept, or files as `read_held_out` takes.

    Raises InputError, and ModelError for a file that cannot be read.
    """
    ids: set[str] = set()
    hashes: set[bytes] = set()
    for address in held_out:
        place = place_of(address)
        if (place / layout.RUN_FILE).find() is None:
            found = read_held_out([Path(str(address))]).identities
            ids.update(found.ids)
            hashes.update(found.hashes)
            continue
        run = open_run(place)
        for shard in run.shards:
            for _, table in run.batches(shard, ["content_hash"]):
                kept = table.filter(pc.field("status") == KEPT)
                ids.update(kept["id"].drop_null().to_pylist())
                hashes.update(kept["content_hash"].to_pylist())
    return Identities(frozenset(ids), frozenset(hashes))


def refuse_shared(
    name: str, ids: Sequence[str | None], held_out: Identities, hashes: Sequence[bytes | None] = ()
) -> None:
    """Raise InputError for a document of a corpus that a held-out set has too: its id, or the hash of its text.

    >>> refuse_shared("raw", ["a", None], Identities(frozenset("b")))
    """
    if held_out.ids.isdisjoint(ids) and held_out.hashes.isdisjoint(hashes):
        return
    for id_, hash_ in zip_longest(ids, hashes):
        by_id = id_ in held_out.ids
        if by_id or hash_ in held_out.hashes:
            what = f"the document {id_!r}" if by_id else f"the text of the document {id_!r}"
            raise InputError(
                f"{name}: {what} is in a held-out set too: a model would be evaluated on memorized text; hold out other"
                " documents, or leave these out of the corpus"
            )
