"""Changes to a recipe by dotted path: `phases.gneissweb.rules.quality`, as `gneiss explain --yaml` writes it out."""

from __future__ import annotations

from typing import Any

from gneiss.errors import RecipeError, did_you_mean


def change(recipe: dict[str, Any], path: str, value: Any) -> None:
    """Set a key of a written-out recipe, in place.

    Items of a list are found by name: a phase by its `name`, an entry under `edit` or `annotate` by its key. The last
    key may be a new one; whether the recipe knows it is for validation. Raises RecipeError, with the nearest key.

    >>> recipe = {"phases": [{"name": "first", "rules": {"short": "text_chars < 9"}}], "budgets": {"shards": 0}}
    >>> change(recipe, "phases.first.rules.short", "text_chars < 5")
    >>> recipe["phases"][0]["rules"]
    {'short': 'text_chars < 5'}
    """
    holder: Any = recipe
    done, rest = "", path
    while True:
        names = _names(holder)
        name = max((known for known in names if f"{rest}.".startswith(f"{known}.")), key=len, default=None)
        if name is None and (isinstance(holder, list) or "." in rest or not rest):
            missing = rest.split(".")[0]
            raise RecipeError(f"{path}: no {missing!r} in {done or 'the recipe'}{did_you_mean(missing, names)}")
        name = rest if name is None else name
        done, rest = f"{done}.{name}".lstrip("."), rest[len(name) + 1 :]
        at = names.get(name, name)
        if isinstance(holder, list) and "name" not in holder[at]:  # an entry: its key stands for what is under it
            holder, at = holder[at], name
        if not rest:
            holder[at] = value
            return
        if holder[at] is None:  # a step that the recipe does not have
            holder[at] = {}
        holder = holder[at]
        if not isinstance(holder, dict | list):
            raise RecipeError(f"{path}: {done} is {holder!r}, which has no keys")


def _names(holder: Any) -> dict[str, Any]:
    """Name → key or index of what a mapping or a list holds."""
    if isinstance(holder, dict):
        return {str(key): key for key in holder}
    return {
        str(item.get("name") or next(iter(item))): index for index, item in enumerate(holder) if isinstance(item, dict)
    }
