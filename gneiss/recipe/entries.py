"""Entries under `edit` and `annotate` in a recipe: from name and parameters to a frozen value, and back."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError

from gneiss.annotation import Annotator, Column
from gneiss.corpus_steps import STEPS, CorpusStep
from gneiss.edit import Editor
from gneiss.errors import RecipeError, did_you_mean, first_line
from gneiss.filters.catalogue import ANNOTATORS, EDITORS
from gneiss.recipe.named import name_of, resolve

Part = TypeVar("Part", Annotator, Editor, CorpusStep)
Built = TypeVar("Built")


#: What reads and writes the values of a class; to make one takes a hundred times as long as to use it.
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


def entry_of(entry: Any) -> dict[str, dict[str, Any]]:
    """An entry under `edit` or `annotate` as name → parameters."""
    if isinstance(entry, Annotator | Editor):
        return written(entry)
    named = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(named, dict) or not all(isinstance(given, dict | None) for given in named.values()):
        raise ValueError("expected NAME or NAME: {parameters}")
    return {str(name): {} if given is None else given for name, given in named.items()}


#: `readability`, `readability: {}`, and from Python `Readability()`.
Entry: TypeAlias = Annotated[Any, AfterValidator(entry_of)]


def part_of(where: str, kind: type[Part], packaged: Mapping[str, type[Part]], name: str, given: Any) -> Part:
    """An annotator, editor or corpus-wide step from its entry in a recipe; `where`: the key that the entry is under."""
    try:
        chosen = resolve(kind, name, packaged)
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from error
    part = built(f"{where}: {name}", chosen, given)
    try:
        columns: object = part.columns
    except Exception as error:
        raise RecipeError(f"{where}: {name}: columns: {type(error).__name__}: {first_line(error)}") from error
    if not (isinstance(columns, tuple) and all(isinstance(column, Column) for column in columns)):
        raise RecipeError(f"{where}: {name}: columns: expected a tuple of gneiss.annotation.Column, found {columns!r}")
    return part


def step_kinds() -> dict[str, type[CorpusStep]]:
    """The packaged corpus-wide steps by key, in the order in which a phase runs them."""
    return {step.key: step for step in STEPS}


def step_of(where: str, name: str, given: Any) -> CorpusStep:
    """A corpus-wide step from its key, or its import path, in a phase."""
    step = part_of(where, CorpusStep, step_kinds(), name, given)
    key: object = getattr(step, "key", None)
    if not (isinstance(key, str) and re.fullmatch("[a-z][a-z0-9_]*", key)):
        raise RecipeError(
            f"{where}: {name}: key: expected lower-case letters, digits and underscores, which name the files of its"
            f" stages, found {key!r}"
        )
    if step_kinds().get(key, type(step)) is not type(step):
        raise RecipeError(f"{where}: {name}: its key {key!r} is that of a packaged step; give it another one")
    return step


def step_entries(given: Mapping[str, Any]) -> dict[str, Any]:
    """The corpus-wide steps among the keys of a phase: name → parameters, None for a packaged one that is not wanted.

    A packaged step has its key, any other its import path; from Python, a step may stand as a value under its key.
    """
    steps: dict[str, Any] = {}
    for key, value in given.items():
        if isinstance(value, CorpusStep):
            steps[name_of(type(value), step_kinds())] = parameters(value)
        elif key in step_kinds() or ":" in str(key):
            if not isinstance(value, dict | None):
                raise ValueError(f"{key}: expected a mapping, found {value!r}")
            steps[key] = value if key in step_kinds() else value or {}
    return steps


def built(where: str, kind: type[Built], given: Mapping[str, Any]) -> Built:
    """A frozen value from the parameters that a recipe gives it."""
    try:
        # As JSON, where strict types take a list for a tuple and a mapping for a dataclass, but no string for a number.
        value: Built = _adapter(kind).validate_json(json.dumps(dict(given), default=_plain), strict=True)
        return value
    except (TypeError, UnicodeEncodeError) as error:
        raise RecipeError(f"{where}: expected values that YAML has: {error}") from error
    except ValidationError as error:
        raise RecipeError(f"{where}: {explain(error, kind)}") from error


def _plain(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"found {type(value).__name__}")


def written(part: Annotator | Editor) -> dict[str, dict[str, Any]]:
    """An editor or annotator as its name and its parameters, every default written out."""
    return {name_of(type(part), {**ANNOTATORS, **EDITORS}): parameters(part)}


def parameters(part: object) -> dict[str, Any]:
    """The parameters of a frozen value, every default written out, as YAML has them."""
    found: dict[str, Any] = _adapter(type(part)).dump_python(part, mode="json")
    return found


def explain(error: ValidationError, kind: type[Any], more_keys: Iterable[str] = ()) -> str:
    """The first error in one line; an unknown key comes with the nearest known one."""
    unknown = {"extra_forbidden", "unexpected_keyword_argument"}
    fault = min(error.errors(), key=lambda fault: fault["type"] not in unknown)  # a misspelt key is also a missing one
    where = ".".join(str(step) for step in fault["loc"])
    if fault["type"] in unknown:
        return f"unknown key {where!r}{did_you_mean(str(fault['loc'][-1]), sorted({*_keys(kind), *more_keys}))}"
    found = "" if fault["type"] == "missing" else f", found {reprlib.repr(fault['input'])}"
    return f"{where or 'the recipe'}: {fault['msg'].removeprefix('Value error, ')}{found[:120]}"


def _keys(kind: Any) -> Iterator[str]:
    schema = _adapter(kind).json_schema()
    for part in (schema, *schema.get("$defs", {}).values()):
        yield from part.get("properties", {})
