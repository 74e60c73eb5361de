"""A head: from features of a text to a score, linear or by a small network; in safetensors, or a fastText `.bin`.

Features are those of fastText, or of an encoder. From them on, sums are float64 in a fixed order, without BLAS or a
library's exponential.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numba import njit

from gneiss.arrays import Float32Array, Float64Array, Int32Array, Int64Array
from gneiss.batch import TextBatch
from gneiss.errors import GneissError, ModelError, first_line
from gneiss.filters.encoder_models import head as encoder_head
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.filters.fasttext_models.file import read_model
from gneiss.filters.fasttext_models.output import exp
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.federated.features import END, FeatureSpace
from gneiss.model_training.heads.encoder_space import EncoderSpace

#: What a head reads of a text.
Space: TypeAlias = "FeatureSpace | EncoderSpace"
_METADATA, _VERSION = "gneiss_head", 1
_WORDS = "words"
#: Of a feature space in a worker's memory: a word, in Python and in its table.
_WORD_BYTES = 200


@dataclass(frozen=True, eq=False)
class Answers:
    """A head's answers for documents: score, float64, NaN for none; entries: features that a document has, int64;
    mass: the sum of their absolute values, float64; each (documents,).
    """

    score: Float64Array
    entries: Int64Array
    mass: Float64Array


@dataclass(frozen=True)
class Code:
    """What makes a head a coded one. heads: the sha256 of those it stands in for; coefficients: β of each.

    choice: how a network was made; divergences: of each way, in nats; of linear heads both are empty.
    """

    heads: tuple[str, ...]
    coefficients: tuple[float, ...]
    choice: str = ""
    divergences: Mapping[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Head:
    """A head over the features of a space; code: of a coded one.

    network: for each layer weights, float64 (inputs, outputs), and biases, (outputs,), ReLUs between. A linear head is
    one layer with one output, the log-odds of its label; a network has two, of which the second is for its label.
    """

    space: Space
    network: tuple[Float64Array, ...]
    code: Code | None = None

    def __post_init__(self) -> None:
        """Raises ModelError for arrays that do not fit each other, or are not finite."""
        weights, biases = self.network[::2], self.network[1::2]
        sizes = [self.space.size, *(len(bias) for bias in biases)]
        if not weights or [array.shape for array in weights] != list(pairwise(sizes)):
            raise ModelError(f"head: layers do not fit {sizes[0]:,} features and each other")
        if sizes[-1] != (1 if self.is_linear else 2):
            raise ModelError(f"head: expected {1 if self.is_linear else 2} outputs, found {sizes[-1]}")
        if any(array.dtype != np.float64 or not np.isfinite(array).all() for array in self.network):
            raise ModelError("head: expected finite float64 weights; train it again")

    @property
    def is_linear(self) -> bool:
        """Whether its scores are linear in its weights."""
        return len(self.network) == 2

    @cached_property
    def sha256(self) -> str:
        """Of its file."""
        return hashlib.sha256(packed_head(self)).hexdigest()

    @property
    def loaded_bytes(self) -> int:
        """What it takes of a worker's memory. Raises ModelError."""
        space = self.space.loaded_bytes if isinstance(self.space, EncoderSpace) else _WORD_BYTES * len(self.space.words)
        return space + 4 * sum(array.nbytes for array in self.network)

    def at(self, encoder: EncoderSource | None) -> Head:
        """The same, its encoder there; itself where it reads none, or knows where its encoder is.

        Raises InputError where nobody says where its encoder is, ModelError where another one is there.
        """
        if not isinstance(self.space, EncoderSpace):
            return self
        return replace(self, space=self.space.at(encoder or self.space.needed_source))

    def answers(self, batch: TextBatch) -> Answers:
        """The answers for the texts of a batch: log-odds of a linear head, a probability of a network."""
        rows = self.space.rows(batch)
        sizes = np.array([len(bias) for bias in self.network[1::2]])
        rest = np.concatenate([np.empty(0), *(array.ravel() for array in self.network[2:])])
        score, mass = _scores(rows.starts, rows.columns, rows.values, self.network[0], self.network[1], sizes, rest)
        return Answers(score, np.diff(rows.starts), mass)


def packed_head(head: Head) -> bytes:
    """The bytes of a head's file: the same head, the same bytes."""
    from safetensors.numpy import save

    code = head.code
    space, words = _packed_space(head.space)
    says = {
        "version": _VERSION,
        **space,
        "code": code
        and {
            "heads": code.heads,
            "coefficients": code.coefficients,
            "choice": code.choice,
            "divergences": code.divergences,
        },
    }
    arrays: dict[str, Any] = {
        f"layer.{at // 2}.{('weights', 'bias')[at % 2]}": np.ascontiguousarray(array)
        for at, array in enumerate(head.network)
    }
    return save(arrays | words, {_METADATA: json.dumps(says, sort_keys=True)})


def _packed_space(space: Space) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what a file says of a space, arrays)."""
    if isinstance(space, EncoderSpace):
        return {"encoder_sha256": space.encoder_sha256, "settings": asdict(space.settings)}, {}
    words = np.frombuffer("\n".join(space.words).encode(), np.uint8)
    return {"word_ngrams": space.word_ngrams, "buckets": space.buckets}, {_WORDS: words}


def _space_of(says: Mapping[str, Any], arrays: dict[str, Any]) -> Space:
    """The space of a file, whose arrays are taken out."""
    if "encoder_sha256" in says:
        size = len(arrays["layer.0.weights"])
        return EncoderSpace(str(says["encoder_sha256"]), FeatureSettings(**says["settings"]), size)
    words = tuple(arrays.pop(_WORDS).tobytes().decode().split("\n"))
    return FeatureSpace(words, says["word_ngrams"], says["buckets"])


def read_head(path: Path) -> Head:
    """A head from its file; a linear one from a fastText `.bin` of two labels, or from one of `gneiss train encoder`.

    Raises ModelError.
    """
    if path.suffix == ".bin":
        return _of_fasttext(path)
    return _of_encoder_head(path) if encoder_head.METADATA in _metadata(path) else _of_safetensors(path)


def _metadata(path: Path) -> Mapping[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: expected a head: {first_line(error)}") from error


def _of_safetensors(path: Path) -> Head:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            says = json.loads((file.metadata() or {})[_METADATA])
            arrays = {name: file.get_tensor(name) for name in sorted(file.keys())}
        if says["version"] != _VERSION:
            raise ValueError(f"expected version {_VERSION}, found {says['version']}")
        space = _space_of(says, arrays)
        network = [arrays[f"layer.{at // 2}.{('weights', 'bias')[at % 2]}"] for at in range(len(arrays))]
        return Head(space, tuple(network), _code(says["code"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, GneissError) as error:
        raise ModelError(f"{path}: expected a head: {first_line(error)}") from error


def _code(given: Mapping[str, Any] | None) -> Code | None:
    if given is None:
        return None
    coefficients = tuple(map(float, given["coefficients"]))
    if not all(coefficients) or not np.isfinite(coefficients).all() or len(coefficients) != len(given["heads"]):
        raise ValueError("expected a coefficient other than 0 for each of the heads it stands in for")
    return Code(tuple(map(str, given["heads"])), coefficients, str(given["choice"]), given["divergences"])


def _of_encoder_head(path: Path) -> Head:
    """A linear head of `gneiss train encoder` or of adapters; of two labels the score is that of the second."""
    trained = encoder_head.read_head(path)
    head = trained.head
    weights, bias = head.weights, head.bias
    if head.kind == "softmax" and len(head.labels) == 2:
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    elif head.kind != "sigmoid" or len(head.labels) != 1:
        raise ModelError(
            f"{path}: expected a head for the probability of one label, or of two, found {head.kind} of"
            f" {len(head.labels)}; `gneiss train encoder` makes one"
        )
    space = EncoderSpace(trained.encoder_sha256, trained.settings, head.width)
    return Head(space, (np.ascontiguousarray(weights), np.ascontiguousarray(bias)))


def _of_fasttext(path: Path) -> Head:
    file = read_model(path)
    if len(file.labels) != 2 or file.loss != "softmax" or file.longest_char_ngram or file.output is None:
        raise ModelError(
            f"{path}: expected a fastText model of two labels with the loss softmax, neither quantized nor with"
            " character n-grams, as `gneiss train quality` and `gneiss federated` make them"
        )
    data = file.data.tobytes()
    words = [
        data[start : start + length].decode(errors="surrogateescape")
        for start, length in zip(file.word_starts.tolist(), file.word_lengths.tolist(), strict=True)
    ]
    if END not in words:
        raise ModelError(f"{path}: the model has no word {END}; train it again")
    rows = len(words) + file.buckets
    start = file.input_start or 0
    vectors = np.frombuffer(data, "<f4", rows * file.dimensions, start).reshape(rows, file.dimensions)
    difference = file.output[1].astype(np.float64) - file.output[0]
    weights = np.zeros((rows, 1))
    for dimension in range(file.dimensions):
        weights[:, 0] += vectors[:, dimension].astype(np.float64) * difference[dimension]
    first = words.index(END)
    order = np.array([first, *(at for at in range(rows) if at != first)])
    space = FeatureSpace.of(words, file.word_ngrams, file.buckets)
    return Head(space, (np.ascontiguousarray(weights[order]), np.zeros(1)))


@njit(cache=True, nogil=True)
def _scores(
    starts: Int64Array,
    columns: Int32Array,
    values: Float32Array,
    first: Float64Array,
    bias: Float64Array,
    sizes: Int64Array,
    rest: Float64Array,
) -> tuple[Float64Array, Float64Array]:
    """(score, mass) of sparse rows; sizes: of what leaves each layer; rest: weights and biases of later layers."""
    rows = len(starts) - 1
    scores, masses = np.full(rows, np.nan), np.zeros(rows)
    for row in range(rows):
        if starts[row] == starts[row + 1]:
            continue
        leaving = np.zeros(len(bias))
        for entry in range(starts[row], starts[row + 1]):
            masses[row] += abs(values[entry])
            for output in range(len(bias)):
                leaving[output] += first[columns[entry], output] * np.float64(values[entry])
        for output in range(len(bias)):
            leaving[output] += bias[output]
        at = 0
        for layer in range(1, len(sizes)):
            entering = np.maximum(leaving, 0.0)
            leaving = rest[at + len(entering) * sizes[layer] :][: sizes[layer]].copy()
            for i in range(len(entering)):
                for j in range(sizes[layer]):
                    leaving[j] += entering[i] * rest[at + i * sizes[layer] + j]
            at += (len(entering) + 1) * sizes[layer]
        if len(leaving) == 1:
            scores[row] = leaving[0]
        else:
            logit = leaving[1] - leaving[0]
            tail = exp(-abs(logit))
            scores[row] = (1.0 if logit > 0 else tail) / (1.0 + tail)
    return scores, masses
