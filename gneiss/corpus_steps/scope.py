"""Scopes: which shards of an input a step compares with each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from typing import Literal, TypeAlias

from gneiss.corpus_steps.step import ShardSize
from gneiss.errors import RecipeError

#: `shard`: no others; `file`: those of its input file; `group`: those with an equal value; `corpus`: all.
Scope: TypeAlias = Literal["shard", "file", "group", "corpus"]


def stretches(
    shards: Sequence[ShardSize], value: Callable[[ShardSize], Hashable], max_bytes: int | None = None
) -> tuple[range, ...]:
    """Consecutive shards with an equal value, each stretch cut where its text would exceed `max_bytes`."""
    found: list[range] = []
    for _, members in groupby(range(len(shards)), key=lambda index: value(shards[index])):
        first, size = None, 0
        for index in members:
            own = shards[index].text_bytes
            if first is None or (max_bytes is not None and size + own > max_bytes):
                if first is not None:
                    found.append(range(first, index))
                first, size = index, 0
            size += own
        if first is not None:
            found.append(range(first, index + 1))
    return tuple(found)


def files(shards: Sequence[ShardSize]) -> tuple[range, ...]:
    """The shards of each input file.

    >>> from types import SimpleNamespace
    >>> files([SimpleNamespace(file=name, text_bytes=1) for name in "aab"])
    (range(0, 2), range(2, 3))
    """
    return stretches(shards, lambda shard: shard.file)


def have_no_group_in_common(
    group: Callable[[ShardSize], Hashable], some: Sequence[ShardSize], others: Sequence[ShardSize]
) -> bool:
    """Whether no group has shards of both."""
    return set(map(group, some)).isdisjoint(map(group, others))


def check_group(scope: Scope, group_by: str | None) -> None:
    """Raise ValueError where a pattern lacks, is not used, or is none."""
    if (scope == "group") != (group_by is not None):
        raise ValueError("`scope: group` goes with a pattern `group_by`, any other scope without one")
    try:
        re.compile(group_by or "")
    except re.error as error:
        raise ValueError(f"group_by: {group_by!r} is no regular expression: {error}") from error


def group_of(key: str, group_by: str | None, shard_id: str) -> str:
    """The value of a step's pattern in the id of a shard: of its first group, if it has one. Raises RecipeError."""
    found = re.search(group_by or "", shard_id)
    if found is None:
        raise RecipeError(f"{key}.group_by: {group_by!r} does not match the shard {shard_id!r}")
    return found.group(1) if found.re.groups else found.group()
