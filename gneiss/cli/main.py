"""The command line: `gneiss VERB RECIPE|RUN … --input --output`. A command imports what is heavy where it needs it."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from gneiss.cli.demo import demo, sample
from gneiss.cli.doctor import doctor
from gneiss.cli.dry_run import dry_run
from gneiss.cli.explain import explain
from gneiss.cli.export import export
from gneiss.cli.extract import extract
from gneiss.cli.filters import filters
from gneiss.cli.layers import losses, weights
from gneiss.cli.messages import in_options
from gneiss.cli.pack import pack
from gneiss.cli.repeats import repeats
from gneiss.cli.run import run
from gneiss.cli.train import train_app
from gneiss.errors import GneissError

COMMANDS = (
    run, dry_run, explain, filters, extract, repeats, weights, pack, export, losses, doctor, sample, demo,
)  # fmt: skip

app = typer.Typer(
    name="gneiss",
    help="Curate pretraining corpora: exact-substring dedup and the GneissWeb quality filters, over Parquet shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(train_app, name="train")


def _find_modules_here() -> None:
    """Let a recipe name a class of a module in the current directory, after all that is installed.

    `python -m gneiss` looks there too, but first. Not where Python was told to keep to a safe path (`-P`).
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a GneissError becomes one line on stderr and its exit code."""
    _find_modules_here()
    try:
        app(arguments)
    except GneissError as error:
        print(f"gneiss: {in_options(str(error), app)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("gneiss: interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
