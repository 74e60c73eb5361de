"""cl100k_base, the vocabulary shipped by the package splintr: no download, byte for byte the published one."""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from gneiss.arrays import Int64Array
from gneiss.errors import ModelError

if TYPE_CHECKING:
    import tokenizers

NAME = "cl100k_base"
#: Its special tokens; splintr's copy has 54 more, which are text to the published vocabulary.
SPECIALS = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}
_RANKS = 100_256
#: sha256 of cl100k_base.tiktoken, as tiktoken checks it.
_CHECKSUM = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"


def splintr_engine() -> tuple[Any, Int64Array]:
    """splintr with this vocabulary and its own special tokens, and the bytes of each id.

    `encode_with_special` finds the special tokens, others do not. The sizes are int64 (100277,), -1 for the ids that
    have no token. Raises ModelError when splintr ships something else.

    >>> splintr_engine()[1][254:259].tolist()
    [1, 1, 2, 4, 2]
    """
    import splintr

    tokens, file = _shipped()
    return splintr.Tokenizer.from_bytes(file, splintr.CL100K_BASE_PATTERN, SPECIALS), _sizes(tokens)


def reference() -> tokenizers.Tokenizer:
    """`tokenizers` with this vocabulary: the order of the ids gives its merges back (about 2 s).

    >>> reference().encode("naïve <|endoftext|>").ids
    [3458, 38672, 588, 220, 100257]
    """
    import splintr
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

    tokens, _ = _shipped()
    ranks = {token: rank for rank, token in enumerate(tokens)}
    spelling = _spelling()

    def spelled(token: bytes) -> str:
        return "".join(spelling[byte] for byte in token)

    halves = [_halves(token, ranks) for token in tokens if len(token) > 1]
    merges = [(spelled(left), spelled(right)) for left, right in halves]
    vocabulary = {spelled(token): rank for token, rank in ranks.items()} | SPECIALS
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIALS])
    # Oniguruma, the regular expressions of tokenizers, takes `$` for the end of any line.
    pattern = Regex(splintr.CL100K_BASE_PATTERN.replace(r"\s+$", r"\s+\z"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def _shipped() -> tuple[list[bytes], bytes]:
    """The tokens in the order of their ids, and cl100k_base.tiktoken, the file that lists them so."""
    import splintr

    shipped = splintr.Tokenizer.from_pretrained(NAME)
    tokens = [shipped.decode_token_bytes(rank) for rank in range(_RANKS)]
    file = b"".join([b"%s %d\n" % (b2a_base64(token, newline=False), rank) for rank, token in enumerate(tokens)])
    if hashlib.sha256(file).hexdigest() != _CHECKSUM:
        raise ModelError(f"tokenizer builtin:{NAME}: this version of splintr ships another vocabulary under that name")
    return tokens, file


def _sizes(tokens: list[bytes]) -> Int64Array:
    sizes = np.full(max(SPECIALS.values()) + 1, -1, np.int64)
    sizes[: len(tokens)] = [len(token) for token in tokens]
    sizes[list(SPECIALS.values())] = [len(token) for token in SPECIALS]
    return sizes


def _halves(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two parts of a token that its merge joins: those that remain after all merges of a lower rank."""
    parts = [token[byte : byte + 1] for byte in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(left + right, _RANKS) for left, right in pairwise(parts)]
        first = min(range(len(joined)), key=joined.__getitem__)
        parts[first : first + 2] = [parts[first] + parts[first + 1]]
    return parts


def _spelling() -> list[str]:
    """The characters that stand for bytes in a byte-level vocabulary: the printable ones, then U+0100 and up."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
