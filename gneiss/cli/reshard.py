"""`gneiss reshard`: an output in files of an even size."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from gneiss.cli.options import BackendOption, OnBackend, SharedFilesystem, Workers
from gneiss.cli.terminal import say, shown_progress
from gneiss.errors import InputError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def reshard(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a finished run.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="New output folder. The same command resumes an interrupted run.")
    ],
    shard_bytes: Annotated[str, typer.Option(metavar="SIZE", help="Approximate size of a file.")] = "500MB",
    shuffle_seed: Annotated[
        int | None, typer.Option(min=0, help="Shuffle all documents with this seed. Default: keep the order.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="File format: parquet, jsonl.zst, jsonl.gz or jsonl. Default: that of the run.")
    ] = None,
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
) -> None:
    """Rewrite a finished run as files of even size, in the original order or shuffled.

    Example: gneiss reshard curated/ --output even/ --shuffle-seed 1
    """
    from gneiss.output import layout
    from gneiss.pipelines.reshard import reshard as write

    finished = write(
        run,
        output,
        shard_bytes=size_bytes(shard_bytes),
        shuffle_seed=shuffle_seed,
        format=format,
        workers=workers,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
        progress=shown_progress(),
    )
    say(f"{finished.documents:,} documents in {len(finished.shards):,} files: {finished.folder / layout.DATA}")


def size_bytes(size: str) -> int:
    """The bytes that a size names, in powers of 1000. Raises InputError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?b)?", size.strip().lower(), re.ASCII)
    if match is None or (count := int(float(match[1]) * _UNITS[match[2] or ""])) < 1:
        raise InputError(f"--shard-bytes {size}: expected a size such as 500MB or 2GB")
    return count
