"""Extractors that hang, swallow memory, crash and fail on pages that ask for it, and are plain and fast on others."""

from __future__ import annotations

import ctypes
import re
import time
from dataclasses import dataclass

from gneiss.extraction.extractors import ExtractText, Resiliparse

ENDLESS, HUNGRY, CRASHING, RAISING, SWALLOWING = "$endless$", "$hungry$", "$crashing$", "$raising$", "$swallowing$"
SLOW = "$slow$"
MARKS = (ENDLESS, HUNGRY, CRASHING, RAISING, SWALLOWING, SLOW)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Hostile:
    """Strips tags, and does what a page asks for."""

    libraries: tuple[str, ...] = ()

    def load(self) -> ExtractText:
        """See Extractor."""
        return text_of


@dataclass(frozen=True)
class Attacked:
    """Resiliparse, but for pages that ask for something."""

    libraries: tuple[str, ...] = ("resiliparse",)

    def load(self) -> ExtractText:
        """See Extractor."""
        extract = Resiliparse().load()
        return lambda html: text_of(html) if any(mark in html for mark in MARKS) else extract(html)


def text_of(html: str) -> str:
    if ENDLESS in html:
        while True:
            pass
    if SLOW in html:
        until = time.process_time() + 0.3
        while time.process_time() < until:
            pass
    if HUNGRY in html:
        return str(len(b"x" * 900_000_000))
    if SWALLOWING in html:
        return swallow()
    if CRASHING in html:
        ctypes.string_at(0)
    if RAISING in html:
        raise RecursionError("too deep")
    return " ".join(_TAG.sub(" ", html).split())


def swallow() -> str:
    """As libraries do: memory is refused, they give up and say nothing."""
    held = []
    try:
        while True:
            held.append(b"x" * 50_000_000)
    except MemoryError:
        return ""
