"""The numbers of a rule by share: what documents amount to by category and score, and the limits that follow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from gneiss.arrays import Int64Array, UInt64Array
from gneiss.errors import RecipeError
from gneiss.quantiles import Bins, Sketch, categories_of, keys_of, scores_of, values_of
from gneiss.recipe.quantile_rule import MOST_CATEGORIES, Limit, Limits, QuantileRule

#: Names of categories, and of each document that has the score the index of its category, its key, its tokens (n, 1).
Counted: TypeAlias = tuple[Sequence[str], Int64Array, UInt64Array, Int64Array]


def counted(rule: QuantileRule, annotations: pa.Table, tokens: Int64Array) -> Counted:
    """What documents amount to by category and score, for `Sketch.of_all`; tokens: int64 (documents,).

    Raises RecipeError for too many categories.
    """
    scores = scores_of(annotations, [rule.score])
    rows = ~np.isnan(scores)
    own = annotations.select(rule.by).filter(pa.array(rows)) if rule.by else pa.table({"": pa.nulls(int(rows.sum()))})
    _, category = categories_of(own, rule.by)
    _, firsts = np.unique(category, return_index=True)
    refuse_many(rule, len(firsts))
    values = own.take(pa.array(firsts)).to_pylist()
    names = [json.dumps([row[name] for name in rule.by]) for row in values]
    return names, category, keys_of(scores[rows]), tokens[rows][:, None]


def limits_of(rule: QuantileRule, sketch: Sketch) -> Limits:
    """What a score must be in each category to be within the share of its tokens, as near to it as scores allow.

    At least one score is within. `sketch.relative_error` is that of the limits.
    """
    refuse_many(rule, len(sketch.bins))
    return {tuple(json.loads(name)): _limit(rule, sketch.bins[name], sketch.shift) for name in sorted(sketch.bins)}


def refuse_many(rule: QuantileRule, categories: int) -> None:
    """Refuse more categories than a condition can have. Raises RecipeError."""
    if categories > MOST_CATEGORIES:
        raise RecipeError(f"{rule}: {categories:,} categories; at most {MOST_CATEGORIES} are allowed")


def _limit(rule: QuantileRule, bins: Bins, shift: int) -> Limit:
    tokens = bins.amounts[:, 0] if rule.highest is None else bins.amounts[::-1, 0]
    within = np.cumsum(tokens)
    count = 1 + int(np.argmin(np.abs(within - rule.share * within[-1])))
    ends = values_of(bins.keys << np.uint64(shift)).tolist()
    if count == len(ends):
        return Limit()
    return Limit(below=ends[count]) if rule.highest is None else Limit(least=ends[-count])
