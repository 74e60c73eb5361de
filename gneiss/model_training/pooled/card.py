"""The card of a pooled network: documents, figures on those held out, thresholds, how to use and make it."""

from __future__ import annotations

from gneiss.model_training.card import corpus_lines, document_lines, evaluation_lines
from gneiss.model_training.models import Classifier, PooledSettings
from gneiss.output.markdown import code
from gneiss.version import __version__


def pooled_card(model: Classifier[PooledSettings]) -> str:
    """The card, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    settings, name = model.settings, "pooled"
    middle = model.held_out.retentions[len(model.held_out.retentions) // 2]
    lines = [
        f"# {name}",
        "",
        f"A pooled network over groups of three words, trained by gneiss {__version__}. A row is positive where"
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
        f"annotate: [{{pooled: {{model: {model.path.name}}}}}]",
        f"rules: {{is_good: {name} > {middle.threshold}}}",
        "```",
        "",
        "## Reproduction",
        "",
        f"- buckets {settings.buckets}, epochs {settings.epochs}, learning rate {settings.learning_rate:g},"
        f" seed {settings.seed}, held-out share {settings.held_out_share:g}",
        "- the same documents and settings give the same file",
        f"- sha256 of the texts trained on, with their labels: `{model.content_sha256}`",
        f"- sha256 of `{model.path.name}` ({model.size_bytes:,} bytes): `{model.model_sha256}`",
        "",
    ]
    return "\n".join(lines)
