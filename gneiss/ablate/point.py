"""A point of a learning curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A model as it was judged: tokens that it had been trained on, and domain → bits per byte."""

    tokens: int
    bits_per_byte: Mapping[str, float]
