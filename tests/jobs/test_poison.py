"""Poison documents: each costs itself, whatever it does to its worker; the bytes are the same however it is found."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gneiss.backends import Patience
from gneiss.backends.local import LocalProcesses
from gneiss.pipelines.run import run
from tests import runs
from tests.support import write_documents

MODULE = """
import ctypes, os, resource
from dataclasses import dataclass
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Length(Annotator):
    columns = (Column("length", "int64", "characters"),)

    def compute(self, batch):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return {"length": [self.of(text) for text in batch.texts()]}

    def of(self, text):
        if "leave" in text:
            os._exit(3)
        if "crash" in text:
            ctypes.string_at(0)
        while "loop" in text:
            pass
        if "raise" in text:
            raise ValueError(text)
        return len(text)
"""
RECIPE = """
name: poison
budgets: {documents: 0.5}
phases:
  - {name: first, annotate: ["poison:Length"], rules: {long: length > 3}}
  - {name: second, exact_duplicates: {}}
"""
POISON = {3: "leave", 5: "raise", 7: "crash", 8: "loop"}


@pytest.mark.processes
@pytest.mark.slow
def test_each_costs_itself_and_the_bytes_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "poison.py").write_text(MODULE)
    (tmp_path / "poison.yaml").write_text(RECIPE.replace("", ""))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    for name in ("a", "b"):
        texts = [f"document {n} of {name}" + (POISON.get(n, "") if name == "a" else "") for n in range(12)]
        write_documents(tmp_path / f"input/{name}.parquet", texts)
    patience = Patience(look_seconds=0.2, document_seconds=0.5)
    done = run(
        tmp_path / "poison.yaml", tmp_path / "input", tmp_path / "poisoned", workers=2, backend=LocalProcesses(patience)
    )
    assert done.quarantined_shards == {}
    assert done.failed_documents == len(POISON)
    reasons = pq.read_table(tmp_path / "poisoned/annotations/base/a.parquet")["reason"].to_pylist()
    assert {row: reason for row, reason in enumerate(reasons) if reason} == {
        3: "length killed its worker",
        5: "length failed: ValueError",
        7: "length killed its worker",
        8: "length took longer than 0.5 s",
    }
    logs = "".join(path.read_text() for path in (tmp_path / "poisoned/_gneiss/logs").iterdir())
    for words in (
        "WorkerDied: exit code 3",
        "WorkerDied: Segmentation fault",
        "s of CPU time",
        "raise ValueError(text)",
    ):
        assert words in logs
    assert "in of\nWorkerDied: " in logs, "the stack of the loop"
    again = run(
        tmp_path / "poison.yaml", tmp_path / "input", tmp_path / "again", workers=1, backend=LocalProcesses(patience)
    )
    assert again.counts == done.counts
    assert runs.promised(tmp_path / "again") == runs.promised(tmp_path / "poisoned")
