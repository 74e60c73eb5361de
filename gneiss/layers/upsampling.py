"""Upsampling by copies: a step function from the number of a document's copies to a factor of its weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from gneiss.arrays import Float64Array
from gneiss.errors import InputError, RecipeError, did_you_mean
from gneiss.recipe.yaml_text import MOST_BYTES, read_yaml
from gneiss.store.place import place_of

#: Number of copies from which on a factor holds → the factor.
Table: TypeAlias = Mapping[int, float]
#: Published tables. fineweb-2: the README of FineWeb-2 (Hugging Face, 2024), by the size of a MinHash cluster.
PUBLISHED: Mapping[str, Table] = {"fineweb-2": {1: 1, 2: 2, 3: 3, 5: 5, 100: 8, 1000: 1}}


@dataclass(frozen=True)
class Upsampling:
    """The factor of a document with `n` copies, itself included, is that of the last entry at most `n`.

    steps: (copies, factor), rising from 1 copy on. Raises InputError for a table that is no such function.
    """

    steps: tuple[tuple[int, float], ...]

    def __post_init__(self) -> None:
        copies = [n for n, _ in self.steps]
        if copies[:1] != [1] or any(low >= high for low, high in pairwise(copies)):
            raise InputError(f"upsampling: expected rising numbers of copies from 1 on, found {copies}")
        for number, factor in self.steps:
            if not (math.isfinite(factor) and factor > 0):
                raise InputError(f"upsampling: {number}: expected a finite factor above 0, found {factor}")

    @classmethod
    def of(cls, given: str | Table) -> Upsampling:
        """A published table by name, a YAML file of `copies: factor` lines, or a table. Raises InputError.

        >>> Upsampling.of("fineweb-2").factors(np.array([1.0, 4.0, 7.0, 5000.0])).tolist()
        [1.0, 3.0, 5.0, 1.0]
        """
        table = given if isinstance(given, Mapping) else PUBLISHED.get(given) or _read(given)
        return cls(tuple((copies, float(factor)) for copies, factor in table.items()))

    def factors(self, copies: Float64Array) -> Float64Array:
        """The factors of documents by the number of their copies, (documents,)."""
        return self._values([factor for _, factor in self.steps], copies)

    def logs(self, copies: Float64Array) -> Float64Array:
        """Their logarithms."""
        return self._values([math.log(factor) for _, factor in self.steps], copies)

    @property
    def largest_log(self) -> float:
        """The largest distance of a logarithm from 0."""
        return max(abs(math.log(factor)) for _, factor in self.steps)

    def _values(self, values: list[float], copies: Float64Array) -> Float64Array:
        at = np.searchsorted([n for n, _ in self.steps], copies, side="right") - 1
        return np.asarray(values, np.float64)[np.maximum(at, 0)]


def _read(path: str) -> Table:
    try:
        with place_of(path).open() as file:
            text = file.read(MOST_BYTES + 1).decode()
        table = read_yaml(text)
    except (OSError, UnicodeDecodeError) as error:
        hint = did_you_mean(path, PUBLISHED)
        raise InputError(f"upsampling: {path!r} is neither {', '.join(PUBLISHED)} nor a file{hint}: {error}") from error
    except RecipeError as error:
        raise InputError(f"{path}: {error}") from error
    numbers = isinstance(table, dict) and all(
        type(key) is int and type(value) in (int, float) for key, value in table.items()
    )
    if not numbers:
        raise InputError(f"{path}: expected lines of a number of copies and a factor, such as `2: 1.5`")
    return dict(table)
