"""`gneiss buckets`: documents of a run by quantiles of a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gneiss.cli.layers import print_files
from gneiss.cli.options import RunArgument
from gneiss.cli.terminal import console, excerpt, number, say, shorten, table
from gneiss.errors import printable

if TYPE_CHECKING:
    from gneiss.mixture.buckets import FoundBuckets
    from gneiss.mixture.examples import Example

_EXAMPLE_CHARACTERS = 60


def buckets(
    run: RunArgument,
    score: Annotated[
        list[str], typer.Option(help="A numeric annotation; may be repeated, then the largest of them counts.")
    ],
    by: Annotated[
        list[str] | None, typer.Option(help="An annotation: quantiles within each of its values; may be repeated.")
    ] = None,
    quantiles: Annotated[int, typer.Option(help="How many buckets of about equal tokens in each category.")] = 20,
    tokens: Annotated[
        str | None, typer.Option(help="The column that weighs documents. Default: the recipe's token count.")
    ] = None,
    layer: Annotated[list[str] | None, typer.Option(help="A layer that columns are in; may be repeated.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="Documents to show of each bucket.")] = 1,
    write: Annotated[
        str | None, typer.Option(metavar="LAYER", help="Write the bucket of each document as this layer.")
    ] = None,
) -> None:
    """Show the kept documents of a run in buckets: token-weighted quantiles of a score, by category."""
    from gneiss.mixture.buckets import find_buckets, write_buckets
    from gneiss.mixture.examples import examples_of

    found = find_buckets(run, score, by=by or (), quantiles=quantiles, tokens=tokens, layers=layer or ())
    _print_buckets(found, examples_of(found, examples) if examples else {})
    if write is not None:
        print_files(run, write_buckets(found, write))


def _print_buckets(found: FoundBuckets, examples: Mapping[str, Sequence[Example]]) -> None:
    """A line for each bucket, and what is odd about them."""
    total = max(sum(bucket.tokens for bucket in found.table), 1)
    rows = table("bucket", "documents", "tokens", "share", "lowest", "highest", *(["example"] if examples else []))
    for column in rows.columns[1:6]:
        column.justify, column.no_wrap = "right", True
    for bucket in found.table:
        shown = "\n".join(
            escape(shorten(excerpt(example.text), _EXAMPLE_CHARACTERS)) for example in examples.get(bucket.name, ())
        )
        rows.add_row(
            escape(printable(bucket.name)),
            f"{bucket.documents:,}",
            f"{bucket.tokens:,}",
            f"{bucket.tokens / total:.2%}",
            number(bucket.low),
            number(bucket.high),
            *([shown] if examples else []),
        )
    console().print(rows)
    for category in found.constant:
        say(f"warning: {_named(category)}all documents have one score, so all are in one bucket")
    if found.unscored:
        documents = sum(documents for _, documents in found.unscored.values())
        say(f"unscored {documents:,} documents have no finite score")
    if found.buckets.relative_error:
        say(f"error    {found.buckets.relative_error:.1e} of a score at most, where a quantile begins")


def _named(category: str) -> str:
    return f"{category}: " if category else ""
