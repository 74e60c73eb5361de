"""Quantile rules: conditions whose thresholds are shares of tokens, until a finished run gives their numbers.

In a recipe that is given, a rule may be `{highest: 0.3, score: prose, by: [language]}` in place of SQL. What a recipe
holds, writes and runs is the condition with the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeAlias

from pydantic import Field, model_validator

from gneiss.errors import RecipeError
from gneiss.recipe.expression import quoted
from gneiss.recipe.part import Part

#: The most categories of a rule, which is one condition.
MOST_CATEGORIES = 200
#: A category, the values of the columns by which there are some, and the numbers that a score must have in it.
Limits: TypeAlias = Mapping[tuple[str | int | bool | None, ...], "Limit"]


class Limit(Part):
    """What a score must be: at least `least`, and below `below`, where they are given."""

    least: float | None = None
    below: float | None = None


class QuantileRule(Part):
    """The documents of the highest, or lowest, share of tokens by a score, within each category.

    score: a numeric annotation; by: annotations whose values make a category.

    >>> QuantileRule(highest=0.3, score="prose").condition({(): Limit(least=0.5)})
    '/* highest 0.3 of tokens by prose */ "prose" >= 0.5e0'
    """

    highest: float | None = Field(None, gt=0, lt=1)
    lowest: float | None = Field(None, gt=0, lt=1)
    score: str
    by: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.highest is None) == (self.lowest is None):
            raise RecipeError("expected one of `highest` and `lowest`, a share above 0 and below 1")
        return self

    @property
    def share(self) -> float:
        """The share of tokens."""
        return (self.highest or 0.0) + (self.lowest or 0.0)

    def __str__(self) -> str:
        within = f", within {', '.join(self.by)}" if self.by else ""
        return f"{'lowest' if self.highest is None else 'highest'} {self.share:g} of tokens by {self.score}{within}"

    def condition(self, limits: Limits, relative_error: float = 0.0) -> str:
        """The condition with the numbers that were found, to that error. Raises RecipeError for too many categories."""
        if len(limits) > MOST_CATEGORIES:
            raise RecipeError(f"{self}: {len(limits):,} categories; at most {MOST_CATEGORIES} are allowed")
        parts = [" AND ".join(self._parts(category, limit)) for category, limit in limits.items()]
        together = " OR ".join(f"({part})" for part in parts) if len(parts) > 1 else "".join(parts) or "false"
        error = f", to {relative_error:.1e} of the score" if relative_error else ""
        return f"/* {str(self).replace('*/', '* /')}{error} */ {together}"

    def _parts(self, category: tuple[str | int | bool | None, ...], limit: Limit) -> Iterator[str]:
        for column, value in zip(self.by, category, strict=True):
            yield f"{quoted(column)} {'IS NULL' if value is None else f'= {_literal(value)}'}"
        score = quoted(self.score)
        if limit.least is not None:
            yield f"{score} >= {_literal(limit.least)}"
        if limit.below is not None:
            yield f"{score} < {_literal(limit.below)}"
        if limit.least is None and limit.below is None:
            yield f"{score} IS NOT NULL"


#: Finds the condition of a rule.
Resolve: TypeAlias = Callable[[QuantileRule], str]


def with_conditions(given: Any, resolve: Resolve) -> Any:
    """A recipe as it is given, with conditions in place of quantile rules. Raises RecipeError."""
    if not isinstance(given, dict) or not isinstance(given.get("phases"), list):
        return given
    return {**given, "phases": [_phase_with_conditions(phase, resolve) for phase in given["phases"]]}


def unresolved(name: str, rule: object) -> str:
    """Why a rule that is a mapping cannot be used as it is."""
    return (
        f"rule {name!r}: {rule}: a share of tokens is found in a finished run: `gneiss decide RECIPE --input RUN`, or"
        " `gneiss explain RECIPE --input RUN --yaml`, which writes the numbers out"
    )


def _phase_with_conditions(phase: Any, resolve: Resolve) -> Any:
    if not isinstance(phase, dict) or not isinstance(phase.get("rules"), dict):
        return phase
    return {**phase, "rules": {name: _condition(name, rule, resolve) for name, rule in phase["rules"].items()}}


def _condition(name: str, rule: Any, resolve: Resolve) -> Any:
    if not isinstance(rule, dict):
        return rule
    try:
        return resolve(QuantileRule.model_validate(rule))
    except RecipeError as error:
        raise RecipeError(f"rule {name!r}: {error}") from error


def _literal(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    # with an exponent, or DuckDB reads a decimal, and rounds it
    return f"{value!r}" if isinstance(value, int) or "e" in repr(value) else f"{value!r}e0"
