"""Samples: what is measured of a job, at a moment, for whoever watches it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """One value of a metric. name: by the conventions of Prometheus, so that a counter ends with `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    value: float
    labels: Mapping[str, str]
