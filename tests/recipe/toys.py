"""Toy annotators that read annotations, which recipes of tests name by import path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gneiss.annotation import Annotator, Column
from gneiss.batch import TextBatch


@dataclass(frozen=True)
class Ratio(Annotator):
    """One annotation over another one, and over the bytes of the text that the annotator sees."""

    part: str = "words"
    whole: str = "sentences"
    column: str = "ratio"

    @property
    def reads_annotations(self) -> tuple[str, ...]:
        """Both."""
        return self.part, self.whole

    @property
    def columns(self) -> tuple[Column, ...]:
        """The quotient, and the part per byte."""
        return (
            Column(self.column, "float64", f"{self.part} over {self.whole}"),
            Column(f"{self.column}_size", "float64", f"{self.part} over bytes"),
        )

    def compute(self, batch: TextBatch) -> dict[str, Any]:
        """As floats; null where one is missing, or the divisor is 0."""
        part, whole = (batch.annotations[name].cast(pa.float64()) for name in self.reads_annotations)
        sizes = [len(text.encode()) for text in batch.texts()]
        return {
            self.column: pc.divide(part, pc.if_else(pc.equal(whole, 0.0), None, whole)),
            f"{self.column}_size": pc.divide(part, pa.array([float(size) if size else None for size in sizes])),
        }


@dataclass(frozen=True)
class RatioOfUrl(Ratio):
    """One that also wants URLs."""

    reads = "url"  # type: ignore[assignment]
