"""A `keep` expression without some of its rules: what it would be had they never been written."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.recipe.rule import Rules, locked_connection


@dataclass(frozen=True)
class Keeping:
    """The `keep` expression of a phase as a tree of AND and OR over names of rules.

    tree: None where it is made of anything more (NOT, CASE, …), as a rule that is false then differs from an unknown
    one.
    """

    rules: tuple[str, ...]
    tree: Any

    @classmethod
    def of(cls, rules: Rules) -> Keeping:
        """The expression of a phase."""
        names = tuple(rules.conditions)
        if not names:
            return cls((), ())
        query = f"SELECT (\n{rules.keep}\n)"
        with locked_connection() as connection:
            answer = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0]
        return cls(names, _tree(json.loads(answer)["statements"][0]["node"]["select_list"][0]))

    def keeps(self, truth: Mapping[str, BoolArray], without: Collection[str] = ()) -> BoolArray:
        """Which documents are kept where some rules are left out, bool (documents,); truth: whether a rule is true."""
        documents = len(next(iter(truth.values()), ()))
        found = _kept(self.tree, truth, without)
        return np.ones(documents, np.bool_) if found is None else found


def _tree(node: Mapping[str, Any]) -> Any:
    """A name, or a pair of an operation and its operands; None for anything else."""
    if node["class"] == "COLUMN_REF":
        return node["column_names"][-1].lower()
    if node["class"] == "CONJUNCTION":
        parts = [_tree(child) for child in node["children"]]
        return None if None in parts else (node["type"], parts)
    return None


def _kept(tree: Any, truth: Mapping[str, BoolArray], without: Collection[str]) -> BoolArray | None:
    """None where nothing of the expression is left."""
    if isinstance(tree, str):
        return None if tree in without else truth[tree]
    if not tree:
        return None
    operation, parts = tree
    found = [kept for part in parts if (kept := _kept(part, truth, without)) is not None]
    combine = np.logical_and if operation == "CONJUNCTION_AND" else np.logical_or
    return combine.reduce(found) if found else None
