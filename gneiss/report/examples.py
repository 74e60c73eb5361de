"""Documents on both sides of each threshold, with their texts, in which the passages that fail the rule are marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from gneiss.annotation import Annotator, annotate
from gneiss.curate.statistics import KEPT, QUARANTINED
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import Sources, sources
from gneiss.recipe.expression import quoted
from gneiss.recipe.phase import Phase
from gneiss.recipe.rule import TRUE, Rules, evaluate, locked_connection, reads
from gneiss.report.distributions import Threshold, thresholds
from gneiss.report.documents import open_documents
from gneiss.store.place import Address

#: Examples on each side of a threshold, from how many shards, and how much of a text is shown.
PER_SIDE, SHARDS, CHARACTERS = 2, 4, 1_500
_NEAR = pa.schema(
    {
        "rule": pa.string(),
        "annotation": pa.string(),
        "threshold": pa.float64(),
        "value": pa.float64(),
        "status": pa.string(),
        "failed": pa.list_(pa.string()),
        "id": pa.string(),
        "shard": pa.string(),
        "row": pa.int64(),
        "text": pa.string(),
    }
)
_PASSAGE = re.compile(r".+?(?:[.!?](?=\s)|\n|$)\s*", re.DOTALL)
#: Passages are this long at least, as a score of a few words says little.
_PASSAGE_CHARACTERS = 150


@dataclass(frozen=True)
class Example:
    """A document near a threshold.

    value: what it has of the threshold's annotation; text: its first 1,500 characters, where they can be read;
    marked: passages of these, [start, end) in characters, that fail the rule by themselves, where some do not.
    """

    threshold: Threshold
    value: float
    shard: str
    row: int
    id: str | None
    status: str
    failed: tuple[str, ...]
    text: str | None = None
    marked: tuple[tuple[int, int], ...] = ()


def examples(of: Sources, phase: Phase) -> list[Example]:
    """Documents just below and just above each threshold of a phase's rules, nearest first. Raises InputError.

    They are of at most 4 shards, so that few files are read. Without the input only kept documents have a text.
    """
    run = of.run
    found = [near for threshold in thresholds(phase, run.recipe.columns) for near in _near(run, phase, threshold)]
    rows: dict[str, set[int]] = {}
    for document in found:
        if of.has_all or document.status == KEPT:
            rows.setdefault(document.shard, set()).add(document.row)
    texts = beginnings(of, rows)
    with_texts = (replace(document, text=texts.get((document.shard, document.row))) for document in found)
    return [replace(with_text, marked=_marked(run, phase, with_text)) for with_text in with_texts]


def near_thresholds(run: FinishedRun, *, input: Address | None = None) -> pa.Table:
    """Documents just below and just above each threshold, with the beginning of their texts.

    Columns: `rule`, `annotation`, `threshold`; `value`, `status`, `failed`, `id`, `shard`, `row`, `text` of a document.
    Parameters: `input`: what was given to the run, without which only kept documents have a text. Raises InputError.
    """
    of = sources(run, input)
    found = [example for phase in run.recipe.phases for example in examples(of, phase)]
    rows = []
    for document in found:
        at = {
            "rule": document.threshold.rule,
            "annotation": document.threshold.annotation,
            "threshold": document.threshold.value,
        }
        rows.append({**at, **{name: getattr(document, name) for name in _NEAR.names[3:]}})
    return pa.Table.from_pylist(rows, _NEAR)


def _near(run: FinishedRun, phase: Phase, threshold: Threshold) -> list[Example]:
    step = max(1, len(run.shards) // SHARDS)
    shards = run.shards[::step][:SHARDS]
    later = [following.name for following in run.recipe.phases[run.recipe.phases.index(phase) :]]
    value = f"{quoted(threshold.annotation)}::DOUBLE"
    reached = f"status <> '{QUARANTINED}' AND (dropped_in IS NULL OR dropped_in IN (SELECT unnest($later)))"
    sides = [
        f"(SELECT {value}, shard, row, id, status, failed FROM documents WHERE {reached}"
        f" AND {value} {operator} $value"
        f" ORDER BY {value} {order}, shard, row LIMIT {PER_SIDE})"
        for operator, order in (("<", "DESC"), (">=", "ASC"))
    ]
    with open_documents(run, shards=shards) as connection:
        rows = connection.execute(" UNION ALL ".join(sides), {"later": later, "value": threshold.value}).fetchall()
    return [
        Example(threshold, value, shard, row, id_, status, tuple(failed))
        for value, shard, row, id_, status, failed in sorted(rows, key=lambda row: row[0])
    ]


def beginnings(
    of: Sources, rows: Mapping[str, Collection[int]], characters: int = CHARACTERS
) -> dict[tuple[str, int], str]:
    """The first characters of the texts of some rows of shards, by shard and row; of those that can be read."""
    found = of.values(of.run.text, rows)
    return {(shard, row): excerpt(text, 0, characters=characters) for shard, row, text in found}


def excerpt(text: pa.Scalar, start: int, stop: int | None = None, *, characters: int = CHARACTERS) -> str:
    """The first characters of a text from a byte on, at most to another one, however long the text is."""
    content = text.as_buffer()
    if content is None:
        return ""
    stop = min(content.size if stop is None else stop, start + 4 * characters)
    return bytes(content[start:stop].to_pybytes()).decode(errors="ignore")[:characters]


def _marked(run: FinishedRun, phase: Phase, example: Example) -> tuple[tuple[int, int], ...]:
    """The passages of an example that fail its rule by themselves, as far as this needs no model file."""
    rule = example.threshold.rule
    if rule not in example.failed or not example.text:
        return ()
    read = reads(phase.decision, {column.name: column.type for column in run.recipe.columns})[rule]
    annotators = _computable(phase, read)
    if annotators is None:
        return ()
    bounds = _passages(example.text)
    texts = [example.text[start:end] for start, end in bounds]
    columns: dict[str, Any] = {
        "text_bytes": pa.array([len(text.encode()) for text in texts]),
        "text_chars": pa.array([len(text) for text in texts]),
    }
    for annotator in annotators:
        computed = annotate(annotator, texts)
        columns |= {name: computed[name] for name in computed.column_names}
    aliases = {alias: own for alias, own in phase.aliases.items() if own in columns}
    with locked_connection() as connection:
        rules = Rules({rule: phase.rules[rule]}, rule, aliases)
        truth = evaluate(connection, rules, pa.table(columns)).truth[:, 0]
    failing = [bound for bound, verdict in zip(bounds, truth.tolist(), strict=True) if verdict != TRUE]
    return tuple(failing) if len(failing) < len(bounds) else ()


def _computable(phase: Phase, read: frozenset[str]) -> list[Annotator] | None:
    """The annotators that give what a rule reads, where the text is all that they need."""
    own = [annotator for annotator in phase.annotators if read & {column.name for column in annotator.columns}]
    given = {"text_bytes", "text_chars", *(column.name for annotator in own for column in annotator.columns)}
    return (
        own
        if read <= given
        and all(
            annotator.reads == "text" and not annotator.model_files and not annotator.reads_annotations
            for annotator in own
        )
        else None
    )


def _passages(text: str) -> list[tuple[int, int]]:
    """Consecutive passages of a text, of whole sentences or lines."""
    found: list[tuple[int, int]] = []
    for match in _PASSAGE.finditer(text):
        if found and found[-1][1] - found[-1][0] < _PASSAGE_CHARACTERS:
            found[-1] = (found[-1][0], match.end())
        else:
            found.append(match.span())
    return found
