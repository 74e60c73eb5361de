"""A judge that knows: the texts of these tests say themselves whether they are good."""

from __future__ import annotations

from collections.abc import Sequence

ASKED: list[str] = []


def verdicts(texts: Sequence[str]) -> list[bool | None]:
    """What a text says of itself; nothing where it says nothing."""
    ASKED.extend(texts)
    return [None if "silence" in text else "verdict good" in text for text in texts]
