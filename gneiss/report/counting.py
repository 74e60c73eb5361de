"""Outcomes: how many documents, bytes and tokens came to which end, counted by one scan of an output's annotations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gneiss.arrays import BoolArray
from gneiss.curate.statistics import QUARANTINED, Statistics
from gneiss.filters.tokens import Tokens
from gneiss.output.finished_run import FinishedRun
from gneiss.recipe.expression import quoted
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe
from gneiss.report.documents import open_documents

#: What is summed over documents.
MEASURES = ("documents", "bytes", "tokens")


@dataclass(frozen=True)
class Outcomes:
    """The outcomes of all documents of a run.

    table: a row for each `status`, `dropped_in` and list of `failed` rules that occur, with the `documents`, and the
    `bytes` and `tokens` of their texts as they were last; tokens are null where the recipe counts none.
    """

    recipe: Recipe
    statistics: Statistics
    table: pa.Table

    @property
    def counts_tokens(self) -> bool:
        """Whether the recipe counts tokens."""
        return token_column(self.recipe) is not None

    def reached(self, phase: Phase) -> pa.Table:
        """The rows of documents that reached a phase."""
        later = [of.name for of in self.recipe.phases[self.recipe.phases.index(phase) :]]
        is_there = pc.is_in(self.table["dropped_in"], pa.array([*later, None], pa.string()))
        return self.table.filter(pc.and_(is_there, pc.not_equal(self.table["status"], QUARANTINED)))


def outcomes(run: FinishedRun) -> Outcomes:
    """Count the outcomes of the documents of a run. Raises InputError.

    >>> report.outcomes(gneiss.open_run("curated")).table.column_names  # doctest: +SKIP
    ['status', 'dropped_in', 'failed', 'documents', 'bytes', 'tokens']
    """
    with open_documents(run) as connection:
        table = connection.sql(
            f"SELECT status, dropped_in, failed, {sums(run.recipe)} FROM documents GROUP BY ALL ORDER BY ALL"
        ).to_arrow_table()
    if token_column(run.recipe) is None:
        table = table.set_column(table.column_names.index("tokens"), "tokens", pa.nulls(table.num_rows))
    return Outcomes(run.recipe, run.statistics, table)


def sums(recipe: Recipe, condition: str | None = None, suffix: str = "") -> str:
    """The SQL of the three sums over documents, or over those of a condition, named with a suffix."""
    where = f" FILTER (WHERE {condition})" if condition else ""
    tokens = token_column(recipe)
    counted = "NULL" if tokens is None else f"coalesce(sum({quoted(tokens)}){where}, 0)"
    return (
        f"count(*){where} AS documents{suffix}, coalesce(sum(text_bytes){where}, 0)::BIGINT AS bytes{suffix},"
        f" {counted}::BIGINT AS tokens{suffix}"
    )


def token_column(recipe: Recipe) -> str | None:
    """The annotation that counts the tokens of a document, if there is one: the first."""
    counters = (annotator for phase in recipe.phases for annotator in phase.annotators if isinstance(annotator, Tokens))
    return next((counter.column for counter in counters), None)


def truth_of(rows: pa.Table, phase: Phase) -> dict[str, BoolArray]:
    """Rule of a phase → whether it is true, bool (rows,); rows: of documents that reached it."""
    failed = rows["failed"].to_pylist()
    return {rule: np.array([rule not in names for names in failed], np.bool_) for rule in phase.rules}
