"""Export to MosaicML streaming's MDS: files that `streaming.StreamingDataset` reads, with ids and weights.

Written without that library, which installs four cloud SDKs, torchvision and transformers. The format,
version 2: a file is the number of samples (uint32), where each starts and the last one ends (uint32), the columns as
JSON, then the samples; a sample is the sizes of its columns of variable size (uint32), then all columns, by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xxhash

from gneiss.arrays import AnyArray
from gneiss.errors import OutputError
from gneiss.export.files import Exported, Source, complete, exporting, of_samples, parts
from gneiss.loader.packed_files import PackedSequences
from gneiss.loader.packing import Sequence
from gneiss.loader.reader import Document
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, Place, place_of

INDEX = "index.json"
PREFIX = "shard."
#: Encodings of MDS used here → bytes, None if variable.
SIZES: Mapping[str, int | None] = {
    "int64": 8,
    "float64": 8,
    "str": None,
    "ndarray:int32": None,
    "ndarray:int64": None,
}
DOCUMENT_COLUMNS = {
    "document": "int64",
    "id": "str",
    "shard": "str",
    "row": "int64",
    "text": "str",
    "log_prior": "float64",
}
SEQUENCE_COLUMNS = {
    "sequence": "int64",
    "tokens": "ndarray:int32",
    "log_prior": "float64",
    "span_document": "ndarray:int64",
    "span_start": "ndarray:int32",
    "span_length": "ndarray:int32",
    "span_document_start": "ndarray:int64",
}


def export_mds(source: Source, folder: Address, *, file_bytes: int = 1 << 26) -> Exported:
    """Write documents or packed sequences, in their order on disk, as an MDS dataset. See `Export`.

    Parameters: `source`: StreamingDataset does the shuffling; `file_bytes`: maximum of a file (one sample may
    have more). A document without an id has an empty string.

    >>> export_mds(documents("curated"), "curated-mds")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_samples(source, "mds")
    with exporting(target, PREFIX, source):
        if isinstance(source, PackedSequences):
            return _write(map(_of_sequence, source), SEQUENCE_COLUMNS, target, file_bytes)
        return _write(map(_of_document, source), DOCUMENT_COLUMNS, target, file_bytes)


def _of_document(document: Document) -> dict[str, Any]:
    return {
        "document": document.index,
        "id": document.id or "",
        "shard": document.shard,
        "row": document.row,
        "text": document.text,
        "log_prior": document.log_prior,
    }


def _of_sequence(sequence: Sequence) -> dict[str, Any]:
    names = ("document", "start", "length", "document_start")
    spans = {f"span_{name}": getattr(sequence.spans, name) for name in names}
    return {"sequence": sequence.id, "tokens": sequence.tokens, "log_prior": sequence.log_prior, **spans}


def _write(
    samples: Iterable[Mapping[str, Any]], columns: Mapping[str, str], folder: Place, file_bytes: int
) -> Exported:
    names = sorted(columns)
    config = {
        "column_encodings": [columns[name] for name in names],
        "column_names": names,
        "column_sizes": [SIZES[columns[name]] for name in names],
        "compression": None,
        "format": "mds",
        "hashes": ["xxh64"],
        "size_limit": file_bytes,
        "version": 2,
    }
    header = json.dumps(config, sort_keys=True).encode()
    encoded = (_sample([(columns[name], sample[name]) for name in names]) for sample in samples)
    files = [
        _write_file(list(part), config, header, folder, number)
        for number, part in parts(encoded, lambda sample: len(sample) + 4, file_bytes - len(header) - 8)
    ]
    complete(folder, INDEX, [file["raw_data"]["basename"] for file in files], {"shards": files, "version": 2})
    return Exported(folder, sum(file["samples"] for file in files), len(files))


def _sample(values: list[tuple[str, Any]]) -> bytes:
    encoded = [(encoding, _encode(encoding, value)) for encoding, value in values]
    sizes = np.array([len(data) for encoding, data in encoded if SIZES[encoding] is None], "<u4")
    return sizes.tobytes() + b"".join(data for _, data in encoded)


def _encode(encoding: str, value: Any) -> bytes:
    if encoding == "str":
        return str(value).encode()
    if encoding.startswith("ndarray:"):
        return _array(np.asarray(value, encoding.removeprefix("ndarray:")))
    return np.asarray(value, encoding).astype(np.dtype(encoding).newbyteorder("<")).tobytes()


def _array(values: AnyArray) -> bytes:
    """One axis: a byte of (axes << 2 | log2 of the length's bytes), the length, the values."""
    size = len(values)
    width = next(i for i in range(4) if size < 1 << (8 << i))
    return bytes([1 << 2 | width]) + size.to_bytes(1 << width, "little") + values.tobytes()


def _write_file(
    samples: list[bytes], config: Mapping[str, Any], header: bytes, folder: Place, number: int
) -> dict[str, Any]:
    first = 4 + 4 * (len(samples) + 1) + len(header)
    begins = np.cumsum([first, *map(len, samples)])
    if begins[-1] >= 1 << 32:
        raise OutputError(f"{folder}: a sample of {max(map(len, samples))} bytes does not fit a file of MDS (4 GiB)")
    content = b"".join([len(samples).to_bytes(4, "little"), begins.astype("<u4").tobytes(), header, *samples])
    name = f"{PREFIX}{number:05d}.mds"
    write_bytes(content, folder, name)
    raw = {"basename": name, "bytes": len(content), "hashes": {"xxh64": xxhash.xxh64_hexdigest(content)}}
    return {**config, "raw_data": raw, "samples": len(samples), "zip_data": None}
