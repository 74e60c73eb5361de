"""Heads over the frozen features of a small transformer, from labelled text, each with a card of its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gneiss.filters.encoder_models.features import load_features
from gneiss.filters.encoder_models.head import FILE, LinearHead, TrainedHead, write_head
from gneiss.filters.encoder_models.session import DIGITS
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training.encoder.card import encoder_card
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.evaluated import evaluated, positives_of
from gneiss.model_training.labels import NEGATIVE, QUALITY, read_labelled, rule_of, sha256_of
from gneiss.model_training.logistic import fit_logistic
from gneiss.model_training.models import Classifier, HeadSettings
from gneiss.model_training.source import CARD, claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of


def train_encoder(
    labels: Path,
    model: str,
    output: Path,
    *,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    weights: str = "model.safetensors",
    settings: FeatureSettings = FeatureSettings(),  # noqa: B008 - a frozen value
    l2: float = 0.01,
    held_out_share: float = 0.2,
) -> Classifier[HeadSettings]:
    """Train a head over an encoder, whose weights stay as they are, and write head.safetensors and MODEL.md.

    Parameters: `labels`, `text`, `label`, `positive`, `score_threshold`: as for `train_quality`; `model`: the folder of
    an encoder, with a slash at the end, as in a recipe; `output`: a folder for the head, created if missing; `weights`:
    the file in the folder; `settings`: of the features; `l2`: how strongly the head's weights are drawn to 0. Equal
    input gives an equal file, byte for byte, on one kind of processor.
    Raises InputError for labels that cannot be used, ModelError for what is no encoder, OutputError when the folder
    holds something else.
    """
    source = EncoderSource(model, weights)
    rule = rule_of(label, positive, score_threshold, QUALITY)
    labelled = read_labelled(labels, text, rule)
    files = source.files
    of_head = HeadSettings(model, weights, files.weights_sha256(), settings, l2, held_out_share)
    features = load_features(files, settings)
    claim(output, FILE)
    trained, held_out = labelled.split(held_out_share)
    of_trained = features([document.line for document in trained.documents])
    is_positive = positives_of(trained.documents)
    has_tokens = ~np.isnan(of_trained).any(axis=1)
    found = fit_logistic(of_trained[has_tokens].astype(np.float64), is_positive[has_tokens], l2)
    head = LinearHead("sigmoid", (QUALITY,), found.weights[:, None], np.array([found.bias]))
    write_bytes(write_head(TrainedHead(head, settings, of_head.encoder_sha256)), place_of(output), FILE)
    classifier = evaluated(
        output / FILE,
        of_head,
        rule,
        trained,
        held_out,
        lambda lines: np.round(head.scores(features(lines))[:, 0], DIGITS),
        positive=QUALITY,
        content_sha256=sha256_of(trained.documents, QUALITY, NEGATIVE),
    )
    write_bytes(encoder_card(classifier).encode(), place_of(output), CARD)
    return classifier
