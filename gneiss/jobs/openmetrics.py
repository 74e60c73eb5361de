"""OpenMetrics text: samples of a job in a file, for Prometheus' node exporter (`textfile`) or any HTTP server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import groupby

from gneiss.backends.samples import Sample
from gneiss.jobs.meter import Meter
from gneiss.store.place import Address, place_of


def metrics_writer(file: Address) -> Callable[[Meter], None]:
    """What keeps the metrics of a job in a file, which is replaced as a whole. Raises OutputError."""
    place = place_of(file, "output")

    def write(meter: Meter) -> None:
        with place.create() as sink:
            sink.write(openmetrics(meter.samples()).encode())

    return write


def openmetrics(samples: Iterable[Sample]) -> str:
    """Samples, those of one metric together, as OpenMetrics text, which Prometheus' older text format includes."""
    lines: list[str] = []
    for (name, kind, meaning), of_metric in groupby(
        samples, key=lambda sample: (sample.name, sample.kind, sample.meaning)
    ):
        family = name.removesuffix("_total") if kind == "counter" else name
        lines += [f"# TYPE {family} {kind}", f"# HELP {family} {meaning}"]
        lines += [f"{name}{{{_labels(sample)}}} {float(sample.value)!r}" for sample in of_metric]
    return "\n".join([*lines, "# EOF", ""])


def _labels(sample: Sample) -> str:
    """Label values are escaped as JSON escapes quotes, backslashes and ends of lines."""
    return ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sample.labels.items())
