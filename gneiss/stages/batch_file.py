"""The format of exchange files: record batches in order, each read by its number; small ones are packed.

A file is an Arrow stream, zstd-compressed, which any Arrow reader opens, and an index behind it. Each message of the
stream is a pack: consecutive batches, one after another, whose rows are counted in its metadata. As a message of its
own, a batch of 190 keys takes a quarter more bytes, and fifteen times the time to write and twenty-five to read.

Batches are addressed to receivers: batch `i` to receiver `i % receivers`, or, where they are put together by receiver,
equally many to each, one receiver after the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array

#: A pack is full with this much, uncompressed; where a receiver's batches end, with a quarter of it.
PACK_BYTES = 1 << 17
_COUNT_BYTES = 4
_ROWS = b"rows"
_MAGIC = b"gneiss 1"
#: Packs, bytes of the schema, batches, receivers, whether they are put together by receiver.
_TRAILER = struct.Struct("<5Q8s")


def write_batches(
    sink: Any,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    receivers: int | None = None,
    each: int | None = None,
    level: int = 1,
) -> int:
    """Write batches to a `pyarrow.NativeFile`; returns the number of rows.

    Parameters: `receivers`: default one for each batch; `each`: where they are put together by receiver, how many
    batches each one gets; `level`: of the compression. Raises ValueError where a receiver gets fewer than another.
    """
    head = schema.serialize().to_pybytes()
    firsts, ends, rows = [0], [len(head)], 0
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", level))
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        for pack in _packs(batches, _row_bytes(schema), each):
            whole = pack[0] if len(pack) == 1 else pa.concat_batches(pack)
            counts = np.array([batch.num_rows for batch in pack], "<u4")
            writer.write_batch(whole, custom_metadata={_ROWS: counts.tobytes()})
            firsts.append(firsts[-1] + len(pack))
            ends.append(sink.tell())
            rows += whole.num_rows
    count = firsts[-1]
    if count % (receivers or 1):
        raise ValueError(f"expected the same number of batches for each of {receivers} receivers, found {count} in all")
    sink.write(np.array([firsts, ends], "<u8").tobytes())
    sink.write(head)
    is_by_receiver = each is not None
    sink.write(_TRAILER.pack(len(firsts), len(head), count, receivers or count, is_by_receiver, _MAGIC))
    return rows


def _row_bytes(schema: pa.Schema) -> float | None:
    """Bytes of a row; None where rows are of several sizes."""
    try:
        return float(sum(field.type.bit_width for field in schema)) / 8
    except ValueError:
        return None


def _packs(
    batches: Iterable[pa.RecordBatch], row_bytes: float | None, each: int | None
) -> Iterator[list[pa.RecordBatch]]:
    pack: list[pa.RecordBatch] = []
    size = 0.0
    for number, batch in enumerate(batches, 1):
        pack.append(batch)
        size += _COUNT_BYTES + (batch.nbytes if row_bytes is None else row_bytes * batch.num_rows)
        if size >= PACK_BYTES or (each and number % each == 0 and size >= PACK_BYTES // 4):
            yield pack
            pack, size = [], 0.0
    if pack:
        yield pack


@dataclass(frozen=True, eq=False)
class Stretch:
    """Consecutive batches of a file, from number `first` up to `end`, which are decoded each time they are iterated.

    data: the packs that hold them, the schema before them; before: the number of the first batch in them.
    """

    data: bytes
    before: int
    first: int
    end: int
    columns: Sequence[str] | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        number = self.before
        reader = pa.ipc.open_stream(self.data)
        if self.columns is not None:
            fields = [reader.schema.get_field_index(name) for name in self.columns]
            reader = pa.ipc.open_stream(self.data, options=pa.ipc.IpcReadOptions(included_fields=fields))
        while number < self.end:
            try:
                pack = reader.read_next_batch_with_custom_metadata()
            except StopIteration:
                raise OSError(f"expected batch {number}, found the end") from None
            bounds = np.append(0, np.cumsum(np.frombuffer(pack.custom_metadata[_ROWS], "<u4"), dtype=np.int64))
            if bounds[-1] != pack.batch.num_rows:
                raise OSError(f"expected {bounds[-1]} rows in a pack, found {pack.batch.num_rows}")
            low, high = max(self.first - number, 0), min(self.end - number, len(bounds) - 1)
            for start, end in pairwise(bounds[low : high + 1].tolist()):
                yield pack.batch if end - start == pack.batch.num_rows else pack.batch.slice(start, end - start)
            number += len(bounds) - 1


@dataclass(frozen=True, eq=False)
class BatchFile:
    """An open exchange file.

    count: its batches; firsts, ends: for each pack and the end the number of the first batch, and the offset in bytes,
    int64 (packs + 1,).
    """

    file: Any
    head: bytes
    count: int
    receivers: int
    is_by_receiver: bool
    firsts: Int64Array
    ends: Int64Array

    @classmethod
    def of(cls, file: Any) -> BatchFile:
        """From a `pyarrow.NativeFile`; the index is read. Raises OSError where it is no such file."""
        size = file.size()
        start = size - _TRAILER.size
        trailer = file.read_at(_TRAILER.size, start) if start >= 0 else b""
        if trailer[-len(_MAGIC) :] != _MAGIC:
            raise OSError("expected an exchange file, found another end")
        packs, head_bytes, count, receivers, is_by_receiver, _ = _TRAILER.unpack(trailer)
        index_bytes = 2 * 8 * packs
        start -= index_bytes + head_bytes
        if start < 0 or packs < 1:
            raise OSError("its index is longer than the file")
        index = file.read_at(index_bytes + head_bytes, start)
        firsts, ends = np.frombuffer(index, "<i8", 2 * packs).reshape(2, packs)
        return cls(file, index[index_bytes:], count, receivers, bool(is_by_receiver), firsts, ends)

    @property
    def schema(self) -> pa.Schema:
        """Of all batches."""
        return pa.ipc.read_schema(pa.py_buffer(self.head))

    def read(self, first: int, end: int, columns: Sequence[str] | None = None) -> Stretch:
        """The batches from number `first` up to `end`, in one read; or some columns of them. Raises OSError."""
        if not 0 <= first <= end <= self.count:
            raise OSError(f"expected batches {first} to {end}, found {self.count}")
        low = int(np.searchsorted(self.firsts, first, side="right")) - 1
        high = max(int(np.searchsorted(self.firsts, end, side="left")), low)
        if first == end:
            return Stretch(self.head, end, first, end, columns)
        start, size = int(self.ends[low]), int(self.ends[high] - self.ends[low])
        found = self.file.read_at(size, start)
        return Stretch(b"".join((self.head, found)), int(self.firsts[low]), first, end, columns)

    def of_receivers(self, first: int, end: int) -> list[Stretch]:
        """The batches of consecutive receivers: in turns of all of them, or in one stretch. Raises OSError."""
        if end > self.receivers:
            raise OSError(f"expected batches for receiver {end - 1}, found {self.receivers} receivers")
        turns = self.count // self.receivers if self.receivers else 0
        if self.is_by_receiver:
            return [self.read(first * turns, end * turns)]
        return [self.read(turn * self.receivers + first, turn * self.receivers + end) for turn in range(turns)]

    def pack_numbers(self) -> Iterator[tuple[int, int]]:
        """First and end of the batches of each pack."""
        return pairwise(self.firsts.tolist())
