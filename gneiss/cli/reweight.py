"""`gneiss release`, `pack`, `export` and `losses`: from a finished run to training, and back, on the command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.errors import InputError
from gneiss.output.layout import annotations_folder

if TYPE_CHECKING:
    from gneiss.output.layers import WrittenLayer

reweight_app = typer.Typer()

Run = Annotated[Path, typer.Argument(metavar="OUT", help="The output of a finished run.")]


class ExportFormat(StrEnum):
    """What trainers read."""

    mds = "mds"
    hf = "hf"
    megatron = "megatron"
    olmo = "olmo"


@reweight_app.command()
def release(
    output: Run,
    alpha: Annotated[float, typer.Option(help="How much copies count against a document; 0: not.")] = 0.5,
    beta: Annotated[float, typer.Option(help="How much quality counts for a document; needs --quality.")] = 0.0,
    gamma: Annotated[float, typer.Option(help="How much perplexity counts for it; needs --perplexity.")] = 0.0,
    quality: Annotated[str | None, typer.Option(help="An annotation that is a probability.")] = None,
    perplexity: Annotated[str | None, typer.Option(help="An annotation that is a perplexity.")] = None,
    category: Annotated[str | None, typer.Option(help="An annotation to bring along as category.")] = None,
    layer: Annotated[str, typer.Option(help="Name of the annotation layer.")] = "weights",
) -> None:
    """Write prior weights for training as an annotation layer, mean one over all kept documents."""
    from gneiss.layers.weights import release as write

    powers = {"alpha": alpha, "beta": beta, "gamma": gamma}
    _print_weights(write(output, layer=layer, **powers, quality=quality, perplexity=perplexity, category=category))


@reweight_app.command()
def pack(
    output: Run,
    to: Annotated[Path, typer.Option("--output", "-o", help="A folder for the sequences; the same command resumes.")],
    tokenizer: Annotated[str, typer.Option(help="As in a recipe: builtin:cl100k_base, or a tokenizer.json.")],
    length: Annotated[int, typer.Option(min=2, help="Tokens of a sequence.")] = 2048,
    end_of_document: Annotated[int | None, typer.Option(help="Token to put after each document.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of documents.")] = 0,
    weights: Annotated[str, typer.Option(help="The layer with the weights.")] = "weights",
) -> None:
    """Tokenize and pack the kept documents to sequences, each with the documents it is made of and its weight."""
    from gneiss.loader.packed import pack as write
    from gneiss.loader.packing import sequences
    from gneiss.loader.reader import documents

    source = documents(output, layers=[weights], seed=seed)
    packing = write(sequences(source, tokenizer, length, end_of_document=end_of_document), to)
    print(f"{packing.sequences:,} sequences of {length:,} tokens in {len(packing.parts):,} files: {to}")


@reweight_app.command()
def export(
    source: Annotated[Path, typer.Argument(help="The output of a finished run, or what `gneiss pack` wrote.")],
    to: Annotated[Path, typer.Option("--output", "-o", help="An empty folder.")],
    format: Annotated[
        ExportFormat, typer.Option(help="MosaicML streaming, Hugging Face datasets, Megatron-LM, or OLMo-core.")
    ] = ExportFormat.mds,
    tokenizer: Annotated[str | None, typer.Option(help="As for `pack`; for megatron and olmo, of a run.")] = None,
    end_of_document: Annotated[int | None, typer.Option(help="Token to put after each document.")] = None,
    token_bytes: Annotated[int, typer.Option(help="Bytes of a token: 4, or 2 for ids below 65,536.")] = 4,
    weights: Annotated[str, typer.Option(help="The layer with the weights, for a run.")] = "weights",
) -> None:
    """Write documents or packed sequences, with ids and weights, as trainers read them."""
    from gneiss.export.files import Export, Source, tokenized
    from gneiss.export.hf_datasets import export_hf
    from gneiss.export.mds import export_mds
    from gneiss.export.megatron import export_megatron
    from gneiss.export.olmo import export_olmo
    from gneiss.loader.packed import METADATA_FILE, packed
    from gneiss.loader.reader import Documents, documents

    exports: dict[ExportFormat, Export] = {
        ExportFormat.mds: export_mds,
        ExportFormat.hf: export_hf,
        ExportFormat.megatron: export_megatron,
        ExportFormat.olmo: export_olmo,
    }
    is_packed = (source / METADATA_FILE).is_file()
    if tokenizer is None and (end_of_document is not None or token_bytes != 4):
        raise InputError("--end-of-document and --token-bytes need --tokenizer")
    if tokenizer is not None and is_packed:
        raise InputError(f"{source}: packed sequences are tokens already; leave out --tokenizer, or give a run")
    chosen: Source = packed(source) if is_packed else documents(source, layers=[weights])
    if tokenizer is not None and isinstance(chosen, Documents):
        chosen = tokenized(chosen, tokenizer, end_of_document=end_of_document, token_bytes=token_bytes)
    done = exports[format](chosen, to)
    print(f"{done.samples:,} {'sequences' if is_packed else 'documents'} in {done.files:,} files: {done.folder}")


@reweight_app.command()
def losses(
    output: Run,
    log: Annotated[list[Path], typer.Option(help="A folder that LossLog wrote (may be repeated, in order).")],
    layer: Annotated[str, typer.Option(help="Name of the annotation layer.")] = "losses",
    decay: Annotated[float, typer.Option(help="Of the moving averages, per visit.")] = 0.9,
    window_steps: Annotated[int, typer.Option(min=1, help="Steps whose tokens make the mean at a position.")] = 100,
) -> None:
    """Gather the losses that training logged into an annotation layer, for the rules of the next round."""
    from gneiss.layers.losses import consolidate

    _print_losses(consolidate(output, log, layer=layer, decay=decay, window_steps=window_steps))


def _print_weights(written: WrittenLayer) -> None:
    parameters, summary = written.told["parameters"], written.told["summary"]
    print(f"{summary['documents']:,} documents have a weight, mean one")
    print(f"{parameters['formula']}")
    print(f"copies     {parameters['copies']}")
    powers = ", ".join(f"{name} {parameters[name]:g}" for name in ("alpha", "beta", "gamma"))
    chosen = ", ".join(f"{name} {parameters[name]}" for name in ("quality", "perplexity") if parameters[name])
    print(f"with       {powers}, {chosen or 'no quality'}, log_z {summary['log_z']:.6g}")
    for name, neutral in parameters["absent"].items():
        print(f"absent     {name}: {'null' if neutral is None else f'{neutral:g}'} for all documents")
    if summary["documents_without_quality"]:
        print(f"no quality {summary['documents_without_quality']:,} documents, counted as neither good nor bad")
    if summary["documents_without_perplexity"]:
        print(
            f"no perplexity {summary['documents_without_perplexity']:,} documents, counted as neither common nor rare"
        )
    quantiles = ", ".join(f"{name} {value:.3g}" for name, value in summary["weight_quantiles"].items())
    if quantiles:
        print(f"weights    {quantiles}, all below {summary['largest_weight_below']:.3g}")
    _print_place(written)


def _print_losses(written: WrittenLayer) -> None:
    summary = written.told["summary"]
    print(
        f"{summary['documents_seen']:,} of {summary['documents']:,} documents were trained on: {summary['tokens']:,}"
        f" tokens in {summary['steps']:,} steps"
    )
    if summary["skipped_tokens"]:
        print(f"left out   {summary['skipped_tokens']:,} tokens whose loss was not finite")
    for bucket in summary["mean_loss_by_position"]:
        print(f"position   {bucket['from']:>8,} on: mean loss {bucket['loss']:.4f} over {bucket['tokens']:,} tokens")
    _print_place(written)


def _print_place(written: WrittenLayer) -> None:
    folder = written.path.parents[2] / annotations_folder(written.told["layer"])
    was_there = "  (it was there already, with these parameters)" if written.was_there else ""
    print(f"layer      {folder}{was_there}")
    print(f"metadata   {written.path}")
