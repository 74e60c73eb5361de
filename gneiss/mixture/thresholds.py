"""Thresholds by share: from which score on a run's documents have a share of its tokens, in each category."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from gneiss.errors import InputError
from gneiss.mixture.buckets import amounts_of, categories_of, check_columns, scores_of
from gneiss.output.finished_run import FinishedRun, usable_mask
from gneiss.quantiles import Bins, Sketch, keys_of, values_of
from gneiss.recipe.quantile_rule import Limit, QuantileRule


@dataclass(frozen=True)
class Resolver:
    """Finds the conditions of quantile rules in a finished run, over all its documents that have the score."""

    run: FinishedRun
    tokens: str | None = None

    def __call__(self, rule: QuantileRule) -> str:
        """The condition with numbers. Raises InputError for columns that the run lacks, RecipeError."""
        return rule.condition(*limits(self.run, rule, self.tokens))


def limits(
    run: FinishedRun, rule: QuantileRule, tokens: str | None = None
) -> tuple[dict[tuple[str | int | bool | None, ...], Limit], float]:
    """What a score must be in each category to be within a share of tokens, as near to it as whole scores allow.

    At least one score is within. Up to 4 million distinct scores the limits are exact; past that the second value is
    their relative error. Parameters: `tokens`: the column that weighs, by default the run's token count.
    Raises InputError.
    """
    tokens = check_columns(run, [rule.score], rule.by, tokens, ())
    values: dict[str, tuple[Any, ...]] = {}

    def parts() -> Iterator[Any]:
        for shard in run.shards:
            for _, table in run.batches(shard, list(dict.fromkeys([tokens, rule.score, *rule.by]))):
                scores = scores_of(table, [rule.score])
                rows = usable_mask(table) & ~np.isnan(scores)
                own = table.filter(pa.array(rows))
                names, category = categories_of(own, rule.by)
                named = names.to_pylist()
                if new := [at for at, name in enumerate(named) if name not in values]:
                    values.update({named[at]: _values(own, rule.by, int(np.argmax(category == at))) for at in new})
                yield named, category, keys_of(scores[rows]), amounts_of(run, own, tokens)

    sketch = Sketch.of_all(parts())
    if not sketch.bins:
        raise InputError(f"{run.folder}: {rule.score}: no document has a finite value; a share of none has no number")
    found = {values[name]: _limit(sketch.bins[name], sketch.shift, rule) for name in sorted(sketch.bins)}
    return found, sketch.relative_error


def _limit(bins: Bins, shift: int, rule: QuantileRule) -> Limit:
    tokens = bins.amounts[:, 0] if rule.highest is None else bins.amounts[::-1, 0]
    within = np.cumsum(tokens)
    count = 1 + int(np.argmin(np.abs(within - rule.share * within[-1])))
    ends = values_of(bins.keys << np.uint64(shift)).tolist()
    if count == len(ends):
        return Limit()
    return Limit(below=ends[count]) if rule.highest is None else Limit(least=ends[-count])


def _values(table: pa.Table, by: Sequence[str], row: int) -> tuple[Any, ...]:
    return tuple(table[name][row].as_py() for name in by)
