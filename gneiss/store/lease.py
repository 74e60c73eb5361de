"""Leases: an object says who holds a path. It is renewed while they do, and taken over when it was not for long enough.

Clocks of machines are never compared: whoever waits for a lease watches, by its own clock, that it is not renewed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from gneiss.errors import StoreError

#: A lease that was not renewed for this long is over.
EXPIRY_SECONDS = 60.0
#: It is renewed this often in that time, looked at this often by who waits for it, and not relied on for the last part.
_RENEWALS, _LOOKS, _RELIED_ON = 4, 12, 0.8
#: What a lease that was given back holds.
_FREE = b"{}"
_log = logging.getLogger(__name__)


class Cell(Protocol):
    """One object of a store that knows conditions. Whatever fails raises OSError or StoreError."""

    def get(self) -> tuple[bytes, str] | None:
        """What it holds, and its ETag; None: it is not there."""

    def put(self, content: bytes, etag: str | None) -> str | None:
        """Replace what has this ETag, or what is not there: the new ETag, or None when it is another one."""


def since_boot() -> float:
    """Seconds, of which none are left out while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass
class Lease:
    """A lease on a cell, for one owner at a time. name: what messages call it; clock: in seconds, of this machine."""

    cell: Cell
    name: str
    expiry_seconds: float = EXPIRY_SECONDS
    clock: Callable[[], float] = since_boot
    sleep: Callable[[float], object] = time.sleep
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    _etag: str | None = None
    _renewals: int = 0
    _renewed: float = 0.0
    _watched: tuple[str, float] | None = None
    _over: str | None = None

    def take(self) -> None:
        """Hold it, after waiting for one that nobody renews to be over. Raises BlockingIOError while somebody does."""
        while not self.look():
            self.sleep(self.expiry_seconds / _LOOKS)
        if self.cell.put(b"", None) is not None:
            raise OSError(errno.ENOTSUP, "this store ignores If-None-Match, so that two could write at once", self.name)

    def look(self) -> bool:
        """Hold it if nobody else does, or has not renewed it since the first look for long enough; whether it is held.

        Raises BlockingIOError when somebody else has renewed it meanwhile.
        """
        asked = self.clock()
        found = self.cell.get()
        if found is None or _is_free(found[0]):
            return self._written(asked, found[1] if found else None)
        content, etag = found
        if self._watched is None:
            self._watched = etag, self.clock()
            wait = "%s: held by %s; waiting up to %.0f s for it to be renewed or over"
            _log.warning(wait, self.name, _owner(content), self.expiry_seconds)
        watched, since = self._watched
        if etag != watched:
            raise BlockingIOError(errno.EAGAIN, f"held by {_owner(content)}", self.name)
        if asked - since < self.expiry_seconds:
            return False
        _log.warning("%s: taken over from %s, who did not renew it", self.name, _owner(content))
        return self._written(asked, etag)

    def renew(self) -> None:
        """Renew it once; failures to reach the store are overcome as long as it lasts."""
        asked = self.clock()
        try:
            if not self._written(asked, self._etag):
                self._over = "another one has taken it over"
        except (OSError, StoreError) as error:
            _log.warning("%s: not renewed: %s", self.name, error)

    def check(self) -> None:
        """Raise OSError when it is over, or may soon be."""
        if self._over is None and self.clock() - self._renewed > _RELIED_ON * self.expiry_seconds:
            self._over = "it could not be renewed in time"
        if self._over is not None:
            raise OSError(errno.ESTALE, f"no longer held by this process: {self._over}", self.name)

    def give_back(self) -> None:
        """Let others have it at once, unless they do already."""
        if self._over is None:
            self._over = "it was given back"
            try:
                self.cell.put(_FREE, self._etag)
            except (OSError, StoreError) as error:
                _log.warning("%s: not given back, so that others wait for its end: %s", self.name, error)

    def _written(self, asked: float, etag: str | None) -> bool:
        """Write that it is held, since `asked`; also if that was done, but the answer was lost on its way."""
        content = json.dumps(
            {
                "host": socket.gethostname(),
                "process": os.getpid(),
                "started": _started(os.getpid()),
                "machine": _machine(),
                "token": self.token,
                "renewals": self._renewals,
            }
        ).encode()
        new = self.cell.put(content, etag)
        if new is None and (found := self.cell.get()) is not None and found[0] == content:
            new = found[1]
        if new is None:
            return False
        self._etag, self._renewed, self._renewals = new, asked, self._renewals + 1
        return True


@contextmanager
def leased(lease: Lease) -> Iterator[Callable[[], None]]:
    """Hold a lease, renewed in a thread; yields its check. Raises BlockingIOError while somebody else holds it."""
    lease.take()
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(lease.expiry_seconds / _RENEWALS):
            lease.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield lease.check
    finally:
        ended.set()
        thread.join(lease.expiry_seconds / _RENEWALS)  # which may be waiting for a store that does not answer
        lease.give_back()


def owner(content: bytes) -> str | None:
    """Who holds a lease with this content, for messages; None when it is free."""
    return None if _is_free(content) else _owner(content)


def _owner(content: bytes) -> str:
    """Who holds it, for messages."""
    try:
        found = json.loads(content)
        return f"process {found['process']} on {found['host']}"
    except (ValueError, TypeError, KeyError):
        return "an unknown owner"


def _is_free(content: bytes) -> bool:
    """Whether it was given back, or its owner was a process of this machine that has ended."""
    if content == _FREE:
        return True
    try:
        found = json.loads(content)
        is_here = _machine() is not None and found["machine"] == _machine()
        return bool(is_here and _started(found["process"]) != found["started"])
    except (ValueError, TypeError, KeyError):
        return False


def _machine() -> str | None:
    """What no other machine has, nor a container with process numbers of its own; None where that is not known."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(process: int) -> str | None:
    """When a process of this machine began; None where there is none of this number."""
    try:
        return Path(f"/proc/{int(process)}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None
