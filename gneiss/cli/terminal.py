"""Output of the command line: tables on a terminal, plain text when piped, without documents' control characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table

from gneiss.errors import printable
from gneiss.jobs.logs import LogSettings

if TYPE_CHECKING:
    from gneiss.jobs.progress import Progress
    from gneiss.output.cost import Forecast


def console() -> Console:
    """Standard output; 140 columns if it is not a terminal."""
    found = _Console(highlight=False)
    return found if found.is_terminal else _Console(highlight=False, width=140)


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Print without the control characters of strings."""
        shown = (printable(value, keep="\n") if isinstance(value, str) else value for value in objects)
        super().print(*shown, **options)


class _Table(Table):
    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row without the control characters of its cells."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def shown_progress(
    task: str = "shard", rows: str = "documents", of: str = "text", forecast: Forecast | None = None
) -> Progress:
    """Progress on stderr, in these words; none where each line of stderr is JSON, which tells of each task itself."""
    from gneiss.jobs.progress import PrintedProgress, Silent

    return (
        Silent()
        if LogSettings.of_this_process().as_json
        else PrintedProgress(task=task, rows=rows, of=of, forecast=forecast)
    )


def table(*headings: str) -> Table:
    """An empty table; columns of numbers are right-aligned."""
    made = _Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        numeric = heading in {"true", "false", "unknown", "decisive alone", "null"} or (
            heading.startswith("p") and heading[1:].isdigit()
        )
        made.add_column(heading, justify="right" if numeric else "left", no_wrap=numeric)
    return made


def number(value: Any) -> str:
    """A number with four digits, a missing value as a dash."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size(size_bytes: int) -> str:
    """Bytes with a unit."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes} bytes"


def shorten(text: str, width: int) -> str:
    """At most `width` characters of a text."""
    return text if len(text) <= width else text[: width - 1] + "…"


def say(text: object = "", file: TextIO | None = None, end: str = "\n") -> None:
    """Print lines without control characters, which a terminal would obey."""
    print(printable(text, keep="\n"), file=file, end=end, flush=True)


def excerpt(text: str) -> str:
    """Text of a document on one line, without control characters."""
    return printable("".join(" " if c.isspace() else c for c in text))
