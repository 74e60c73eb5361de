"""Windows of a text, as an encoder reads them: beginning, middle and end, in tokens of its own tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeVar

import numpy as np

from gneiss.arrays import Int64Array
from gneiss.errors import ModelError
from gneiss.filters.tokenizer import open_reference

Cut = TypeVar("Cut", list[int], str)
#: A text of more characters than this for every token of its windows is read in pieces, one for each window.
_CHARACTERS_A_TOKEN = 16
#: An encoder may have so many more rows of words than its tokenizer has ids: those that pad a vocabulary.
_MOST_UNUSED = 1024


@dataclass(frozen=True, eq=False)
class Windows:
    """Cuts texts into windows. before, after: the ids that the model expects around a window, such as [CLS] and [SEP].

    most: windows of a text; tokens: of a window, with those before and after.
    """

    encode: Callable[[str], list[int]]
    before: tuple[int, ...]
    after: tuple[int, ...]
    most: int
    tokens: int

    def of(self, text: str) -> list[Int64Array]:
        """The ids of each window, at equal distances from the first to the last token; none for a text without tokens.

        Of a text with more than 16 characters for each token of its windows only one stretch for each window is read.
        """
        room = self.tokens - len(self.before) - len(self.after)
        stretch = _CHARACTERS_A_TOKEN * room
        if len(text) <= stretch * self.most:
            ids = self.encode(text)
            count = min(self.most, ceil(len(ids) / room))
            found = [_cut(ids, room, window, count) for window in range(count)]
        else:
            pieces = [_cut(text, stretch, window, self.most) for window in range(self.most)]
            found = [_cut(self.encode(piece), room, window, self.most) for window, piece in enumerate(pieces)]
        return [np.array([*self.before, *ids, *self.after], np.int64) for ids in found if len(ids)]


def _cut(of: Cut, length: int, window: int, windows: int) -> Cut:
    """One of some windows of a length, the first of which starts where all starts and the last ends where it ends."""
    start = max(len(of) - length, 0) * window // max(windows - 1, 1)
    return of[start : start + length]


def load_windows(path: Path, vocabulary: int, most: int, tokens: int) -> Windows:
    """Open a tokenizer.json for an encoder of so many ids; most, tokens: as in Windows.

    Raises ModelError when the file is no tokenizer, or not that of the encoder.
    """
    tokenizer = open_reference(str(path), path)
    ids = tokenizer.get_vocab().values()
    if max(ids, default=-1) >= vocabulary or len(ids) < vocabulary - max(_MOST_UNUSED, vocabulary // 100):
        raise ModelError(
            f"{path}: the tokenizer does not fit the encoder: it has {len(ids)} ids up to {max(ids, default=-1)}, the"
            f" encoder knows {vocabulary}; take both from one model"
        )
    inside = tokenizer.encode("a", add_special_tokens=False).ids
    around = tokenizer.encode("a").ids
    before = next((n for n in range(len(around)) if around[n : n + len(inside)] == inside), 0)
    found = Windows(
        lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids),
        tuple(around[:before]),
        tuple(around[before + len(inside) :]),
        most,
        tokens,
    )
    if tokens <= len(found.before) + len(found.after):
        raise ModelError(f"{path}: expected windows of more tokens than those around a text, found {tokens}")
    return found
