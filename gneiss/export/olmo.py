"""Export to OLMo-core: token arrays, each with a file of its documents' bounds and weights.

As the Dolma toolkit writes and OLMo-core reads it: `.npy` holds the tokens end to end, unsigned and without a header,
so `numpy.load` refuses it; `.csv.gz` has a line for each document: its first token, the one after its last, its id,
and its source and position there. Further columns are ours; OLMo-core reads only the first two.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np

from gneiss.arrays import Float32Array, Int32Array
from gneiss.errors import InputError, first_line
from gneiss.export.files import INDEX, Exported, Source, complete, exporting, of_tokens, origin, token_parts
from gneiss.loader.reader import Document
from gneiss.store.place import Address, Place, place_of

PREFIX = "part-"
#: Bytes of a token → its type.
TYPES = {2: "uint16", 4: "uint32"}
#: Columns of `.csv.gz`, which has no header; the first five are those of the Dolma toolkit.
COLUMNS = ("start", "end", "id", "shard", "row", "document", "log_prior")


def export_olmo(source: Source, folder: Address, *, file_tokens: int = 1 << 29) -> Exported:
    """Write tokenized documents, in their order on disk, as OLMo-core's token arrays. See `Export`.

    Parameters: `source`: `tokenized(...)` with an end_of_document, by which OLMo-core separates documents;
    `file_tokens`: maximum of a file (one document may have more). A line break in an id becomes a space, because
    OLMo-core reads lines. `instance_log_priors` returns the weights as its data loader needs them.

    >>> source = tokenized(documents("curated"), "builtin:cl100k_base", end_of_document=100257)  # doctest: +SKIP
    >>> export_olmo(source, "curated-olmo")  # doctest: +SKIP
    """
    target, source = place_of(folder, "output"), of_tokens(source, "olmo")
    if source.end_of_document is None:
        raise InputError("olmo: expected an end_of_document, by which OLMo-core separates documents, found none")
    with exporting(target, PREFIX, source):
        dtype = TYPES[source.token_bytes]
        files = [_write_part(part, target, number, dtype) for number, part in token_parts(source, file_tokens)]
        names = [file["name"] + suffix for file in files for suffix in (".npy", ".csv.gz")]
        complete(target, INDEX, names, {"format": "olmo", **origin(source), "dtype": dtype, "files": files})
        return Exported(target, sum(file["documents"] for file in files), len(files))


def instance_log_priors(folder: Address, sequence_length: int) -> Float32Array:
    """The log of the mean prior weight of the tokens of each instance, float32 (instances,).

    An instance is `sequence_length` tokens of a file, from its first on, and what is left at a file's end is none:
    NumpyFSLDataset over the files by name. Its `index` in a batch points into this array. Raises InputError.

    >>> instance_log_priors("curated-olmo", 2048)[batch["index"]]  # doctest: +SKIP
    """
    index = place_of(folder) / INDEX
    if sequence_length < 1:
        raise InputError(f"sequence_length {sequence_length}: expected 1 or more")
    try:
        files = json.loads(index.read())["files"]
        found = [
            _of_instances(index.parent / (file["name"] + ".csv.gz"), file["tokens"], sequence_length) for file in files
        ]
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{index}: no OLMo-core export here ({first_line(error)}); `export_olmo` writes it") from error
    return np.concatenate([np.empty(0, np.float32), *found])


def _of_instances(path: Place, tokens: int, length: int) -> Float32Array:
    ends, log_priors = array("d", [0.0]), array("d")
    with path.open() as compressed, gzip.open(compressed, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:  # a document each; an id may hold commas, so from both ends
            ends.append(int(line.split(",", 2)[1]))
            log_priors.append(float(line.rsplit(",", 1)[1]))
    if ends[-1] != tokens or np.any(np.diff(ends) <= 0):
        raise ValueError(f"{path.name} does not have the bounds of documents of {tokens} tokens")
    weights = np.exp(np.array(log_priors))  # not written to any output, so its last bit may depend on the machine
    before = np.concatenate([[0.0], np.cumsum(np.diff(ends) * weights)])  # weight of the tokens before an end
    bounds = np.arange(0, tokens + 1, length)
    found: Float32Array = np.log(np.diff(np.interp(bounds, ends, before)) / length).astype(np.float32)
    return found


def _write_part(
    documents: Iterator[tuple[Document, Int32Array]], folder: Place, number: int, dtype: str
) -> dict[str, Any]:
    name = f"{PREFIX}{number:05d}"
    little = np.dtype(dtype).newbyteorder("<")
    count, at = 0, 0
    with (
        (folder / f"{name}.csv.gz").create() as compressed,
        (folder / f"{name}.npy").create() as file,
        gzip.GzipFile("", "wb", fileobj=compressed, mtime=0) as binary,
        io.TextIOWrapper(binary, "utf-8", newline="") as text,
    ):
        lines = csv.writer(text, lineterminator="\n")
        for document, tokens in documents:
            file.write(tokens.astype(little).tobytes())
            own = (_one_line(document.id or ""), _one_line(document.shard), document.row)
            lines.writerow((at, at + len(tokens), *own, document.index, repr(document.log_prior)))
            count, at = count + 1, at + len(tokens)
    return {"name": name, "documents": count, "tokens": at}


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")
