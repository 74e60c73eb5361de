"""Whatever is done to a file of a finished output is found, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError, OutputError
from gneiss.output import ledger
from gneiss.output.verification import verify
from gneiss.pipelines.reshard import reshard
from gneiss.store.place import place_of
from tests import runs

QUARANTINED = "quarantine/a.parquet"


@pytest.fixture
def output(released: Path, copy_of: Callable[[Path], Path]) -> Path:
    return copy_of(released)


def paths(output: Path) -> list[str]:
    return [problem.path for problem in verify(output).problems]


def test_a_finished_run_is_whole(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = verify(output)
    assert found.problems == ()
    assert (found.tasks, found.rows, found.layers) == (5, 180, ("weights",))
    receipts = ledger.read(place_of(output)).values()
    assert found.size_bytes == sum(file.size_bytes for receipt in receipts for file in receipt.files)
    assert runs.command("verify", output) == 0
    assert "180 rows, with the layers weights: all as written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", ["data/a.parquet", "annotations/base/c.g00001.parquet", "_gneiss/statistics/a.json", QUARANTINED]
)
@pytest.mark.parametrize("how", ["missing", "a byte", "shorter"])
def test_a_file_that_is_not_what_was_written(
    output: Path, path: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = output / path
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink() if how == "missing" else file.write_bytes(content if how == "a byte" else content[:-1])
    problems = {problem.path: problem.what for problem in verify(output).problems}
    expected = {"missing": "missing", "a byte": "expected the checksum", "shorter": f"expected {len(content)} bytes"}
    assert problems[path].startswith(expected[how])
    assert runs.command("verify", output) == 1
    assert path in capsys.readouterr().out


@pytest.mark.parametrize(
    "path", ["data/x\x1b[31m.parquet", "annotations/base/z.parquet", "quarantine/c.g00001.parquet", "data/a.jsonl"]
)
def test_a_file_that_nobody_wrote(output: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(output / QUARANTINED, output / path)
    assert path in paths(output)
    runs.command("verify", output)
    assert "\x1b" not in capsys.readouterr().out


def test_rows_that_are_not_accounted_for(output: Path) -> None:
    ledger_file = next(
        file for file in (output / "_gneiss/ledger").iterdir() if '"stage": "curate"' in file.read_text()
    )
    lines = [json.loads(line) for line in ledger_file.read_text().splitlines()]
    changed = next(line for line in lines if line["stage"] == "curate")
    changed["counts"]["kept"] -= 1
    ledger_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    whats = [problem.what for problem in verify(output).problems]
    kept = changed["counts"]["kept"]
    assert f"expected {kept} rows in data/, found {kept + 1}" in whats
    assert any("are accounted for" in what for what in whats)
    assert any(what.startswith("132 kept, but 131 by the receipts") for what in whats)


def test_statistics_that_count_others(output: Path) -> None:
    path = output / "_gneiss/statistics.json"
    stored = json.loads(path.read_text())
    stored["statistics"]["counts"]["dropped"] += 1
    path.write_text(json.dumps(stored))
    assert paths(output) == ["_gneiss/statistics.json"]


def test_without_a_ledger_the_footers_are_the_receipts(output: Path) -> None:
    shutil.rmtree(output / "_gneiss/ledger")
    found = verify(output)
    assert (found.tasks, found.rows, found.problems) == (5, 180, ())
    (output / "data/a.parquet").unlink()
    assert "annotations/base/a.parquet" in paths(output)


def test_a_layer_that_does_not_fit(output: Path) -> None:
    layer = output / "annotations/weights"
    first, second = sorted(layer.rglob("*.parquet"))[:2]
    shutil.copy(second, first)
    assert paths(output) == ["_gneiss/layers/weights.json"]
    table = pq.read_table(output / "annotations/base/a.parquet")
    assert table.num_rows  # the run itself is whole
    (output / "_gneiss/layers/weights.json").unlink()
    assert all(path.startswith("annotations/weights/") for path in paths(output))
    assert len(paths(output)) == 5


def test_a_run_that_is_not_finished_or_not_there(output: Path, tmp_path: Path) -> None:
    (output / "_gneiss/statistics.json").unlink()
    assert paths(output) == ["_gneiss/statistics.json"]
    with pytest.raises(InputError, match="no run here"):
        verify(tmp_path)
    with (place_of(output) / "_gneiss/lock").lock(), pytest.raises(OutputError, match="is writing here"):
        verify(output)


def test_a_run_in_new_shards(output: Path, tmp_path: Path) -> None:
    reshard(output, tmp_path / "new", shard_bytes=4000, backend=runs.InThisProcess())
    found = verify(tmp_path / "new")
    assert (found.rows, found.problems) == (180, ())
    (tmp_path / "new" / QUARANTINED).unlink()
    assert paths(tmp_path / "new") == ["quarantine"]


def test_logs_are_escaped_and_found_by_shard(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.command("logs", output) == 0
    assert capsys.readouterr().out == "nothing went wrong\n"
    logs = output / "_gneiss/logs"
    logs.mkdir(exist_ok=True)
    (logs / "KeyError-1.txt").write_text("gneiss\nshard: a\nfailed\n\nTraceback \x1b[31m\nshard: c")
    (logs / "KeyError-2.txt").write_text("gneiss\nshard: b\nfailed\n\nTraceback of b")
    assert runs.command("logs", output, "--shard", "a") == 0
    said = capsys.readouterr().out
    assert "Traceback \\u001b[31m\n" in said
    assert "curate a committed" in said
    assert "Traceback of b" not in said
    runs.command("logs", output, "--shard", "c")
    assert "KeyError" not in capsys.readouterr().out
    runs.command("logs", output)
    assert "Traceback of b" in capsys.readouterr().out
    runs.command("logs", output, "--shard", "nowhere")
    assert capsys.readouterr().out == "nothing is known of nowhere\n"
