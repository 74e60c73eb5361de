"""From a crawl to documents: records of archives, pages out of records, text out of pages, Parquet shards out of text.

`records` reads, `ranges` puts right where it began to, `pages` decides by headers, `inside` (in a process of its own,
which `sandbox` watches) decodes bodies and runs an extractor, `tables` writes, `step` does all that for one task, and
`job` for an input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gneiss.extraction.records import read_record

__all__ = ["read_record"]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: the sandbox's process needs none of the stores."""
    if name != "read_record":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gneiss.extraction.records import read_record

    return read_record
