"""`gneiss status`, `gneiss verify`, `gneiss logs`: how a run goes, whether its files are whole, what went wrong."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from gneiss.cli.options import OutputArgument
from gneiss.cli.terminal import console, say, shorten, size, table
from gneiss.errors import OutputError, printable
from gneiss.jobs.progress import duration

if TYPE_CHECKING:
    from gneiss.output.cost import Cost
    from gneiss.output.run_status import RunStatus, StageStatus


def status(
    run: OutputArgument,
    slowest: Annotated[int, typer.Option(min=0, help="Number of slowest tasks to show.")] = 5,
) -> None:
    """Show the progress of a run, or what it took, from any machine that can read its output.

    Example: gneiss status curated/
    """
    from gneiss.output.run_status import run_status

    print_status(run_status(run, slowest), time.time(), slowest)


def verify(run: OutputArgument) -> None:
    """Check every file of an output against its receipt; exit code 1 if any differs.

    Example: gneiss verify curated/
    """
    from gneiss.output.verification import verify as check

    found = check(run)
    for problem in found.problems:
        say(f"{printable(problem.path)}: {printable(problem.what)}")
    layers = f", with the layers {', '.join(found.layers)}" if found.layers else ""
    say(
        f"{found.output}: {found.tasks:,} tasks, {found.files:,} files, {size(found.size_bytes)}, {found.rows:,}"
        f" rows{layers}: " + (f"{len(found.problems):,} problems" if found.problems else "all as written")
    )
    if found.problems:
        raise OutputError(f"{found.output}: {len(found.problems)} problems; delete what is damaged, and run again")


def logs(
    run: OutputArgument,
    shard: Annotated[str | None, typer.Option(help="Show only this shard or task.")] = None,
) -> None:
    """Print the failed tasks of a run and the tracebacks of defects.

    Example: gneiss logs curated/ --shard 2024/part-00017
    """
    from gneiss.output.run_logs import run_logs

    found = run_logs(run, shard)
    for receipt in found.receipts:
        at = datetime.fromtimestamp(receipt.cost.get("at", 0.0), UTC).isoformat(sep=" ", timespec="seconds")
        became = receipt.state if receipt.reason is None else f"{receipt.state}: {receipt.reason}"
        seconds = duration(receipt.cost.get("seconds", 0.0))
        say(f"{at} {receipt.stage} {printable(receipt.task)} {printable(became)} ({seconds})")
    for name, text in found.tracebacks.items():
        say(f"\n{printable(name)}")
        say(text)
    if not found.receipts and not found.tracebacks:
        say("nothing went wrong" if shard is None else f"nothing is known of {printable(shard)}")


def print_unusable(reasons: Mapping[str, str], failed: Collection[str], most: int | None = None) -> None:
    """Shards that could not be curated, and why; most: how many of them are shown."""
    for id_, reason in islice(reasons.items(), most):
        fate = "failed by a defect" if id_ in failed else "is quarantined"
        say(f"shard {printable(id_)} {fate}: {printable(reason)}")
    if most is not None and len(reasons) > most:
        say(f"and {len(reasons) - most:,} more shards, which `gneiss status` lists")


def print_status(status: RunStatus, now: float, slowest: int = 5) -> None:
    """The state of a run, its stages, what is quarantined, the slowest tasks; now: in Unix time."""
    say(f"{status.folder}: {status.state}{_holder(status)}")
    if status.last is not None:
        say(f"latest receipt {_ago(now - status.last)}")
    if (current := status.current) and status.state != "finished":
        say(_line(current, status.state))
        if (left := status.seconds_left) is not None:
            say(f"by the estimate, and by what was done since: {duration(left)} left in all")
    out = console()
    if status.stages:
        rows = table("stage", "tasks", "left", "workers", "wall", "CPU")
        for stage in status.stages:
            numbers = (f"{stage.tasks:,}", f"{stage.left:,}", str(stage.workers))
            rows.add_row(escape(stage.name), *numbers, duration(stage.seconds), duration(stage.cpu_seconds))
        out.print()
        out.print(rows)
    if status.running:
        longest = status.running[:slowest]
        more = f", and {len(status.running) - len(longest):,} more" if len(status.running) > len(longest) else ""
        named = (f"{shorten(printable(task.task), 60)} for {duration(now - task.since)}" for task in longest)
        say(f"\nrunning: {', '.join(named)}{more}")
    print_unusable(status.unusable, status.failed)
    if status.slowest:
        rows = table("slowest tasks", "stage", "wall", "CPU", "rows", "input", "peak memory")
        for receipt in status.slowest:
            cost = receipt.cost
            input_ = size(int(cost["input_bytes"])) if "input_bytes" in cost else "–"
            rows.add_row(
                escape(shorten(printable(receipt.task), 60)),
                escape(receipt.stage),
                duration(cost.get("seconds", 0.0)),
                duration(cost.get("cpu_seconds", 0.0)),
                "–" if receipt.rows is None else f"{receipt.rows:,}",
                input_,
                size(int(cost.get("peak_bytes", 0))),
            )
        out.print()
        out.print(rows)
    if status.predicted:
        say(f"\npredicted: {cost_line(status.predicted.cost)}")
    if status.took and status.state == "finished":
        say(f"took: {cost_line(status.took)}")


def cost_line(cost: Cost) -> str:
    """What a run took, or is predicted to take, in a line."""
    return (
        f"{duration(cost.seconds)}, {cost.cpu_seconds / 3600:.3g} core-hours of CPU time, {size(int(cost.peak_bytes))}"
        f" of peak memory in a worker, {size(int(cost.written_bytes))} written"
    )


def _holder(status: RunStatus) -> str:
    if status.holder is None:
        return "" if status.state == "finished" else "; the same command resumes"
    if status.quiet_seconds is None:
        return f", by {printable(status.holder)}"
    said = f"by {printable(status.holder)}, whose lease was renewed {_ago(status.quiet_seconds)}"
    return (
        f", {said}" if status.state == "running" else f": {said}, and who is most likely gone; the same command resumes"
    )


def _line(stage: StageStatus, state: str) -> str:
    rate, left = stage.bytes_per_second, stage.seconds_left
    running = f", {min(stage.workers, stage.left):,} running" if state == "running" else ""
    return (
        f"stage {stage.name}: {stage.tasks - stage.left:,}/{stage.tasks:,} tasks finished{running}"
        + ("" if rate is None else f", {rate / 1e6:.2f} MB/s")
        + (", time left not known yet" if left is None else f", {duration(left)} left")
    )


def _ago(seconds: float) -> str:
    return f"{duration(seconds)} ago" if seconds >= 0 else f"{duration(-seconds)} ahead of this machine's clock"
