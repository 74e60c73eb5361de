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
import os
from dataclasses import dataclass
from gneiss.annotation import Annotator, Column

def is_tame():
    return os.path.exists(__file__ + ".tame")

@dataclass(frozen=True)
class Length(Annotator):
    columns = (Column("length", "int64", "characters"),)

    def compute(self, batch):
        return {"length": [self.of(text) for text in batch.texts()]}

    def of(self, text):
        tame = is_tame()
        if "leave" in text and not tame:
            os._exit(3)
        while "loop" in text and not tame:
            pass
        if text[-1] in "pe":
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
POISON = {3: "leave", 5: "raise", 8: "loop"}


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
    arguments = tmp_path / "poison.yaml", tmp_path / "input"
    done = run(*arguments, tmp_path / "poisoned", workers=1, backend=LocalProcesses(patience))
    assert done.quarantined_shards == {}
    assert done.failed_documents == len(POISON)
    found = pq.read_table(tmp_path / "poisoned/annotations/base/a.parquet")
    assert {row: reason for row, reason in enumerate(found["reason"].to_pylist()) if reason} == {
        3: "length killed its worker",
        5: "length failed: ValueError",
        8: "length took longer than 0.5 s",
    }
    logs = "".join(path.read_text() for path in (tmp_path / "poisoned/_gneiss/logs").iterdir())
    for words in ("WorkerDied: exit code 3", "s of CPU time", "raise ValueError(text)"):
        assert words in logs
    assert "in of\nWorkerDied: " in logs, "the stack of the loop"

    (tmp_path / "poison.py.tame").touch()
    tame = run(*arguments, tmp_path / "tame", backend=runs.InThisProcess())
    assert tame.counts == done.counts
    expected = pq.read_table(tmp_path / "tame/annotations/base/a.parquet")
    assert found.drop_columns("reason").equals(expected.drop_columns("reason"))
    for name in ("data/a.parquet", "data/b.parquet", "annotations/base/b.parquet"):
        assert runs.promised(tmp_path / "tame")[name] == runs.promised(tmp_path / "poisoned")[name]
