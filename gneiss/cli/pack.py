"""`gneiss pack`: kept documents as sequences of tokens."""

from __future__ import annotations

from typing import Annotated

import typer

from gneiss.cli.options import RunArgument, WeightsLayer
from gneiss.cli.terminal import say


def pack(
    run: RunArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the sequences. The same command resumes.")],
    tokenizer: Annotated[
        str, typer.Option(help="Tokenizer, as in a recipe: builtin:cl100k_base, or the path of a tokenizer.json.")
    ],
    length: Annotated[int, typer.Option(min=2, help="Tokens per sequence.")] = 2048,
    end_of_document: Annotated[int | None, typer.Option(help="Token to append to each document.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for shuffling the documents.")] = 0,
    weights: WeightsLayer = "weights",
) -> None:
    """Tokenize the kept documents and pack them into sequences, with document spans and weights.

    Example: gneiss pack curated/ --output packed/ --tokenizer builtin:cl100k_base
    """
    from gneiss.loader.packed_files import pack as write
    from gneiss.loader.packing import sequences
    from gneiss.loader.reader import documents

    kept = documents(run, layers=[weights], seed=seed)
    packing = write(sequences(kept, tokenizer, length, end_of_document=end_of_document), output)
    say(f"{packing.sequences:,} sequences of {length:,} tokens in {len(packing.parts):,} files: {output}")
