"""Normalization: what two texts may differ in and still be the same text, or have the same words."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from gneiss.arrays import BoolArray, read_only
from gneiss.batch import TextBatch
from gneiss.errors import InputError

#: `spaces`: white space does not count. `words`: neither do case, punctuation and digits.
Normalization: TypeAlias = Literal["spaces", "words"]
#: The same, and `none`: every byte counts.
ExactNormalization: TypeAlias = Literal["none", "spaces", "words"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)


def normalized(batch: TextBatch, normalize: Normalization, present: BoolArray | None = None) -> TextBatch:
    r"""The texts of a batch, normalized; those of documents that are not present are empty.

    Parameters: `normalize`: `spaces` writes each run of white space as one blank, and none at either end; `words` also
    lower-cases A to Z, removes punctuation (`REMOVED_RANGES`) and writes each run of the digits 0 to 9, whatever was
    removed from within it, as one 0. `present`: bool (documents,), default all.
    Raises InputError for another normalization.

    >>> batch = TextBatch.of(["  Don’t\n panic: 1,000.50 — \x00times!", " - "])
    >>> normalized(batch, "words").texts(), normalized(batch.slice(0, 1), "spaces").texts()
    (['dont panic 0 times', ''], ['Don’t panic: 1,000.50 — \x00times!'])
    """
    from gneiss.dedup.minhash.normalization_kernel import normalize_texts, tables

    if normalize not in NORMALIZATIONS:
        raise InputError(f"normalize: expected one of {', '.join(NORMALIZATIONS)}, found {normalize!r}")
    present = np.ones(len(batch), np.bool_) if present is None else present
    size = int(np.diff(batch.offsets)[present].sum())
    data, offsets = np.empty(size, np.uint8), np.zeros(len(batch) + 1, np.int64)
    given = (batch.data, batch.offsets, read_only(present))
    normalize_texts(*given, *tables(words=normalize == "words"), data, offsets)
    return TextBatch(data, offsets)
