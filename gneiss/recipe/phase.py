"""Phases: ordered parts of a recipe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from gneiss.annotation import Annotator, Column
from gneiss.corpus_steps import CorpusStep
from gneiss.edit import Editor
from gneiss.errors import RecipeError
from gneiss.filters.catalogue import ANNOTATORS, EDITORS
from gneiss.recipe.entries import Entry, part_of, step_entries, step_kinds, step_of
from gneiss.recipe.filters import with_filters
from gneiss.recipe.part import Part
from gneiss.recipe.quantile_rule import QuantileRule, with_shares
from gneiss.recipe.rule import Rules

if TYPE_CHECKING:
    import pyarrow as pa


class Phase(Part):
    """An ordered part of a recipe: edits, then annotations of the edited text, then rules and `keep`.

    Corpus-wide steps, each under its own key or import path, see the texts that enter the phase, before its edits.
    `filters` are expanded to entries of `annotate` and `rules`. `shares` are rules by share of tokens whose thresholds
    are not known yet; in a written recipe, each replaces its condition.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    corpus_steps: dict[str, dict[str, Any]] = Field(default_factory=dict)
    edit: list[Entry] = Field(default_factory=list)
    annotate: list[Entry] = Field(default_factory=list)
    filters: list[Any] = Field(default_factory=list, exclude=True)
    aliases: dict[str, str] = Field(default_factory=dict)
    rules: dict[str, str] = Field(default_factory=dict)
    shares: dict[str, QuantileRule] = Field(default_factory=dict)
    keep: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, given: Any) -> Any:
        """The keys of corpus-wide steps stand beside the other keys of a phase; filters are annotators and rules."""
        if not isinstance(given, dict):
            return given
        if "corpus_steps" in given:
            raise ValueError("corpus_steps: name each step by its own key")
        steps = step_entries(given)
        rest = {key: value for key, value in given.items() if key not in steps and not isinstance(value, CorpusStep)}
        steps = {key: value for key, value in steps.items() if value is not None}
        return with_shares(with_filters({**rest, "corpus_steps": steps}))

    @field_validator("rules")
    @classmethod
    def _rule_names(cls, rules: dict[str, str]) -> dict[str, str]:
        for name in rules:
            if not name.isidentifier() or not name.islower():
                raise ValueError(f"rule {name!r}: expected a lower-case name of letters, digits and underscores")
        return {name: _fold(condition) for name, condition in rules.items()}

    @field_validator("keep")
    @classmethod
    def _folded(cls, keep: str | None) -> str | None:
        if keep is not None and not keep.strip():
            raise ValueError("expected an expression over rule names, found nothing; leave the key out for all rules")
        return keep and _fold(keep)

    @cached_property
    def steps(self) -> tuple[CorpusStep, ...]:
        """The corpus-wide steps of this phase: packaged ones in their order, then those of an import path."""
        names = sorted(self.corpus_steps, key=[*step_kinds(), *self.corpus_steps].index)
        return tuple(step_of(f"phase {self.name}", name, self.corpus_steps[name]) for name in names)

    @cached_property
    def editors(self) -> tuple[Editor, ...]:
        """The editors of this phase, in order; what steps cut goes before their edits."""
        return tuple(part_of("edit", Editor, EDITORS, *entry) for entries in self.edit for entry in entries.items())

    @cached_property
    def annotators(self) -> tuple[Annotator, ...]:
        """The annotators of this phase, in order."""
        entries = (entry for entries in self.annotate for entry in entries.items())
        return tuple(part_of("annotate", Annotator, ANNOTATORS, *entry) for entry in entries)

    @cached_property
    def annotation_order(self) -> tuple[int, ...]:
        """The numbers of the annotators as they are computed: what reads no annotation, then each after what it reads.

        Raises RecipeError for annotators that read each other.
        """
        reads = {number: frozenset(annotator.reads_annotations) for number, annotator in enumerate(self.annotators)}
        gives = {
            number: {column.name for column in annotator.columns} for number, annotator in enumerate(self.annotators)
        }
        order = [number for number, read in reads.items() if not read]
        while left := [number for number in reads if number not in order]:
            waited_for = frozenset().union(*(gives[number] for number in left))
            free = next((number for number in left if not reads[number] & waited_for), None)
            if free is None:
                circle = ", ".join(sorted(waited_for & frozenset().union(*(reads[number] for number in left))))
                raise RecipeError(
                    f"phase {self.name!r}: annotate: what computes {circle} reads what is computed from it; none of"
                    " them can be the first"
                )
            order.append(free)
        return tuple(order)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations of this phase, in order."""
        return (
            *(column for step in self.steps for column in step.columns),
            *(column for editor in self.editors for column in editor.columns),
            *(column for annotator in self.annotators for column in annotator.columns),
        )

    @property
    def evidence(self) -> tuple[pa.Field, ...]:
        """Further columns of the annotation shard, which rules cannot read."""
        return tuple(field for step in self.steps for field in step.evidence)

    @property
    def wide_steps(self) -> tuple[CorpusStep, ...]:
        """Its steps that see more than a shard."""
        return tuple(step for step in self.steps if step.sees_corpus)

    @property
    def is_corpus_wide(self) -> bool:
        """Whether a step or a rule of this phase sees more than a shard."""
        return bool(self.wide_steps or self.shares)

    def with_conditions(self, conditions: Mapping[str, str]) -> Phase:
        """This phase with conditions in place of rules by share, by the names of rules."""
        known = {name: conditions[name] for name in self.shares if name in conditions}
        left = {name: rule for name, rule in self.shares.items() if name not in known}
        return self.model_copy(update={"rules": {**self.rules, **known}, "shares": left})

    @property
    def kept_by(self) -> str:
        """The `keep` expression; by default every rule must be true."""
        return self.keep or " AND ".join(self.rules) or "true"

    @property
    def without_numbers(self) -> Rules:
        """The rules as `decision` has them, also where numbers are not known."""
        return Rules(self.rules, self.kept_by, self.aliases)

    @property
    def decision(self) -> Rules:
        """The rules with their `keep` expression. Raises RecipeError for a rule whose number is not known."""
        for name, rule in self.shares.items():
            raise RecipeError(
                f"rule {name!r}: {rule}: its number is found by `gneiss run`, or, in a finished run, by"
                " `gneiss explain`"
            )
        return self.without_numbers


def _fold(condition: str) -> str:
    """A condition on one line, except for white space in quotes and line comments."""
    if "--" in condition or "/*" in condition:
        return condition.strip()
    return re.sub(r"""('[^']*'|"[^"]*")|\s+""", lambda match: match[1] or " ", condition).strip()
