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

        for sample in samples:
            if (metric := self.metrics.get(sample.name)) is None:
                kind: Any = Counter if sample.kind == "counter" else Gauge
                metric = self.metrics[sample.name] = kind(
                    sample.name, description=sample.meaning, tag_keys=tuple(sample.labels)
                )
            if sample.kind == "gauge":
                metric.set(sample.value, tags=dict(sample.labels))
                continue
            before = self.raised.get(key := (sample.name, *sample.labels.values()), 0.0)
            if (
                more := sample.value - before if sample.value >= before else sample.value
            ):  # less: of a driver that restarted
                metric.inc(more, tags=dict(sample.labels))
            self.raised[key] = sample.value
