"""Deduplication: duplicate spans of a corpus, found exactly; documents that are duplicates or nearly so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gneiss.dedup.minhash.bands import bands_for
    from gneiss.dedup.minhash.in_memory import find_exact_duplicates, find_near_duplicates
    from gneiss.dedup.spans import Spans
    from gneiss.dedup.substring import duplicate_spans, find_spans
    from gneiss.dedup.units import Tokenizer

__all__ = [
    "Spans",
    "Tokenizer",
    "bands_for",
    "duplicate_spans",
    "find_exact_duplicates",
    "find_near_duplicates",
    "find_spans",
]


def __getattr__(name: str) -> Any:
    # numba and pyarrow are imported where they are used, not by `import gneiss.dedup`
    from importlib import import_module

    homes = {"Spans": "spans", "duplicate_spans": "substring", "find_spans": "substring"}
    homes |= {"Tokenizer": "units", "bands_for": "minhash.bands"}
    homes |= dict.fromkeys(("find_exact_duplicates", "find_near_duplicates"), "minhash.in_memory")
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
