"""`gneiss estimate`: the bill of a run, before it is spent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gneiss.cli.options import Changes, RecipeArgument, load_recipe
from gneiss.cli.terminal import console, say, shown_progress, size, table
from gneiss.errors import InputError, first_line
from gneiss.jobs.progress import duration
from gneiss.output.cost import Cost, Forecast

if TYPE_CHECKING:
    from gneiss.pipelines.estimate import Estimate
    from gneiss.recipe.recipe import Recipe

#: GETs of a shard of one row group, see docs/stores.md.
_GETS_A_SHARD = 4
_PRICED = "AWS's list prices, us-east-1, 2025"


def estimate(
    recipe: RecipeArgument,
    input: Annotated[str, typer.Option("--input", "-i", help="Input of the run, as for `gneiss run`.")],
    shards: Annotated[int, typer.Option(min=1, help="Number of shards to curate as a sample.")] = 4,
    workers: Annotated[int, typer.Option(min=1, help="Number of workers of the planned run.")] = 1,
    core_hour_dollars: Annotated[
        float, typer.Option(min=0, help="Price of a core-hour in US dollars (AWS c7i, on demand).")
    ] = 0.0446,
    put_dollars: Annotated[float, typer.Option(min=0, help="Price of 1,000 PUT requests in US dollars.")] = 0.005,
    get_dollars: Annotated[float, typer.Option(min=0, help="Price of 1,000 GET requests in US dollars.")] = 0.0004,
    gb_month_dollars: Annotated[
        float, typer.Option(min=0, help="Price of storing 1 GB of output for a month in US dollars.")
    ] = 0.023,
    changes: Changes = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, which `gneiss run --estimate` reads.")
    ] = False,
) -> None:
    """Estimate the time, memory, storage, requests and cost of a run by curating a sample of its shards.

    Example: gneiss estimate fineweb --input crawl/ --shards 8 --workers 64
    """
    from gneiss.jobs.progress import Silent
    from gneiss.pipelines.estimate import estimate as measure

    loaded = load_recipe(recipe, changes)
    progress = Silent() if as_json else shown_progress()
    estimate = measure(loaded, input, shards=shards, workers=workers, progress=progress)
    gets = _GETS_A_SHARD * estimate.shards
    prices = {
        "core-hours": core_hour_dollars * estimate.workers * estimate.cost.seconds / 3600,
        "requests": put_dollars * estimate.written_files / 1000 + get_dollars * gets / 1000,
        "a month of storage": gb_month_dollars * estimate.cost.written_bytes / 1e9,
    }
    if as_json:
        say(json.dumps({**estimate.to_json(), "gets": gets, "dollars": prices}, indent=1))
    else:
        _print(estimate, gets, prices)


def _print(estimate: Estimate, gets: int, prices: dict[str, float]) -> None:
    def row(cost: Cost) -> tuple[str, ...]:
        core_hours = (estimate.workers * cost.seconds / 3600, cost.cpu_seconds / 3600)
        sizes = (size(int(cost.peak_bytes)), size(int(cost.written_bytes)))
        return (duration(cost.seconds), *(f"{hours:,.3g}" for hours in core_hours), *sizes)

    out = console()
    say(
        f"{estimate.shards:,} shards, {size(estimate.text_bytes)} of text; {len(estimate.sampled)} of them were curated"
    )
    rows = table("", "wall time", "core-hours", "of CPU time", "memory of a worker", "written")
    for name, cost in (("low", estimate.low), ("expected", estimate.cost), ("high", estimate.high)):
        rows.add_row(name, *row(cost))
    out.print(rows)
    if estimate.workers > 1:
        say(f"with {estimate.workers} workers")
    say(f"in an object store about {estimate.written_files:,} PUTs and {gets:,} GETs, plus reads of the exchange")
    total = ", ".join(f"{dollars:,.2f} for {name}" for name, dollars in prices.items())
    say(f"dollars: {sum(prices.values()):,.2f} ({total}); by default {_PRICED}")


def read_estimate(file: Path, recipe: Recipe) -> Forecast:
    """What `gneiss estimate --json` expects a run of a recipe to take. Raises InputError."""
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        digest, cost = found["recipe"], Cost(**found["cost"])
        forecast = Forecast.of(cost, {stage["name"]: float(stage["cpu_seconds"]) for stage in found["stages"]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file}: expected what `gneiss estimate --json` prints: {first_line(error)}") from error
    if digest != recipe.digest():
        raise InputError(f"{file}: the estimate of another recipe, or of this one with other values; estimate it again")
    return forecast
