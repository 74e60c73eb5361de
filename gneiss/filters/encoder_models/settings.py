"""What features of an encoder are, and where they are computed: values that a recipe, a head and a session share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: What stands for a window: the mean over its tokens, its first token, or that through the layer under BERT's own head.
Pooling: TypeAlias = Literal["mean", "cls", "pooler"]
Precision: TypeAlias = Literal["float32", "int8"]
Device: TypeAlias = Literal["cpu", "gpu"]
Engine: TypeAlias = Literal["onnxruntime", "torch"]
#: Of the products on a GPU.
GpuPrecision: TypeAlias = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True)
class FeatureSettings:
    """What features of a text are: how windows become them, how many there are, and tokens of each."""

    pooling: Pooling = "mean"
    windows: int = 3
    window_tokens: int = 512
    precision: Precision = "float32"


@dataclass(frozen=True)
class Execution:
    """Where features are computed, and by what.

    device: a GPU is taken where there is one; engine: on a processor, ONNX Runtime by default; a GPU is torch's.
    """

    device: Device = "cpu"
    engine: Engine | None = None
    gpu_precision: GpuPrecision = "float16"
