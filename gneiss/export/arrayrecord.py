"""Export to ArrayRecord, which Grain and MaxText read at random: a `tf.train.Example` a document or packed sequence.

Records are serialized here (tensorflow/core/example/feature.proto), without TensorFlow; the files are the library
array-record's, which needs a local path, so each is written aside and copied to where it belongs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from gneiss.errors import MachineError
from gneiss.export.files import INDEX, Exported, Source, complete, exporting, of_samples, origin, parts
from gneiss.export.samples import row_bytes, rows_of
from gneiss.loader.packed_files import SPANS
from gneiss.store.place import Address, place_of

PREFIX = "part-"
SUFFIX = ".array_record"
#: A record is read without those beside it.
_OPTIONS = "group_size:1"


def export_arrayrecord(source: Source, folder: Address, *, file_bytes: int = 500_000_000) -> Exported:
    """Write documents or packed sequences, in their order on disk, as ArrayRecord files. See `Export`.

    The features are the columns of `export_hf`: numbers as int64, `log_prior` as float32, texts as UTF-8; the spans of
    a sequence are `span_document`, `span_start`, `span_length` and `span_document_start`. A missing id is no feature.
    Parameters: `file_bytes`: maximum of texts or tokens in a file, before compression (one sample may have more).
    Raises MachineError without the package array-record.

    >>> export_arrayrecord(documents("curated"), "curated-arrayrecord")  # doctest: +SKIP
    >>> grain.sources.ArrayRecordDataSource(["curated-arrayrecord/part-00000.array_record"])  # doctest: +SKIP
    """
    writer = _writer()
    target, source = place_of(folder, "output"), of_samples(source, "arrayrecord")
    with exporting(target, PREFIX, source):
        rows, _ = rows_of(source)
        files: list[dict[str, Any]] = []
        for number, part in parts(rows, row_bytes, file_bytes):
            name = f"{PREFIX}{number:05d}{SUFFIX}"
            with TemporaryDirectory(prefix="gneiss-arrayrecord-") as aside:  # the next file finds as much room
                samples = _write(writer, Path(aside, name), map(_features, part))
                (target / name).put(Path(aside, name))
            files.append({"name": name, "samples": samples})
        complete(
            target, INDEX, [file["name"] for file in files], {"format": "arrayrecord", **origin(source), "files": files}
        )
        return Exported(target, sum(file["samples"] for file in files), len(files))


def _writer() -> Any:
    try:
        from array_record.python.array_record_module import ArrayRecordWriter
    except ModuleNotFoundError as missing:
        if missing.name is None or not missing.name.startswith("array_record"):
            raise
        raise MachineError(
            "arrayrecord needs the package array-record: pip install 'gneiss-curation[arrayrecord]'"
        ) from missing
    return ArrayRecordWriter


def _write(writer: Any, path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    file, written = writer(str(path), _OPTIONS), 0
    try:
        for row in rows:
            file.write(example(row))
            written += 1
    finally:
        file.close()
    return written


def _features(row: Mapping[str, Any]) -> dict[str, Any]:
    """A sample with a list for each number of its spans."""
    features = {name: value for name, value in row.items() if name != "spans" and value is not None}
    if "spans" in row:
        features |= {f"span_{field.name}": [span[field.name] for span in row["spans"]] for field in SPANS}
    return features


def example(features: Mapping[str, Any]) -> bytes:
    r"""A serialized `tf.train.Example`: a text, an integer, a float or a sequence of integers by each name.

    >>> example({"id": "a"})
    b'\n\r\n\x0b\n\x02id\x12\x05\n\x03\n\x01a'
    """
    entries = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, _feature(value))) for name, value in features.items()
    )
    return _field(1, entries)


def _feature(value: Any) -> bytes:
    if isinstance(value, str):
        return _field(1, _field(1, value.encode()))
    if isinstance(value, float):
        return _field(2, _field(1, struct.pack("<f", value)))
    values = np.atleast_1d(np.asarray(value, np.int64)).tolist()
    return _field(3, _field(1, b"".join(map(_varint, values))))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field; packed, where it holds numbers."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits of two's complement."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
