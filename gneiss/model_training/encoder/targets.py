"""Texts with a number, or one of several labels: each distinct text once, trained on or held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import pyarrow as pa

from gneiss.errors import InputError
from gneiss.model_training.distinct import DistinctTexts, split
from gneiss.model_training.labels import MIN_DOCUMENTS, Rule, label_values
from gneiss.model_training.source import Skipped, read_rows

#: What a head learns: a number, or which of several labels.
TargetKind: TypeAlias = Literal["regression", "classes"]
_MOST_LABELS = 1000


@dataclass(frozen=True)
class Target:
    """A text on one line, and its number or label."""

    line: str
    value: str | float


@dataclass(frozen=True)
class Targets:
    """Distinct documents in the order of their hashes: a shuffle without random numbers. rows: all, used or not."""

    documents: tuple[Target, ...]
    rows: int
    skipped: Skipped

    @property
    def counts(self) -> Mapping[str, int]:
        """Documents of each label, by name; empty for numbers."""
        labels = Counter(document.value for document in self.documents if isinstance(document.value, str))
        return {label: labels[label] for label in sorted(labels)}

    @property
    def sha256(self) -> str:
        """Of the texts with their values, in order, in hexadecimal."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(f"{document.value!r} {document.line}\n".encode())
        return digest.hexdigest()

    def split(self, share: float) -> tuple[Targets, Targets]:
        """(trained, held out): a share is held out, of each label the same: the texts with the lowest hashes."""
        trained, held_out = split(self.documents, share, _label_of)
        return replace(self, documents=trained), replace(self, documents=held_out)


def _label_of(document: Target) -> str | None:
    return document.value if isinstance(document.value, str) else None


def read_targets(source: Path, text: str, column: str, kind: TargetKind) -> Targets:
    """Read documents with numbers or labels into memory. A text counts once, or not at all if its rows disagree.

    Raises InputError for a missing or mistyped column, and for too few documents.
    """
    texts = DistinctTexts[str | float]()
    for table in read_rows(source, text, column):
        for raw, value in zip(table[text], _values(table[column], column, kind, source), strict=True):
            texts.add(raw, value)
    found = Targets(tuple(Target(line, value) for _, line, value in texts.agreed()), texts.rows, texts.skipped)
    _check(found, source, column, kind)
    return found


def _values(column: pa.ChunkedArray, name: str, kind: TargetKind, source: Path) -> Iterator[str | float | None]:
    type_ = column.type
    if kind == "regression" and not (
        pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_)
    ):
        raise InputError(f"{source}: column {name!r}: a regression learns numbers, found {type_}")
    rule = Rule(name, at_least=0.0) if kind == "regression" else Rule(name)
    return label_values(column, rule, source)


def _check(found: Targets, source: Path, column: str, kind: TargetKind) -> None:
    if kind == "regression":
        numbers = {document.value for document in found.documents}
        if len(found.documents) < 2 * MIN_DOCUMENTS or len(numbers) < 2:
            raise InputError(
                f"{source}: column {column!r}: expected {2 * MIN_DOCUMENTS} distinct texts with different numbers,"
                f" found {len(found.documents)} texts and {len(numbers)} numbers"
            )
        return
    counts = found.counts
    if not 2 <= len(counts) <= _MOST_LABELS:
        raise InputError(f"{source}: column {column!r}: expected 2 to {_MOST_LABELS} labels, found {len(counts)}")
    least = min(counts, key=lambda label: (counts[label], label))
    if counts[least] < MIN_DOCUMENTS:
        raise InputError(
            f"{source}: column {column!r}: {MIN_DOCUMENTS} distinct texts of each label are needed, found"
            f" {counts[least]} of {least!r}"
        )
