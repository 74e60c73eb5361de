"""The coded head of several heads, and heads from labelled texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gneiss.arrays import Float64Array, Int64Array
from gneiss.batch import TextBatch
from gneiss.errors import InputError
from gneiss.model_training.coding.barycenter import MOST_NETWORKS, build, softmax
from gneiss.model_training.coding.linear import coded, even_coefficients
from gneiss.model_training.federated.features import SparseRows
from gneiss.model_training.heads.head import Code, Head, Space
from gneiss.model_training.networks import Parameters, backward, fitted, forward, new_network, probability

#: Of each head, texts that its information is taken from, and by which a way is chosen.
TEXTS, HELD_OUT = 300, 100
#: The most features of a network: its inputs are dense while it is trained or merged.
MOST_FEATURES = 16_384
_RATE, _BATCH = 1e-2, 64


def build_code(heads: Sequence[Head], texts: Sequence[Sequence[str]] = (), seed: int = 0) -> Head:
    """The coded head that stands in for any one of some heads.

    Linear heads are coded exactly, and need no texts. Networks, of which there are two, are merged by their information
    on texts of the kind that each was trained on.

    Parameters: `heads`: of one feature space and shape; `texts`: for each network 2 or more, of which the first 400
    are read; `seed`: of the distillation. Raises InputError.
    """
    if len(heads) < 2:
        raise InputError(f"coding: expected 2 heads or more, found {len(heads)}")
    if any(head.space.sha256 != heads[0].space.sha256 for head in heads):
        raise InputError(
            "coding: the heads read other features: words, n-grams and buckets, or encoder, windows and pooling; train"
            " them from one another"
        )
    if any(head.code for head in heads):
        raise InputError("coding: one of the heads is a coded one; name heads only")
    names, beta = tuple(head.sha256 for head in heads), even_coefficients(len(heads))
    coefficients = tuple(beta[0].tolist())
    if all(head.is_linear for head in heads):
        arrays = zip(*(head.network for head in heads), strict=True)
        network = tuple(coded(of_heads, beta)[0] for of_heads in arrays)
        return Head(heads[0].space, network, Code(names, coefficients))
    if any(head.is_linear for head in heads):
        raise InputError("coding: some of the heads are linear, others are networks; code each kind by itself")
    if len(heads) != MOST_NETWORKS:
        raise InputError(f"coding: expected {MOST_NETWORKS} networks, found {len(heads)}; code them in pairs")
    if len(texts) != len(heads) or min(map(len, texts)) < 2:
        raise InputError("coding: expected 2 or more texts for each network, of the kind that it was trained on")
    features = [
        dense(head.space, TextBatch.of(own[: TEXTS + HELD_OUT])) for head, own in zip(heads, texts, strict=True)
    ]
    own = [rows[: max(1, len(rows) * TEXTS // (TEXTS + HELD_OUT))] for rows in features]
    held_out = np.concatenate([rows[len(first) :] for rows, first in zip(features, own, strict=True)])
    draw = np.random.Generator(np.random.PCG64(seed))
    built = build([list(head.network) for head in heads], beta[0], own, held_out, draw)
    divergences = {str(way): found for way, found in built.divergences.items()}
    return Head(heads[0].space, tuple(built.network), Code(names, coefficients, built.choice, divergences))


def train_head(
    space: Space,
    texts: Sequence[str],
    labels: Int64Array,
    hidden: int = 32,
    start: Head | None = None,
    epochs: int = 20,
    seed: int = 0,
) -> Head:
    """A head from labelled texts: a network with one hidden layer, or a linear one.

    Parameters: `texts`: (documents,); `labels`: (documents,), 1 for good, 0 for not; `hidden`: units, 0 for a linear
    head; `start`: a head to go on from, of which `hidden` is that: networks that do so from one can be merged; `seed`:
    of the first weights and the order. Raises InputError.

    >>> from gneiss.model_training.federated.features import FeatureSpace
    >>> space = FeatureSpace.of(["good", "bad"], word_ngrams=1, buckets=0)
    >>> head = train_head(space, ["good day", "bad day"] * 50, np.array([1, 0] * 50), hidden=4, epochs=200)
    >>> bool(head.answers(TextBatch.of(["good day"])).score[0] > 0.9)
    True
    """
    if len(texts) != len(labels) or not len(texts):
        raise InputError(f"head: expected a label for each text, found {len(labels)} for {len(texts)} texts")
    if start is not None and start.code is not None:
        raise InputError("head: a coded head is nothing to go on from; give a head")
    draw = np.random.Generator(np.random.PCG64(seed))
    _check_features(space)
    inputs = space.rows(TextBatch.of(list(texts)))
    has_features = np.flatnonzero(np.diff(inputs.starts))  # of the others no head says anything
    if not len(has_features):
        raise InputError("head: none of the texts has a feature; give others")
    sizes = (space.size, hidden, 2) if hidden else (space.size, 1)
    begin = list(start.network) if start else new_network(sizes, draw)

    def gradient(parameters: Parameters, rows: Int64Array) -> Parameters:
        chosen = has_features[rows]
        entering = forward(parameters, _dense(inputs, chosen, space.size))
        return backward(parameters, entering, _error(entering[-1], labels[chosen]) / len(rows))[0]

    rows = len(has_features)
    found = fitted(begin, gradient, rows, draw, epochs=epochs, learning_rate=_RATE, l2=1e-5, batch=min(rows, _BATCH))
    return Head(space, tuple(found))


def _error(logits: Float64Array, labels: Int64Array) -> Float64Array:
    """Probabilities less the truth, (rows, outputs), of one output or of two."""
    if logits.shape[1] == 1:
        return probability(logits) - labels[:, None]
    found = softmax(logits)
    found[np.arange(len(labels)), labels] -= 1
    return found


def dense(space: Space, batch: TextBatch) -> Float64Array:
    """Features of texts with zeros, (documents, features). Raises InputError where there are too many features."""
    _check_features(space)
    rows = space.rows(batch)
    return _dense(rows, np.arange(len(rows)), space.size)


def _check_features(space: Space) -> None:
    if space.size > MOST_FEATURES:
        raise InputError(
            f"head: expected at most {MOST_FEATURES:,} words and buckets for a network, found {space.size:,}"
        )


def _dense(rows: SparseRows, chosen: Int64Array, size: int) -> Float64Array:
    """Some rows with zeros, (chosen, size)."""
    found = np.zeros((len(chosen), size))
    for at, row in enumerate(chosen.tolist()):
        entries = slice(rows.starts[row], rows.starts[row + 1])
        found[at, rows.columns[entries]] = rows.values[entries]
    return found
