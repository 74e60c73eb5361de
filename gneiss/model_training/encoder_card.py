"""The card of a head over an encoder: documents, figures on those held out, thresholds, how to use and make it."""

from __future__ import annotations

from pathlib import Path

from gneiss.model_training.card import corpus_lines, document_lines, evaluation_lines
from gneiss.model_training.models import Classifier, HeadSettings
from gneiss.output.markdown import code
from gneiss.version import __version__


def encoder_card(model: Classifier[HeadSettings]) -> str:
    """The card, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    settings, name = model.settings, "encoder"
    folder = settings.model if ":" in settings.model else f"{Path(settings.model).name}/"
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
        "## In a recipe",
        "",
        "```yaml",
        "annotate:",
        "  - encoder:",
        f"      model: {folder}",
        *([f"      weights: {settings.weights}"] if settings.weights != "model.safetensors" else []),
        f"      heads: {{{name}: {{source: {model.path.name}}}}}",
        f"      pooling: {settings.features.pooling}",
        f"      windows: {settings.features.windows}",
        f"      window_tokens: {settings.features.window_tokens}",
        f"      precision: {settings.features.precision}",
        f"rules: {{is_good: {name} > {middle.threshold}}}",
        "```",
        "",
        "## Reproduction",
        "",
        f"- logistic regression on features in deviations from their mean, l2 {settings.l2:g},"
        f" held-out share {settings.held_out_share:g}",
        "- the same documents and settings give the same file on one kind of processor",
        f"- sha256 of the encoder's weights: `{settings.encoder_sha256}`",
        f"- sha256 of the texts trained on, with their labels: `{model.content_sha256}`",
        f"- sha256 of `{model.path.name}` ({model.size_bytes:,} bytes): `{model.model_sha256}`",
        "",
    ]
    return "\n".join(lines)
