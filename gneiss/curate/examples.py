"""Examples: for each rule a few real documents that fail it, with their annotations, the same ones in every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray
from gneiss.recipe.recipe import Recipe

if TYPE_CHECKING:
    from gneiss.curate.phase import ShardRows

PER_RULE = 2
EXCERPT_CHARS = 300
#: rule → examples; an example is {id, shard, row, decisive, content_hash, excerpt, annotations}
Examples = dict[str, list[dict[str, Any]]]


def take_examples(
    annotations: pa.Table, recipe: Recipe, shards: ShardRows, excerpt_of: Callable[[int], str]
) -> list[Examples]:
    """The examples of each of some shards: those that the rule alone dropped first, then by content hash.

    annotations: of all rows of the shards; excerpt_of: the beginning of the text of a row that entered a phase.
    """
    rules = [rule for phase in recipe.phases for rule in phase.rules]
    chosen = [
        {rule: list(rows.values()) for rule, rows in of_rules.items()}
        for of_rules in _chosen(annotations, rules, shards)
    ]
    rows = [row for of_rules in chosen for of_rule in of_rules.values() for row in of_rule]
    shown = annotations.select(["id", "row", "decisive", "content_hash", *(column.name for column in recipe.columns)])
    values = dict(zip(rows, shown.take(pa.array(rows, pa.int64())).to_pylist(), strict=True))

    def example(shard: int, rule: str, row: int) -> dict[str, Any]:
        stored = values[row]
        return {
            "id": stored["id"],
            "shard": shards.ids[shard],
            "row": stored["row"] - int(shards.bounds[shard]),
            "decisive": rule in stored["decisive"],
            "content_hash": stored["content_hash"].hex(),
            "excerpt": excerpt_of(row),
            "annotations": {column.name: stored[column.name] for column in recipe.columns},
        }

    return [
        {rule: [example(number, rule, row) for row in of_rule] for rule, of_rule in of_rules.items()}
        for number, of_rules in enumerate(chosen)
    ]


def _chosen(annotations: pa.Table, rules: Sequence[str], shards: ShardRows) -> list[dict[str, dict[bytes, int]]]:
    """For each shard and rule the rows of its examples, by content hash."""
    found: list[dict[str, dict[bytes, int]]] = [{rule: {} for rule in rules} for _ in shards.ids]
    for rule in rules:
        failing = np.flatnonzero(_lists_with(annotations["failed"], rule))
        decisive = _lists_with(annotations["decisive"], rule)[failing]
        hashes = annotations["content_hash"].take(pa.array(failing)).to_pylist()
        shard = shards.of_rows(failing)
        order = zip(shard.tolist(), (~decisive).tolist(), hashes, failing.tolist(), strict=True)
        for number, _, content_hash, row in sorted(order):
            if len(rows := found[number][rule]) < PER_RULE:
                rows.setdefault(content_hash, row)
    return found


def merge_examples(one: Examples, other: Examples) -> Examples:
    """The examples of two sets of shards, in any order; a text that repeats is shown once."""
    merged: Examples = {}
    for rule in {**one, **other}:
        by_text: dict[str, dict[str, Any]] = {}
        for example in sorted([*one.get(rule, ()), *other.get(rule, ())], key=_order):
            by_text.setdefault(example["content_hash"], example)
        merged[rule] = list(by_text.values())[:PER_RULE]
    return merged


def _order(example: dict[str, Any]) -> tuple[bool, str, str, int]:
    return not example["decisive"], example["content_hash"], example["shard"], example["row"]


def _lists_with(lists: pa.ChunkedArray, name: str) -> BoolArray:
    """Which lists hold a name, bool (lists,)."""
    found = np.zeros(len(lists), np.bool_)
    whole = lists.combine_chunks()
    found[pc.list_parent_indices(whole).filter(pc.equal(pc.list_flatten(whole), name)).to_numpy()] = True
    return found
