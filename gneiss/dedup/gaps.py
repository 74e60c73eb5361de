"""Gaps: short text between cuts, which is cut with them where they cover most of a stretch."""

from __future__ import annotations

import numpy as np
from numba import njit

from gneiss.arrays import BoolArray, Float, Int64Array
from gneiss.dedup.cuts import Cuts


def filled(cuts: Cuts, bounds: Int64Array, protected: tuple[Int64Array, Int64Array], share: float) -> Cuts:
    """The cuts, joined over gaps where at least `share` of the joined stretch is cut without its gaps.

    Parameters: `bounds`: int64 (documents + 1,), first unit of each document; `protected`: start and end, int64 (n,),
    sorted and disjoint, of units of the corpus that are never cut: no gap that holds one is filled; `share`: above 0;
    from 1 on no gap is filled. Cuts of a document are joined one after the other, from its start and, apart from that,
    from its end; a gap is filled where either fills it. A unit of a gap is its own source.
    Source: OLMo 3 (arXiv 2512.13961), substring deduplication; `interval_filter` of allenai/datamap-rs.
    """
    if share >= 1 or len(cuts.start) < 2:
        return cuts
    opens = np.flatnonzero(np.append(True, ~_touch(cuts)))
    document, start, end = cuts.document[opens], cuts.start[opens], cuts.end[np.append(opens[1:], len(cuts.end)) - 1]
    low, high = bounds[document[:-1]] + end[:-1], bounds[document[1:]] + start[1:]
    after = np.searchsorted(protected[1], low, side="right")
    holds_protected = np.append(protected[0], np.iinfo(np.int64).max)[after] < high
    may = (document[1:] == document[:-1]) & ~holds_protected
    fill = _joined(start, end, may, share) | _joined(-end[::-1], -start[::-1], may[::-1], share)[::-1]
    if not fill.any():
        return cuts
    gap = (document[:-1][fill], end[:-1][fill], start[1:][fill])
    gaps = Cuts(*gap, source_document=gap[0], source_start=gap[1])
    columns = [np.concatenate([getattr(part, name) for part in (cuts, gaps)]) for name in Cuts.__dataclass_fields__]
    order = np.lexsort((columns[1], columns[0]))
    return _maximal(Cuts(*(column[order] for column in columns)))


def _touch(cuts: Cuts) -> BoolArray:
    """For each cut but the first whether it begins where the one before it ends."""
    return np.asarray((cuts.document[1:] == cuts.document[:-1]) & (cuts.start[1:] == cuts.end[:-1]), np.bool_)


def _maximal(cuts: Cuts) -> Cuts:
    """The same cuts, those joined that touch and have consecutive sources."""
    goes_on = _touch(cuts) & (cuts.source_document[1:] == cuts.source_document[:-1])
    goes_on &= cuts.source_start[1:] == (cuts.source_start + cuts.end - cuts.start)[:-1]
    opens = np.flatnonzero(np.append(True, ~goes_on))
    end = cuts.end[np.append(opens[1:], len(cuts.end)) - 1]
    return Cuts(cuts.document[opens], cuts.start[opens], end, cuts.source_document[opens], cuts.source_start[opens])


@njit(cache=True, nogil=True)
def _joined(start: Int64Array, end: Int64Array, may: BoolArray, share: Float) -> BoolArray:
    """Which gaps a pass over the stretches fills: each joins the one before it where the two may, and cover enough."""
    joined = np.zeros(len(may), np.bool_)
    opened, covered = start[0], end[0] - start[0]
    for gap in range(len(may)):
        width = end[gap + 1] - start[gap + 1]
        joined[gap] = may[gap] and covered + width >= share * (end[gap + 1] - opened)
        if joined[gap]:
            covered += width
        else:
            opened, covered = start[gap + 1], width
    return joined
