"""Fusion: one score of a document from whatever annotations it has, by a model of `gneiss train fusion`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.errors import ModelError, did_you_mean
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES: tuple[Page, ...] = ()


@dataclass(frozen=True)
class Fusion(Annotator):
    """A score from blocks of other annotations, of which any may be missing.

    model: the file, or its folder with a slash at the end; column: name of the score; blocks: the blocks that there are
    and the annotations that each reads, in the order of the model; by default all as they were trained. A block that is
    not named is missing for every document.

    >>> Fusion("fusion/", blocks={"quality": ("dclm", "cosmo")}).reads_annotations
    ('dclm', 'cosmo')
    """

    key = "fusion"

    model: str
    column: str = "fusion"
    blocks: Mapping[str, tuple[str, ...]] | None = None

    @property
    def reads_annotations(self) -> tuple[str, ...]:
        """Those of the blocks; none before the plan, where the model says which."""
        return tuple(dict.fromkeys(name for names in (self.blocks or {}).values() for name in names))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column(self.column, "float64", f"probability of the label by {self.model}; null without any block"),
            Column(f"{self.column}_spread", "float64", "how far the answers from parts of the blocks lie apart"),
            Column(f"{self.column}_blocks", "int64", "which blocks the document has: the sum of 2^block, from block 0"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The model."""
        return (f"{self.model}fusion.safetensors" if self.model.endswith("/") else self.model,)

    def completed(self, files: Mapping[str, Path]) -> Fusion:
        """With the blocks of the model, where the recipe does not name any. Raises ModelError."""
        from gneiss.filters.fusion_model import read_model

        if self.blocks is not None:
            return self
        model = read_model(files[self.model_files[0]])
        return replace(
            self, blocks={block.name: tuple(column.name for column in block.columns) for block in model.blocks}
        )

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Once per worker: read the model. Raises ModelError when it has no such blocks."""
        from gneiss.filters.fusion_model import encoded, read_model

        path = files[self.model_files[0]]
        model = read_model(path)
        given = self.completed(files).blocks or {}
        known = {block.name: block for block in model.blocks}
        for name, columns in given.items():
            if name not in known:
                raise ModelError(f"{path}: fusion.blocks: the model has no block {name!r}{did_you_mean(name, known)}")
            if len(columns) != len(known[name].columns):
                trained = ", ".join(column.name for column in known[name].columns)
                raise ModelError(
                    f"{path}: fusion.blocks.{name}: expected {len(known[name].columns)} annotations, in the places of"
                    f" {trained}, found {len(columns)}"
                )

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            read = [[batch.annotations[c] for c in given[name]] if name in given else None for name in known]
            features, there = encoded(model.blocks, read, len(batch))
            scores, spreads = model.scores(model.standardised(features, there), there)
            return {
                self.column: pa.array(scores, mask=np.isnan(scores)),
                f"{self.column}_spread": pa.array(spreads, mask=np.isnan(spreads)),
                f"{self.column}_blocks": pa.array(there.astype(np.int64) @ (1 << np.arange(len(known)))),
            }

        return compute
