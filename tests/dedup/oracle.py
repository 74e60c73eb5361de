"""The definition of duplicate spans, written out slowly: what every engine is held to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

Row = tuple[int, int, int, int, int]
Unit = tuple[int, int]  # document, position


def windows(
    documents: Sequence[Sequence[int] | bytes], length: int, order: Iterable[int] | None = None
) -> dict[tuple[int, ...], list[Unit]]:
    """Content → where it occurs, in order of the documents, by default as they come."""
    found: dict[tuple[int, ...], list[Unit]] = {}
    for document in range(len(documents)) if order is None else order:
        units = documents[document]
        for start in range(len(units) - length + 1):
            found.setdefault(tuple(units[start : start + length]), []).append((document, start))
    return found


def cut_units(
    documents: Sequence[Sequence[int] | bytes],
    length: int,
    policy: str,
    share: float = 1.0,
    order: Iterable[int] | None = None,
) -> dict[Unit, Unit]:
    """Every unit that a policy cuts, with its source; share: of a stretch, from which on its gaps are cut too."""
    repeats: dict[Unit, Unit] = {}
    firsts: set[Unit] = set()
    for where in windows(documents, length, order).values():
        if len(where) > 1:
            firsts.add(where[0])
            repeats.update(dict.fromkeys(where[1:], where[0]))
    cut: dict[Unit, Unit] = {}
    for document, start in sorted(repeats):  # later windows overwrite: the greatest start that covers a unit wins
        source_document, source_start = repeats[document, start]
        for k in range(length):
            cut[document, start + k] = (source_document, source_start + k)
    first_units = {(document, start + k) for document, start in firsts for k in range(length)}
    if policy == "protect":
        cut = {unit: source for unit, source in cut.items() if unit not in first_units}
    elif policy == "all":
        cut = {unit: unit for unit in first_units} | cut
    return with_gaps(cut, first_units if policy == "protect" else set(), share)


def with_gaps(cut: dict[Unit, Unit], protected: set[Unit], share: float) -> dict[Unit, Unit]:
    """With the units of the gaps that a pass from the start of a document fills, or one from its end."""
    gaps: dict[Unit, Unit] = {}
    for document in {document for document, _ in cut if share < 1}:
        positions = sorted(position for owner, position in cut if owner == document)
        stretches = [
            [positions[n] for n, _ in members]
            for _, members in groupby(enumerate(positions), key=lambda numbered: numbered[1] - numbered[0])
        ]
        for sense in (1, -1):
            joined: list[int] = []  # cut units of the stretch so far
            for stretch in stretches[::sense]:
                units = sorted([*joined, *stretch])
                inside = {(document, n) for n in range(units[0], units[-1])} - cut.keys()
                if not joined or (len(units) >= share * (units[-1] + 1 - units[0]) and not inside & protected):
                    gaps.update({unit: unit for unit in inside})
                    joined = units
                else:
                    joined = stretch
    return gaps | cut


def rows(
    documents: Sequence[Sequence[int] | bytes],
    length: int,
    policy: str,
    share: float = 1.0,
    order: Iterable[int] | None = None,
) -> list[Row]:
    """The maximal spans with consecutive sources: document, start, end, source document, source start."""
    cut = cut_units(documents, length, policy, share, order)

    def line(numbered: tuple[int, Unit]) -> tuple[int, int, int, int]:
        number, (document, start) = numbered
        source_document, source_start = cut[document, start]
        return document, start - number, source_document, source_start - number

    spans = []
    for _, members in groupby(enumerate(sorted(cut)), key=line):
        units = [unit for _, unit in members]
        spans.append((*units[0], units[-1][1] + 1, *cut[units[0]]))
    return spans
