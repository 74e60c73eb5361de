"""Encoders: scores of a text by linear heads over the features of a small transformer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gneiss.annotation import STRICT_KEYS, Annotate, Annotator, Column, Demand
from gneiss.arrays import Float64Array
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.encoder_models.settings import (
    Device,
    Engine,
    Execution,
    FeatureSettings,
    GpuPrecision,
    Pooling,
    Precision,
)
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch
    from gneiss.filters.encoder_models.features import EncoderFiles
    from gneiss.filters.encoder_models.head import LinearHead

#: Memory that torch takes beside the weights, on a processor about 0.4 GB; the rest is for what a GPU has of it here.
_TORCH_BYTES = 2_000_000_000

PAGES = (
    Page(
        code="EN01",
        name="encoder",
        summary="Keeps text that a small transformer rates as educational, as in FineWeb-Edu.",
        why=(
            "An encoder reads words in context, unlike an n-gram model, and costs a few thousand times as "
            "much. Use it in a phase after cheap rules, or in a routing policy (docs/routing.md). "
            "FineWeb-Edu's model gives a number from 0 to 5. Any BERT with its own head, and any encoder "
            "with a head of gneiss train encoder, can replace it; the threshold only holds for its model."
        ),
        formula=(
            "of up to `windows` windows of `window_tokens` tokens, at equal distances from the beginning to the end of "
            "the text, the mean of the features; from these, by a linear head, a number or a probability, rounded to 4 "
            "decimals; null for a text without tokens. FineWeb-Edu reads one window (windows: 1)"
        ),
        source=(
            "FineWeb-Edu (arXiv 2406.17557), section 4: HuggingFaceFW/fineweb-edu-classifier, whose score, rounded, is "
            "at least 3"
        ),
        cost="7,600 tokens per second on one core with 6 layers of 384, 16,000 in int8; proportional to "
        "layers and width squared",
        example_kept="Photosynthesis turns light into chemical energy. Its first reactions take place in thylakoids.",
        example_dropped="Book your weekend now! Pool, spa, breakfast included, and free parking for members.",
        rules={"educational": "encoder >= 2.5"},
    ),
)


@dataclass(frozen=True)
class EncoderHead:
    """One head. source: the file of a head of `gneiss train encoder`, or None for the model's own.

    label: whose probability is the score, for a head with more than one.
    """

    __pydantic_config__ = STRICT_KEYS

    source: str | None = None
    label: str | None = None


def _own_head() -> Mapping[str, EncoderHead]:
    return {"encoder": EncoderHead()}


@dataclass(frozen=True)
class Encoder(Annotator):
    """Scores of heads over one encoder, which reads each text once for all of them.

    model: a folder as Hugging Face lays it out, a local path, `hf://owner/repo@revision/` or `package:NAME/`, with a
    slash at the end; heads: column → head, by default the model's own as `encoder`; weights: the file, BERT's in
    safetensors, or any encoder as ONNX (`onnx/model.onnx`); pooling: what stands for a window, `mean`, `cls` or
    `pooler`, by default that of the model's own head, or the mean; windows: the most of a text; window_tokens: of each;
    precision: of the products in the encoder; device: `gpu` uses one where there is one; gpu_precision: of the products
    there; engine: on a processor `onnxruntime`, the default, or `torch`, which alone knows GPUs.

    A head with a label gives the column NAME, the label's probability, and NAME_label, the most probable label.

    >>> [column.name for column in Encoder("edu/", {"topic": EncoderHead(label="science")}).columns]
    ['topic', 'topic_label']
    """

    key = "encoder"
    loaded_bytes_per_byte = 5

    model: str
    heads: Mapping[str, EncoderHead] = field(default_factory=_own_head)
    weights: str = "model.safetensors"
    pooling: Pooling | None = None
    windows: int = 3
    window_tokens: int = 512
    precision: Precision = "float32"
    device: Device = "cpu"
    engine: Engine | None = None
    gpu_precision: GpuPrecision = "float16"

    def __post_init__(self) -> None:
        if not self.model.endswith("/"):
            raise RecipeError(f"encoder: model: expected a folder, with a slash at the end: {self.model}/")
        if not self.heads:
            raise RecipeError("encoder: heads: expected one head or more, found none")
        if not 1 <= self.windows <= 64:
            raise RecipeError(f"encoder: windows: expected 1 to 64, found {self.windows}")
        if not 8 <= self.window_tokens <= 8192:
            raise RecipeError(f"encoder: window_tokens: expected 8 to 8192, found {self.window_tokens}")
        repeated = [name for name, count in Counter(column.name for column in self.columns).items() if count > 1]
        if repeated:
            raise RecipeError(f"encoder: heads: two heads both give the column {repeated[0]!r}; rename one")
        by_torch = "engine: torch" if self.engine == "torch" else "device: gpu" if self.device == "gpu" else None
        if by_torch and (self.precision != "float32" or self.weights.endswith(".onnx")):
            raise RecipeError(
                f"encoder: {by_torch} runs the safetensors of a BERT only, and no int8; leave it out for ONNX Runtime"
            )
        if self.device == "gpu" and self.engine == "onnxruntime":
            raise RecipeError("encoder: engine: a GPU is torch's; leave onnxruntime out, or take device: cpu")

    @property
    def _has_own(self) -> bool:
        """Whether a head is the model's own."""
        return any(head.source is None for head in self.heads.values())

    @property
    def settings(self) -> FeatureSettings:
        """What its features are."""
        own: Pooling = "pooler" if self._has_own and not self.weights.endswith(".onnx") else "mean"
        return FeatureSettings(self.pooling or own, self.windows, self.window_tokens, self.precision)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        found = []
        for name, head in self.heads.items():
            by = f"{head.source or 'its own head'} over {self.model}"
            if head.label is None:
                found.append(Column(name, "float64", f"score by {by}"))
            else:
                found.append(Column(name, "float64", f"probability of {head.label!r} by {by}"))
                found.append(Column(f"{name}_label", "string", f"most probable label by {by}"))
        return tuple(found)

    @property
    def model_files(self) -> tuple[str, ...]:
        """The encoder's files, and those of the heads."""
        of_model = (f"{self.model}{name}" for name in ("config.json", "tokenizer.json", self.weights))
        return tuple(dict.fromkeys([*of_model, *(head.source for head in self.heads.values() if head.source)]))

    @property
    def calls(self) -> tuple[str, ...]:
        """What computes: its versions are part of what a run depends on. Where torch is missing no GPU is used."""
        if self.engine == "torch":
            return ("torch",)
        return ("onnxruntime", "torch") if self.device == "gpu" and find_spec("torch") else ("onnxruntime",)

    def completed(self, files: Mapping[str, Path]) -> Encoder:
        """The same, where what computes is installed. Raises ModelError where it is not."""
        from gneiss.filters.encoder_models.session import onnxruntime
        from gneiss.filters.encoder_models.torch_session import require_torch

        (require_torch if self.engine == "torch" else onnxruntime)()
        return self

    def demand(self, source: str, path: Path, size_bytes: int) -> Demand:
        """See Annotator. With the weights comes torch, if it is that which computes."""
        is_torch = source.endswith(f"/{self.weights}") and "torch" in self.calls
        memory_bytes = super().demand(source, path, size_bytes).memory_bytes
        return Demand(memory_bytes + is_torch * _TORCH_BYTES, is_torch and self.device == "gpu")

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Once per worker: load the encoder and its heads.

        Raises ModelError: a file is not what it should be, two do not fit each other, or a package is missing.
        """
        from gneiss.filters.encoder_models.features import EncoderFiles, load_features
        from gneiss.filters.encoder_models.own_head import own_head

        of_encoder = EncoderFiles(*(files[source] for source in self.model_files[:3]))
        features = load_features(of_encoder, self.settings, Execution(self.device, self.engine, self.gpu_precision))
        heads = {
            name: own_head(of_encoder, features.width, self.settings)
            if head.source is None
            else self._trained(files[head.source], of_encoder)
            for name, head in self.heads.items()
        }
        for name, head in heads.items():
            if head.width != features.width:
                raise ModelError(
                    f"encoder: heads: {name}: the head reads {head.width} features, the encoder gives {features.width}"
                )
            if self.heads[name].label not in head.labels and (self.heads[name].label or len(head.labels) > 1):
                raise ModelError(
                    f"encoder: heads: {name}: label: expected one of {', '.join(head.labels)}, found"
                    f" {self.heads[name].label!r}"
                )

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            found = features(batch.texts())
            return {
                column: values
                for name, head in heads.items()
                for column, values in _columns(
                    name, self.heads[name].label, head, np.round(head.scores(found), features.session.digits)
                ).items()
            }

        return compute

    def _trained(self, path: Path, encoder: EncoderFiles) -> LinearHead:
        """A head of `gneiss train encoder`. Raises ModelError when it learnt from other features."""
        from gneiss.filters.encoder_models.head import read_head

        trained = read_head(path)
        if trained.settings != self.settings:
            raise ModelError(f"{path}: the head learnt from {trained.settings}, the recipe asks for {self.settings}")
        if trained.encoder_sha256 != encoder.weights_sha256():
            raise ModelError(f"{path}: the head learnt from another encoder than {self.model}; name that one")
        return trained.head


def _columns(name: str, label: str | None, head: LinearHead, scores: Float64Array) -> Mapping[str, pa.Array]:
    """The columns of a head. scores: float64 (texts, outputs), rounded."""
    import pyarrow as pa

    missing = ~np.isfinite(scores).all(axis=1)
    number = 0 if label is None else head.labels.index(label)
    found = {name: pa.array(scores[:, number], mask=missing)}
    if label is not None:
        top = scores.argmax(axis=1)  # of equals the first
        found[f"{name}_label"] = pa.array(head.labels, pa.string()).take(pa.array(top, mask=missing))
    return found
