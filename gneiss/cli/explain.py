"""`gneiss explain`: a recipe resolved."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gneiss.cli.options import Changes, load_recipe
from gneiss.cli.terminal import console, say, table
from gneiss.errors import printable

if TYPE_CHECKING:
    from gneiss.recipe.recipe import Recipe


def explain(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE]",
            help="Name of a packaged recipe, or the path of a YAML file. Default: that of --input, if given.",
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", help="Output folder of a finished run, which fixes the thresholds of rules by share."
        ),
    ] = None,
    changes: Changes = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the recipe as YAML, with every default written out.")
    ] = False,
) -> None:
    """Show a resolved recipe: its phases, models, rules and hash. Without arguments, list the packaged recipes.

    Example: gneiss explain gneissweb-bytes
    """
    from gneiss.output.finished_run import open_run
    from gneiss.recipe.recipe import Recipe, recipe_names

    if recipe is None and input is None:
        _print_recipes(Recipe.load(name) for name in recipe_names())
        return
    if recipe is None and changes:
        raise typer.BadParameter("--set changes a recipe; name it")
    shown = open_run(input or "").recipe if recipe is None else load_recipe(recipe, changes, input)
    if as_yaml:
        print(shown.to_yaml(), end="")  # data, in which YAML escapes control characters
    else:
        _print_recipe(shown)


def _print_recipes(recipes: Iterable[Recipe]) -> None:
    """One line per recipe."""
    rows = table("recipe", "what")
    for recipe in recipes:
        rows.add_row(recipe.name, escape(" ".join(recipe.description.split())))
    console().print(rows)


def _print_recipe(recipe: Recipe) -> None:
    """A recipe resolved: what it reads, cuts, computes, decides, and its hash."""
    from gneiss.input.model_files import is_pinned
    from gneiss.recipe.columns import BASE_COLUMNS

    columns = recipe.input
    lines = [
        f"{recipe.name}  sha256 {recipe.digest()}",
        *textwrap.wrap(recipe.description, 100),
        "",
        f"reads     text from {columns.text!r}, "
        + ("made ids" if columns.id is None else f"ids from {columns.id!r}")
        + (f", URLs from {columns.url!r}" if "url" in recipe.inputs else ""),
        *(
            f"          {stale} of an edited document becomes {fresh or 'null'}"
            for stale, fresh in columns.derived_from_text.items()
        ),
        f"shards    at most {recipe.shard_max_bytes / 1e6:,.0f} MB of text",
        f"budgets   {recipe.budgets.documents:.2%} of documents and {recipe.budgets.shards} shards may be quarantined",
        *(
            f"model     {source}{'' if is_pinned(source) else '  (no commit is named: a run records the checksum)'}"
            for source in recipe.model_files
        ),
    ]
    for number, phase in enumerate(recipe.phases, 1):
        lines += ["", f"phase {number}: {phase.name}"]
        lines += [step.explanation for step in phase.steps]
        edits = (entry for own in recipe.canonical()["phases"][number - 1]["edit"] for entry in own.items())
        lines += [f"edits     {key}{_given(given)}" for key, given in edits]
        columns_of_phase = (*(BASE_COLUMNS if number == 1 else ()), *phase.columns)
        lines += [f"computes  {column.name} ({column.type}): {column.meaning}" for column in columns_of_phase]
        lines += [
            f"after     {annotator.key or type(annotator).__name__} reads {', '.join(annotator.reads_annotations)}"
            for annotator in phase.annotators
            if annotator.reads_annotations
        ]
        rules = {**phase.rules, **{name: f"{rule}, as a run finds it" for name, rule in phase.shares.items()}}
        lines += [f"rule      {name}: {printable(condition)}" for name, condition in rules.items()]
        lines.append(f"keeps     {printable(phase.kept_by)}")
    say("\n".join(lines))


def _given(parameters: Mapping[str, object]) -> str:
    """Parameters in brackets."""
    return f" ({', '.join(f'{name} {value}' for name, value in parameters.items())})" if parameters else ""
