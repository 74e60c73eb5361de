"""`filters:` in a phase: annotators together with the rules published for them, so that a threshold has one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gneiss.annotation import Annotator
from gneiss.errors import RecipeError, did_you_mean
from gneiss.filters.catalogue import ANNOTATORS, FILTERS
from gneiss.recipe.entries import entry_of
from gneiss.recipe.named import resolve


def with_filters(phase: Mapping[str, Any]) -> dict[str, Any]:
    """A phase as a recipe gives it, its `filters` written out after its own `annotate` and `rules`.

    `- fineweb` is the annotator `fineweb` with its published rules. `- fineweb: {short_line_chars: 40, rules:
    {fineweb_no_list: null}}` has a parameter of the annotator, and another condition for a rule by name: null for none.
    Raises RecipeError.
    """
    rest = {key: value for key, value in phase.items() if key != "filters"}
    filters, own_annotate, own_rules = phase.get("filters", []), rest.get("annotate", []), rest.get("rules", {})
    if not isinstance(filters, list):
        raise ValueError(f"filters: expected a list of filters, found {filters!r}")
    if not filters or not (isinstance(own_annotate, list) and isinstance(own_rules, dict)):
        return rest
    annotate, rules = list(own_annotate), dict(own_rules)
    for entry in filters:
        for name, given in entry_of(_named(entry)).items():
            parameters = {key: value for key, value in given.items() if key != "rules"}
            key, published = _published(name)
            annotate.append({key: parameters})
            for rule, condition in _chosen(name, published, given.get("rules", {})).items():
                if rule in rules:
                    raise RecipeError(
                        f"filters: {name}: the rule {rule!r} is defined twice; to change it, write it under the filter:"
                        f" {name}: {{rules: {{{rule}: …}}}}"
                    )
                rules[rule] = condition
    return {**rest, "annotate": annotate, "rules": rules}


def _named(entry: Any) -> Any:
    """A packaged annotator by the name of its filter; other entries as they are."""
    if not isinstance(entry, Annotator):
        return entry
    ((key, parameters),) = entry_of(entry).items()
    names = [name for name, page in FILTERS.items() if page.key == key] or [key]
    if len(names) > 1:
        raise RecipeError(f"filters: {key} belongs to {' and '.join(names)}; name one: {{{names[0]!r}: {{…}}}}")
    return {names[0]: parameters}


def _published(name: str) -> tuple[str, Mapping[str, str]]:
    """The name of a filter's annotator, and the filter's rules."""
    packaged = {filter_: ANNOTATORS[page.key] for filter_, page in FILTERS.items()}
    if name in ANNOTATORS and name not in packaged:
        names = [filter_ for filter_, page in FILTERS.items() if page.key == name]
        raise RecipeError(f"filters: no filter {name!r}; those of this annotator are {', '.join(names)}")
    try:
        found = resolve(Annotator, name, packaged, "filter")
    except RecipeError as error:
        raise RecipeError(f"filters: {error}") from error
    return (FILTERS[name].key, FILTERS[name].rules) if name in FILTERS else (name, found.rules)


def _chosen(name: str, published: Mapping[str, str], given: Any) -> dict[str, str]:
    """The published rules with the conditions that a recipe gives in their place."""
    if not isinstance(given, dict):
        raise RecipeError(f"filters: {name}: rules: expected a mapping, found {given!r}")
    for rule in given:
        if rule not in published:
            raise RecipeError(f"filters: {name}: no rule {rule!r}{did_you_mean(str(rule), published)}")
    chosen = {**published, **given}
    return {rule: condition for rule, condition in chosen.items() if condition is not None}
