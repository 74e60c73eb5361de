"""`gneiss export`: the formats of other trainers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gneiss.cli.options import WeightsLayer
from gneiss.cli.terminal import say
from gneiss.errors import InputError


class ExportFormat(StrEnum):
    """Trainers' formats."""

    mds = "mds"
    hf = "hf"
    megatron = "megatron"
    olmo = "olmo"


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The output folder of a finished run, or what `gneiss pack` wrote.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="An empty folder.")],
    format: Annotated[
        ExportFormat, typer.Option(help="MosaicML streaming, Hugging Face datasets, Megatron-LM, or OLMo-core.")
    ] = ExportFormat.mds,
    tokenizer: Annotated[str | None, typer.Option(help="As for `pack`; for megatron and olmo, of a run.")] = None,
    end_of_document: Annotated[int | None, typer.Option(help="Token to put after each document.")] = None,
    token_bytes: Annotated[int, typer.Option(help="Bytes of a token: 4, or 2 for ids below 65,536.")] = 4,
    weights: WeightsLayer = "weights",
) -> None:
    """Write documents or packed sequences, with ids and weights, as trainers read them."""
    from gneiss.export.files import Export, Source, tokenized
    from gneiss.export.hf_datasets import export_hf
    from gneiss.export.mds import export_mds
    from gneiss.export.megatron import export_megatron
    from gneiss.export.olmo import export_olmo
    from gneiss.loader.packed_files import METADATA_FILE, packed
    from gneiss.loader.reader import Documents, documents
    from gneiss.store.place import place_of

    exports: dict[ExportFormat, Export] = {
        ExportFormat.mds: export_mds,
        ExportFormat.hf: export_hf,
        ExportFormat.megatron: export_megatron,
        ExportFormat.olmo: export_olmo,
    }
    is_packed = (place_of(run) / METADATA_FILE).find() is not None
    if tokenizer is None and (end_of_document is not None or token_bytes != 4):
        raise InputError("--end-of-document and --token-bytes need --tokenizer")
    if tokenizer is not None and is_packed:
        raise InputError(f"{run}: packed sequences are tokens already; leave out --tokenizer, or give a run")
    chosen: Source = packed(run) if is_packed else documents(run, layers=[weights])
    if tokenizer is not None and isinstance(chosen, Documents):
        chosen = tokenized(chosen, tokenizer, end_of_document=end_of_document, token_bytes=token_bytes)
    done = exports[format](chosen, output)
    say(f"{done.samples:,} {'sequences' if is_packed else 'documents'} in {done.files:,} files: {output}")
