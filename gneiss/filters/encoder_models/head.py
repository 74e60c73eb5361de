"""Linear heads: from the features of a text to a score, in float64 sums of a fixed order; in safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Float64Array
from gneiss.errors import ModelError, first_line
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.filters.fasttext_models.output import exp

#: What a head's outputs are: numbers as they stand; a probability for each label by itself; or one for all labels.
Kind: TypeAlias = Literal["regression", "sigmoid", "softmax"]
_KINDS: tuple[Kind, ...] = ("regression", "sigmoid", "softmax")
#: The name of a head's file in its folder, and of what it says of itself.
FILE, METADATA = "head.safetensors", "gneiss_encoder_head"
_VERSION = 1


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A head. weights: float64 (width, outputs); bias: float64 (outputs,); labels: of the outputs."""

    kind: Kind
    labels: tuple[str, ...]
    weights: Float64Array
    bias: Float64Array

    def __post_init__(self) -> None:
        outputs = (len(self.labels),)
        if self.weights.ndim != 2 or self.weights.shape[1:] != outputs or self.bias.shape != outputs:
            raise ModelError(
                f"encoder head: expected weights and bias for {len(self.labels)} labels, found {self.weights.shape} and"
                f" {self.bias.shape}"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ModelError("encoder head: NaN or infinite weights; fetch or train it again")

    @property
    def width(self) -> int:
        """Features that it reads."""
        return len(self.weights)

    def logits(self, features: Float32Array) -> Float64Array:
        """Its outputs for each text, float64 (texts, outputs), NaN where features are. features: (texts, width)."""
        return _logits(features, self.weights, self.bias)

    def scores(self, features: Float32Array) -> Float64Array:
        """Its outputs as scores of its kind, float64 (texts, outputs). features: float32 (texts, width)."""
        return scores_of(self.logits(features), self.kind)


def scores_of(logits: Float64Array, kind: Kind) -> Float64Array:
    """Logits as they stand, as a probability each, or as probabilities that sum to 1; float64 (texts, outputs)."""
    if kind == "regression":
        return logits
    return _sigmoid(logits) if kind == "sigmoid" else _softmax(logits)


@dataclass(frozen=True)
class TrainedHead:
    """A head of `gneiss train encoder`. settings: of the features it learnt from; encoder_sha256: of the weights."""

    head: LinearHead
    settings: FeatureSettings
    encoder_sha256: str


def write_head(trained: TrainedHead) -> bytes:
    """The bytes of a head's file: the same head, the same bytes."""
    from safetensors.numpy import save

    head = trained.head
    says = {
        "version": _VERSION,
        "kind": head.kind,
        "labels": head.labels,
        "settings": asdict(trained.settings),
        "encoder_sha256": trained.encoder_sha256,
    }
    arrays = {"weights": np.ascontiguousarray(head.weights), "bias": head.bias}
    return save(arrays, {METADATA: json.dumps(says, ensure_ascii=False)})


def read_head(path: Path) -> TrainedHead:
    """Read a head. Raises ModelError naming the file: it is none, or its parts do not fit each other."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            says = json.loads((file.metadata() or {})[METADATA])
            arrays = {name: file.get_tensor(name) for name in ("weights", "bias")}
        if says["version"] != _VERSION:
            raise ValueError(f"expected version {_VERSION}, found {says['version']}")
        return _head(says, arrays)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, ModelError) as error:
        raise ModelError(f"{path}: expected a head of `gneiss train encoder`: {first_line(error)}") from error


def _head(says: Mapping[str, object], arrays: Mapping[str, Float64Array]) -> TrainedHead:
    kind, labels, settings = says["kind"], says["labels"], says["settings"]
    if kind not in _KINDS or not isinstance(labels, list) or not isinstance(settings, dict):
        raise ValueError(f"expected a kind, labels and settings, found {kind!r}, {labels!r}, {settings!r}")
    if any(array.dtype != np.float64 for array in arrays.values()):
        raise ValueError("expected float64 weights and bias")
    known = next(of for of in _KINDS if of == kind)
    head = LinearHead(known, tuple(map(str, labels)), arrays["weights"], arrays["bias"])
    return TrainedHead(head, FeatureSettings(**settings), str(says["encoder_sha256"]))


@njit(cache=True, nogil=True)
def _logits(features: Float32Array, weights: Float64Array, bias: Float64Array) -> Float64Array:
    texts, (width, outputs) = len(features), weights.shape
    found = np.empty((texts, outputs))
    for text in range(texts):
        for output in range(outputs):
            total = 0.0
            for feature in range(width):
                total += np.float64(features[text, feature]) * weights[feature, output]
            found[text, output] = total + bias[output]
    return found


@njit(cache=True, nogil=True)
def _sigmoid(logits: Float64Array) -> Float64Array:
    found = np.empty(logits.shape)
    for text in range(logits.shape[0]):
        for output in range(logits.shape[1]):
            logit = logits[text, output]
            part = exp(-abs(logit))
            found[text, output] = 1 / (1 + part) if logit > 0 else part / (1 + part)
    return found


@njit(cache=True, nogil=True)
def _softmax(logits: Float64Array) -> Float64Array:
    found = np.empty(logits.shape)
    for text in range(logits.shape[0]):
        largest, total = logits[text].max(), 0.0
        for output in range(logits.shape[1]):
            found[text, output] = exp(logits[text, output] - largest)
            total += found[text, output]
        found[text] /= total
    return found
