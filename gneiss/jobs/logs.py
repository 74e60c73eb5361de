"""Logs: what happens in a job, through the standard library's logging; every record says its run, stage and shard."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from gneiss.errors import printable

LOGGER = logging.getLogger("gneiss")
_FIELDS: ContextVar[Mapping[str, str]] = ContextVar("gneiss_log_fields", default={})  # noqa: B039 - never changed
_PLACES = ("run", "stage", "shard", "task")
#: What every record has; all else is a field of ours.
_STANDARD = {*logging.makeLogRecord({}).__dict__, "message", "asctime"}


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Let records say this too: `run`, `stage`, `shard`."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)


class Fields(logging.Filter):
    """Gives records the fields `run`, `stage` and `shard`, where they are known; for your own handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; every record passes."""
        record.__dict__.update(_FIELDS.get())
        return True


@dataclass(frozen=True)
class LogSettings:
    """How a process logs to stderr: from which level on, and whether each record is a line of JSON."""

    level: int = logging.WARNING
    as_json: bool = False

    @classmethod
    def of_this_process(cls) -> LogSettings:
        """What was applied here; else the level of the logger `gneiss`."""
        applied = (handler.settings for handler in LOGGER.handlers if isinstance(handler, _Stderr))
        return next(applied, cls(LOGGER.getEffectiveLevel()))

    def apply(self) -> None:
        """Log to stderr like this, in this process."""
        for handler in LOGGER.handlers[:]:
            if isinstance(handler, _Stderr):
                LOGGER.removeHandler(handler)
        LOGGER.addHandler(_Stderr(self))
        LOGGER.setLevel(self.level)


class _Stderr(logging.Handler):
    """Writes to whatever stderr is. Exceptions with a traceback are left to the driver, which quotes each kind once."""

    def __init__(self, settings: LogSettings) -> None:
        super().__init__(settings.level)
        self.settings = settings
        self.addFilter(Fields())
        self.addFilter(lambda record: not record.exc_info)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        text = _as_json(record) if self.settings.as_json else _as_text(record, self.settings.level < logging.WARNING)
        over_progress = "\r\x1b[K" if sys.stderr.isatty() and not self.settings.as_json else ""
        sys.stderr.write(f"{over_progress}{text}\n")
        sys.stderr.flush()


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What a record has beyond the standard; where it was logged comes first. Ray adds a field of its own, `_ray_…`."""
    found = {name: value for name, value in record.__dict__.items() if name not in _STANDARD and name[0] != "_"}
    return {name: found[name] for name in sorted(found, key=lambda name: name not in _PLACES)}


def _as_text(record: logging.LogRecord, with_fields: bool) -> str:
    fields = " ".join(f"{name}={value}" for name, value in _fields_of(record).items()) if with_fields else ""
    # A message may quote a traceback in lines of its own.
    message = printable(record.getMessage(), keep="\n")
    return f"{record.levelname.lower()}: {message}" + (f"  [{printable(fields)}]" if fields else "")


def _as_json(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    head = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
    return printable(json.dumps({**head, **_fields_of(record)}, ensure_ascii=False, default=str))
