"""Quantile rules: conditions whose thresholds are shares of tokens, until a run gives their numbers.

In a recipe a rule may be `{highest: 0.3, score: prose, by: [language]}` in place of SQL. It is over the documents that
enter its phase and have the score. What decides, and what an output holds, is the condition with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

    @property
    def reads(self) -> list[str]:
        """The annotations that it reads."""
        return list(dict.fromkeys([self.score, *self.by]))

    @property
    def without_numbers(self) -> str:
        """What stands for the condition until it has numbers: it reads the same annotations."""
        return self.condition({(None,) * len(self.by): Limit()})

    def named(self, aliases: Mapping[str, str]) -> QuantileRule:
        """The same by the own names of annotations."""
        score, by = aliases.get(self.score, self.score), [aliases.get(name, name) for name in self.by]
        return self.model_copy(update={"score": score, "by": by})

    def written(self) -> dict[str, Any]:
        """As a recipe has it."""
        return self.model_dump(exclude_none=True)

    def condition(self, limits: Limits, relative_error: float = 0.0) -> str:
        """The condition with the numbers that were found, to that error; `false` where no document has the score."""
        parts = [" AND ".join(self._parts(category, limit)) for category, limit in limits.items()]
        together = " OR ".join(f"({part})" for part in parts) if len(parts) > 1 else "".join(parts) or "false"
        error = f", to {relative_error:.1e} of the score" if relative_error else ""
        said = f"{self}{error}" if limits else f"{self}, which no document has"
        return f"/* {said.replace('*/', '* /')} */ {together}"

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


def with_shares(phase: Mapping[str, Any]) -> dict[str, Any]:
    """A phase as a recipe gives it, its quantile rules apart; conditions without numbers stand for them.

    Raises RecipeError.
    """
    rules = phase.get("rules")
    if "shares" in phase:
        raise RecipeError("shares: write each in place of the condition of its rule")
    if not isinstance(rules, dict):
        return dict(phase)
    shares = {name: _share(name, rule) for name, rule in rules.items() if isinstance(rule, dict | QuantileRule)}
    conditions = {name: shares[name].without_numbers if name in shares else rule for name, rule in rules.items()}
    return {**phase, "rules": conditions, "shares": shares}


def _share(name: str, rule: Any) -> QuantileRule:
    try:
        return QuantileRule.model_validate(rule)
    except RecipeError as error:
        raise RecipeError(f"rule {name!r}: {error}") from error


def _literal(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    # with an exponent, or DuckDB reads a decimal, and rounds it
    return f"{value!r}" if isinstance(value, int) or "e" in repr(value) else f"{value!r}e0"
