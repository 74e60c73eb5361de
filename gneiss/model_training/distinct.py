"""Texts to learn from, each once: rows that repeat one agree on its value, or it counts not at all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyarrow as pa

from gneiss.model_training.source import Skipped, decoded, one_line

D = TypeVar("D")
V = TypeVar("V")


@dataclass
class DistinctTexts(Generic[V]):
    """Collects rows of texts with a value each. rows: all that were added, used or not.

    Texts are equal if fastText reads the same.
    """

    rows: int = 0
    _null: int = 0
    _not_utf8: int = 0
    _lines: dict[bytes, str] = field(default_factory=dict)
    _values: dict[bytes, V | None] = field(default_factory=dict)

    def add(self, text: pa.Scalar, value: V | None) -> bytes | None:
        """Add a row. text: of binary; returns its sha256, or None for a row without text or value, or not of UTF-8."""
        self.rows += 1
        if value is None or not text.is_valid:
            self._null += 1
            return None
        content = decoded(text.as_py())
        if content is None:
            self._not_utf8 += 1
            return None
        line = one_line(content)
        key = hashlib.sha256(line.encode()).digest()
        if self._values.setdefault(key, value) != value:
            self._values[key] = None
        self._lines[key] = line
        return key

    def agreed(self) -> Iterator[tuple[bytes, str, V]]:
        """sha256, line and value of each text whose rows agree, by sha256: a shuffle without random numbers."""
        for key in sorted(self._values):
            value = self._values[key]
            if value is not None:
                yield key, self._lines[key], value

    @property
    def skipped(self) -> Skipped:
        """What is not used, and why."""
        repeated = self.rows - self._null - self._not_utf8 - len(self._values)
        contradictory = sum(value is None for value in self._values.values())
        return Skipped(self._null, self._not_utf8, repeated, contradictory)


def split(documents: Sequence[D], share: float, label_of: Callable[[D], object]) -> tuple[tuple[D, ...], tuple[D, ...]]:
    """(trained, held out): of each label the first documents are held out, that share of them.

    >>> split(["a1", "b1", "a2", "a3", "b2", "a4"], 0.5, lambda document: document[0])
    (('a3', 'b2', 'a4'), ('a1', 'b1', 'a2'))
    """
    sizes = Counter(map(label_of, documents))
    left = {label: round(share * size) for label, size in sizes.items()}
    trained: list[D] = []
    held_out: list[D] = []
    for document in documents:
        label = label_of(document)
        (held_out if left[label] > 0 else trained).append(document)
        left[label] -= 1
    return tuple(trained), tuple(held_out)
