"""Metrics: what is counted, as text that Prometheus reads, and the dashboard that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gneiss.jobs.meter import METRICS, Meter
from gneiss.jobs.openmetrics import metrics_writer, openmetrics
from gneiss.output.ledger import BEGUN, COMMITTED, CURATE, FAILED, Receipt
from gneiss.output.parquet import WrittenFile
from gneiss.pipelines.run import run
from tests import runs

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana.json"


def metered() -> Meter:
    meter = Meter('a"b\\c\nd')
    counts = {"tasks": 3, "left": 3, "left_bytes": 60, "workers": 2}
    meter.begin(Receipt(CURATE, COMMITTED, "", None, counts, stage=BEGUN))
    cost = {
        "seconds": 2.0,
        "cpu_seconds": 1.5,
        "ready_cpu_seconds": 0.5,
        "input_bytes": 20.0,
        "peak_bytes": 7.0,
        "at": 9.0,
    }
    files = (WrittenFile("data/a.parquet", 11, "c", 3), WrittenFile("annotations/base/a.parquet", 4, "d", 5))
    meter.add(Receipt("a", COMMITTED, "f", 5, {"kept": 3, "dropped": 2}, files, cost=cost))
    meter.add(Receipt("b", FAILED, "f", None, reason="KeyError", cost={**cost, "seconds": 5.0, "at": 12.0}))
    return meter


def values(meter: Meter) -> dict[tuple[str, ...], float]:
    return {(sample.name, *list(sample.labels.values())[1:]): sample.value for sample in meter.samples()}


def test_what_tasks_report_is_summed() -> None:
    found = values(metered())
    del found[("gneiss_driver_cpu_seconds_total",)]
    assert found == {
        ("gneiss_tasks_total", "curate", "committed"): 1,
        ("gneiss_tasks_total", "curate", "failed"): 1,
        ("gneiss_tasks_left", "curate"): 1,
        ("gneiss_workers", "curate"): 2,
        ("gneiss_documents_total", "kept"): 3,
        ("gneiss_documents_total", "dropped"): 2,
        ("gneiss_text_bytes_total", "curate"): 40,
        ("gneiss_text_bytes_left", "curate"): 20,
        ("gneiss_written_bytes_total", "curate"): 15,
        ("gneiss_task_seconds_total", "curate"): 7.0,
        ("gneiss_task_cpu_seconds_total", "curate"): 4.0,
        ("gneiss_slowest_task_seconds", "curate"): 5.0,
        ("gneiss_worker_peak_memory_bytes",): 7.0,
        ("gneiss_last_receipt_timestamp_seconds",): 12.0,
    }
    cost = metered().cost()
    assert cost.written_bytes == 15
    assert cost.peak_bytes == 7
    assert cost.cpu_seconds >= 4.0


def test_the_text_is_read_by_the_client_of_prometheus() -> None:
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    families = list(parser.text_string_to_metric_families(openmetrics(metered().samples())))
    read = {sample.name: sample.labels["run"] for family in families for sample in family.samples}
    assert set(read) == set(METRICS)
    assert set(read.values()) == {'a"b\\c\nd'}
    older = pytest.importorskip("prometheus_client.parser")  # what the node exporter reads
    assert {
        sample.name
        for f in older.text_string_to_metric_families(openmetrics(metered().samples()))
        for sample in f.samples
    }


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name, (kind, meaning) in METRICS.items():
        assert re.fullmatch(r"gneiss_[a-z_]+", name)
        assert name.endswith("_total") == (kind == "counter")
        assert meaning
        assert not re.search(r"_(ms|kb|mb|minutes|hours)(_|$)", name)


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    named = {name for expression in expressions for name in re.findall(r"\$\{metrics\}(_[a-z_]+)", expression)}
    (prefixes,) = (variable["query"] for variable in dashboard["templating"]["list"] if variable["name"] == "metrics")
    assert prefixes == "a file : gneiss, Ray : ray_gneiss"
    named = {f"gneiss{name}" for name in named}
    assert named <= set(METRICS)
    assert len(named) > 8
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_a_run_keeps_its_metrics_in_a_file(material: runs.Material, tmp_path: Path) -> None:
    file = tmp_path / "metrics/gneiss.prom"
    finished = run(material.recipe, material.input, tmp_path / "out", backend=runs.InThisProcess(), metrics_file=file)
    text = file.read_text()
    assert text.endswith("# EOF\n")
    kept = re.search(r'^gneiss_documents_total\{run="[0-9a-f]{12}",status="kept"\} (.*)$', text, re.MULTILINE)
    assert kept
    assert float(kept[1]) == finished.counts["kept"]
    assert re.search(r'^gneiss_tasks_left\{.*stage="curate"\} 0.0$', text, re.MULTILINE)
    assert metrics_writer(file)


def test_the_page_lists_every_metric() -> None:
    page = (DASHBOARD.parents[1] / "docs/operations.md").read_text("utf-8")
    for name, (kind, meaning) in METRICS.items():
        assert f"| `{name}` | {kind} | {meaning} |" in page
