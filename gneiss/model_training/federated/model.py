"""A federated model as fastText reads it: a `.bin` file in which the vector of a feature is its weights.

One output: dimension 1, output matrix (0, 1), so that softmax over two labels is the logistic function. Several
outputs: as many dimensions, output matrix the identity. There is no bias: `</s>`, in every text, acts as one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gneiss.errors import InputError, MachineError, printable
from gneiss.filters.fasttext_models.file import PREFIX, read_model, require_sound_weights
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.linear import SCALE
from gneiss.model_training.federated.strategies.steps import Weights

_MAGIC, _VERSION = 793712314, 12
_SOFTMAX, _SUPERVISED = 3, 3
_WORD, _LABEL = 0, 1


def write_model(space: FeatureSpace, weights: Weights, labels: Sequence[str], path: Path) -> None:
    """Write weights as a fastText model, whole or not at all, after reading it back.

    Parameters: `weights`: (features, outputs), of SCALE times the features; `labels`: without prefix, two for one
    output (the second is that of high scores), or one for each output. The same weights give the same bytes.
    Raises InputError for weights or labels that do not fit, ModelError for weights that are not finite, MachineError
    without space on disk.
    """
    _check(space, weights, labels)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in _parts(space, weights, labels):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        require_sound_weights(read_model(temporary))
        temporary.replace(path)
    except OSError as error:
        raise MachineError(f"{path}: cannot write the model: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _check(space: FeatureSpace, weights: Weights, labels: Sequence[str]) -> None:
    outputs = 1 if len(labels) == 2 else len(labels)
    if weights.shape != (space.size, outputs):
        raise InputError(
            f"weights: expected {space.size:,} x {outputs} for {len(space.words):,} words, {space.buckets:,} buckets"
            f" and {len(labels)} labels, found {' x '.join(map(str, weights.shape))}"
        )
    if len(set(labels)) < len(labels) or len(labels) < 2:
        raise InputError(f"labels: expected at least two, each once, found {printable(', '.join(labels)) or 'none'}")
    for label in labels:
        if not label or label.split() != [label] or "\0" in label:
            raise InputError(f"labels: '{printable(label)}' has white space or nothing in it; fastText cannot read it")


def _parts(space: FeatureSpace, weights: Weights, labels: Sequence[str]) -> Iterator[bytes]:
    outputs = weights.shape[1]
    # dimensions, window, epochs, minCount, negatives, n-grams, loss, kind, buckets, minn, maxn, updates, t
    arguments = (outputs, 5, 1, 1, 5, space.word_ngrams, _SOFTMAX, _SUPERVISED, space.buckets, 0, 0, 100, 0.0)
    yield struct.pack("<ii12id", _MAGIC, _VERSION, *arguments)
    entries = len(space.words) + len(labels)
    yield struct.pack("<iiiqq", entries, len(space.words), len(labels), entries, -1)
    for word in space.words:
        yield word.encode() + struct.pack("<bqb", 0, 1, _WORD)
    for label in labels:
        yield (PREFIX + label).encode() + struct.pack("<bqb", 0, 1, _LABEL)
    yield struct.pack("<Bqq", 0, *weights.shape)
    yield (weights * SCALE).astype("<f4").tobytes()
    output = np.array([[0.0], [1.0]]) if outputs == 1 else np.eye(outputs)
    yield struct.pack("<Bqq", 0, *output.shape)
    yield output.astype("<f4").tobytes()
