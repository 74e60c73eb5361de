"""Several processes train one model: as one does, within float error; one writes, and all must see what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'gneiss-curation[train]'")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch has no gloo", allow_module_level=True)

from tests.ablate.ranks_process import curves  # noqa: E402
from tests.ablate.test_ablation import folders  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def torchrun(processes: int, arguments: Sequence[Any]) -> str:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        list(map(str, [*command, *arguments])), env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_processes_learn_what_one_does(processes: int, tmp_path: Path) -> None:
    torchrun(processes, [ROOT / "tests/ablate/ranks_process.py", tmp_path])
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(processes)]
    assert all(of_rank == found[0] for of_rank in found)
    for together, alone in zip(found[0], curves(), strict=True):
        for point, expected in zip(together, alone, strict=True):
            assert point["tokens"] == expected["tokens"]
            assert point["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], rel=1e-3)
    assert found[0][0] != found[0][1]


@pytest.mark.processes
@pytest.mark.exhaustive
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    junk, clean = folders(tmp_path)
    (tmp_path / "held.txt").write_text("the quick brown fox jumps over the lazy dog again\n")
    small = ("--budget-tokens", 8192, "--size", "tiny", "--length", 32, "--batch", 8, "--seeds", 2)
    options = ("--held-out", tmp_path / "held.txt", "--output", tmp_path / "out", "--tokenizer", "bytes", *small)
    arguments = ["-m", "gneiss", "ablate", junk.folder, clean.folder, *options]
    said = torchrun(2, arguments)
    assert said.count("This holds for models of this size") == 1
    before = (tmp_path / "out/ablation.json").read_bytes()
    assert torchrun(2, arguments).count("junk, seed 0") == 1
    assert (tmp_path / "out/ablation.json").read_bytes() == before
    assert len(list((tmp_path / "out/models").iterdir())) == 4


def test_a_machine_with_fewer_gpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from gneiss.ablate.ranks import joined
    from gneiss.errors import MachineError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "99")
    with pytest.raises(MachineError, match="process 99 of this machine: expected a GPU for each"), joined("cuda"):
        pass
