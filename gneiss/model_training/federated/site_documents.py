"""The labelled documents of a site as features, kept in a file beside them, from which nothing leaves."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any

import numpy as np

from gneiss.batch import TextBatch
from gneiss.errors import InputError
from gneiss.input.files import find_files
from gneiss.input.formats import input_names, is_input
from gneiss.model_training.federated.features import FeatureSpace, SparseRows
from gneiss.model_training.federated.linear import Examples
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.labels import Document, Rule, labelled_documents
from gneiss.output.parquet import write_new
from gneiss.store.place import Address, Place
from gneiss.version import __version__

FEATURES_FILE, SECRET_FILE = "features.safetensors", "noise.secret"
_SECRET_BYTES = 32
_METADATA = "gneiss_site"
_PARTS = ("trained", "held_out")
_TYPES = {"starts": np.int64, "columns": np.int32, "values": np.float32, "labels": np.int64}


@dataclass(frozen=True)
class SiteFiles:
    """Where the documents of a site are, and what is made of them.

    labels: Parquet, with a column of texts and that of a rule; folder: of the site's own files; held_out_share: of the
    documents of each label; min_documents: a feature that fewer documents of the site have has no part in an answer;
    protection: of each vector of an answer; secret: of its noise, given in simulations only: otherwise it is drawn once
    at random, and kept in the folder.
    """

    site: str
    labels: Place
    folder: Place
    space: FeatureSpace
    rule: Rule
    text: str = "text"
    held_out_share: float = 0.2
    min_documents: int = 5
    protection: Protection | None = None
    secret: bytes | None = None


@dataclass(frozen=True, eq=False)
class SiteExamples:
    """What a site trains on, and what it judges weights by."""

    trained: Examples
    held_out: Examples


def site_examples(files: SiteFiles) -> SiteExamples:
    """The features of a site's documents: from its file, or made again where documents or features are others.

    Raises InputError for labels that cannot be read, or of which none is left to train on; OutputError.
    """
    key = _key(files)
    kept = _kept(files.folder / FEATURES_FILE, key, files.space.size)
    if kept is not None:
        return kept
    labelled = labelled_documents(files.labels, files.text, files.rule)
    if not labelled.documents:
        raise InputError(f"{files.labels}: no labelled text; a site needs one at least")
    trained, held_out = labelled.split(files.held_out_share)
    made = SiteExamples(_examples(trained.documents, files.space), _examples(held_out.documents, files.space))
    write_new(_packed(made, key), files.folder, FEATURES_FILE)
    return made


def site_secret(files: SiteFiles) -> bytes:
    """What the noise of a site is drawn from. Who has it can take the noise off. Raises InputError, OutputError."""
    if files.secret is not None:
        return files.secret
    place = files.folder / SECRET_FILE
    with suppress(FileExistsError), place.create(is_new=True) as file:
        file.write(token_bytes(_SECRET_BYTES))
    try:
        found = place.read()
    except OSError as error:
        raise InputError(f"{place}: cannot read: {error.strerror or error}") from error
    if len(found) != _SECRET_BYTES:
        raise InputError(f"{place}: expected {_SECRET_BYTES} bytes, found {len(found)}; restore it")
    return found


def _examples(documents: tuple[Document, ...], space: FeatureSpace) -> Examples:
    rows = space.rows(TextBatch.of([document.line for document in documents]))
    return Examples(rows, np.array([document.is_positive for document in documents], np.int64))


def _key(files: SiteFiles) -> dict[str, Any]:
    """What features depend on."""
    return {
        "gneiss": __version__,
        "features": files.space.sha256,
        "labels": checksums_of(files.labels),
        "rule": str(files.rule),
        "text": files.text,
        "held_out_share": files.held_out_share,
    }


def checksums_of(labels: Address) -> dict[str, str]:
    """File of labels → its checksum. Raises InputError where one cannot be read."""
    root, found = find_files(labels, is_input, input_names())
    try:
        return {file.name: (root / file.name).checksum() for file in found}
    except OSError as error:
        raise InputError(f"{labels}: cannot read: {error.strerror or error}") from error


def _packed(examples: SiteExamples, key: dict[str, Any]) -> bytes:
    from safetensors.numpy import save

    arrays: dict[str, Any] = {}
    for part in _PARTS:
        found: Examples = getattr(examples, part)
        columns = (found.rows.starts, found.rows.columns, found.rows.values, found.labels)
        arrays |= {f"{part}.{name}": array for name, array in zip(_TYPES, columns, strict=True)}
    return save(arrays, {_METADATA: json.dumps(key, sort_keys=True)})


def _kept(place: Place, key: dict[str, Any], size: int) -> SiteExamples | None:
    """What a file holds, if it is of this key and whole."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = place.read()
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        if json.loads(header["__metadata__"][_METADATA]) != key:
            return None
        arrays = load(content)
        parts = {part: {name: arrays[f"{part}.{name}"] for name in _TYPES} for part in _PARTS}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(_is_sound(part, size) for part in parts.values()):
        return None
    trained, held_out = (
        Examples(SparseRows(part["starts"], part["columns"], part["values"]), part["labels"]) for part in parts.values()
    )
    return SiteExamples(trained, held_out)


def _is_sound(part: dict[str, Any], size: int) -> bool:
    """Whether kernels, which check nothing, can be given these."""
    starts, columns, values, labels = (part[name] for name in _TYPES)
    return bool(
        all(array.ndim == 1 and array.dtype == _TYPES[name] for name, array in part.items())
        and len(starts) == len(labels) + 1
        and starts[0] == 0
        and starts[-1] == len(columns) == len(values)
        and (np.diff(starts) >= 0).all()
        and ((columns >= 0) & (columns < size)).all()
        and np.isfinite(values).all()
        and np.isin(labels, (0, 1)).all()
    )
