"""Precision and recall of PII on lines written for it; run this file as a module to print them and what fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from gneiss.batch import TextBatch
from gneiss.filters.pii import Pii

LINES = [
    line
    for line in Path(__file__).with_name("pii_lines.txt").read_text("utf-8").splitlines()
    if not line.startswith("# ")
]


class Counts(NamedTuple):
    """Spans that are replaced exactly, that are replaced and should not be, and that are left; and such lines."""

    right: int
    wrong: int
    missed: int
    lines: list[str]

    def summary(self) -> str:
        precision, recall = self.right / (self.right + self.wrong), self.right / (self.right + self.missed)
        return f"{len(LINES)} lines: precision {precision:.3f}, recall {recall:.3f}"


def compare(lines: list[str]) -> Counts:
    """Replaced spans, in bytes, against those between « and »."""
    pieces = [re.split("[«»]", line) for line in lines]
    edits = Pii().edit(TextBatch.of(["".join(of_line) for of_line in pieces])).edits
    found = set(zip(edits.document.tolist(), edits.start.tolist(), edits.end.tolist(), strict=True))
    expected = set()
    for number, of_line in enumerate(pieces):
        ends = [len("".join(of_line[:i]).encode()) for i in range(len(of_line) + 1)]
        expected |= {(number, ends[i], ends[i + 1]) for i in range(1, len(of_line), 2)}
    differing = sorted({number for number, _, _ in found ^ expected})
    return Counts(
        len(found & expected), len(found - expected), len(expected - found), [lines[number] for number in differing]
    )


def test_precision_and_recall() -> None:
    counts = compare(LINES)
    print(counts.summary())
    assert len(LINES) >= 300
    assert counts.right / (counts.right + counts.wrong) >= 0.96
    assert counts.right / (counts.right + counts.missed) >= 0.96
    assert counts.lines, "the lines say nothing of what is hard"


if __name__ == "__main__":
    print(*compare(LINES).lines, compare(LINES).summary(), sep="\n")
