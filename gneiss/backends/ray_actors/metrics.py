"""What a job has done, as metrics of Ray's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gneiss.backends.samples import Sample


@dataclass
class Metrics:
    """Metrics of Ray's by name, and what its counters have been raised to, as Ray can only add."""

    metrics: dict[str, Any] = field(default_factory=dict)
    raised: dict[tuple[str, ...], float] = field(default_factory=dict)

    def show(self, samples: Iterable[Sample]) -> None:
        """Set gauges, raise counters."""
        from ray.util.metrics import Counter, Gauge

        for its in samples:
            if (metric := self.metrics.get(its.name)) is None:
                kind: Any = Counter if its.kind == "counter" else Gauge
                metric = self.metrics[its.name] = kind(its.name, description=its.meaning, tag_keys=tuple(its.labels))
            if its.kind == "gauge":
                metric.set(its.value, tags=dict(its.labels))
                continue
            before = self.raised.get(key := (its.name, *its.labels.values()), 0.0)
            if more := its.value - before if its.value >= before else its.value:  # less: of a driver that began anew
                metric.inc(more, tags=dict(its.labels))
            self.raised[key] = its.value
