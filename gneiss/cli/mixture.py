"""`gneiss buckets` and `gneiss mix`: documents of runs by quantiles of a score, and mixtures of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gneiss.cli.layers import print_files
from gneiss.cli.options import BackendOption, OnBackend, RunArgument, SharedFilesystem, Workers
from gneiss.cli.reshard import size_bytes
from gneiss.cli.terminal import console, excerpt, number, say, shorten, shown_progress, table
from gneiss.errors import InputError, printable

if TYPE_CHECKING:
    from gneiss.mixture.buckets import FoundBuckets
    from gneiss.mixture.examples import Example
    from gneiss.mixture.plan import Curve, MixturePlan, Part

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_EXAMPLE_CHARACTERS = 60


class MixtureFormat(StrEnum):
    """What `gneiss mix` writes."""

    corpus = "corpus"
    olmo = "olmo"
    megatron = "megatron"
    automodel = "automodel"
    mds = "mds"
    hf = "hf"
    grain = "grain"


def buckets(
    run: RunArgument,
    score: Annotated[
        list[str], typer.Option(help="Numeric annotation to rank by. Repeat to rank by the largest of several.")
    ],
    by: Annotated[
        list[str] | None, typer.Option(help="Compute quantiles within each value of this annotation. Repeatable.")
    ] = None,
    quantiles: Annotated[
        int, typer.Option(help="Number of buckets per category, with about equal numbers of tokens.")
    ] = 20,
    tokens: Annotated[
        str | None, typer.Option(help="Column that counts the tokens of a document. Default: the recipe's token count.")
    ] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Annotation layer to read columns from. Repeatable.")] = None,
    examples: Annotated[int, typer.Option(min=0, help="Number of example documents per bucket.")] = 1,
    write: Annotated[
        str | None, typer.Option(metavar="LAYER", help="Write the bucket of each document as this annotation layer.")
    ] = None,
) -> None:
    """Divide the kept documents of a run into buckets by token-weighted quantiles of a score.

    Example: gneiss buckets curated/ --score dclm --by topic --write quality_buckets
    """
    from gneiss.mixture.buckets import find_buckets, write_buckets
    from gneiss.mixture.examples import examples_of

    found = find_buckets(run, score, by=by or (), quantiles=quantiles, tokens=tokens, layers=layer or ())
    _print_buckets(found, examples_of(found, examples) if examples else {})
    if write is not None:
        print_files(run, write_buckets(found, write))


def mix(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Output folders of finished runs; NAME=RUN names a source."),
    ],
    budget: Annotated[
        str, typer.Option(metavar="TOKENS", help="Number of tokens in the mixture, such as 500M, 10B or 1T.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Empty folder for the mixed corpus. Default: only plan.")
    ] = None,
    buckets: Annotated[
        str | None,
        typer.Option(metavar="LAYER", help="Annotation layer that holds the buckets. Default: each run is one bucket."),
    ] = None,
    temperature: Annotated[
        str,
        typer.Option(help="Divide the budget in proportion to tokens^(1 / temperature); 1 keeps the natural shares."),
    ] = "1",
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="DROP:BEST", help="Repetitions by quality: 0.4:7 omits the worst 40 % and repeats the best 7 times."
        ),
    ] = None,
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SHARE", help="Share of the budget for a source. Repeatable.")
    ] = None,
    max_repetition: Annotated[
        str | None, typer.Option(help="Maximum number of repetitions of a bucket.", show_default="4; BEST of a curve")
    ] = None,
    max_share: Annotated[str, typer.Option(help="Maximum share of the budget for a source without a --target.")] = "1",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER", help="Annotation layer with prior weights, which scale how often a document is used."
        ),
    ] = None,
    upsampling: Annotated[
        str | None,
        typer.Option(help="Weight factors by number of copies: fineweb-2, or a YAML file such as {1: 1, 2: 1.5}."),
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Column that counts the tokens of a document. Default: the recipe's token count.")
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN|FILE", help="Fail if a document of this run or file is in a source, by id or text. Repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for sampling and shuffling the documents.")] = 0,
    format: Annotated[
        MixtureFormat,
        typer.Option(
            help="`corpus` writes one mixed corpus; the others write one part per bucket and a trainer's mixture file."
        ),
    ] = MixtureFormat.corpus,
    root: Annotated[
        str | None,
        typer.Option(
            help="Path at which the trainer finds the parts. Default: OUTPUT for hf and grain, else OUTPUT/tokens."
        ),
    ] = None,
    shard_bytes: Annotated[str, typer.Option(metavar="SIZE", help="Approximate amount of text per file.")] = "256MB",
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
) -> None:
    """Plan a mixture of finished runs with a token budget; with --output, write it, shuffled.

    Example: gneiss mix web=curated/ code=code/ --budget 10B --target code=0.2 --output mixed/
    """
    from gneiss.mixture.mix import named_runs, plan_mixture
    from gneiss.mixture.plan import MAX_REPETITION, Policy
    from gneiss.mixture.trainers import write_mixture_file

    chosen = None if curve is None else _curve(curve)
    most = Fraction(MAX_REPETITION) if chosen is None else chosen.best
    policy = Policy(
        temperature=_fraction("--temperature", temperature),
        curve=chosen,
        targets=dict(map(_target, target or ())),
        max_repetition=most if max_repetition is None else _fraction("--max-repetition", max_repetition),
        max_share=_fraction("--max-share", max_share),
    )
    mixture = plan_mixture(
        named_runs(run),
        _tokens(budget),
        policy=policy,
        buckets=buckets,
        weights=weights,
        upsampling=upsampling,
        tokens=tokens,
        seed=seed,
        held_out=held_out or (),
    )
    _print_plan(mixture.plan)
    for warning in mixture.warnings:
        say(f"warning: {warning}")
    if output is not None:
        written = mixture.write(
            output,
            shard_bytes=size_bytes(shard_bytes),
            apart=format != MixtureFormat.corpus,
            workers=workers,
            backend=backend.value,
            shared_filesystem=shared_filesystem,
            progress=shown_progress(),
        )
        say(f"{written.documents:,} documents in {written.files:,} files: {output}/data")
        for column, reason in written.left_out.items():
            say(f"left out   {printable(column)}: {printable(reason)}")
        if format != MixtureFormat.corpus:
            say(f"mixture    {write_mixture_file(written, format.value, root)}")


def _tokens(budget: str) -> int:
    """Tokens as a number with a unit. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMBT]?)", budget.strip().upper(), re.ASCII)
    if match is None or (count := int(Fraction(match[1]) * _UNITS[match[2]])) < 1:
        raise InputError(f"--budget {budget}: expected a number of tokens such as 500M, 10B or 1T")
    return count


def _fraction(option: str, given: str) -> Fraction:
    """A plain number, exactly. Raises InputError."""
    if re.fullmatch(r"\d{1,12}(\.\d{1,12})?", given, re.ASCII) is None:
        raise InputError(f"{option} {given}: expected a number such as 0.4 or 7")
    return Fraction(given)


def _curve(given: str) -> Curve:
    from gneiss.mixture.plan import Curve

    drop, separator, best = given.partition(":")
    if not separator:
        raise InputError(f"--curve {given}: expected DROP:BEST, such as 0.4:7")
    return Curve(_fraction("--curve", drop), _fraction("--curve", best))


def _target(given: str) -> tuple[str, Fraction]:
    name, separator, share = given.partition("=")
    if not separator:
        raise InputError(f"--target {given}: expected NAME=SHARE, such as web=0.6")
    return name, _fraction("--target", share)


def _print_plan(plan: MixturePlan) -> None:
    """What a mixture has of each bucket and of each source, and what it lacks."""
    has_factors = any(part.cell.factor != 1 for part in plan.parts)
    names = ["documents", "tokens", *(["factor"] if has_factors else []), "repeated", "mixture", "share", "short of"]
    rows = table("source", "bucket", *names)
    for column in rows.columns[2:]:
        column.justify, column.no_wrap = "right", True
    sources = list(plan.of_sources())
    for name, parts in sources:
        for part in parts if len(parts) > 1 else ():
            factor = [f"{float(part.cell.factor):g}"] if has_factors else []
            rows.add_row(*map(escape, _line(plan, name, part.cell.bucket, [part], factor)))
        rows.add_row(*map(escape, _line(plan, name, "(whole)", parts, [""] if has_factors else [])))
    console().print(rows)
    say(f"budget     {plan.budget:,} tokens, seed {plan.seed}")
    say(f"mixture    {plan.tokens:,} tokens in {plan.documents:,} documents ({plan.tokens / plan.budget:.2%} of it)")
    if plan.shortfall > plan.budget // 100:
        say(f"shortfall  {plan.shortfall:,} tokens: caps and targets allow no more; see `short of` for the buckets")


def _line(plan: MixturePlan, source: str, bucket: str, parts: Sequence[Part], factor: Sequence[str]) -> list[str]:
    available, mixed = sum(part.cell.tokens for part in parts), sum(part.tokens for part in parts)
    short = sum(max(part.wanted - part.tokens, 0) for part in parts) if plan.shortfall > plan.budget // 100 else 0
    return [
        printable(source),
        printable(bucket),
        f"{sum(part.cell.documents for part in parts):,}",
        f"{available:,}",
        *factor,
        f"×{mixed / max(available, 1):.2f}",
        f"{mixed:,}",
        f"{mixed / max(plan.tokens, 1):.2%}",
        f"{short:,}" if short else "",
    ]


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
