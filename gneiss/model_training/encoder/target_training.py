"""Heads over an encoder for a number, or for one of several labels, each with a card of its evaluation."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gneiss.arrays import Float32Array, Float64Array
from gneiss.filters.encoder_models.features import load_features
from gneiss.filters.encoder_models.head import FILE, LinearHead, TrainedHead, write_head
from gneiss.filters.encoder_models.session import DIGITS
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training.encoder.least_squares import fit_least_squares
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.encoder.target_card import target_card
from gneiss.model_training.encoder.target_figures import class_figures, regression_figures
from gneiss.model_training.encoder.targets import Target, TargetKind, read_targets
from gneiss.model_training.logistic import fit_logistic
from gneiss.model_training.models import HeadSettings, TargetHead
from gneiss.model_training.source import CARD, claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of


def train_encoder_targets(
    labels: Path,
    model: str,
    output: Path,
    *,
    kind: TargetKind,
    text: str = "text",
    label: str = "label",
    weights: str = "model.safetensors",
    settings: FeatureSettings = FeatureSettings(),  # noqa: B008 - a frozen value
    l2: float = 0.01,
    held_out_share: float = 0.2,
) -> TargetHead:
    """Train a head over an encoder for numbers or several labels, and write head.safetensors and MODEL.md.

    Parameters: `kind`: `regression` learns the numbers of the column `label` by least squares, as FineWeb-Edu's head
    does; `classes` learns each of its labels against all others by logistic regression; others: as for `train_encoder`.
    Equal input gives an equal file, byte for byte, on one kind of processor.
    Raises InputError for labels that cannot be used, ModelError for what is no encoder, OutputError when the folder
    holds something else.
    """
    source = EncoderSource(model, weights)
    found = read_targets(labels, text, label, kind)
    files = source.files
    of_head = HeadSettings(model, weights, files.weights_sha256(), settings, l2, held_out_share)
    features = load_features(files, settings)
    claim(output, FILE)
    trained, held_out = found.split(held_out_share)

    def features_of(documents: tuple[Target, ...]) -> Float32Array:
        return features([document.line for document in documents])

    names = tuple(found.counts)
    head, mean = _fitted(features_of(trained.documents), trained.documents, names, l2)
    content = write_head(TrainedHead(head, settings, of_head.encoder_sha256))
    write_bytes(content, place_of(output), FILE)
    scores = np.round(head.scores(features_of(held_out.documents)), DIGITS)
    made = TargetHead(
        path=output / FILE,
        settings=of_head,
        kind=kind,
        column=label,
        labels=names,
        rows=found.rows,
        skipped=found.skipped,
        trained=len(trained.documents),
        content_sha256=trained.sha256,
        model_sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        held_out=class_figures(scores, np.array([names.index(str(of.value)) for of in held_out.documents]), names)
        if names
        else regression_figures(scores[:, 0], _numbers(held_out.documents), mean),
    )
    write_bytes(target_card(made).encode(), place_of(output), CARD)
    return made


def _fitted(
    features: Float32Array, documents: tuple[Target, ...], names: tuple[str, ...], l2: float
) -> tuple[LinearHead, float]:
    """(head, mean of the numbers it learnt from, 0 of labels)."""
    has_tokens = ~np.isnan(features).any(axis=1)
    known = features[has_tokens].astype(np.float64)
    if not names:
        numbers = _numbers(documents)[has_tokens]
        weights, bias = fit_least_squares(known, numbers, l2)
        return LinearHead("regression", ("number",), weights[:, None], np.array([bias])), float(numbers.mean())
    labels = np.array([document.value for document in documents])[has_tokens]
    models = [fit_logistic(known, labels == name, l2) for name in names]
    by_label = np.stack([one.weights for one in models], axis=1)
    return LinearHead("sigmoid", names, by_label, np.array([one.bias for one in models])), 0.0


def _numbers(documents: tuple[Target, ...]) -> Float64Array:
    return np.array([document.value for document in documents], np.float64)
