"""The card of a pooled network: documents, figures on those held out, thresholds, how to use and make it."""

from __future__ import annotations

from gneiss.model_training.card import rule_keeping_half, scorer_card
from gneiss.model_training.models import Classifier, PooledSettings


def pooled_card(model: Classifier[PooledSettings]) -> str:
    """The card, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    settings, name = model.settings, "pooled"
    recipe = (
        f"annotate: [{{pooled: {{model: {model.path.name}}}}}]",
        f"rules: {{is_good: {rule_keeping_half(model, name)}}}",
    )
    made = (
        f"buckets {settings.buckets}, epochs {settings.epochs}, learning rate {settings.learning_rate:g},"
        f" seed {settings.seed}, held-out share {settings.held_out_share:g}",
        "the same documents and settings give the same file",
    )
    return scorer_card(model, name, "A pooled network over groups of three words", recipe, made)
