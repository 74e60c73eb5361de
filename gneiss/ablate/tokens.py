"""Tokens of an ablation: one tokenizer for all corpora, sequences of a token budget, and texts to judge by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gneiss.ablate.corpora import Pool
from gneiss.arrays import Int32Array, Int64Array
from gneiss.errors import InputError
from gneiss.loader.packing import encoder

#: Of each corpus, as many bytes train the tokenizer.
_TOKENIZER_BYTES = 2_000_000
#: Label of a position that is not judged, PyTorch's ignore_index.
NO_LABEL = -100


@dataclass(frozen=True)
class Tokenizer:
    """encode: from a text to token ids; vocabulary: ids, the last of which ends a document."""

    encode: Callable[[str], Int32Array]
    vocabulary: int

    @property
    def end(self) -> int:
        """The id that ends a document."""
        return self.vocabulary - 1


def tokenizer_of(name: str, pools: Sequence[Pool], vocabulary: int) -> Tokenizer:
    """A tokenizer by its name.

    Parameters: `name`: `bpe`, a byte-level BPE trained on an equal part of every corpus; `bytes`; or a name as in
    recipes; `vocabulary`: ids of `bpe`, and the most that another one may have. Raises ModelError, InputError.

    >>> tokenizer_of("bytes", [], 1000).encode("é").tolist()
    [195, 169]
    """
    if name == "bytes":
        return Tokenizer(lambda text: np.frombuffer(text.encode(), np.uint8).astype(np.int32), 257)
    if name == "bpe":
        return _byte_pairs(pools, vocabulary)
    encode = encoder(name)

    def checked(text: str) -> Int32Array:
        tokens = encode(text)
        if len(tokens) and tokens.max() >= vocabulary - 1:
            raise InputError(f"tokenizer {name}: found the id {tokens.max()}; expected a vocabulary above that")
        return tokens

    return Tokenizer(checked, vocabulary)


def _byte_pairs(pools: Sequence[Pool], vocabulary: int) -> Tokenizer:
    from tokenizers import Tokenizer as Trained
    from tokenizers import models, pre_tokenizers, trainers

    if vocabulary < 300:
        raise InputError(f"vocabulary {vocabulary}: expected 300 or more; for less take the tokenizer `bytes`")
    tokenizer = Trained(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 1, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((text for pool in pools for text in _first(pool, _TOKENIZER_BYTES)), trainer)
    return Tokenizer(lambda text: np.array(tokenizer.encode(text).ids, np.int32), vocabulary)


def _first(pool: Pool, most_bytes: int) -> list[str]:
    taken = []
    for text in pool.texts:
        taken.append(text.encode()[:most_bytes].decode(errors="ignore"))
        most_bytes -= len(text.encode())
        if most_bytes <= 0:
            break
    return taken


@dataclass(frozen=True, eq=False)
class Encoded:
    """A pool as tokens. tokens: int32 (tokens,), each document with its end; start: int64 (documents + 1,)."""

    pool: Pool
    tokens: Int32Array
    start: Int64Array

    @classmethod
    def of(cls, pool: Pool, tokenizer: Tokenizer) -> Encoded:
        """Encode all documents of a pool."""
        end = np.array([tokenizer.end], np.int32)
        parts = [np.concatenate([tokenizer.encode(text), end]) for text in pool.texts]
        start = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(pool, np.concatenate([end[:0], *parts]), start)

    def sequences(self, order: Sequence[int], count: int, length: int) -> Int32Array:
        """Documents in an order, packed end to end into int32 (count, length + 1); again from the first if too few.

        Each sequence begins with the last token of the one before, the first with the end of a document; that token it
        does not predict. So `count` times `length` tokens are predicted, each once.

        >>> pool = Pool("two", ("ab", "c"), ((0, 0), (1, 0)), 2, 3, 0)
        >>> Encoded.of(pool, tokenizer_of("bytes", [], 0)).sequences([1, 0], 2, 3).tolist()
        [[256, 99, 256, 97], [97, 98, 256, 99]]
        """
        needed, parts, size = count * length, [self.tokens[-1:]], 0
        while size < needed:
            before = size
            for i in order:
                parts.append(self.tokens[self.start[i] : self.start[i + 1]])
                size += len(parts[-1])
                if size >= needed:
                    break
            if size == before:
                raise InputError(f"{self.pool.name}: expected documents, found none")
        stream = np.concatenate(parts)[: needed + 1]
        return np.lib.stride_tricks.sliding_window_view(stream, length + 1)[::length]

    @property
    def size(self) -> int:
        """The number of tokens."""
        return len(self.tokens)


@dataclass(frozen=True, eq=False)
class Judged:
    """A held-out domain. inputs, labels: int64 (sequences, length), NO_LABEL where there is none; text_bytes: UTF-8."""

    inputs: Int64Array
    labels: Int64Array
    text_bytes: int


def judged(texts: Mapping[str, Sequence[str]], tokenizer: Tokenizer, length: int) -> dict[str, Judged]:
    """Held-out texts by domain, each from its first token on, which follows the end of a document.

    Every token of a text is predicted once; the end of a text is not, since it has no bytes.

    >>> found = judged({"quiz": ["abc"]}, tokenizer_of("bytes", [], 0), 2)["quiz"]
    >>> found.inputs.tolist(), found.labels.tolist(), found.text_bytes
    ([[256, 97], [98, 0]], [[97, 98], [99, -100]], 3)
    """
    found = {}
    for domain, of_domain in texts.items():
        rows: list[tuple[Int64Array, Int64Array]] = []
        for text in of_domain:
            tokens = tokenizer.encode(text).astype(np.int64)
            before = np.concatenate([[tokenizer.end], tokens[:-1]])
            for at in range(0, len(tokens), length):
                rows.append((before[at : at + length], tokens[at : at + length]))
        inputs = np.zeros((len(rows), length), np.int64)
        labels = np.full((len(rows), length), NO_LABEL, np.int64)
        for i, (row, label) in enumerate(rows):
            inputs[i, : len(row)], labels[i, : len(label)] = row, label
        found[domain] = Judged(inputs, labels, sum(len(text.encode()) for text in of_domain))
    return found
