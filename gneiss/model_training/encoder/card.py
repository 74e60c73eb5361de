"""The card of a head over an encoder: documents, figures on those held out, thresholds, how to use and make it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gneiss.model_training.card import rule_keeping_half, scorer_card
from gneiss.model_training.models import AdapterSettings, Classifier, HeadSettings


def encoder_card(model: Classifier[HeadSettings]) -> str:
    """The card of a head, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    name = "encoder"
    recipe = encoder_recipe(model.settings, model.path.name, {name: ""}, rule_keeping_half(model, name))
    made = head_made(model.settings, "logistic regression")
    return scorer_card(model, name, "A linear head over the features of an encoder", recipe, made)


def adapter_card(model: Classifier[AdapterSettings]) -> str:
    """The card of adapters with a head."""
    settings, name = model.settings, "encoder"
    recipe = encoder_recipe(settings, model.path.name, {name: model.positive}, rule_keeping_half(model, name))
    made = (
        f"LoRA of rank {settings.rank} in the last {settings.layers} layers, {settings.steps} steps of AdamW of"
        f" {settings.batch} documents at the rate {settings.rate:g}, seed {settings.seed}, held-out share"
        f" {settings.held_out_share:g}",
        "the same documents, settings and versions give the same files on one kind of processor",
        _encoder_line(settings),
    )
    what = "An encoder with adapted layers, and a head over its first token"
    return scorer_card(model, name, what, recipe, made)


def encoder_recipe(
    settings: HeadSettings | AdapterSettings, file: str, heads: Mapping[str, str], rule: str
) -> list[str]:
    """Lines of a recipe that has heads. heads: column → label, or nothing."""
    folder = settings.model if ":" in settings.model else f"{Path(settings.model).name}/"
    of_heads = (
        f"{name}: {{source: {file}{f', label: {json.dumps(label, ensure_ascii=False)}' if label else ''}}}"
        for name, label in heads.items()
    )
    return [
        "annotate:",
        "  - encoder:",
        f"      model: {folder}",
        *([f"      weights: {settings.weights}"] if settings.weights != "model.safetensors" else []),
        f"      heads: {{{', '.join(of_heads)}}}",
        f"      pooling: {settings.features.pooling}",
        f"      windows: {settings.features.windows}",
        f"      window_tokens: {settings.features.window_tokens}",
        f"      precision: {settings.features.precision}",
        f"rules: {{is_good: {rule}}}",
    ]


def head_made(settings: HeadSettings, learnt: str) -> tuple[str, ...]:
    """How a head was made, a line each."""
    return (
        f"{learnt} on features in deviations from their mean, l2 {settings.l2:g},"
        f" held-out share {settings.held_out_share:g}",
        "the same documents and settings give the same file on one kind of processor",
        _encoder_line(settings),
    )


def _encoder_line(settings: HeadSettings | AdapterSettings) -> str:
    return f"sha256 of the encoder's weights: `{settings.encoder_sha256}`"
