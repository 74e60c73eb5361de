"""`gneiss push`: a finished run to the hub."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.terminal import say, size
from gneiss.jobs.logs import LogSettings

if TYPE_CHECKING:
    from gneiss.output.push import Share


def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of a finished run, local or in a store.")],
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="hf://datasets/OWNER/NAME, or …@BRANCH. Created if it does not exist."),
    ],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public. Default: private.")] = False,
    replace_run: Annotated[bool, typer.Option("--replace", help="Replace another run in the repository.")] = False,
) -> None:
    """Upload a run to the Hugging Face hub. The same command resumes.

    Example: gneiss push curated/ hf://datasets/OWNER/NAME
    """
    from gneiss.output.push import push as upload

    progress = _say_nothing if LogSettings.of_this_process().as_json else _say_share
    done = upload(run, target, public=public, replace_run=replace_run, progress=progress)
    kind = "private" if done.is_private else "public"
    deleted = f", {done.deleted:,} deleted that this run lacks" if done.deleted else ""
    say(
        f"{done.files:,} files, {size(done.size_bytes)}, are at {done.target} ({kind}): {done.uploaded:,} uploaded,"
        f" {done.files - done.uploaded:,} were there{deleted}"
    )
    if done.left_out:
        left_out = ", ".join(f"{name} ({files:,})" for name, files in sorted(done.left_out.items()))
        say(f"not uploaded (files): {left_out}")


def _say_share(share: Share) -> None:
    """Say on stderr how far it is."""
    say(
        f"{share.files:,}/{share.of_files:,} files, {size(share.size_bytes)} of {size(share.of_bytes)}",
        file=sys.stderr,
    )


def _say_nothing(share: Share) -> None:
    """Where each line of stderr is JSON."""
