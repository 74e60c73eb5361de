"""Packing: documents' tokens, concatenated and split into sequences, each with its packing map of document spans.

Nothing is lost: the rest of a document starts the next sequence, as recorded in the map.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from gneiss.arrays import Int32Array, Int64Array
from gneiss.errors import InputError
from gneiss.loader.reader import Document, Documents
from gneiss.loader.stream import Stream, check_state

#: A tokenizer by its name in recipes, or a function of a text.
TokenizerLike: TypeAlias = "str | Callable[[str], Int32Array]"


#: Tokens, and places in a sequence, are 32-bit numbers.
_MOST = 2**31


@dataclass(frozen=True, eq=False)
class Spans:
    """The document spans of a sequence, in order; all (spans,).

    document: int64 dense index; start: int32, first token in the sequence; length: int32, tokens; document_start:
    int64, first token in the document (0 unless it started in an earlier sequence); epoch: int32.
    """

    document: Int64Array
    start: Int32Array
    length: Int32Array
    document_start: Int64Array
    epoch: Int32Array


@dataclass(frozen=True, eq=False)
class Sequence:
    """A packed sequence. id: unique among all consumers; tokens: int32 (tokens,); spans: its packing map.

    log_prior: the log of the mean prior weight of its tokens.
    """

    id: int
    tokens: Int32Array
    spans: Spans
    log_prior: float


@dataclass(frozen=True)
class Sequences:
    """Documents, packed on the fly; every `iter()` starts over, and the iterator has a state. See `sequences`.

    used: (epoch, document) → how many of its tokens are in earlier sequences; first_id: of its sequences.
    """

    documents: Documents
    tokenizer: TokenizerLike
    length: int
    end_of_document: int | None = None
    keep_last: bool = True
    used: Mapping[tuple[int, int], int] = field(default_factory=dict)
    first_id: int = 0

    def __iter__(self) -> SequenceStream:
        return SequenceStream(self)

    def of_worker(self, worker: int, workers: int) -> Sequences:
        """The dataset with one loader worker's share."""
        return replace(self, documents=self.documents.of_worker(worker, workers))

    def identity(self) -> dict[str, Any]:
        """The settings for which a state is valid, without those of the documents."""
        name = self.tokenizer if isinstance(self.tokenizer, str) else "a function"
        return {"tokenizer": name, "length": self.length, "end_of_document": self.end_of_document}


def sequences(
    documents: Documents,
    tokenizer: TokenizerLike,
    length: int,
    *,
    end_of_document: int | None = None,
    keep_last: bool = True,
) -> Sequences:
    """Pack documents into sequences of `length` tokens while reading them.

    Parameters: `tokenizer`: a name as in recipes (`builtin:cl100k_base`, a tokenizer.json), or a function from a text
    to token ids; `end_of_document`: a token after each document, part of its last span; `keep_last`: whether a
    consumer's last, shorter sequence is kept. Consumers end after different numbers of sequences: give
    `documents` epochs=None and count steps, or pack to disk, where the number is known.
    Raises InputError; the tokenizer is loaded by `iter()`, which raises ModelError.

    >>> for sequence in sequences(documents, "builtin:cl100k_base", 2048):  # doctest: +SKIP
    ...     train(sequence.tokens, weight=math.exp(sequence.log_prior))
    """
    if not 2 <= length < _MOST:
        raise InputError(f"length {length}: expected 2 to {_MOST - 1} tokens")
    if end_of_document is not None and not 0 <= end_of_document < _MOST:
        raise InputError(f"end_of_document {end_of_document}: expected a token id, 0 to {_MOST - 1}")
    return Sequences(documents, tokenizer, length, end_of_document, keep_last)


@dataclass
class _Unfinished:
    """A document with unused tokens; `before`: the state of the documents just before it."""

    document: Document
    tokens: Int32Array
    before: dict[str, Any]
    used: int


@dataclass
class _Waiting:
    documents: deque[_Unfinished] = field(default_factory=deque)
    tokens: int = 0


class SequenceStream:
    """Iterates over packed sequences; its state is that of the documents, and the position in the current one."""

    def __init__(self, sequences: Sequences) -> None:
        self.sequences = sequences
        self._encode = encoder(sequences.tokenizer)
        self._documents: Stream[Document] = iter(sequences.documents)
        self._given, self._first_id, self._used = 0, sequences.first_id, dict(sequences.used)
        self._waiting = _Waiting()

    def __iter__(self) -> SequenceStream:
        return self

    def __next__(self) -> Sequence:
        length, waiting = self.sequences.length, self._waiting
        while waiting.tokens < length and self._take_document():
            pass
        if not waiting.tokens or (waiting.tokens < length and not self.sequences.keep_last):
            raise StopIteration
        share = self.sequences.documents.share
        id_ = self._first_id + self._given * share.consumers + share.consumer
        self._given += 1
        return _cut(waiting, length, id_)

    def state_dict(self) -> dict[str, Any]:
        """The start of the next sequence: the documents' state, their used tokens, and the count."""
        unfinished = self._waiting.documents
        documents = unfinished[0].before if unfinished else self._documents.state_dict()
        used = self._used
        if unfinished and unfinished[0].used:
            used = {**used, (unfinished[0].document.epoch, unfinished[0].document.index): unfinished[0].used}
        listed = [[epoch, document, tokens] for (epoch, document), tokens in used.items()]
        numbers = {"used": listed, "given": self._given, "first_id": self._first_id}
        return {**self.sequences.identity(), "documents": documents, **numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state. Raises InputError for a state of other settings."""
        check_state(state, self.sequences.identity())
        self._documents.load_state_dict(state["documents"])
        self._given, self._first_id = int(state["given"]), int(state["first_id"])
        self._used = used_of(state)
        self._waiting = _Waiting()

    def _take_document(self) -> bool:
        before = self._documents.state_dict()
        document = next(self._documents, None)
        if document is None:
            return False
        tokens = np.asarray(self._encode(document.text), np.int32)
        if self.sequences.end_of_document is not None:
            tokens = np.append(tokens, np.int32(self.sequences.end_of_document))
        skip = self._used.get((document.epoch, document.index), 0)
        if len(tokens) > skip:
            self._waiting.documents.append(_Unfinished(document, tokens, before, skip))
            self._waiting.tokens += len(tokens) - skip
        return True


def used_of(state: Mapping[str, Any]) -> dict[tuple[int, int], int]:
    """(epoch, document) → its tokens that were in sequences when a state of sequences was saved."""
    return {(int(epoch), int(document)): int(tokens) for epoch, document, tokens in state["used"]}


def encoder(tokenizer: TokenizerLike) -> Callable[[str], Int32Array]:
    """The function from a text to token ids. Raises ModelError."""
    if callable(tokenizer):
        return tokenizer
    from gneiss.filters.tokenizer import load_tokenizer
    from gneiss.input.model_files import locate

    files: dict[str, Path] = {} if tokenizer.startswith("builtin:") else {tokenizer: locate(tokenizer)}
    return load_tokenizer(tokenizer, files).encode


def _cut(waiting: _Waiting, length: int, id_: int) -> Sequence:
    """The first `length` pending tokens."""
    parts: list[Int32Array] = []
    rows: list[tuple[int, int, int, int, int]] = []
    weights: list[float] = []
    at = 0
    while at < length and waiting.documents:
        first = waiting.documents[0]
        part = first.tokens[first.used : first.used + length - at]
        rows.append((first.document.index, at, len(part), first.used, first.document.epoch))
        weights.append(len(part) * math.exp(first.document.log_prior))
        parts.append(part)
        at += len(part)
        first.used += len(part)
        if first.used == len(first.tokens):
            waiting.documents.popleft()
    waiting.tokens -= at
    document, start, size, document_start, epoch = zip(*rows, strict=True)
    spans = Spans(
        np.array(document, np.int64),
        np.array(start, np.int32),
        np.array(size, np.int32),
        np.array(document_start, np.int64),
        np.array(epoch, np.int32),
    )
    return Sequence(id_, np.concatenate(parts), spans, math.log(math.fsum(weights) / at))
