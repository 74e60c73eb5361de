"""The command line: `gneiss VERB RECIPE|RUN … --input --output`. Commands import heavy modules where they need them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Annotated, Any

import typer

from gneiss.cli.ablate import ablate
from gneiss.cli.annotate import annotate
from gneiss.cli.compare import compare
from gneiss.cli.contamination import contamination_app
from gneiss.cli.decide import decide
from gneiss.cli.demo import demo, sample
from gneiss.cli.diff import diff
from gneiss.cli.doctor import doctor
from gneiss.cli.dry_run import dry_run
from gneiss.cli.estimate import estimate
from gneiss.cli.explain import explain
from gneiss.cli.explore import explore
from gneiss.cli.export import export
from gneiss.cli.extract import extract
from gneiss.cli.federated import federated_app
from gneiss.cli.filters import filters
from gneiss.cli.heads import heads_app
from gneiss.cli.label import label_app
from gneiss.cli.layers import losses, weights
from gneiss.cli.messages import in_options
from gneiss.cli.mixture import buckets, mix
from gneiss.cli.pack import pack
from gneiss.cli.push import push
from gneiss.cli.repeats import repeats
from gneiss.cli.report import report
from gneiss.cli.reshard import reshard
from gneiss.cli.route import route_app
from gneiss.cli.run import run
from gneiss.cli.status import logs, status, verify
from gneiss.cli.sweep import sweep
from gneiss.cli.terminal import say
from gneiss.cli.train import train_app
from gneiss.errors import DefectError, GneissError, printable
from gneiss.jobs.logs import LOGGER, LogSettings
from gneiss.version import __version__

#: Heading in `gneiss --help` → commands and groups of commands, in the order in which a user meets them.
PANELS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Curate a corpus": (run, dry_run, estimate, explain, filters),
    "Inspect a run": (status, report, logs, verify, contamination_app),
    "Change decisions": (sweep, explore, decide, diff),
    "Prepare input": (extract, repeats),
    "Add annotations to a run": (annotate, compare, heads_app, weights, losses),
    "Build training data": (buckets, mix, reshard, pack, export, push),
    "Train and use models": (ablate, label_app, train_app, federated_app, route_app),
    "Set up": (doctor, demo, sample),
}

app = typer.Typer(
    name="gneiss",
    help="Curate pretraining corpora: exact-substring deduplication and quality filters over Parquet shards.",
    epilog="`gneiss COMMAND --help` shows the options of a command and an example. New here? Start with `gneiss demo`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in PANELS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(command)


def _find_modules_here() -> None:
    """Let a recipe name a class of a module in the current directory, after all that is installed.

    `python -m gneiss` looks there too, but first. Not where Python keeps to a safe path (`-P`).
    """
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _print_version(is_asked: bool) -> None:
    if is_asked:
        say(f"gneiss {__version__}")
        raise typer.Exit


@app.callback()
def every_command(
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what every task and worker does to stderr.")] = False,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log as JSON, one object per line, instead of showing progress.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of every command, given before its name."""
    LogSettings(logging.INFO if verbose or log_json else logging.WARNING, log_json).apply()


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a GneissError becomes one line on stderr and its exit code."""
    _find_modules_here()
    ended: list[int] = []
    try:
        with _interrupted_by(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, heard=ended):
            app(arguments)
    except GneissError as error:
        _say(in_options(str(error), app))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit):  # typer makes the latter of the former
        if not ended:
            raise
        how = "interrupted" if ended[0] == signal.SIGINT else f"ended by {signal.Signals(ended[0]).name}"
        _say(f"{how}; the same command resumes where it stopped")
        sys.exit(128 + ended[0])
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:  # noqa: BLE001 - what nobody expected is reported with its traceback
        defect = DefectError.of("a defect of gneiss, please report it", error)
        _say(str(defect), defect.traceback)
        sys.exit(defect.exit_code)


@contextmanager
def _interrupted_by(*numbers: int, heard: list[int]) -> Iterator[None]:
    """Answer these signals like Ctrl-C, and note them; those that are ignored (`nohup`) stay so."""

    def interrupt(number: int, _: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in numbers}
    own = [number for number in numbers if before[number] != signal.SIG_IGN]
    if current_thread() is not main_thread():  # where no handler can be set
        own = []
    for number in own:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in own:
            signal.signal(number, before[number])


def _say(message: str, traceback: str = "") -> None:
    """The last words of a command on stderr."""
    if LogSettings.of_this_process().as_json:
        LOGGER.error("%s%s", traceback, message)
    else:
        say(f"{traceback}gneiss: {printable(message)}", file=sys.stderr)
