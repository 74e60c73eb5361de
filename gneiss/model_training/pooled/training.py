"""Pooled networks from labelled text, each with a card of its evaluation on held-out text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.batch import TextBatch
from gneiss.errors import InputError
from gneiss.filters.pooled_kernel import PLACES
from gneiss.filters.pooled_model import FILE, PooledNetwork, write_network
from gneiss.model_training.evaluated import evaluated, positives_of
from gneiss.model_training.labels import NEGATIVE, QUALITY, read_labelled, rule_of, sha256_of
from gneiss.model_training.models import Classifier, PooledSettings
from gneiss.model_training.pooled.card import pooled_card
from gneiss.model_training.pooled.kernel import Factors, learn, table_of, word_buckets
from gneiss.model_training.source import CARD, claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of

#: Numbers of a word, outputs of a group, what the outputs' biases start at, and the share of words that a step drops.
NUMBERS, OUTPUTS, _BIAS, DROPPED_SHARE = 32, 32, 0.1, 0.3


def train_pooled(
    labels: Path,
    output: Path,
    *,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: PooledSettings = PooledSettings(),  # noqa: B008 - a frozen value
) -> Classifier[PooledSettings]:
    """Train a pooled network and write pooled.safetensors and MODEL.md.

    Parameters: `labels`, `text`, `label`, `positive`, `score_threshold`: as for `train_quality`; `output`: its own
    folder, created if missing. Equal input gives an equal file, byte for byte.
    Raises InputError for labels that cannot be used, OutputError when the folder holds something else.
    """
    rule = rule_of(label, positive, score_threshold, QUALITY)
    labelled = read_labelled(labels, text, rule)
    claim(output, FILE)
    trained, held_out = labelled.split(settings.held_out_share)
    texts = TextBatch.of([document.line for document in trained.documents])
    network = fit_pooled(texts, positives_of(trained.documents), settings)
    write_bytes(write_network(network), place_of(output), FILE)
    classifier = evaluated(
        output / FILE,
        settings,
        rule,
        trained,
        held_out,
        lambda lines: network.scores(TextBatch.of(lines)),
        positive=QUALITY,
        content_sha256=sha256_of(trained.documents, QUALITY, NEGATIVE),
    )
    write_bytes(pooled_card(classifier).encode(), place_of(output), CARD)
    return classifier


def fit_pooled(batch: TextBatch, is_positive: BoolArray, settings: PooledSettings) -> PooledNetwork:
    """A network that learnt from texts. is_positive: (documents,). Raises InputError where no text has a word.

    >>> texts = TextBatch.of(["good text", "bad text"] * 20)
    >>> network = fit_pooled(texts, np.tile([True, False], 20), PooledSettings(buckets=100, learning_rate=0.1))
    >>> network.scores(TextBatch.of(["good", "bad"])).round().tolist()
    [1.0, 0.0]
    """
    starts, buckets = word_buckets(batch.data, batch.offsets, settings.buckets)
    if not len(buckets):
        raise InputError("no text to train on has a word: expected text between white space")
    draw = np.random.default_rng(settings.seed)
    network = Factors(
        words=np.zeros((settings.buckets, NUMBERS)),
        places=draw.uniform(-1, 1, (PLACES, NUMBERS, OUTPUTS)) / np.sqrt(NUMBERS),
        bias=np.full(OUTPUTS, _BIAS),
        weights=draw.uniform(-1, 1, 2 * OUTPUTS) * np.sqrt(3 / (2 * OUTPUTS)),
        last_bias=np.zeros(1),
    )
    squares = Factors(*map(np.zeros_like, network))
    for _ in range(settings.epochs):
        order, seed = draw.permutation(len(batch)), int(draw.integers(1 << 62))
        learn(starts, buckets, is_positive, order, network, squares, settings.learning_rate, DROPPED_SHARE, seed)
    return PooledNetwork(table_of(network.words, network.places), network.bias, network.weights, network.last_bias)
