"""The models of the demo: labels, a fused score, a judge that is asked seldom; all of it again with the same bytes."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gneiss.demo import own_models
from gneiss.demo.demo import PARTS, Demo
from gneiss.demo.own_models import OwnModels, documents_of, measured
from gneiss.output.finished_run import open_run
from gneiss.pipelines.decide import decide
from gneiss.report.models_charts import models_chart, picture
from tests.runs import InThisProcess, annotations, command


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNEISS_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_labels_models_and_routing_of_few_documents(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_this_process(*given: object, backend: str, **options: object) -> object:
        return decide(*given, backend=InThisProcess(), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(own_models, "decide", in_this_process)
    monkeypatch.setattr(own_models, "LABELS", 200)
    monkeypatch.setattr(own_models, "FUSION_LABELS", 60)
    folder = tmp_path / "demo"
    shutil.copytree(demo, folder)
    curated, own = open_run(folder / "curated"), OwnModels(Demo(folder))
    documents = documents_of(curated)
    assert len(documents.texts) == curated.documents
    labelled = own.label(curated, documents)
    judged, others = (pq.read_table(folder / f"labels/{name}.parquet").to_pylist() for name in ("judged", "fusion"))
    assert len({(row["shard"], row["row"]) for row in judged + others}) == len(judged) + len(others) == 260
    assert labelled.labels == {**Counter(row["why"] for row in judged), "random": 60}
    assert set(labelled.labels) == {"coreset", "audit", "margin", "random"}
    assert (labelled.reach == 0).sum() >= labelled.labels["coreset"]
    assert labelled.reach.max() < labelled.random_reach.max()
    assert labelled.classifier.audit is not None
    scored = own.score(curated)
    own.fuse(scored)
    pilot = own.calibrate(scored).pilot
    routed = measured(own.route(), documents)
    found = annotations(folder / "routed")
    assert sum(sum(of.values()) for of in routed.deciders.values()) == len(documents.texts) == routed.audits.documents
    assert sum(of["judge, for an audit"] for of in routed.deciders.values()) == routed.audits.audited.of
    assert routed.cost == pytest.approx(np.nanmean(found["route_cost"].to_numpy()))
    assert abs(routed.known.value - routed.audits.audited.value) < 0.1  # of some 90 audits, and all documents
    reach = {"coreset": labelled.reach, "at random": labelled.random_reach}
    made = models_chart(
        pilot.ways, (routed.audits.audited, routed.cost), 0.9, routed.deciders, reach, routed.known, "title"
    )
    assert picture(made).startswith(b"\x89PNG")
    said = str(made.to_dict(validate=False))
    for way in ("fusion alone", "fixed thresholds", "asked for: 90%", "router in the run, by audits", "Wilson"):
        assert way in said


@pytest.mark.exhaustive
@pytest.mark.processes
def test_the_command_gives_the_same_models_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "again"):
        assert command("demo", "--models", "--output", tmp_path / name) == 0
    said = capsys.readouterr().out
    assert "judge for a random share" in said
    assert "what it really agreed on" in said
    assert {path.name for path in (tmp_path / "one").iterdir()} == set(PARTS)
    for model in ("judged/quality.bin", "fusion/fusion.safetensors", "policy/policy.json", "policy/MODEL.md"):
        one, again = (tmp_path / name / "models" / model for name in ("one", "again"))
        assert one.read_bytes() == again.read_bytes()
    assert command("demo", "--output", tmp_path / "one") == 0
    assert not (tmp_path / "one/routed").exists()
