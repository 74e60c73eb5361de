"""fastText predictions from the collapsed table: all models in one pass over the text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float64Array, Int, Int64Array, UInt8Array
from gneiss.batch import TextBatch
from gneiss.errors import ModelError
from gneiss.filters.fasttext_models.kernel import is_space, sum_rows
from gneiss.filters.fasttext_models.output import Predictions, Predictor, sigmoid, softmax
from gneiss.filters.fasttext_models.table import Group, TableModel, open_table

#: Of a group's models: sums float64 (documents, lanes), and how many features were summed, int64 (documents, models).
_Sums: TypeAlias = tuple[Float64Array, Int64Array]


def load_ensemble(path: Path, names: Sequence[str]) -> dict[str, Predictor]:
    """Open a table and return a predictor for each of its models, which have these names, in this order.

    The first predictor called computes the sums for all of them, as a view of the batch. Documents in which joining
    lines makes a difference are read a second time for the models that require it.
    Raises ModelError when the file is not a valid table of that many models.
    """
    table = open_table(path)
    if len(table.models) != len(names):
        raise ModelError(f"{path}: expected a table of {len(names)} models, found {len(table.models)}")

    def spaced(batch: TextBatch) -> list[_Sums]:
        return [_sum(group, batch) for group in table.groups]

    def joined(batch: TextBatch) -> list[_Sums]:
        differing = np.flatnonzero(joining_matters(batch.data, batch.offsets)).tolist()
        again = TextBatch.of([" ".join(batch.text(document).strip().splitlines()) for document in differing])
        all_sums = []
        for group, (outputs, features) in zip(table.groups, batch.view(spaced), strict=True):
            outputs, features = outputs.copy(), features.copy()
            outputs[differing], features[differing] = _sum(group, again)
            all_sums.append((outputs, features))
        return all_sums

    def predictor(model: TableModel) -> Predictor:
        def predict(batch: TextBatch, join: bool) -> Predictions:
            outputs, features = batch.view(joined if join else spaced)[model.group]
            probabilities = softmax if model.loss == "softmax" else sigmoid
            return probabilities(outputs[:, model.columns].copy(), features[:, model.place].copy())

        return Predictor(model.labels, predict)

    return {name: predictor(model) for name, model in zip(names, table.models, strict=True)}


def _sum(group: Group, batch: TextBatch) -> _Sums:
    outputs = np.empty((len(batch), group.lanes))
    features = np.zeros((len(batch), len(group.columns_of) - 1), np.int64)
    sum_rows(
        batch.data, batch.offsets, group.slots, group.records, group.rows,
        group.eos, group.word_ngrams, group.columns_of, outputs, features,
    )  # fmt: skip
    return outputs, features


@njit(cache=True, nogil=True)
def joining_matters(data: UInt8Array, offsets: Int64Array) -> BoolArray:
    """Documents whose words may change when the text is stripped and its lines joined with spaces.

    That is where a character that Python strips, but fastText takes for part of a word, is at either end, or where
    one that Python takes for the end of a line is anywhere. What both take for white space changes nothing.
    """
    found = np.zeros(len(offsets) - 1, np.bool_)
    for document in range(len(found)):
        start, end = offsets[document], offsets[document + 1]
        while start < end and is_space(data[start]):
            start += 1
        while start < end and is_space(data[end - 1]):
            end -= 1
        found[document] = _is_strippable(data, start, end)
        for at in range(max(start, end - 3), end):
            found[document] |= _is_strippable(data, at, end)
        if not found[document]:
            found[document] = _has_line_end(data[start:end])
    return found


@njit(cache=True, nogil=True)
def _is_strippable(data: UInt8Array, at: Int, end: Int) -> bool:
    """Whether a character that str.strip takes off, and fastText does not, starts at a byte of a UTF-8 text."""
    a = data[at] if at < end else 0
    b = data[at + 1] if at + 1 < end else 0
    c = data[at + 2] if at + 2 < end else 0
    return bool(
        0x1C <= a <= 0x1F
        or (a == 0xC2 and (b == 0x85 or b == 0xA0))
        or (a == 0xE1 and b == 0x9A and c == 0x80)
        or (a == 0xE2 and b == 0x80 and (c <= 0x8A or c == 0xA8 or c == 0xA9 or c == 0xAF))
        or (a == 0xE2 and b == 0x81 and c == 0x9F)
        or (a == 0xE3 and b == 0x80 and c == 0x80)
    )


@njit(cache=True, nogil=True)
def _has_line_end(text: UInt8Array) -> bool:
    """Whether a text has one of the ends of lines that fastText takes for part of a word: FS GS RS NEL LS PS."""
    found = np.uint8(0)
    before = np.uint8(0)
    for byte in text:
        found |= (np.uint8(byte - 0x1C) < 3) | ((byte == 0x85) & (before == 0xC2))
        before = byte
    for at in range(len(text) - 2):
        found |= (text[at] == 0xE2) & (text[at + 1] == 0x80) & ((text[at + 2] | 1) == 0xA9)
    return bool(found != 0)
