"""An estimate: which shards are sampled, what follows from what they took, and what a run says of it in the end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gneiss.errors import InputError
from gneiss.input.shard import Shard
from gneiss.output import ledger
from gneiss.output.cost import Cost
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.run_status import run_status
from gneiss.pipelines.estimate import _extrapolated, _Measured, estimate, sampled
from gneiss.store.place import place_of
from tests import runs
from tests.output.test_claim import plan_of


def shards_of(*sizes: int) -> list[Any]:
    class Sized:
        """What `sampled` looks at."""

        def __init__(self, number: int, size: int) -> None:
            self.id, self.text_bytes = f"s{number}", size

    return [Sized(number, size) for number, size in enumerate(sizes)]


def ids(shards: list[Shard], count: int) -> list[str]:
    return [shard.id for shard in sampled(shards, count)]


def test_a_sample_is_spread_over_the_bytes() -> None:
    assert ids(shards_of(*[10] * 9), 3) == ["s1", "s4", "s7"]
    assert ids(shards_of(1, 1, 1, 97), 2) == ["s3"]
    assert ids(shards_of(10, 10), 5) == ["s0", "s1"]
    assert ids(shards_of(0, 0, 0), 1) == ["s1"]
    with pytest.raises(InputError, match="shards=0"):
        sampled(shards_of(1), 0)


def receipt(stage: str, task: str, cpu: float, ready: float = 0.0) -> Receipt:
    cost = {"cpu_seconds": cpu, "seconds": 2 * cpu, "peak_bytes": 100.0}
    return Receipt(
        task, COMMITTED, "", None, cost={**cost, **({"ready_cpu_seconds": ready} if ready else {})}, stage=stage
    )


def test_cpu_time_is_by_bytes_and_getting_ready_is_by_worker(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    one = plan.input.shards[0]
    part = replace(one.part, text_bytes=100)
    shards = tuple(replace(one, id=f"s{number}", part=part) for number in range(10))
    plan = replace(plan, input=replace(plan.input, shards=shards))
    first = _Measured((receipt("curate", "s0", cpu=5.0, ready=3.0),), 0.0)
    then = _Measured((receipt("curate", "s2", 2.0), receipt("curate", "s7", 2.0)), 0.0)
    even = _extrapolated(plan, shards[0], [shards[2], shards[7]], first, then, workers=4)
    # ten shards of 2 s; each of 4 workers takes 3 s to start, and 3 s more than usual for its first task
    assert even.cost.cpu_seconds == pytest.approx(10 * 2.0 + 4 * (3.0 + 3.0))
    assert even.cost.seconds == pytest.approx(10 * 4.0 / 4 + 3.0 + (10.0 - 4.0))
    assert even.low.cpu_seconds < even.cost.cpu_seconds < even.high.cpu_seconds
    uneven = _Measured((receipt("curate", "s2", 1.0), receipt("curate", "s7", 3.0)), 0.0)
    wider = _extrapolated(plan, shards[0], [shards[2], shards[7]], first, uneven, workers=4)
    assert wider.cost.cpu_seconds == even.cost.cpu_seconds
    assert wider.high.cpu_seconds > even.high.cpu_seconds


@pytest.mark.slow
def test_a_run_says_what_was_predicted_and_what_it_took(
    material: runs.Material, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gneiss.pipelines.estimate._local", lambda _: runs.InThisProcess())
    monkeypatch.setattr("gneiss.backends.choice._backend", lambda *_: runs.InThisProcess())
    options = ("--input", material.input, "--shards", "2")
    assert runs.command("estimate", material.recipe, *options) == 0
    said = capsys.readouterr().out
    assert "5 shards" in said
    assert "dollars: " in said
    assert runs.command("estimate", material.recipe, *options, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["sampled"]) == 2
    file = tmp_path / "estimate.json"
    file.write_text(json.dumps(found))
    output = tmp_path / "out"
    assert runs.command("run", material.recipe, "-i", material.input, "-o", output, "--estimate", file) == 0
    said = capsys.readouterr().out
    assert said.count("core-hours of CPU time") == 2
    status = run_status(output)
    assert status.predicted is not None
    assert status.predicted.cost == Cost(**found["cost"])
    assert status.predicted.work == {"curate": 1.0}
    assert status.seconds_left == 0
    assert status.took is not None
    assert any(entry.stage == ledger.PREDICTED for entry in ledger.entries(place_of(output)))
    # about as many bytes as were predicted, since they do not depend on the machine
    assert status.took.written_bytes == pytest.approx(found["cost"]["written_bytes"], rel=0.5)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": "other", "cost": {"seconds": 1}}'])
def test_what_is_no_estimate_is_refused(material: runs.Material, tmp_path: Path, content: str) -> None:
    file = tmp_path / "estimate.json"
    file.write_text(content)
    arguments = ("run", material.recipe, "-i", material.input, "-o", tmp_path / "out", "--estimate", file)
    assert runs.command(*arguments) == 1


def test_an_estimate_of_another_recipe_is_refused(
    material: runs.Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "estimate.json"
    file.write_text(json.dumps({"recipe": "0" * 64, "cost": Cost(1, 2, 3, 4).noted(), "stages": []}))
    assert runs.command("run", material.recipe, "-i", material.input, "-o", tmp_path / "out", "--estimate", file) == 1
    assert "the estimate of another recipe" in capsys.readouterr().err


def test_nothing_can_be_estimated_of_nothing(material: runs.Material, tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError):
        estimate(material.recipe, tmp_path, backend=runs.InThisProcess())
