"""Model cards: a model, its training data, its evaluation, its use. They contain no path, time or user name."""

from __future__ import annotations

from collections.abc import Sequence

from gneiss.errors import printable
from gneiss.model_training.corpus_figures import Audited, Weighted
from gneiss.model_training.evaluation import Evaluation
from gneiss.model_training.models import Classifier, LanguageModel, S, Settings, TargetHead
from gneiss.model_training.source import markdown_table, skipped_lines
from gneiss.output.markdown import code, plain
from gneiss.version import __version__


def classifier_card(model: Classifier[Settings]) -> str:
    """The card of a fastText model, as Markdown that is also readable on a terminal."""
    name, settings = model.path.stem, model.settings
    about = (
        f"A fastText model with the labels {code(model.positive)} and {code(model.negative)}, trained by gneiss"
        f" {__version__}. A row is positive where {code(model.rule)}."
    )
    source = f"{{source: {model.path.name}, label: {printable(model.positive)}}}"
    recipe = (
        f"annotate: [{{fasttext: {{models: {{{name}: {source}}}}}}}]",
        f"rules: {{is_{name}: {rule_keeping_half(model, name)}}}",
    )
    made = (
        f"dimensions {settings.dimensions}, buckets {settings.buckets}, word n-grams {settings.word_ngrams},"
        f" epochs {settings.epochs}, learning rate {settings.learning_rate:g}, minimum count {settings.min_count},"
        f" seed {settings.seed}, one thread, softmax, held-out share {settings.held_out_share:g}",
        f"autotuned for {settings.autotune_seconds} s, on a fifth of the texts trained on: another run finds other"
        " settings"
        if settings.autotune_seconds is not None
        else "not autotuned: the same documents and settings give the same file",
        f"sha256 of the lines trained on: `{model.content_sha256}`",
    )
    return card(model, name, about, recipe, made)


def scorer_card(model: Classifier[S], name: str, what: str, recipe: Sequence[str], made: Sequence[str]) -> str:
    """The card of a classifier whose score is a probability. what: it is; others: as for `card`."""
    about = (
        f"{what}, trained by gneiss {__version__}. A row is positive where {code(model.rule)}; the score is the"
        " probability of that."
    )
    return card(model, name, about, recipe, (*made, labelled_line(model)))


def card(model: Classifier[S], name: str, about: str, recipe: Sequence[str], made: Sequence[str]) -> str:
    """The card of a classifier. name: its annotation; recipe: lines of YAML; made: how it was, a line each."""
    lines = [
        f"# {name}",
        "",
        about,
        "",
        *document_lines(model),
        "",
        *evaluation_lines(model.held_out, name, model.positive),
        *corpus_lines(model.audit, model.weighted),
        "",
        *recipe_lines(recipe),
        *reproduction_lines(model, made),
        "",
    ]
    return "\n".join(lines)


def rule_keeping_half(model: Classifier[S], name: str) -> str:
    """The rule for a recipe that keeps half of the documents held out."""
    retentions = model.held_out.retentions
    return f"{name} > {retentions[len(retentions) // 2].threshold}"


def recipe_lines(recipe: Sequence[str]) -> list[str]:
    """A section of a card: lines of YAML."""
    return ["## In a recipe", "", "```yaml", *recipe, "```", ""]


def labelled_line(model: Classifier[S] | TargetHead) -> str:
    """What a model was trained on, for `reproduction_lines`."""
    return f"sha256 of the texts trained on, with their labels: `{model.content_sha256}`"


def reproduction_lines(model: Classifier[S] | TargetHead | LanguageModel, made: Sequence[str]) -> list[str]:
    """A section of a card: how a model was made, a line each, and its file."""
    file = f"sha256 of `{model.path.name}` ({model.size_bytes:,} bytes): `{model.model_sha256}`"
    return ["## Reproduction", "", *(f"- {line}" for line in (*made, file))]


def perplexity_card(model: LanguageModel) -> str:
    """The card of a language model, as Markdown."""
    lines = [
        f"# {model.path.stem}",
        "",
        f"A KenLM model of order {model.order} ({model.structure}), trained by gneiss {__version__} on lines with the"
        f" normalization `{model.normalization}`.",
        "",
        "## Documents",
        "",
        *markdown_table(
            ("distinct texts", "texts", "lines", "words"),
            ("trained on", f"{model.trained:,}", f"{model.trained_lines:,}", f"{model.trained_words:,}"),
            ("held out", f"{model.held_out:,}", "", ""),
        ),
        "",
        f"- rows read: {model.rows:,}",
        *(f"- {what}: {count:,}" for what, count in skipped_lines(model.skipped).items() if "label" not in what),
        f"- rows without text: {model.skipped.null:,}",
        "",
        "## Perplexity of the texts held out",
        "",
        *markdown_table(
            ("share of texts below", "perplexity"),
            *((f"{share:.0%}", f"{value:,.1f}") for share, value in model.quantiles.items()),
        ),
        "",
        "Other text has other quantiles: take them of the corpus (`gneiss dry-run`). Two models' perplexities",
        "cannot be compared.",
        "",
        *recipe_lines(
            (
                f"annotate: [{{perplexity: {{model: {model.path.name}, normalization: {model.normalization}}}}}]",
                f"rules: {{fluent: perplexity < {model.quantiles[0.9]:.1f}}}",
            )
        ),
        *reproduction_lines(
            model,
            (
                f"order {model.order}, structure {model.structure}, normalization {model.normalization},"
                f" held-out share {model.held_out_share:g}",
                "discounts of some orders could not be estimated, and lmplz put fixed ones: the text is small or"
                " repetitive"
                if model.has_fallback_discounts
                else "all discounts were estimated from the text",
                f"sha256 of the lines trained on: `{model.content_sha256}`",
            ),
        ),
        "",
    ]
    return "\n".join(lines)


def document_lines(model: Classifier[S]) -> list[str]:
    """A section of a card: which documents a classifier was trained on, and which were held out."""
    held_out = model.held_out
    return [
        "## Documents",
        "",
        *markdown_table(
            ("distinct texts", plain(model.positive), plain(model.negative), "together"),
            ("trained on", *_counts(model.trained_positives, model.trained)),
            ("held out", *_counts(held_out.positives, held_out.documents)),
        ),
        "",
        f"- rows read: {model.rows:,}",
        *(f"- {what}: {count:,}" for what, count in skipped_lines(model.skipped).items()),
        *(f"- rows labelled {code(label)}: {rows:,}" for label, rows in sorted(model.found.items())),
        "",
        "A text counts once. Which texts are held out is decided by a hash of the text, the same share of each label.",
        "Texts that are nearly equal may be on both sides, which flatters the figures.",
    ]


def evaluation_lines(held_out: Evaluation, name: str, positive: str) -> list[str]:
    """Sections of a card: decisions, thresholds and calibration on held-out documents."""
    return [
        "## On the documents held out",
        "",
        *markdown_table(
            ("decision", "accuracy", "precision", "recall"),
            *(
                (what, _share(found.accuracy), _share(found.precision), _share(found.recall))
                for what, found in (
                    (f"{name} > 0.5", held_out.by_label),
                    ("always the more frequent label", held_out.baseline),
                )
            ),
        ),
        "",
        f"Precision and recall are those of `{positive}`. {held_out.unscored} of {held_out.documents} have no score.",
        "",
        "## Thresholds",
        "",
        *markdown_table(
            ("to keep", "threshold", "kept", "precision", f"share of {positive} kept"),
            *(
                (f"{r.asked:.0%}", f"{r.threshold:.6f}", _share(r.kept), _share(r.precision), _share(r.recall))
                for r in held_out.retentions
            ),
        ),
        "",
        "The rule is `score > threshold`. A corpus where the labels are mixed in other shares keeps other shares: take",
        "its own quantiles (`gneiss dry-run`).",
        "",
        "## Calibration",
        "",
        *markdown_table(
            ("score", "documents", "mean score", f"share of {positive}"),
            *(
                (f"{b.low:.1f} to {b.high:.1f}", b.documents, _share(b.mean_score), _share(b.positive_share))
                for b in held_out.calibration
            ),
        ),
        "",
        f"Mean distance between score and share, over documents: {_share(held_out.calibration_error)}.",
    ]


def corpus_lines(audit: Audited | None, weighted: Weighted | None) -> list[str]:
    """A section of a card, where labels of a queue say which documents are audited, or stand for others."""
    rows: list[tuple[object, ...]] = []
    lines: list[str] = []
    if audit is not None:
        rows.append(("audited", audit.documents, audit.accuracy, audit.f1 or "", audit.auc or ""))
        lines += [
            f"Audited documents, {audit.positives:,} of them positive, were drawn uniformly from the labels' corpus",
            "and not trained on: these figures are unbiased, with intervals of 95 %.",
        ]
    if weighted is not None:
        figures = (f"{figure:.3f}" if figure is not None else "" for figure in (weighted.f1, weighted.auc))
        rows.append(("held out, weighted", weighted.documents, f"{100 * weighted.accuracy:.1f} %", *figures))
        lines += [
            f"Weighted are those held out that stand for others, {weighted.stood_for:,} together: an estimate for the",
            "corpus as far as what is near has one label.",
        ]
    heading = ("documents", "number", "accuracy", "F1", "AUC")
    return ["", "## Over the corpus", "", *markdown_table(heading, *rows), "", *lines] if rows else []


def _counts(positives: int, documents: int) -> tuple[str, str, str]:
    return f"{positives:,}", f"{documents - positives:,}", f"{documents:,}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
