"""Options of commands that read a text by an encoder."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer


class PoolingOption(StrEnum):
    """What stands for a window of an encoder."""

    mean = "mean"
    cls = "cls"
    pooler = "pooler"


class PrecisionOption(StrEnum):
    """Products in an encoder."""

    float32 = "float32"
    int8 = "int8"


EncoderWeights: TypeAlias = Annotated[
    str, typer.Option(help="Weights file of the encoder: safetensors of a BERT, or ONNX.")
]
Pooling: TypeAlias = Annotated[
    PoolingOption, typer.Option(help="How token embeddings are pooled into that of a window.")
]
Windows: TypeAlias = Annotated[int, typer.Option(min=1, max=64, help="Maximum number of windows per text.")]
WindowTokens: TypeAlias = Annotated[int, typer.Option(min=8, max=8192, help="Tokens per window.")]
Precision: TypeAlias = Annotated[
    PrecisionOption, typer.Option(help="`int8` is twice as fast and slightly less accurate.")
]
