"""Shared by exports: sources, files of bounded size, and a folder that is complete once its index is written, last.

Samples keep their order on disk; shuffling is the trainer's task.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int32Array
from gneiss.errors import InputError, OutputError
from gneiss.loader.packed_files import PackedSequences
from gneiss.loader.packing import TokenizerLike, encoder
from gneiss.loader.reader import Document, Documents
from gneiss.output.annotation_tables import IDENTITY, schema_of
from gneiss.output.claim import held, refuse_nesting
from gneiss.output.finished_run import FinishedRun
from gneiss.output.layout import BASE_LAYER, LOCK_FILE
from gneiss.output.parquet import WrittenFile, write_bytes
from gneiss.store.place import Address, Place
from gneiss.version import __version__

#: The index of a format that has none of its own.
INDEX = "export.json"
#: Maximum documents of a token file: their metadata are held until the file is complete.
_FILE_DOCUMENTS = 1 << 22
_Sample = TypeVar("_Sample")


@dataclass(frozen=True)
class Exported:
    """What was exported: where, how many samples in how many files."""

    folder: Place
    samples: int
    files: int


@dataclass(frozen=True)
class TokenizedDocuments:
    """Whole documents as tokens, for trainers that do their own packing. See `tokenized`."""

    documents: Documents
    tokenizer: TokenizerLike
    end_of_document: int | None = None
    token_bytes: int = 4

    def __iter__(self) -> Iterator[tuple[Document, Int32Array]]:
        encode = encoder(self.tokenizer)
        end = np.array([] if self.end_of_document is None else [self.end_of_document], np.int64)
        for document in self.documents:
            tokens = np.concatenate([np.asarray(encode(document.text), np.int64), end])
            if len(tokens) and not 0 <= tokens.min() <= tokens.max() < _bound(self.token_bytes):
                raise InputError(
                    f"{document.shard}, row {document.row}: expected tokens of {self.token_bytes} bytes, from 0 to"
                    f" {_bound(self.token_bytes) - 1}, found {tokens.min()} to {tokens.max()}; take token_bytes=4"
                )
            yield document, tokens.astype(np.int32)


#: Sources that can be exported.
Source: TypeAlias = Documents | PackedSequences | TokenizedDocuments


#: Writes the files of a shard, by its number, its id and its documents.
Write: TypeAlias = Callable[[int, str, Iterator[Document]], Sequence[WrittenFile]]


class Export(Protocol):
    """Writes a source into a folder, in a trainer's format.

    Raises InputError for an unsupported source, OutputError when the folder holds anything else; without
    its index, which is written last, the same call starts again.
    """

    def __call__(self, source: Source, folder: Address) -> Exported:
        """Export."""


def tokenized(
    documents: Documents, tokenizer: TokenizerLike, *, end_of_document: int | None = None, token_bytes: int = 4
) -> TokenizedDocuments:
    """Documents to be tokenized by an export.

    Parameters: `tokenizer`: as in `sequences`; `end_of_document`: a token after each document;
    `token_bytes`: 4, or 2 if every id is below 65,536. Raises InputError; iterating raises ModelError for a
    tokenizer that is none, InputError for a token that does not fit.

    >>> export_megatron(tokenized(documents("curated"), "builtin:cl100k_base"), "curated-megatron")  # doctest: +SKIP
    """
    if token_bytes not in (2, 4):
        raise InputError(f"token_bytes {token_bytes}: expected 2 or 4")
    if end_of_document is not None and not 0 <= end_of_document < _bound(token_bytes):
        raise InputError(f"end_of_document {end_of_document}: expected a token id that fits {token_bytes} bytes")
    return TokenizedDocuments(documents, tokenizer, end_of_document, token_bytes)


def of_samples(source: Source, format_: str) -> Documents | PackedSequences:
    """A source of texts or packed sequences, in order. Raises InputError for another."""
    if isinstance(source, TokenizedDocuments):
        raise InputError(f"{format_}: expected documents or packed sequences, found a tokenizer as well; omit it")
    return replace(source, shuffled=False, epochs=1)


def annotation_types(run: FinishedRun, layers: Sequence[str] = ()) -> dict[str, pa.DataType]:
    """The annotations of a run and of layers, but for `row` and `id`, with their types. Raises InputError."""
    run.layers(layers)
    if not run.shards:
        raise InputError(f"{run.folder}: the run has no rows")
    names = (BASE_LAYER, *layers)
    schemas = {layer: schema_of(run.annotation_file(run.shards[0], layer)) for layer in names}
    columns = run.columns(run.shards[0], layers)
    return {name: schemas[layer].field(own).type for name, (layer, own) in columns.items() if name not in IDENTITY}


def scores(run: FinishedRun, layers: Sequence[str] = ()) -> list[str]:
    """The annotations of a run and of layers that are numbers or booleans. Raises InputError."""
    is_score = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    return [
        name for name, type_ in annotation_types(run, layers).items() if any(is_kind(type_) for is_kind in is_score)
    ]


def attribute_types(source: Documents) -> dict[str, pa.DataType]:
    """The types of the annotations that documents are read with. Raises InputError for other columns, or none."""
    known = annotation_types(source.run, source.layers)
    if not source.columns:
        raise InputError(f"{source.run.folder}: no columns to export as attributes; name some")
    if other := next((name for name in source.columns if name not in known), None):
        raise InputError(f"{source.run.folder}: {other!r} is a column of documents, not an annotation; leave it out")
    return {name: known[name] for name in source.columns}


def of_documents(source: Source, format_: str) -> Documents:
    """A source of documents, in order. Raises InputError for another."""
    if not isinstance(source, Documents):
        raise InputError(f"{format_}: expected the documents of a run, found tokens; omit the tokenizer")
    return replace(source, shuffled=False, epochs=1)


def by_shard(documents: Documents) -> Iterator[tuple[str, Iterator[Document]]]:
    """Each shard's id and its kept documents, which may be none, in order."""
    first = 0
    for shard in documents.run.shards:
        yield shard.id, documents.read(documents.epoch, first, first + shard.kept)
        first += shard.kept


def export_attributes(
    source: Documents, folder: Place, format_: str, prefixes: tuple[str, ...], write: Write
) -> Exported:
    """Export documents and their annotations shard by shard; `write`: the files of one, with a row for each document.

    Raises OutputError.
    """
    with exporting(folder, prefixes, source):
        files = [write(number, shard, documents) for number, (shard, documents) in enumerate(by_shard(source))]
        samples = sum(first.rows for first, *_ in files)
        names = [file.path for of_shard in files for file in of_shard]
        index = {"format": format_, **origin(source), "columns": list(source.columns), "documents": samples}
        complete(folder, INDEX, names, index)
        return Exported(folder, samples, len(names))


def of_tokens(source: Source, format_: str) -> TokenizedDocuments:
    """A source of tokenized documents, in order. Raises InputError for another."""
    if isinstance(source, PackedSequences):
        raise InputError(
            f"{format_}: expected the output of a run, found packed sequences; its trainer packs documents by itself"
        )
    if isinstance(source, Documents):
        raise InputError(f"{format_}: expected a tokenizer for the documents, found none")
    return replace(source, documents=replace(source.documents, shuffled=False, epochs=1))


@contextmanager
def exporting(folder: Place, prefixes: str | tuple[str, ...], source: Source) -> Iterator[None]:
    """Hold a folder, and remove partial files of a killed export. Raises OutputError.

    It may hold nothing but files whose names begin with a prefix, and not the source.
    """
    exported = source.packing.folder if isinstance(source, PackedSequences) else _documents_of(source).run.folder
    refuse_nesting(exported, [exported], folder)
    if foreign := sorted(name for name in _names(folder) if not name.startswith(prefixes)):
        raise OutputError(f"{folder}: expected an empty folder, found {foreign[0]!r}; choose another one")
    with held(folder):
        folder.sweep()
        yield


def complete(folder: Place, index: str, names: Iterable[str], content: Any) -> None:
    """Write the JSON index once all files of an export exist. Raises OutputError when there are others."""
    left = _names(folder) - {index, *names}
    if left:
        raise OutputError(f"{folder / min(left)}: left by another export; choose another folder")
    write_bytes(json.dumps(content, sort_keys=True).encode(), folder, index)


def _names(folder: Place) -> set[str]:
    return {file.name for file in folder.files()} - {LOCK_FILE}


def _documents_of(source: Documents | TokenizedDocuments) -> Documents:
    return source if isinstance(source, Documents) else source.documents


def origin(source: Source) -> dict[str, Any]:
    """The provenance of an export's samples, for its index."""
    metadata: dict[str, Any] = {"gneiss": __version__}
    if isinstance(source, PackedSequences):
        return {**metadata, "packing": source.packing.metadata}
    documents = _documents_of(source)
    metadata |= {"run": documents.run.digest, "layers": list(documents.layers)}
    if isinstance(source, TokenizedDocuments):
        name = source.tokenizer if isinstance(source.tokenizer, str) else "a function"
        metadata |= {"tokenizer": name, "end_of_document": source.end_of_document}
    return metadata


def parts(
    samples: Iterable[_Sample], size: Callable[[_Sample], int], limit: int, most: int | None = None
) -> Iterator[tuple[int, Iterator[_Sample]]]:
    """Numbered groups of consecutive samples, one per file, with `limit` in total at most; 1 to `most` samples each.

    >>> [(number, list(part)) for number, part in parts([3, 4, 9, 1], int, 8)]
    [(0, [3, 4]), (1, [9]), (2, [1])]
    """

    def numbered() -> Iterator[tuple[int, _Sample]]:
        number, count, total = 0, 0, 0
        for sample in samples:
            own = size(sample)
            if count and (total + own > limit or count == most):
                number, count, total = number + 1, 0, 0
            count, total = count + 1, total + own
            yield number, sample

    for number, part in groupby(numbered(), key=itemgetter(0)):
        yield number, (sample for _, sample in part)


def token_parts(
    source: TokenizedDocuments, file_tokens: int
) -> Iterator[tuple[int, Iterator[tuple[Document, Int32Array]]]]:
    """Documents with tokens, grouped into files of at most `file_tokens` tokens (one document may have more)."""
    return parts((pair for pair in source if len(pair[1])), lambda pair: len(pair[1]), file_tokens, _FILE_DOCUMENTS)


def _bound(token_bytes: int) -> int:
    """The exclusive bound of ids: Megatron's two-byte tokens are unsigned, its four-byte tokens signed."""
    return 1 << min(8 * token_bytes, 31)
