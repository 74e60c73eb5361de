"""The collapsed ensemble on disk: six models of gigabytes in one file of megabytes, memory-mapped by every worker.

Layout: arrays at multiples of 64 bytes, a JSON description and its length (uint64), the checksum of all that (XXH3,
128 bits), a magic word. Models that share the number of buckets and of words in an n-gram make up a
group. Of a group there are

rows: float32 (buckets, lanes), what each bucket adds to each column;
records: uint32, for every word of the union of the vocabularies, most frequent words first: the set of models that
    know it (a bit each), its length in bytes, the values of those models' columns (every lane if all do), its bytes;
slots: uint64, open addressing with linear probing: FNV-1a hash << 32 | position of the word's record, 0 if free.

A column is one label's output, or for softmax its difference from the first label's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from gneiss.arrays import AnyArray, Float32Array, Int64Array, UInt32Array, UInt64Array
from gneiss.errors import MachineError, ModelError
from gneiss.filters.fasttext_models import union
from gneiss.filters.fasttext_models.file import PREFIX, Loss, ModelFile, plain_label
from gneiss.filters.fasttext_models.kernel import LANES

TABLE_SUFFIX = ".table"
_MAGIC = b"gneiss fastText ensemble 1\n"
_ALIGNMENT_BYTES = 64
_CHECKSUM_BYTES = 16
_MODELS_IN_A_GROUP = 32  # one bit each


@dataclass(frozen=True)
class TableModel:
    """Where a model is in a table: its group, its place and columns there, and what makes probabilities of them."""

    labels: tuple[str, ...]
    loss: Loss
    group: int
    place: int
    columns: slice


@dataclass(frozen=True, eq=False)
class Group:
    """The arrays of models that share one pass over the words; `eos` is the record of `</s>`, or 0."""

    word_ngrams: int
    lanes: int
    columns_of: Int64Array
    eos: int
    slots: UInt64Array
    records: UInt32Array
    rows: Float32Array


@dataclass(frozen=True, eq=False)
class Table:
    """A collapsed ensemble, memory-mapped."""

    models: tuple[TableModel, ...]
    groups: tuple[Group, ...]


def obstacle(file: ModelFile) -> str | None:
    """Why a model cannot be collapsed, or None if it can.

    Collapsible: softmax, one-vs-all and negative sampling, any word n-grams, not quantized, no character n-grams; and
    its words and labels must be told apart by `__label__`, as fastText does for words that a model does not know.
    """
    if file.input_start is None:
        return "it is quantized"
    if file.loss == "hs":
        return "it uses hierarchical softmax"
    if file.longest_char_ngram > 0:
        return "it uses character n-grams"
    if not all(label.startswith(PREFIX) for label in file.labels) or union.has_word_with_prefix(file):
        return f"its labels do not start with {PREFIX}"
    return None


def table_name(paths: Sequence[Path]) -> str:
    """The file name of the table of these models: made of their checksums, so that equal models share it.

    Reads every file once. Raises ModelError when one cannot be read.
    """
    digest = hashlib.sha256(_MAGIC)
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
    return f"fasttext-{digest.hexdigest()[:32]}{TABLE_SUFFIX}"


def build_table(files: Sequence[ModelFile], destination: Path) -> None:
    """Collapse models into one table and write it, under a temporary name first.

    The same files give the same bytes, on any processor: no BLAS, one order of summation. Input matrices are
    streamed; memory is about 120 bytes for each word of each vocabulary, and 32 for each bucket and 8 columns.
    Raises ModelError for models that cannot be collapsed and for unsound weights, MachineError without space on disk.
    """
    for file in files:
        if found := obstacle(file):
            raise ModelError(f"{file.path}: cannot be collapsed into a table: {found}")
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            writer = _Writer(out)
            models: dict[int, dict[str, Any]] = {}
            groups: list[dict[str, Any]] = []
            for members in _groups(files):
                first = 0
                for place, index in enumerate(members):
                    width = columns(files[index])
                    models[index] = {
                        "labels": [plain_label(label) for label in files[index].labels],
                        "loss": files[index].loss,
                        "group": len(groups),
                        "place": place,
                        "columns": (first, first + width),
                    }
                    first += width
                groups.append(_build_group([files[index] for index in members], writer))
            writer.finish({"models": [models[index] for index in range(len(files))], "groups": groups})
        temporary.replace(destination)
    except OSError as error:
        raise MachineError(f"{destination}: cannot write the collapsed fastText models: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def is_sound(path: Path) -> bool:
    """Whether there is a whole table that `open_table` takes."""
    try:
        open_table(path)
    except ModelError:
        return False
    return True


def open_table(path: Path) -> Table:
    """Map a table into memory; workers of a node share its pages.

    Raises ModelError when the file is not a table, is cut off or does not match its checksum.
    """
    try:
        data = np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as a fastText table: {error}") from error
    end = max(len(data) - len(_MAGIC) - _CHECKSUM_BYTES, 0)
    if data[end:].tobytes() != xxhash.xxh3_128_digest(data[:end].data) + _MAGIC:
        raise ModelError(f"{path}: not a fastText table, or damaged; delete it, it is built again")
    length = int.from_bytes(data[end - 8 : end].tobytes(), "little")
    description = json.loads(data[end - 8 - length : end - 8].tobytes())

    def array(place: Sequence[int], dtype: npt.DTypeLike) -> AnyArray:
        return data[place[0] : place[0] + place[1]].view(dtype)

    return Table(
        models=tuple(
            TableModel(tuple(model["labels"]), model["loss"], model["group"], model["place"], slice(*model["columns"]))
            for model in description["models"]
        ),
        groups=tuple(
            Group(
                group["word_ngrams"],
                group["lanes"],
                np.array(group["columns_of"], np.int64),
                group["eos"],
                array(group["slots"], np.uint64),
                array(group["records"], np.uint32),
                array(group["rows"], np.float32),
            )
            for group in description["groups"]
        ),
    )


def columns(file: ModelFile) -> int:
    """Columns that a model takes up: one a label, for softmax one less."""
    return len(file.labels) - (file.loss == "softmax")


def _groups(files: Sequence[ModelFile]) -> Iterator[list[int]]:
    """Positions of the models that share a pass, in order of first appearance."""
    shared: dict[tuple[int, int], list[int]] = {}
    for index, file in enumerate(files):
        shared.setdefault((file.buckets if file.word_ngrams > 1 else 0, file.word_ngrams), []).append(index)
    for members in shared.values():
        for start in range(0, len(members), _MODELS_IN_A_GROUP):
            yield members[start : start + _MODELS_IN_A_GROUP]


def _build_group(files: Sequence[ModelFile], writer: _Writer) -> dict[str, Any]:
    columns_of = np.cumsum([0, *map(columns, files)])
    lanes = max(-(-int(columns_of[-1]) // LANES), 1) * LANES
    buckets = files[0].buckets if files[0].word_ngrams > 1 else 0
    rows = np.zeros((buckets, lanes), np.float32)
    words = union.Union.of(files)
    values = []
    for file, start, end in zip(files, columns_of[:-1], columns_of[1:], strict=True):
        of_words = np.empty((len(file.word_starts), end - start), np.float32)
        union.collapse(file, of_words, rows[:, start:end])
        values.append(of_words)
    records, slots, eos = words.tables(values, columns_of, lanes)
    return {
        "word_ngrams": files[0].word_ngrams,
        "lanes": lanes,
        "columns_of": columns_of.tolist(),
        "eos": eos,
        "slots": writer.write(slots),
        "records": writer.write(records),
        "rows": writer.write(rows),
    }


class _Writer:
    """Writes arrays one after another and remembers where they are and what they hash to."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._hash = xxhash.xxh3_128()
        self._size_bytes = 0

    def write(self, array: AnyArray) -> tuple[int, int]:
        """Append an array; returns its first byte and its size in bytes."""
        start = self._size_bytes
        raw = array.reshape(-1).view(np.uint8).data
        self._append(raw)
        self._append(memoryview(bytes(-len(raw) % _ALIGNMENT_BYTES)))
        return start, len(raw)

    def finish(self, description: dict[str, Any]) -> None:
        """Append the description and make sure that all of it is on disk."""
        text = json.dumps(description, sort_keys=True).encode()
        self._append(memoryview(text + len(text).to_bytes(8, "little")))
        self._out.write(self._hash.digest() + _MAGIC)
        self._out.flush()
        os.fsync(self._out.fileno())

    def _append(self, raw: memoryview) -> None:
        self._out.write(raw)
        self._hash.update(raw)
        self._size_bytes += len(raw)
