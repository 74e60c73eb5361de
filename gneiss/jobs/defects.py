"""Defects: exceptions that nobody expected. Their tracebacks are kept, and quoted once; they are no bad data."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import xxhash

from gneiss.errors import format_traceback
from gneiss.jobs.logs import LOGGER
from gneiss.output import layout
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Place
from gneiss.version import __version__

_log = logging.getLogger(__name__)
_FRAME = re.compile(r'  File ".*", line \d+, in .+')


@dataclass(frozen=True)
class Defect:
    """An unexpected exception: what failed, its traceback, and the run, stage and shard that met it."""

    message: str
    traceback: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Equal for exceptions of one type from one place: a name for a file."""
        lines = self.traceback.splitlines()
        frames = [number for number, line in enumerate(lines) if _FRAME.fullmatch(line)]
        place = "\n".join(lines[number] for number in frames) or self.traceback
        raised = (line for line in lines[frames[-1] + 1 if frames else 0 :] if line[:1].strip())
        name = re.sub(r"\W", "-", next(raised, "defect").partition(":")[0][:60])
        return f"{name}-{xxhash.xxh3_64_hexdigest(place.encode())[:8]}"


@dataclass
class Defects:
    """The defects of a job: the first of each kind has a file in the output's logs."""

    output: Place
    _seen: set[str] = field(default_factory=set)

    def keep(self, defect: Defect, *, quote: bool = True) -> None:
        """Write a defect's traceback to the logs, and quote it on stderr; nothing for a kind that is known already."""
        if defect.kind in self._seen:
            return
        self._seen.add(defect.kind)
        path = layout.traceback_path(defect.kind)
        head = [f"gneiss {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
        head += [f"{name}: {value}" for name, value in defect.fields.items()]
        write_bytes(("\n".join([*head, defect.message, "", defect.traceback.rstrip(), ""])).encode(), self.output, path)
        if quote:
            _log.error(
                "%s\n%s\nThis is a defect, not bad data: please report it with this traceback (%s)",
                defect.message, defect.traceback.rstrip(), self.output / path, extra=dict(defect.fields),
            )  # fmt: skip


class _Collector(logging.Handler):
    """Takes what is logged with a traceback, the first of each kind."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: dict[str, Defect] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if record.exc_info and record.exc_info[1]:
            defect = Defect(record.getMessage(), format_traceback(record.exc_info[1]))
            self.found.setdefault(defect.kind, defect)


@contextmanager
def collected_defects() -> Iterator[dict[str, Defect]]:
    """Kind → the first defect of it that gneiss logs within the block."""
    collector = _Collector()
    LOGGER.addHandler(collector)
    try:
        yield collector.found
    finally:
        LOGGER.removeHandler(collector)
