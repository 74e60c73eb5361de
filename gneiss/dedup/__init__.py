"""Deduplication: duplicate spans of a corpus, found exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gneiss.dedup.spans import Spans
    from gneiss.dedup.substring import duplicate_spans, find_spans
    from gneiss.dedup.units import Tokenizer

__all__ = ["Spans", "Tokenizer", "duplicate_spans", "find_spans"]


def __getattr__(name: str) -> Any:
    # numba and pyarrow are imported where they are used, not by `import gneiss.dedup`
    from importlib import import_module

    homes = {"Spans": "spans", "duplicate_spans": "substring", "find_spans": "substring"}
    homes |= {"Tokenizer": "units"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
