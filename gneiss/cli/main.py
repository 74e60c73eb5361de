"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gneiss.cli.extract import extract
from gneiss.cli.options import BackendOption, OnBackend, SharedFilesystem, Workers
from gneiss.cli.reweight import reweight_app
from gneiss.cli.train import train_app
from gneiss.errors import GneissError

app = typer.Typer(
    name="gneiss",
    help="Curate pretraining corpora: exact-substring dedup and the GneissWeb quality filters, over Parquet shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Policy(StrEnum):
    """Which units of repeats are cut."""

    protect = "protect"
    union = "union"
    all = "all"


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Name of a packaged recipe (see `gneiss explain`), or a YAML file.")],
    input: Annotated[str, typer.Option("--input", "-i", help="A Parquet file, a directory, a glob, or file://.")],
    output: Annotated[str, typer.Option("--output", "-o", help="An output folder; the same command resumes.")],
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
) -> None:
    """Curate a corpus: filtered shards, and an annotation row for every document."""
    from gneiss.cli.printing import print_run
    from gneiss.jobs.progress import PrintedProgress
    from gneiss.pipelines.run import run as run_recipe

    finished = run_recipe(
        recipe,
        input,
        output,
        workers=workers,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
        progress=PrintedProgress(),
    )
    print_run(finished)
    finished.check_budgets()


@app.command()
def dry_run(
    file: Annotated[Path, typer.Argument(help="One Parquet file.")],
    recipe: Annotated[
        str, typer.Option("--recipe", "-r", help="Name of a packaged recipe, or a YAML file.")
    ] = "gneissweb-bytes",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first rows; dedup then sees those alone.")] = None,
    corpus_gb: Annotated[
        float, typer.Option(min=0, help="Project core-hours for a corpus of so many GB of text.")
    ] = 1000.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Show what a recipe would do to one file, in this process; writes nothing."""
    from gneiss.cli.printing import print_dry_run
    from gneiss.pipelines.dry_run import dry_run as try_recipe

    if not as_json:
        print(f"{file}: reading with recipe {recipe}", flush=True)
    print_dry_run(try_recipe(recipe, file, limit=limit), corpus_gb=corpus_gb, as_json=as_json)


dedup_app = typer.Typer(help="Look at what repeats in a file.", no_args_is_help=True)
app.add_typer(dedup_app, name="dedup")
app.add_typer(train_app, name="train")
app.command()(extract)
app.add_typer(reweight_app)


@dedup_app.command("show")
def dedup_show(
    file: Annotated[Path, typer.Argument(help="One Parquet file.")],
    min_length: Annotated[int, typer.Option(min=2, help="Bytes from which on a repeat counts.")] = 200,
    policy: Annotated[Policy, typer.Option(help="Which units of repeats are cut.")] = Policy.protect,
    top: Annotated[int, typer.Option(min=1, help="How many passages.")] = 10,
    column: Annotated[str, typer.Option(help="The text column.")] = "text",
) -> None:
    """Show the largest repeated passages of a file, how often they occur, and one of them each in context."""
    from gneiss.cli.printing import print_passages
    from gneiss.pipelines.passages import repeated_passages

    print_passages(repeated_passages(file, column, min_length=min_length, policy=policy.value), top)


@app.command()
def explain(
    recipe: Annotated[str | None, typer.Argument(help="Name or YAML file; without it, all packaged recipes.")] = None,
) -> None:
    """Show a recipe resolved: its phases, models, rules, and its hash."""
    from gneiss.cli.printing import print_recipe, print_recipes
    from gneiss.recipe.recipe import Recipe, recipe_names

    if recipe is None:
        print_recipes([Recipe.load(name) for name in recipe_names()])
    else:
        print_recipe(Recipe.load(recipe))


@app.command()
def filters(code: Annotated[str | None, typer.Argument(help="Code of a filter, such as GW01.")] = None) -> None:
    """List the filters, or print one filter's page."""
    from gneiss.cli.printing import print_filters

    print_filters(code)


@app.command()
def doctor() -> None:
    """Say what is missing on this machine, with the command that mends it."""
    from gneiss.cli.doctor import check_machine
    from gneiss.cli.printing import print_checks

    checks = check_machine()
    print_checks(checks)
    raise typer.Exit(0 if all(check.is_well or not check.is_needed for check in checks) else 1)


@app.command()
def sample(
    output: Annotated[Path, typer.Argument(help="A folder for the shards.")],
    shards: Annotated[int, typer.Option(min=1, help="How many Parquet files.")] = 4,
) -> None:
    """Harvest a small real corpus from what this Python installation holds; no network."""
    from gneiss.demo.sample import write_sample

    manifest = write_sample(output, shards=shards)
    print(f"{manifest.documents:,} documents, {manifest.text_bytes / 1e6:.1f} MB of text in {shards} shards: {output}")


@app.command()
def demo(output: Annotated[Path, typer.Argument(help="A new folder.")] = Path("demo")) -> None:
    """Harvest the sample corpus, train two small models on it, curate it, and say what happened."""
    from gneiss.demo.demo import run_demo

    run_demo(output)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a GneissError becomes one line on stderr and its exit code."""
    try:
        app(arguments)
    except GneissError as error:
        print(f"gneiss: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("gneiss: interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
