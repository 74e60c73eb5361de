"""Examples: for each rule a few real documents that fail it, with their annotations, the same ones in every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray
from gneiss.recipe.recipe import Recipe

PER_RULE = 2
EXCERPT_CHARS = 300
#: rule → examples; an example is {id, shard, row, decisive, content_hash, excerpt, annotations}
Examples = dict[str, list[dict[str, Any]]]


def take_examples(annotations: pa.Table, recipe: Recipe, shard_id: str, excerpt_of: Callable[[int], str]) -> Examples:
    """The examples of a shard: those that the rule alone dropped first, then by content hash.

    annotations: the shard's annotation table; excerpt_of: the beginning of the text of a row that entered a phase.
    """
    examples: Examples = {}
    for rule in (rule for phase in recipe.phases for rule in phase.rules):
        failing = np.flatnonzero(_lists_with(annotations["failed"], rule))
        decisive = _lists_with(annotations["decisive"], rule)[failing]
        hashes = annotations["content_hash"].take(failing).to_pylist()
        rows: dict[bytes, int] = {}
        for _, content_hash, row in sorted(zip((~decisive).tolist(), hashes, failing.tolist(), strict=True)):
            if len(rows) < PER_RULE:
                rows.setdefault(content_hash, row)
        examples[rule] = [
            _example(annotations.slice(row, 1), recipe, shard_id, rule, excerpt_of(row)) for row in rows.values()
        ]
    return examples


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


def _example(row: pa.Table, recipe: Recipe, shard_id: str, rule: str, excerpt: str) -> dict[str, Any]:
    values = row.to_pylist()[0]
    return {
        "id": values["id"],
        "shard": shard_id,
        "row": values["row"],
        "decisive": rule in values["decisive"],
        "content_hash": values["content_hash"].hex(),
        "excerpt": excerpt,
        "annotations": {column.name: values[column.name] for column in recipe.columns},
    }
