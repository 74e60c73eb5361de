"""Pooled networks: the probability of a label by a small network over groups of three words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES = (
    Page(
        code="PN01",
        name="pooled",
        summary="Scores text with a small self-trained network over word trigrams.",
        why=(
            "fastText sums independent weights of n-grams. This network reads each word with the next two, "
            "and pools mean and maximum over the text, so that a single informative passage can decide. On "
            "the same labels it ranks documents slightly better than fastText, at less than half its speed; "
            "a head on an encoder, a thousand times as expensive, did not (docs/models.md). There is no "
            "published model: gneiss train pooled trains one from labels, and its card lists thresholds."
        ),
        formula=(
            "for each word and the next two, by fastText's hash of their bytes, 32 sums and a ReLU; from the "
            "mean and maximum of each over the text, the probability of the label; null for a text without "
            "words"
        ),
        source=(
            "after the convolution and pooling of Y. Kim, Convolutional Neural Networks for Sentence Classification "
            "(EMNLP 2014), with hashed words; scripts/experiments/encoders.py measures it"
        ),
        cost="100 MB/s on one core, 45 for texts of 40 words; 25 MB of memory per worker and model",
        example_kept="To solve the equation, first collect the terms in x on one side, then divide by their factor.",
        example_dropped="CHEAP tickets!! buy now buy now best price click here login free shipping order today",
    ),
)


@dataclass(frozen=True)
class Pooled(Annotator):
    """A score by a model of `gneiss train pooled`.

    model: the file, or its folder with a slash at the end; column: name of the score.

    >>> Pooled("own-pooled/").model_files
    ('own-pooled/pooled.safetensors',)
    """

    key = "pooled"
    loaded_bytes_per_byte = 2

    model: str
    column: str = "pooled"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (Column(self.column, "float64", f"probability of the label by {self.model}; null without words"),)

    @property
    def model_files(self) -> tuple[str, ...]:
        """The model."""
        return (f"{self.model}pooled.safetensors" if self.model.endswith("/") else self.model,)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Once per worker: read the model. Raises ModelError for what is none."""
        import numpy as np

        from gneiss.filters.pooled_model import read_network

        network = read_network(files[self.model_files[0]])

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            scores = network.scores(batch)
            return {self.column: pa.array(scores, mask=np.isnan(scores))}

        return compute
