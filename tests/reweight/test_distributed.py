"""1, 2 and 4 gloo processes give the same weights and train the same model, whatever share of a batch each has.

LOCAL_RANK is set to what no rank is, and a rank may have no samples at all (gloo_process.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

pytestmark = pytest.mark.processes
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no gloo", allow_module_level=True)

from gneiss.reweight.distributed import gather_columns, tokens_per_rank  # noqa: E402
from gneiss.reweight.reweighter import SampleReweighter  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GATHERING = ["paper", "quantile", "ema", "sequence", "domains", "two-pass"]
Ranks = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """What every rank of every world found."""
    folder = tmp_path_factory.mktemp("gloo")
    program = Path(__file__).with_name("gloo_process.py")
    processes = []
    for rank in range(4):
        misleading = {"LOCAL_RANK": str((rank + 1) % 4), "RANK": "0", "WORLD_SIZE": "1", "OMP_NUM_THREADS": "1"}
        environment = {**os.environ, **misleading, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(program), str(rank), str(folder)]
        processes.append(
            subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    try:
        for process in processes:
            said, _ = process.communicate(timeout=600)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {world: [_read(folder / f"{world}-{rank}.json") for rank in range(world)] for world in (1, 2, 4)}


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def joined(ranks: list[dict[str, Any]], name: str) -> list[list[float]]:
    """The weights of a world, step by step, rank 0 first."""
    per_rank = [found["weights"][name] for found in ranks]
    return [[weight for part in parts for weight in part] for parts in zip(*per_rank, strict=True)]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", GATHERING)
def test_gathered_weights_are_those_of_one_process(ranks: Ranks, world: int, name: str) -> None:
    expected = joined(ranks[1], name)
    assert joined(ranks[world], name) == expected  # bit for bit: every rank computes the same from the same
    assert any(len({weight for weight in weights if weight}) > 4 for weights in expected)
    for found in ranks[world]:
        assert found["bad"][name] == ranks[1][0]["bad"][name] == [4, 4]


@pytest.mark.parametrize("world", [2, 4])
def test_running_weights_need_no_gather_and_are_those_of_one_process(ranks: Ranks, world: int) -> None:
    for weights, expected in zip(joined(ranks[world], "running"), joined(ranks[1], "running"), strict=True):
        assert weights == pytest.approx(expected, rel=1e-6)
    assert all(found["bad"]["running"] == [4, 4] for found in ranks[world])


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("paper", "paper"),
        ("uniform", "uniform"),
        ("two-pass", "two-pass"),
        ("two-pass, 3 micro-steps", "two-pass"),
        ("running", "running"),
        ("running, 3 micro-steps", "running"),
    ],
)
def test_a_model_trained_on_ranks_and_micro_steps_is_that_of_one(
    ranks: Ranks, world: int, name: str, like: str
) -> None:
    expected, _ = ranks[1][0]["trained"][like]
    for found in ranks[world]:
        assert found["trained"][name][0] == pytest.approx(expected, abs=2e-5)
    uniform, _ = ranks[1][0]["trained"]["uniform"]
    assert like == "uniform" or expected != pytest.approx(uniform, abs=2e-3)


@pytest.mark.parametrize("world", [2, 4])
def test_the_mean_of_logged_losses_is_the_global_one(ranks: Ranks, world: int) -> None:
    logged = [found["trained"]["uniform"][1] for found in ranks[world]]
    means = [sum(step) / world for step in zip(*logged, strict=True)]
    assert means == pytest.approx(ranks[1][0]["trained"]["uniform"][1], rel=1e-4)


def test_a_group_has_ranks_of_its_own(ranks: Ranks) -> None:
    whole = SampleReweighter("linear").weights(torch.tensor([1.0, 2.0, 3.0, 9.0, 1.0, 2.0])).tolist()
    assert [found["group"] for found in ranks[4]] == [whole[:3], whole[:3], whole[3:], whole[3:]]
    assert all("not in it" in found["stranger"] for found in ranks[4])


def test_without_a_group_nothing_is_sent() -> None:
    columns = [torch.tensor([1.0, torch.nan]), torch.tensor([2**62, -1])]
    gathered, start = gather_columns(columns)
    assert start == 0
    assert gathered[0] is columns[0]
    assert tokens_per_rank(torch.tensor([[True, False, True]])).item() == 2


@pytest.mark.parametrize("world", [2, 4])
def test_the_gradients_of_torchtitans_ranks_add_up_to_that_of_one(ranks: Ranks, world: int) -> None:
    alone = torch.tensor(ranks[1][0]["torchtitan"])
    together = torch.tensor([found["torchtitan"] for found in ranks[world]]).sum(0)
    assert alone.abs().amax() > 0.01
    assert torch.allclose(together, alone, atol=1e-6)
