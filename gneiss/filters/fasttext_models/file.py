"""The `.bin` file of a fastText model, read without trust: every size in it is held against the file's own."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Int, Int32Array, Int64Array, UInt8Array
from gneiss.errors import ModelError

Loss: TypeAlias = Literal["hs", "ns", "softmax", "ova"]

PREFIX = "__label__"
_MAGIC = 793712314
_VERSIONS = (11, 12)
_LOSSES: dict[int, Loss] = {1: "hs", 2: "ns", 3: "softmax", 4: "ova"}
_SUPERVISED = 3
_SMALLEST_ENTRY_BYTES = 1 + 8 + 1  # an empty word's NUL, its count, its type
_LONGEST_NGRAM = 64  # fastText computes what the file asks for, however long it takes
_LARGEST_COUNT = 1e15  # fastText's tree of labels takes this for infinity, and reads past its end if it is not
_LARGEST_WEIGHT = 1e9  # so that no product of weights overflows; fastText fails on NaN, in the midst of predicting
_CENTROIDS = 256
_CHUNK_BYTES = 16 << 20


def plain_label(label: str) -> str:
    """A label without the prefix that marks it in training data."""
    return label.removeprefix(PREFIX)


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A supervised fastText model on disk, checked, its matrix still unread.

    labels: with their prefix, in the model's order; word i is `data[word_starts[i]:word_starts[i] + word_lengths[i]]`;
    counts: int64 (words,); input_start: byte offset of the float32 (words + buckets, dimensions) matrix, row by row;
    output: float32 (labels, dimensions). A quantized model has no input_start and no output.
    """

    path: Path
    data: UInt8Array
    dimensions: int
    loss: Loss
    word_ngrams: int
    buckets: int
    longest_char_ngram: int
    labels: tuple[str, ...]
    word_starts: Int64Array
    word_lengths: Int32Array
    counts: Int64Array
    input_start: int | None
    output: Float32Array | None


def read_model(path: Path) -> ModelFile:
    """Read and check everything in a fastText `.bin` except the values of its input matrix.

    What passes can be given to fastText's own loader, which checks nothing. Memory: 20 bytes a word; the file is
    mapped. Raises ModelError, naming the file, for anything that fastText would not have written.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise ModelError(f"{path}: cannot be read as a fastText model: {error}") from error
    reader = _Reader(path, data)
    magic, version = reader.take("<ii")
    if magic != _MAGIC or version not in _VERSIONS:
        raise ModelError(f"{path}: not a fastText model: it starts with {magic}, {version}, not {_MAGIC}, 11 or 12")
    dimensions, *_, word_ngrams, loss, kind, buckets, shortest, longest, _, _ = reader.take("<12id")
    if kind != _SUPERVISED:
        raise ModelError(f"{path}: not a supervised fastText model, so it has no labels to predict")
    if version == 11:
        longest = 0  # as fastText does: supervised models of that version have no character n-grams
    reader.require(dimensions > 0, f"{dimensions} dimensions")
    reader.require(loss in _LOSSES, f"unknown loss {loss}")
    reader.require(0 <= word_ngrams <= _LONGEST_NGRAM, f"word n-grams of {word_ngrams} words")
    reader.require(shortest >= 0 and 0 <= longest <= _LONGEST_NGRAM, f"n-grams of {shortest} to {longest} characters")
    reader.require(buckets >= 0, f"{buckets} buckets")
    reader.require(buckets > 0 or (word_ngrams <= 1 and longest == 0), "n-grams without buckets")

    entries, words, labels, _, pruned = reader.take("<iiiqq")
    reader.require(words >= 0 and labels > 0 and entries == words + labels, f"{words} words and {labels} labels")
    starts, lengths, counts = reader.dictionary(entries, words)
    total = counts[words:].sum(dtype=np.float64)
    reader.require(total < _LARGEST_COUNT, f"labels that stood for {total:.0f} lines")
    kept_buckets = reader.pruned_buckets(pruned, buckets) if pruned >= 0 else buckets
    names = tuple(reader.text(starts[i], lengths[i]) for i in range(words, entries))

    rows = words + kept_buckets
    (quantized,) = reader.take("<B")
    reader.require(quantized <= 1, f"quantized: {quantized}")
    reader.require(bool(quantized) or pruned < 0, "pruned but not quantized")
    input_start = reader.quantized_matrix(rows, dimensions) if quantized else reader.matrix(rows, dimensions)
    (quantized_output,) = reader.take("<B")
    quantized_output = quantized and quantized_output
    output_start = (
        reader.quantized_matrix(labels, dimensions) if quantized_output else reader.matrix(labels, dimensions)
    )
    output = None
    if not quantized_output:
        output = data[output_start : output_start + 4 * labels * dimensions].view("<f4").reshape(labels, dimensions)
        reader.require(_are_sound(output), "NaN, infinite or absurdly large weights in the output matrix")
    return ModelFile(
        path=path,
        data=data,
        dimensions=dimensions,
        loss=_LOSSES[loss],
        word_ngrams=max(word_ngrams, 1),
        buckets=buckets,
        longest_char_ngram=longest,
        labels=names,
        word_starts=starts[:words],
        word_lengths=lengths[:words],
        counts=counts[:words],
        input_start=None if quantized else input_start,
        output=None if output is None or quantized else np.array(output, np.float32),
    )


def require_sound_weights(file: ModelFile) -> None:
    """Read the input matrix once and raise ModelError for NaN, infinite or absurdly large weights in it."""
    if file.input_start is None:
        return  # a quantized matrix is made of centroids, which read_model has seen
    end = file.input_start + 4 * file.dimensions * (len(file.word_starts) + file.buckets)
    for start in range(file.input_start, end, _CHUNK_BYTES):
        if not _are_sound(file.data[start : min(start + _CHUNK_BYTES, end)].view("<f4")):
            raise ModelError(f"{file.path}: damaged fastText model: NaN, infinite or absurdly large weights")


def _are_sound(weights: Float32Array) -> bool:
    return bool(np.abs(weights).max(initial=0) <= _LARGEST_WEIGHT)


@dataclass
class _Reader:
    """A position in a file; each method takes what it names and moves on, or raises ModelError."""

    path: Path
    data: UInt8Array
    at: int = 0

    def require(self, condition: bool, found: str) -> None:
        if not condition:
            raise ModelError(f"{self.path}: damaged fastText model: {found}")

    def skip(self, size_bytes: int, what: str) -> int:
        """Pass over `size_bytes` and return where they start."""
        start, left = self.at, len(self.data) - self.at
        self.require(0 <= size_bytes <= left, f"{what} of {size_bytes:,} bytes at byte {start:,}, {left:,} are left")
        self.at += size_bytes
        return start

    def take(self, layout: str) -> tuple[int, ...]:
        start = self.skip(struct.calcsize(layout), "header")
        return struct.unpack(layout, self.data[start : self.at].tobytes())

    def text(self, start: int, length: int) -> str:
        try:
            return self.data[start : start + length].tobytes().decode()
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.path}: damaged fastText model: a label is not UTF-8: {error}") from error

    def dictionary(self, entries: int, words: int) -> tuple[Int64Array, Int32Array, Int64Array]:
        smallest = entries * _SMALLEST_ENTRY_BYTES
        self.require(smallest <= len(self.data) - self.at, f"a dictionary of {entries:,} entries does not fit")
        starts, lengths, counts = np.empty(entries, np.int64), np.empty(entries, np.int32), np.empty(entries, np.int64)
        end = int(_scan_dictionary(self.data, self.at, words, starts, lengths, counts))
        self.require(end >= 0, f"dictionary entry {-1 - end:,} of {entries:,} is cut off, negative or of a wrong type")
        self.at = end
        return starts, lengths, counts

    def pruned_buckets(self, pairs: int, buckets: int) -> int:
        """Rows that the buckets of a pruned model have: its map from bucket to row must be into just those."""
        self.require(pairs <= (len(self.data) - self.at) // 8, f"{pairs:,} pruned buckets do not fit")
        start = self.skip(8 * pairs, "pruned buckets")
        rows = self.data[start : self.at].view("<i4").reshape(pairs, 2)[:, 1]
        self.require(bool(((rows >= 0) & (rows < pairs)).all()), "pruned buckets without rows")
        return pairs

    def matrix(self, rows: int, columns: int) -> int:
        found_rows, found_columns = self.take("<qq")
        found = f"a matrix of {found_rows:,} x {found_columns:,}, expected {rows:,} x {columns:,}"
        self.require((found_rows, found_columns) == (rows, columns), found)
        return self.skip(4 * rows * columns, "matrix")

    def quantized_matrix(self, rows: int, columns: int) -> int:
        norms, found_rows, found_columns, codes = self.take("<Bqqi")
        found = f"a quantized matrix of {found_rows:,} x {found_columns:,}, expected {rows:,} x {columns:,}"
        self.require(norms <= 1 and (found_rows, found_columns) == (rows, columns), found)
        start = self.skip(codes, "codes")
        parts = self.quantizer(columns)
        self.require(codes == rows * parts, f"{codes:,} codes for {rows:,} x {parts:,}")
        if norms:
            self.skip(rows, "norms")
            self.quantizer(1)
        return start

    def quantizer(self, columns: int) -> int:
        found_columns, parts, width, last = self.take("<4i")
        self.require(found_columns == columns and width > 0, f"a quantizer of {found_columns} by {width}")
        right = (-(-columns // width), columns % width or width)
        self.require((parts, last) == right, f"a quantizer of {parts} parts, the last {last} wide")
        start = self.skip(4 * columns * _CENTROIDS, "centroids")
        centroids = self.data[start : self.at].view("<f4")
        self.require(_are_sound(centroids), "NaN, infinite or absurdly large centroids")
        return parts


@njit(cache=True, nogil=True)
def _scan_dictionary(
    data: UInt8Array,
    at: Int,
    words: Int,
    starts: Int64Array,
    lengths: Int32Array,
    counts: Int64Array,
) -> Int:
    """Find every entry; returns the byte after the last, or -1 - i if entry i is not one."""
    for entry in range(len(starts)):
        start = at
        while at < len(data) and data[at] != 0:
            at += 1
        if at + _SMALLEST_ENTRY_BYTES > len(data):
            return -1 - entry
        count = np.int64(0)
        for byte in range(8):
            count |= np.int64(data[at + 1 + byte]) << (8 * byte)
        if count < 0 or data[at + 9] != (0 if entry < words else 1) or at - start > 0x7FFFFFFF:
            return -1 - entry
        starts[entry], lengths[entry], counts[entry] = start, at - start, count
        at += _SMALLEST_ENTRY_BYTES
    return at
