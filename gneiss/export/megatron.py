"""Export to Megatron-LM: indexed datasets of whole documents, with ids and weights in sidecar files.

The format, version 1, as `megatron.core.datasets.indexed_dataset` reads it: `.bin` holds the tokens, end to end; `.idx`
is `MMIDIDX`, two zeros, the version (uint64), a code for the type of a token (uint8), the number of sequences and of
bounds of documents (uint64), then the sequences' lengths (int32) and first bytes (int64), and the bounds (int64).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np

from gneiss.arrays import AnyArray, Int32Array, Int64Array
from gneiss.export.files import INDEX, Exported, Source, complete, exporting, of_tokens, origin, token_parts
from gneiss.loader.reader import Document
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, Place, place_of

PREFIX = "part-"
MAGIC, VERSION = b"MMIDIDX\0\0", 1
#: Bytes of a token → its type, and Megatron's code.
TYPES = {2: ("<u2", 8), 4: ("<i4", 4)}
#: The files of a part, `.idx` last.
SUFFIXES = (".bin", ".log_prior.npy", ".document.npy", ".idx")


def export_megatron(source: Source, folder: Address, *, file_tokens: int = 1 << 29) -> Exported:
    """Write tokenized documents, in their order on disk, as indexed datasets. See `Export`.

    A part is `part-00000.bin` and `.idx`, a prefix for `--data-path`, in which a sequence is a document. Megatron
    discards document ids after its look-up, so there are two sidecars in the order of the index:
    `part-00000.log_prior.npy`, float32, and `part-00000.document.npy`, int64, the dense index of the weights layer.
    Documents without tokens are skipped.
    Parameters: `source`: `tokenized(...)`; `file_tokens`: maximum of a part (one document may have more).

    >>> source = tokenized(documents("curated"), "builtin:cl100k_base", end_of_document=100257)  # doctest: +SKIP
    >>> export_megatron(source, "curated-megatron")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_tokens(source, "megatron")
    with exporting(target, PREFIX, source):
        files = [
            _write_part(part, target, number, source.token_bytes) for number, part in token_parts(source, file_tokens)
        ]
        names = [file["prefix"] + suffix for file in files for suffix in SUFFIXES]
        complete(target, INDEX, names, {"format": "megatron", **origin(source), "files": files})
        return Exported(target, sum(file["documents"] for file in files), len(files))


def _write_part(
    documents: Iterator[tuple[Document, Int32Array]], folder: Place, number: int, token_bytes: int
) -> dict[str, Any]:
    prefix = f"{PREFIX}{number:05d}"
    dtype, code = TYPES[token_bytes]
    lengths, indices, log_priors = array("i"), array("q"), array("f")
    bin_, log_prior, document_, idx = (prefix + suffix for suffix in SUFFIXES)
    with (folder / bin_).create() as file:
        for document, tokens in documents:
            file.write(tokens.astype(dtype).tobytes())
            lengths.append(len(tokens))
            indices.append(document.index)
            log_priors.append(document.log_prior)
    sizes = np.array(lengths, np.int64)
    write_bytes(_npy(np.array(log_priors, "<f4")), folder, log_prior)
    write_bytes(_npy(np.array(indices, "<i8")), folder, document_)
    write_bytes(_index(sizes, token_bytes, code), folder, idx)
    return {"prefix": prefix, "documents": len(sizes), "tokens": int(sizes.sum())}


def _index(lengths: Int64Array, token_bytes: int, code: int) -> bytes:
    count = len(lengths)
    starts = (np.cumsum(lengths) - lengths) * token_bytes
    header = MAGIC + struct.pack("<QBQQ", VERSION, code, count, count + 1)
    arrays = (lengths.astype("<i4"), starts.astype("<i8"), np.arange(count + 1, dtype="<i8"))
    return header + b"".join(values.tobytes() for values in arrays)


def _npy(values: AnyArray) -> bytes:
    content = BytesIO()
    np.save(content, values, allow_pickle=False)
    return content.getvalue()
