"""`gneiss pack`: kept documents as sequences of tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from gneiss.cli.options import RunArgument, WeightsLayer
from gneiss.cli.terminal import say


def pack(
    run: RunArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", help="A folder for the sequences; the same command resumes.")
    ],
    tokenizer: Annotated[str, typer.Option(help="As in a recipe: builtin:cl100k_base, or a tokenizer.json.")],
    length: Annotated[int, typer.Option(min=2, help="Tokens of a sequence.")] = 2048,
    end_of_document: Annotated[int | None, typer.Option(help="Token to put after each document.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of documents.")] = 0,
    weights: WeightsLayer = "weights",
) -> None:
    """Tokenize and pack the kept documents into sequences, each with its document spans and weight."""
    from gneiss.loader.packed_files import pack as write
    from gneiss.loader.packing import sequences
    from gneiss.loader.reader import documents

    kept = documents(run, layers=[weights], seed=seed)
    packing = write(sequences(kept, tokenizer, length, end_of_document=end_of_document), output)
    say(f"{packing.sequences:,} sequences of {length:,} tokens in {len(packing.parts):,} files: {output}")
