"""The card of a head for a number, or for one of several labels: documents, figures, thresholds, use and making."""

from __future__ import annotations

from gneiss.model_training.card import labelled_line, recipe_lines, reproduction_lines
from gneiss.model_training.encoder.card import encoder_recipe, head_made
from gneiss.model_training.encoder.target_figures import ClassFigures, RegressionFigures
from gneiss.model_training.models import TargetHead
from gneiss.model_training.source import markdown_table, skipped_lines
from gneiss.output.markdown import code, plain
from gneiss.version import __version__


def target_card(model: TargetHead) -> str:
    """The card, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    figures, name = model.held_out, "encoder"
    if isinstance(figures, RegressionFigures):
        what = f"The score is the number that {code(model.column)} would have"
        learnt = "least squares"
        heads, rule = {name: ""}, f"{name} > {figures.retentions[len(figures.retentions) // 2].threshold}"
        lines = _regression_lines(figures, name)
    else:
        what = f"The score of a label is the probability that {code(model.column)} is it, by itself"
        learnt = "logistic regression of each label against all others"
        first = figures.labels[0]
        heads, rule = {name: first.label}, f"{name} > {first.at.threshold}"
        lines = _class_lines(figures)
    return "\n".join(
        [
            f"# {name}",
            "",
            f"A linear head over the features of an encoder, trained by gneiss {__version__}. {what}.",
            "",
            "## Documents",
            "",
            f"- trained on {model.trained:,} distinct texts, held out {figures.documents:,}, of which"
            f" {figures.unscored:,} have no score",
            f"- rows read: {model.rows:,}",
            *(f"- {reason}: {count:,}" for reason, count in skipped_lines(model.skipped).items()),
            "",
            "A text counts once. Which texts are held out is decided by a hash of the text. Texts that are nearly",
            "equal may be on both sides, which flatters the figures.",
            "",
            *lines,
            "",
            *recipe_lines(encoder_recipe(model.settings, model.path.name, heads, rule)),
            *reproduction_lines(model, (*head_made(model.settings, learnt), labelled_line(model))),
            "",
        ]
    )


def _regression_lines(figures: RegressionFigures, name: str) -> list[str]:
    return [
        "## On the documents held out",
        "",
        *markdown_table(
            ("score", "mean squared error", "Pearson", "Spearman"),
            (name, f"{figures.error:.4f}", _number(figures.pearson), _number(figures.spearman)),
            ("always the mean", f"{figures.baseline:.4f}", "", ""),
        ),
        "",
        "## Thresholds",
        "",
        *markdown_table(
            ("to keep", "threshold", "kept", "mean number of those kept"),
            *((f"{r.asked:.0%}", f"{r.threshold:.4f}", f"{r.kept:.1%}", f"{r.mean:.3f}") for r in figures.retentions),
        ),
        "",
        "The rule is `score > threshold`. Another corpus keeps other shares: take its own quantiles",
        "(`gneiss dry-run`).",
    ]


def _class_lines(figures: ClassFigures) -> list[str]:
    return [
        "## On the documents held out",
        "",
        f"Macro-F1 {figures.macro_f1:.3f}, accuracy {figures.accuracy:.1%}; always the most frequent label:"
        f" {figures.baseline:.1%}.",
        "",
        *markdown_table(
            ("label", "held out", "precision", "recall", "F1", "threshold", "precision there", "recall there"),
            *(
                (
                    plain(of.label), f"{of.documents:,}", _share(of.precision), _share(of.recall), f"{of.f1:.3f}",
                    f"{of.at.threshold:.6f}", _share(of.at.precision), _share(of.at.recall),
                )
                for of in figures.labels
            ),
        ),
        "",
        "Precision, recall and F1 are those of the most probable label (the column `encoder_label`). Above its",
        "threshold as many documents have a label's probability as have the label.",
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
