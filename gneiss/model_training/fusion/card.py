"""What training a fusion model returns, and its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gneiss.errors import printable
from gneiss.filters.fusion_model import FILE, Block, Method
from gneiss.model_training.card import evaluation_lines
from gneiss.model_training.evaluation import Evaluation
from gneiss.model_training.fusion.examples import LabelledRun
from gneiss.model_training.fusion.methods import FEWEST_EXPECTED, Learning
from gneiss.model_training.labels import Rule
from gneiss.model_training.source import markdown_table
from gneiss.output.markdown import code, plain
from gneiss.version import __version__

_METHODS = {
    "masked": "one network on all blocks, those that are missing filled with zeros, and on their mask",
    "laser": "an extractor and a head for each block, over the mean of what is there (LASER, arXiv 2410.22564)",
}


@dataclass(frozen=True)
class Judged:
    """How one way to a score does on the documents held out.

    accuracy: None where its library is not installed; loss: mean log loss; a document without a score has the share of
    positives as its probability, and scored says how many have one.
    """

    name: str
    scored: int = 0
    accuracy: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Pattern:
    """Documents held out with the same blocks: how many, and the accuracy of the model on them."""

    blocks: tuple[str, ...]
    trained: int
    held_out: int
    accuracy: float | None


@dataclass(frozen=True)
class Fusion:
    """A trained model: its file, what it was trained on, and how it does on the documents held out.

    is_auto: whether the method was chosen by what was held out; is_weighted: whether documents counted by inverse
    propensity, so that which blocks there are says nothing; ways: all that were tried; trained, held_out: documents,
    and positives among those trained on.
    """

    path: Path
    method: Method
    is_auto: bool
    blocks: tuple[Block, ...]
    rule: Rule
    labelled: LabelledRun
    trained: int
    trained_positives: int
    is_weighted: bool
    learning: Learning
    held_out: Evaluation
    ways: tuple[Judged, ...]
    patterns: tuple[Pattern, ...]
    held_out_share: float
    model_sha256: str
    size_bytes: int


def fusion_card(model: Fusion) -> str:
    """The card, as Markdown that is also readable on a terminal. It contains no path, time or user name."""
    labelled = model.labelled
    lines = [
        "# fusion",
        "",
        f"A score from whatever annotations a document has, trained by gneiss {__version__}: {_METHODS[model.method]}."
        f" A document is positive where {code(model.rule)}.",
        "",
        "## Documents",
        "",
        *markdown_table(
            ("distinct texts", "positive", "other", "together"),
            ("trained on", *_counts(model.trained_positives, model.trained)),
            ("held out", *_counts(model.held_out.positives, model.held_out.documents)),
        ),
        "",
        f"- labels: {labelled.labelled:,}, of these {labelled.unmatched:,} of no document of the run",
        f"- texts with both labels, left out: {labelled.contradictory:,}",
        f"- texts without any block, left out: {labelled.without_blocks:,}",
        "",
        "A text counts once. Which texts are held out is decided by a hash of the text, the same share of each label.",
        "",
        "## Blocks",
        "",
        "A block is missing where any of its annotations is. Bit 0 of `fusion_blocks` is the first one.",
        "",
        *(
            f"- {plain(block.name)}: {', '.join(code(printable(column.name)) for column in block.columns)}"
            for block in model.blocks
        ),
        "",
        "Documents counted by inverse propensity: which blocks one has says nothing of its label. Rare sets of blocks"
        f" counted as one: those in which fewer than {FEWEST_EXPECTED} documents of a label are to be expected."
        if model.is_weighted
        else "All documents counted the same: there are not two sets of blocks with enough documents. Where annotations"
        " depend on quality, the score is biased.",
        "",
        "## Blocks that documents have",
        "",
        *markdown_table(
            ("blocks", "trained on", "held out", "accuracy"),
            *(
                (
                    ", ".join(map(plain, pattern.blocks)),
                    f"{pattern.trained:,}",
                    f"{pattern.held_out:,}",
                    _share(pattern.accuracy),
                )
                for pattern in model.patterns
            ),
        ),
        "",
        "## Compared with simpler ways",
        "",
        *markdown_table(
            ("on the documents held out", "have a score", "accuracy", "log loss"),
            *(
                (plain(way.name), "not installed", "", "")
                if way.loss is None
                else (plain(way.name), f"{way.scored:,}", _share(way.accuracy), f"{way.loss:.3f}")
                for way in model.ways
            ),
        ),
        "",
        "A document without a score counts as one of the more frequent label. "
        + (
            f"`{model.method}` was chosen for its log loss on these documents, which flatters it a little."
            if model.is_auto
            else f"`{model.method}` was asked for."
        ),
        "",
        *evaluation_lines(model.held_out, "fusion", plain(_positive(model))),
        "",
        "## In a recipe",
        "",
        "```yaml",
        f"annotate: [{{fusion: {{model: {FILE}}}}}]",
        f"rules: {{is_good: fusion > {model.held_out.retentions[len(model.held_out.retentions) // 2].threshold}}}",
        "```",
        "",
        "## Reproduction",
        "",
        f"- epochs {model.learning.epochs}, learning rate {model.learning.learning_rate:g}, l2 {model.learning.l2:g},"
        f" batches of {model.learning.batch} at most, seed {model.learning.seed},"
        f" held-out share {model.held_out_share:g}",
        f"- sha256 of `{FILE}` ({model.size_bytes:,} bytes): `{model.model_sha256}`",
        "",
    ]
    return "\n".join(lines)


def _positive(model: Fusion) -> str:
    return " or ".join(map(printable, model.rule.values)) or "positive"


def _counts(positives: int, documents: int) -> tuple[str, str, str]:
    return f"{positives:,}", f"{documents - positives:,}", f"{documents:,}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
