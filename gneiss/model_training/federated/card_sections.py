"""What the cards of models across sites share: sites by counts and sums, what leaves them, how the model is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.source import markdown_table


def head_lines(name: str, federation: Federation, trained: str, strategy: str) -> list[str]:
    """The title, and what the model is. trained: by which version and where; strategy: its name, and the reason."""
    negative, positive = federation.labels
    return [
        f"# {name}",
        "",
        f"A linear model on fastText's features, as a fastText file with the labels `{positive}` and `{negative}`,",
        f"trained by gneiss {trained}.",
        "",
        f"Strategy: {strategy}.",
        "",
    ]


def sites_lines(
    which: str,
    federation: Federation,
    documents: Mapping[str, tuple[int, int]],
    held_out: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """A table of sites, or of what `which` says: documents of the low and of the high label, and figures held out."""
    negative, positive = federation.labels
    return [
        f"## {which.capitalize()}s",
        "",
        *markdown_table(
            (which, positive, negative, "held out", "accuracy", "mean log loss"),
            *((name, *counts[::-1], *_figure_cells(held_out.get(name))) for name, counts in documents.items()),
        ),
        "",
    ]


def leaving_lines(last: str) -> list[str]:
    """What leaves a site, and what that tells. last: a line, which says what a site does about it."""
    return [
        "## What leaves a site",
        "",
        "Differences of weights, numbers of documents, and sums over them; no text, id or address. That is no",
        "guarantee of privacy: a weight that moved says that some documents of the site have that word, or an n-gram",
        f"with that hash. {last}",
        "",
    ]


def use_lines(model_file: str, federation: Federation, sha256: str) -> list[str]:
    """How a recipe uses the model, and what it was made with."""
    name, positive = model_file.removesuffix(".bin"), federation.labels[1]
    return [
        "## In a recipe",
        "",
        "```yaml",
        f"annotate: [{{fasttext: {{models: {{{name}: {{source: {model_file}, label: {positive}}}}}}}}}]",
        f"rules: {{is_{name}: {name} > 0.5}}",
        "```",
        "",
        "## Reproduction",
        "",
        "```toml",
        federation.toml().rstrip("\n"),
        "```",
        "",
        f"- sha256 of `{model_file}`: `{sha256}`",
    ]


def _figure_cells(found: Mapping[str, Any] | None) -> tuple[object, ...]:
    """(documents, accuracy, mean log loss) of figures, empty where there are none."""
    if not found or not found["documents"]:
        return ("", "", "")
    documents = found["documents"]
    return documents, f"{found['correct'] / documents:.1%}", f"{found['loss_sum'] / documents:.3f}"
