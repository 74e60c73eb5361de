"""What differs between two outputs of the same input: documents that one keeps and the other does not, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.errors import InputError, did_you_mean
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.finished_run import FinishedRun, FinishedShard
from gneiss.output.sources import sources
from gneiss.report.examples import beginnings

GAINED, LOST = "gained", "lost"
#: Documents shown of each side and reason, and how much of their text.
EXAMPLES, EXCERPT_CHARS = 2, 300


@dataclass(frozen=True)
class Changed:
    """A document that changed sides. excerpt: of its text, as the run has it that keeps it."""

    shard: str
    row: int
    id: str | None
    excerpt: str = ""


@dataclass
class Side:
    """Documents that changed sides for one reason: how many, by group, and the first few."""

    documents: int = 0
    groups: Counter[str | None] = field(default_factory=Counter)
    examples: list[Changed] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Two outputs of an input, before and after a change.

    edited: documents that both keep, with other texts; sides: (`gained` or `lost`, why) → the documents; why: the rules
    that flipped, by name; `keep of PHASE` where none did; `quarantine: …`.
    """

    rows: int
    before: int
    after: int
    edited: int
    sides: Mapping[tuple[str, str], Side]

    def count(self, side: str) -> int:
        """The documents of a side, for all reasons."""
        return sum(amounts.documents for (of, _), amounts in self.sides.items() if of == side)


def diff(before: FinishedRun, after: FinishedRun, *, by: str | None = None, examples: int = EXAMPLES) -> Difference:
    """Which documents two outputs of the same input decide differently, and which rules changed.

    Parameters: `by`: an annotation of the first by which they are counted too; `examples`: documents shown for each
    reason, the first by shard and row. Raises InputError when the outputs are not of the same input.

    >>> found = diff(gneiss.open_run("curated"), gneiss.open_run("curated-strict"))  # doctest: +SKIP
    >>> found.count("lost")  # doctest: +SKIP
    551
    """
    _refuse_other_inputs(before, after)
    if by is not None and by not in (known := before.annotation_schema().names):
        raise InputError(f"{before.folder}: no annotation {by!r}{did_you_mean(by, known)}")
    sides: dict[tuple[str, str], Side] = {}
    edited = 0
    for one, other in zip(before.shards, after.shards, strict=True):
        for mine, portion in _portions(before, one, after, other, by):
            is_kept, stays = kept_mask(mine.table), kept_mask(portion.table)
            same_text = pc.equal(mine.table["content_hash"], portion.table["content_hash"]).fill_null(False)
            edited += int((is_kept & stays & ~same_text.to_numpy()).sum())
            for at in np.flatnonzero(is_kept != stays).tolist():
                keeps, drops = (mine, portion) if is_kept[at] else (portion, mine)
                side = sides.setdefault((LOST if is_kept[at] else GAINED, _why(keeps, drops, at)), Side())
                side.documents += 1
                side.groups[str(mine.value(by, at)) if by else None] += 1
                if len(side.examples) < examples:
                    side.examples.append(Changed(one.id, mine.value("row", at), mine.value("id", at)))
    for name, run in ((LOST, before), (GAINED, after)):
        _add_texts(run, [side for (of, _), side in sides.items() if of == name])
    ordered = sorted(sides.items(), key=lambda item: (item[0][0], -item[1].documents, item[0][1]))
    return Difference(before.counts["rows"], before.documents, after.documents, edited, dict(ordered))


@dataclass(frozen=True, eq=False)
class _Portion:
    """Rows of a shard of a run."""

    table: pa.Table

    def value(self, name: str, row: int) -> Any:
        return self.table[name][row].as_py()


def _portions(
    before: FinishedRun, one: FinishedShard, after: FinishedRun, other: FinishedShard, by: str | None
) -> Iterator[tuple[_Portion, _Portion]]:
    columns = ["reason", "dropped_in", "failed", "content_hash"]
    mine = before.batches(one, [*columns, *([by] if by else [])])
    for (_, table), (_, other_table) in zip(mine, after.batches(other, columns), strict=True):
        yield _Portion(table), _Portion(other_table)


def _why(keeps: _Portion, drops: _Portion, row: int) -> str:
    """Why one run keeps a document and the other does not."""
    if (reason := drops.value("reason", row)) is not None:
        return f"quarantine: {reason}"
    passed = keeps.value("failed", row)
    flipped = [rule for rule in drops.value("failed", row) if rule not in passed]
    return " and ".join(flipped) or f"keep of {drops.value('dropped_in', row)}"


def _add_texts(run: FinishedRun, sides: Sequence[Side]) -> None:
    """Give the examples of some sides the beginning of their texts, as the run that keeps them has them."""
    rows: dict[str, list[int]] = {}
    for example in (example for side in sides for example in side.examples):
        rows.setdefault(example.shard, []).append(example.row)
    texts = beginnings(sources(run), rows, EXCERPT_CHARS)
    for side in sides:
        side.examples = [replace(example, excerpt=texts[example.shard, example.row]) for example in side.examples]


def _refuse_other_inputs(before: FinishedRun, after: FinishedRun) -> None:
    mine, theirs = ({shard.id: shard for shard in run.shards} for run in (before, after))
    if only := mine.keys() ^ theirs.keys():
        where = before.folder if min(only) in mine else after.folder
        raise InputError(f"{where}: the other output has no shard {min(only)!r}; compare two outputs of the same input")
    for id_, shard in mine.items():
        if (shard.fingerprint, shard.rows) != (theirs[id_].fingerprint, theirs[id_].rows):
            raise InputError(
                f"{after.folder}: shard {id_!r} is of another file than in {before.folder}; compare two outputs of the"
                " same input"
            )
