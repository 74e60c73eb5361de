"""Heads over the frozen features of a small transformer, from labelled text, each with a card of its evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gneiss.arrays import BoolArray, Float32Array, Float64Array
from gneiss.errors import InputError
from gneiss.filters.encoder import DIGITS
from gneiss.filters.encoder_models.features import EncoderFiles, Features, load_features
from gneiss.filters.encoder_models.head import FILE, LinearHead, TrainedHead, write_head
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.input.model_files import locate
from gneiss.model_training.classifier import NEGATIVE, QUALITY
from gneiss.model_training.corpus_figures import audited, weighted
from gneiss.model_training.encoder_card import encoder_card
from gneiss.model_training.evaluation import evaluate
from gneiss.model_training.labels import Document, read_labelled, rule_of, sha256_of
from gneiss.model_training.logistic import fit_logistic
from gneiss.model_training.models import EncoderClassifier
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
) -> EncoderClassifier:
    """Train a head over an encoder, whose weights stay as they are, and write head.safetensors and MODEL.md.

    Parameters: `labels`, `text`, `label`, `positive`, `score_threshold`: as for `train_quality`; `model`: the folder of
    an encoder, with a slash at the end, as in a recipe; `output`: a folder for the head, created if missing; `weights`:
    the file in the folder; `settings`: of the features; `l2`: how strongly the head's weights are drawn to 0. Equal
    input gives an equal file, byte for byte, on one kind of processor.
    Raises InputError for labels that cannot be used, ModelError for what is no encoder, OutputError when the folder
    holds something else.
    """
    if not model.endswith("/"):
        raise InputError(f"model: expected a folder, {model}/")
    for name, value, low, high in (("held_out_share", held_out_share, 0.05, 0.5), ("l2", l2, 1e-9, 1e6)):
        if not low <= value <= high:
            raise InputError(f"{name}: expected {low:g} to {high:g}, found {value:g}")
    rule = rule_of(label, positive, score_threshold, QUALITY)
    labelled = read_labelled(labels, text, rule)
    files = EncoderFiles(*(locate(f"{model}{name}") for name in ("config.json", "tokenizer.json", weights)))
    features = load_features(files, settings)
    claim(output, FILE)
    trained, held_out = labelled.split(held_out_share)
    of_trained, is_positive = _features(trained.documents, features)
    has_tokens = ~np.isnan(of_trained).any(axis=1)
    found = fit_logistic(of_trained[has_tokens].astype(np.float64), is_positive[has_tokens], l2)
    head = LinearHead("sigmoid", (QUALITY,), found.weights[:, None], np.array([found.bias]))
    content = write_head(TrainedHead(head, settings, files.weights_sha256()))
    write_bytes(content, place_of(output), FILE)
    scores, is_good = _scored(held_out.documents, features, head)
    stands_for = np.array([document.weight for document in held_out.documents], np.float64)
    stands = stands_for > 0
    classifier = EncoderClassifier(
        path=output / FILE,
        model=model,
        weights=weights,
        encoder_sha256=files.weights_sha256(),
        positive=QUALITY,
        negative=NEGATIVE,
        settings=settings,
        l2=l2,
        held_out_share=held_out_share,
        rule=rule,
        rows=labelled.rows,
        skipped=labelled.skipped,
        found=labelled.found,
        trained=len(trained.documents),
        trained_positives=trained.positives,
        content_sha256=sha256_of(trained.documents, QUALITY, NEGATIVE),
        model_sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        held_out=evaluate(scores, is_good),
        audit=audited(*_scored(labelled.audit, features, head)) if labelled.audit else None,
        weighted=weighted(scores[stands], is_good[stands], stands_for[stands]) if stands.any() else None,
    )
    write_bytes(encoder_card(classifier).encode(), place_of(output), CARD)
    return classifier


def _features(documents: Sequence[Document], features: Features) -> tuple[Float32Array, BoolArray]:
    """Features of documents, (documents, width), and which have the positive label."""
    found = features([document.line for document in documents])
    return found, np.array([document.is_positive for document in documents], np.bool_)


def _scored(documents: Sequence[Document], features: Features, head: LinearHead) -> tuple[Float64Array, BoolArray]:
    """Scores of documents as a recipe has them, NaN where there is none, and which have the positive label."""
    found, is_positive = _features(documents, features)
    scores: Float64Array = np.round(head.scores(found)[:, 0], DIGITS)
    return scores, is_positive
