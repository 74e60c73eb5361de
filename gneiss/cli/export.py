"""`gneiss export`: the formats of other trainers, and annotations for Dolma and Marin."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gneiss.cli.terminal import say
from gneiss.errors import InputError


class ExportFormat(StrEnum):
    """Formats of others."""

    mds = "mds"
    hf = "hf"
    jsonl = "jsonl"
    arrayrecord = "arrayrecord"
    megatron = "megatron"
    olmo = "olmo"
    dolma = "dolma"
    marin = "marin"


#: Those that take annotations as attributes.
_OF_ATTRIBUTES = (ExportFormat.dolma, ExportFormat.marin)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a finished run or of `gneiss pack`.")],
    output: Annotated[str, typer.Option("--output", "-o", help="Empty folder to write.")],
    format: Annotated[
        ExportFormat,
        typer.Option(help="Format to write: that of a trainer, or annotations as attributes (dolma, marin)."),
    ] = ExportFormat.mds,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer, as for `gneiss pack`; required by megatron and olmo for a run.")
    ] = None,
    end_of_document: Annotated[int | None, typer.Option(help="Token to append to each document.")] = None,
    token_bytes: Annotated[int, typer.Option(help="Bytes per token id: 4, or 2 for ids below 65,536.")] = 4,
    weights: Annotated[
        str | None, typer.Option(help="Annotation layer that holds the weights. Default: weights.")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Annotations to export to dolma or marin, separated by commas. Default: numbers and booleans."
        ),
    ] = None,
    layer: Annotated[list[str] | None, typer.Option(help="Annotation layer to read columns from. Repeatable.")] = None,
) -> None:
    """Export documents or packed sequences, with weights, in the format of a trainer; or annotations as attributes.

    Example: gneiss export packed/ --output mds/ --format mds
    """
    from gneiss.export.arrayrecord import export_arrayrecord
    from gneiss.export.dolma import export_dolma
    from gneiss.export.files import Export, Source, scores, tokenized
    from gneiss.export.hf_datasets import export_hf
    from gneiss.export.jsonl import export_jsonl
    from gneiss.export.marin import export_marin
    from gneiss.export.mds import export_mds
    from gneiss.export.megatron import export_megatron
    from gneiss.export.olmo import export_olmo
    from gneiss.loader.packed_files import METADATA_FILE, packed
    from gneiss.loader.reader import Documents, documents
    from gneiss.output.finished_run import open_run
    from gneiss.store.place import place_of

    exports: dict[ExportFormat, Export] = {
        ExportFormat.mds: export_mds,
        ExportFormat.hf: export_hf,
        ExportFormat.jsonl: export_jsonl,
        ExportFormat.arrayrecord: export_arrayrecord,
        ExportFormat.megatron: export_megatron,
        ExportFormat.olmo: export_olmo,
        ExportFormat.dolma: export_dolma,
        ExportFormat.marin: export_marin,
    }
    is_packed = (place_of(run) / METADATA_FILE).find() is not None
    if tokenizer is None and (end_of_document is not None or token_bytes != 4):
        raise InputError("--end-of-document and --token-bytes need --tokenizer")
    if tokenizer is not None and is_packed:
        raise InputError(f"{run}: packed sequences are tokens already; leave out --tokenizer, or give a run")
    if format in _OF_ATTRIBUTES and weights is not None:
        raise InputError(f"--weights: {format} takes no weights; name their columns, with --layer")
    if format not in _OF_ATTRIBUTES and (columns or layer):
        raise InputError(f"--columns and --layer: {format} takes no annotations; leave them out")
    chosen: Source
    if is_packed:
        chosen = packed(run)
    elif format in _OF_ATTRIBUTES:
        named = columns.split(",") if columns else scores(open_run(run), layer or ())
        chosen = documents(run, layers=layer or (), columns=named)
    else:
        chosen = documents(run, layers=[weights or "weights"])
    if tokenizer is not None and isinstance(chosen, Documents):
        chosen = tokenized(chosen, tokenizer, end_of_document=end_of_document, token_bytes=token_bytes)
    done = exports[format](chosen, output)
    say(f"{done.samples:,} {'sequences' if is_packed else 'documents'} in {done.files:,} files: {output}")
