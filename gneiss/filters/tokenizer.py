"""Tokenizers: the exact token ids of whole documents, from a fast engine that is verified against `tokenizers`."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Int32Array, Int64Array
from gneiss.batch import TextBatch, Tokens
from gneiss.errors import ModelError
from gneiss.filters import cl100k
from gneiss.filters.tokenizer_probes import probes

if TYPE_CHECKING:
    import tokenizers

#: The vocabulary that splintr ships: needs no file, and no network.
BUILTIN = f"builtin:{cl100k.NAME}"
Engine: TypeAlias = Literal["auto", "tokenizers"]
Encode: TypeAlias = Callable[[str], Int32Array]

#: Code points after which splintr's cache is emptied: it bounds entries, but an entry may be a whole document.
_CACHE_CHARS = 1 << 25
#: A text is cut where this many characters around every so many of them are without white space, or nothing but that:
#: an engine takes some 70 times the memory of a word, however long it is.
_LONG_RUN = 1 << 20
#: Ids from here on are refused: arrays are as long as the largest id, which the file can set to anything.
_MAX_VOCABULARY = 1 << 24
_SPACE, _NO_SPACE = re.compile(r"\s"), re.compile(r"\S")


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """A loaded tokenizer. Nothing is added to a text; a literal special token in it is one token.

    A run of more than two million characters without white space, or of white space, is encoded in pieces of a million.

    name: as in the recipe; encode: text → ids; sizes: int64 (vocabulary,), bytes of text of each id, or None if these
    do not depend on the id only (not a byte-level BPE, or one that normalizes the text).
    """

    name: str
    encode: Encode
    sizes: Int64Array | None

    def counts(self, batch: TextBatch) -> Int64Array:
        """Tokens of each document, int64 (documents,)."""
        return np.fromiter(
            (sum(map(len, map(self.encode, _pieces(text)))) for text in _texts(batch)), np.int64, len(batch)
        )

    def tokens(self, batch: TextBatch) -> Tokens:
        """Ids and byte offsets of the tokens of each document.

        Raises ModelError when the tokens do not cover the text byte for byte.
        """
        if self.sizes is None:
            raise ModelError(f"tokenizer {self.name}: not a byte-level BPE of the unchanged text, so it has no offsets")
        none = np.empty(0, np.int32)
        parts = [none, *(np.concatenate([none, *map(self.encode, _pieces(text))]) for text in _texts(batch))]
        documents = np.cumsum([len(part) for part in parts], dtype=np.int64)
        ids = np.concatenate(parts)
        starts = np.empty(len(ids), np.int64)
        wrong = _fill_starts(ids, documents, np.diff(batch.offsets), self.sizes, starts)
        if wrong >= 0:
            raise ModelError(f"tokenizer {self.name}: the tokens of document {wrong} are not as long as its text")
        return Tokens(ids, starts, documents)


def load_tokenizer(name: str, files: Mapping[str, Path] | None = None, engine: Engine = "auto") -> Tokenizer:
    """Open a tokenizer; single-threaded, regardless of the environment.

    Parameters: `name`: `builtin:cl100k_base`, or a source of a tokenizer.json; `files`: source → local path;
    `engine`: "auto" is splintr if its ids equal those of `tokenizers` on a set of adversarial texts, otherwise (with a
    warning) `tokenizers`. For the fixed builtin vocabulary, the tests verify equality.
    Raises ModelError when the file is no tokenizer.

    >>> tokenizer = load_tokenizer("builtin:cl100k_base")
    >>> tokenizer.tokens(TextBatch.of(["Grüße<|endoftext|>"])).starts.tolist()
    [0, 2, 4, 7]
    """
    if name == BUILTIN:
        fast, sizes = cl100k.splintr_engine()
        encode = _slow(cl100k.reference()) if engine == "tokenizers" else _bounded(fast, specials_hold="<|")
        return Tokenizer(name, encode, sizes)
    if name.startswith("builtin:"):
        raise ModelError(f"tokenizer {name}: there is only {BUILTIN}; any other is a tokenizer.json")
    path = (files or {}).get(name, Path(name))
    reference = open_reference(name, path)
    slow = _slow(reference)
    fast = _fast(name, path, reference, slow) if engine == "auto" else None
    return Tokenizer(name, fast or slow, _sizes(reference))


def _texts(batch: TextBatch) -> Iterator[str]:
    return (batch.text(document) for document in range(len(batch)))


def _pieces(text: str) -> Iterator[str]:
    """A text whole, unless there are very long runs in it."""
    start = 0
    for at in range(_LONG_RUN, len(text), _LONG_RUN):
        around = text[at - _LONG_RUN // 2 : at + _LONG_RUN // 2]
        is_whole = len(around) == _LONG_RUN  # at the end of a text less is no long run
        if is_whole and not (_NO_SPACE if around[0].isspace() else _SPACE).search(around):
            yield text[start:at]
            start = at
    yield text[start:] if start else text


def open_reference(name: str, path: Path) -> tokenizers.Tokenizer:
    """`tokenizers` itself, without truncation or padding. Raises ModelError when the file is no tokenizer."""
    import tokenizers

    try:
        reference = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises no narrower exception
        raise ModelError(f"tokenizer {name}: {path} is not a tokenizer.json: {error}") from error
    if getattr(reference.model, "dropout", None):
        raise ModelError(f"tokenizer {name}: {path} drops merges at random (dropout), so its counts are not repeatable")
    if max(reference.get_vocab().values(), default=0) >= _MAX_VOCABULARY:
        raise ModelError(f"tokenizer {name}: {path} has a token id of {_MAX_VOCABULARY} or more")
    reference.no_truncation()
    reference.no_padding()
    return reference


def _slow(reference: tokenizers.Tokenizer) -> Encode:
    """One text at a time: starts no threads, and returns the ids of `encode_batch_fast`."""
    return lambda text: np.array(reference.encode(text, add_special_tokens=False).ids, np.int32)


def _fast(name: str, path: Path, reference: tokenizers.Tokenizer, slow: Encode) -> Encode | None:
    """splintr, or None after a warning with the text on which it fails."""
    import splintr

    try:
        fast = _bounded(splintr.from_json_bytes(path.read_bytes()))
        specials = [token.content for token in reference.get_added_tokens_decoder().values()]
        failing = next((text for text in probes(specials) if not np.array_equal(fast(text), slow(text))), None)
        reason = None if failing is None else f"other ids for {failing[:60]!r}"
    except ValueError as error:
        reason = str(error)
    if reason is None:
        return fast
    message = f"tokenizer {name}: using tokenizers, which is some 20 times slower, for splintr fails: {reason}"
    warnings.warn(message, RuntimeWarning, stacklevel=3)
    return None


def _bounded(engine: Any, specials_hold: str | None = None) -> Encode:
    """The ids of a splintr tokenizer, with its cache bounded by `_CACHE_CHARS`, however long the words of a text are.

    specials_hold: a substring of every special token, for an engine that finds them only on request, at a cost.
    """
    left = _CACHE_CHARS

    def encode(text: str) -> Int32Array:
        nonlocal left
        left -= len(text)
        if left < 0:
            engine.clear_cache()
            left = _CACHE_CHARS
        if specials_hold is not None and specials_hold in text:
            return np.array(engine.encode_with_special(text), np.int32)
        return np.frombuffer(engine.encode_flat(text), np.dtype("<i4"))

    return encode


@njit(cache=True, nogil=True)
def _fill_starts(
    ids: Int32Array,
    documents: Int64Array,
    lengths_bytes: Int64Array,
    sizes: Int64Array,
    starts: Int64Array,
) -> int:
    """Write where each token starts; return the first document that its tokens do not cover exactly, or -1."""
    for document in range(len(lengths_bytes)):
        position = np.int64(0)
        for token in range(documents[document], documents[document + 1]):
            starts[token] = position
            position += sizes[ids[token]] if 0 <= ids[token] < len(sizes) else lengths_bytes[document] + 1
        if position != lengths_bytes[document]:
            return document
    return -1


#: The 256 characters that represent bytes in a byte-level vocabulary.
_BYTE_CHARACTERS = frozenset(chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x144)))


def _sizes(reference: tokenizers.Tokenizer) -> Int64Array | None:
    """Bytes of each id: one per character of a byte-level token, the UTF-8 of an added one; None for other models."""
    layout = json.loads(reference.to_str())
    if layout["normalizer"] is not None:
        return None
    added = {id: token.content for id, token in reference.get_added_tokens_decoder().items()}
    vocabulary = {id: token for token, id in reference.get_vocab(with_added_tokens=False).items()}
    if any(not _BYTE_CHARACTERS.issuperset(token) for id, token in vocabulary.items() if id not in added):
        return None
    sizes = np.zeros(max((*vocabulary, *added), default=-1) + 1, np.int64)
    for id, token in vocabulary.items():
        sizes[id] = len(token)
    for id, content in added.items():
        sizes[id] = len(content.encode())
    return sizes
