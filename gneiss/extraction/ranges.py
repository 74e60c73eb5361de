"""The ranges of archives: which of them were read from the wrong place.

A range that starts within an archive guesses where its first record starts: at the first thing that looks like one. In
the content of a record, stored or barely compressed, whole archives may lie. So each range also says where reading
would go on after it, and the driver has the next one read again from there if that is not where it started: then all
ranges together give the records of one pass over the archive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gneiss.extraction.crawl_files import CrawlFiles
from gneiss.extraction.records import RangeReader
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.store.place import Place

#: Of a receipt's counts: the offset where reading started in a range, or `_NOWHERE`, and where it would go on after it.
_FIRST, _NEXT, _NOWHERE = "first_offset", "next_offset", -1


def counts_of(archive: RangeReader | None) -> dict[str, int]:
    """What a receipt keeps of where an archive was read."""
    if archive is None:
        return {}
    return {_FIRST: _NOWHERE if archive.first is None else archive.first, _NEXT: archive.end}


def misplaced(tasks: Sequence[CrawlFiles], done: Mapping[str, Receipt]) -> list[CrawlFiles]:
    """The first range of each archive that was not read from where the one before it ended, to be read from there.

    tasks: the ranges of an archive in order; done: their receipts. Where one could not be read, the next is believed.
    """
    again: dict[Place, CrawlFiles] = {}
    reached: dict[Place, int] = {}
    for task in tasks:
        receipt, end = done[task.id], task.range.end
        if end is None or task.file in again:
            continue
        if receipt.state != COMMITTED:
            reached.pop(task.file, None)
            continue
        first, expected = receipt.counts[_FIRST], reached.get(task.file)
        if task.range.start and expected is not None and first != (expected if expected < end else _NOWHERE):
            again[task.file] = replace(task, range=replace(task.range, first=expected))
        elif first != _NOWHERE or not task.range.start:
            reached[task.file] = receipt.counts[_NEXT]
    return list(again.values())
