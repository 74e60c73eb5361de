"""In what finished runs differ: recipes and model files, by key; for whoever compares or mixes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gneiss.output.finished_run import FinishedRun

_MOST_KEYS = 5


def run_differences(runs: Mapping[str, FinishedRun]) -> list[str]:
    """In what other runs differ from the first, by name, a sentence each; none where they were made alike.

    >>> run_differences({"raw": open_run("raw"), "web": open_run("web")})  # doctest: +SKIP
    ['the recipe of web is another one than that of raw: phases.gneissweb.rules.quality']
    """
    names = list(runs)
    found = []
    for name in names[1:]:
        one, other = runs[names[0]], runs[name]
        found.append(difference("recipe", names[0], one.recipe.canonical(), name, other.recipe.canonical()))
        found.append(
            difference("models", names[0], one.identity.get("models", {}), name, other.identity.get("models", {}))
        )
    return [sentence for sentence in found if sentence]


def difference(what: str, first: str, one: Any, second: str, other: Any) -> str | None:
    """A sentence that names the keys in which two nested settings differ, or None.

    >>> difference("recipe", "raw", {"rules": {"short": "a < 1"}, "seed": 1}, "web", {"rules": {}, "seed": 1})
    'the recipe of web is another one than that of raw: rules.short'
    """
    keys = list(_differing(one, other))
    if not keys:
        return None
    verb = "are others than those" if what.endswith("s") else "is another one than that"
    shown = ", ".join(keys[:_MOST_KEYS]) + (f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else "")
    return f"the {what} of {second} {verb} of {first}: {shown}"


def _differing(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            yield from _differing(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            name = left.get("name", at) if isinstance(left, Mapping) else at
            yield from _differing(left, right, f"{path}.{name}")
    elif one != other:
        yield path
