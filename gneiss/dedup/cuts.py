"""Cuts: what is cut from the documents of a corpus, and what each part of it repeats."""

from __future__ import annotations

from dataclasses import dataclass

from gneiss.arrays import Int64Array


@dataclass(frozen=True, eq=False)
class Cuts:
    """What to cut: units `start` to `end` of `document`, repeats of those of `source_document` from `source_start` on.

    int64 (cuts,), sorted, disjoint, each maximal with consecutive sources; units count inside the document.
    """

    document: Int64Array
    start: Int64Array
    end: Int64Array
    source_document: Int64Array
    source_start: Int64Array
