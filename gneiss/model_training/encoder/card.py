"""The card of a head over an encoder: documents, figures on those held out, thresholds, how to use and make it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from gneiss.model_training.card import corpus_lines, document_lines, evaluation_lines
from gneiss.model_training.models import AdapterSettings, Classifier, HeadSettings, TargetHead
from gneiss.output.markdown import code
from gneiss.version import __version__


def encoder_card(model: Classifier[HeadSettings]) -> str:
    """The card, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    name = "encoder"
    middle = model.held_out.retentions[len(model.held_out.retentions) // 2]
    lines = [
        f"# {name}",
        "",
        f"A linear head over the features of an encoder, trained by gneiss {__version__}. A row is positive where"
        f" {code(model.rule)}; the score is the probability of that.",
        "",
        *document_lines(model),
        "",
        *evaluation_lines(model.held_out, name, model.positive),
        *corpus_lines(model.audit, model.weighted),
        "",
        *recipe_lines(model.settings, model.path.name, {name: ""}, f"{name} > {middle.threshold}"),
        *made_lines(model, "logistic regression"),
        "",
    ]
    return "\n".join(lines)


def recipe_lines(settings: HeadSettings | AdapterSettings, file: str, heads: Mapping[str, str], rule: str) -> list[str]:
    """A section of a card: a head in a recipe. heads: column → label, or nothing."""
    folder = settings.model if ":" in settings.model else f"{Path(settings.model).name}/"
    of_heads = (
        f"{name}: {{source: {file}{f', label: {json.dumps(label, ensure_ascii=False)}' if label else ''}}}"
        for name, label in heads.items()
    )
    return [
        "## In a recipe",
        "",
        "```yaml",
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
        "```",
        "",
    ]


def made_lines(model: Classifier[HeadSettings] | TargetHead, learnt: str) -> list[str]:
    """A section of a card: how a head was made, and checksums."""
    settings = model.settings
    return [
        "## Reproduction",
        "",
        f"- {learnt} on features in deviations from their mean, l2 {settings.l2:g},"
        f" held-out share {settings.held_out_share:g}",
        "- the same documents and settings give the same file on one kind of processor",
        f"- sha256 of the encoder's weights: `{settings.encoder_sha256}`",
        f"- sha256 of the texts trained on, with their labels: `{model.content_sha256}`",
        f"- sha256 of `{model.path.name}` ({model.size_bytes:,} bytes): `{model.model_sha256}`",
    ]
