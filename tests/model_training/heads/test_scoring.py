"""Heads over a finished run: whoever is lost and whenever, the layer has the bytes of a run without a loss."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import enumerate as enumerate_threads
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from gneiss.backends import Backend, Patience
from gneiss.backends.local import LocalProcesses
from gneiss.batch import TextBatch
from gneiss.errors import DefectError, InputError, MachineError, ModelError, OutputError
from gneiss.model_training.coding.guard import on_grid
from gneiss.model_training.heads.board import Waiting
from gneiss.model_training.heads.building import build_code
from gneiss.model_training.heads.head import Head
from gneiss.model_training.heads.scoring import HeadStep, score_heads
from gneiss.output.finished_run import FinishedShard, open_run
from gneiss.output.layers import WrittenLayer
from tests.model_training.heads.made_heads import encoder_space, linear_head, network_heads, texts_of
from tests.runs import InThisProcess

AT_ONCE = Waiting(times=0.0, least_seconds=0.0)
Copy = Callable[[Path], Path]


def linear() -> tuple[dict[str, Head], Head]:
    heads = {"first": linear_head(0), "second": linear_head(1), "third": linear_head(2)}
    return heads, build_code(list(heads.values()))


def networks() -> tuple[dict[str, Head], Head]:
    one, other = network_heads()
    return {"first": one, "second": other}, build_code([one, other], [texts_of(0)[0], texts_of(1)[0]])


def over_an_encoder() -> tuple[dict[str, Head], Head]:
    """Linear ones."""
    heads = {name: linear_head(seed, encoder_space()) for seed, name in enumerate(("first", "second", "third"))}
    return heads, build_code(list(heads.values()))


def networks_over_an_encoder() -> tuple[dict[str, Head], Head]:
    one, other = network_heads(encoder_space())
    return {"first": one, "second": other}, build_code([one, other], [texts_of(0)[0], texts_of(1)[0]])


KINDS = {
    "linear": linear,
    "networks": networks,
    "linear, over an encoder": over_an_encoder,
    "networks, over an encoder": networks_over_an_encoder,
}


def layer_bytes(output: Path) -> dict[str, bytes]:
    """The files of the layer, and what says that it is whole."""
    files = [*(output / "annotations/heads").rglob("*.parquet"), output / "_gneiss/layers/heads.json"]
    assert len(files) == 6
    return {str(file.relative_to(output)): file.read_bytes() for file in files}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def expected(kind: str, curated: Path, copy_of: Copy) -> dict[str, bytes]:
    """Without a coded head, and without a loss."""
    output = copy_of(curated)
    score_heads(output, KINDS[kind]()[0], backend=InThisProcess())
    return layer_bytes(output)


def test_scores_are_those_of_the_heads_for_kept_documents(kind: str, curated: Path, copy_of: Copy) -> None:
    heads, _ = KINDS[kind]()
    output = copy_of(curated)
    written = score_heads(output, heads, backend=InThisProcess())
    assert not written.was_there
    run = open_run(output)
    table = run.annotations(["heads"])
    kept = table.filter(pc.equal(table["status"], "kept"))
    assert table.filter(pc.not_equal(table["status"], "kept"))["first"].null_count == table.num_rows - kept.num_rows
    texts = [
        text for shard in run.shards for part in run.data_tables(shard, ["text"]) for text in part["text"].to_pylist()
    ]
    for name, head in heads.items():
        scores = on_grid(head.answers(TextBatch.of(texts)).score)
        assert kept[name].to_pylist() == pa.array(scores, from_pandas=True).to_pylist()  # null without features
    assert not [path for path in (output / "_gneiss/heads").rglob("*") if path.is_file()]
    assert score_heads(output, heads, backend=InThisProcess()).was_there


def test_a_coded_head_changes_no_byte(kind: str, curated: Path, copy_of: Copy, expected: dict[str, bytes]) -> None:
    heads, coded = KINDS[kind]()
    output = copy_of(curated)
    score_heads(output, heads, coded=coded, backend=InThisProcess())
    assert layer_bytes(output) == expected


@dataclass(frozen=True)
class Losing(InThisProcess):
    """Loses the machine of a head, at its third shard, for good."""

    name: str = "second"
    after: int = 2

    def run(self, step: Any, tasks: Sequence[Any], workers: int, resources: Any) -> Iterator[Any]:  # type: ignore[override]
        for task in tasks:
            done = step.run.folder / "_gneiss" / "heads" / step.layer / step.name
            if step.name == self.name and len(list(done.files())) >= self.after:
                raise MachineError("no worker has had a place for 3600 s")
            yield step.work(task)


def test_of_linear_heads_one_may_be_lost_for_good(
    curated: Path, copy_of: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    heads, coded = linear()
    whole, output = copy_of(curated), copy_of(curated)
    score_heads(whole, heads, backend=InThisProcess())
    score_heads(output, heads, coded=coded, backend=Losing())
    assert layer_bytes(output) == layer_bytes(whole)
    decoded = [record.message for record in caplog.records if "has not answered" in record.message]
    assert len(decoded) == 3
    assert all("the head second has not answered" in message and "wait for it" not in message for message in decoded)


def test_without_a_coded_head_a_loss_ends_the_run_and_the_same_call_goes_on(
    kind: str, curated: Path, copy_of: Copy, expected: dict[str, bytes]
) -> None:
    heads, _ = KINDS[kind]()
    output = copy_of(curated)
    with pytest.raises(MachineError, match=r"no worker has had a place for 3600 s\. 3 of 5 shards wait for this head"):
        score_heads(output, heads, backend=Losing())
    assert not (output / "annotations/heads").exists()
    score_heads(output, heads, backend=InThisProcess())
    assert layer_bytes(output) == expected


def test_networks_are_estimated_meanwhile_and_filled_in_when_the_head_is_back(curated: Path, copy_of: Copy) -> None:
    heads, coded = networks()
    whole, output = copy_of(curated), copy_of(curated)
    score_heads(whole, heads, backend=InThisProcess())
    with pytest.raises(
        MachineError, match="3 of 5 shards wait for this head; what is known is in the layer 'meanwhile'"
    ):
        score_heads(output, heads, coded=coded, provisional="meanwhile", backend=Losing())
    assert not (output / "annotations/heads").exists()  # a run with pending rows is not finished

    known = open_run(output).annotations(["meanwhile"], kept=True)
    truth = open_run(whole).annotations(["heads"], kept=True)
    sources = known["second_source"].to_pylist()
    assert set(known["first_source"].to_pylist()) == {"exact"}
    assert set(sources) == {"exact", "coded", "pending"}
    assert known["first"].to_pylist() == truth["first"].to_pylist()
    for source, score, wanted in zip(sources, known["second"].to_pylist(), truth["second"].to_pylist(), strict=True):
        assert (score is None) == (source == "pending")
        if source == "exact":
            assert score == wanted
        elif source == "coded":
            assert 0 <= score <= 1
    coded_rows = sum(source != "exact" for source in sources)
    assert 0.2 * coded_rows <= sources.count("pending") <= 0.2 * coded_rows + 3  # a band for each shard, rounded up

    with pytest.raises(OutputError, match="'meanwhile' is there already"):
        score_heads(output, heads, coded=coded, provisional="meanwhile", backend=Losing())
    score_heads(output, heads, coded=coded, backend=InThisProcess())
    assert layer_bytes(output) == layer_bytes(whole)


def test_where_two_heads_are_lost_nothing_is_decoded(curated: Path, copy_of: Copy) -> None:
    heads, coded = linear()
    output = copy_of(curated)

    @dataclass(frozen=True)
    class Both(Losing):
        def run(self, step: Any, tasks: Sequence[Any], workers: int, resources: Any) -> Iterator[Any]:  # type: ignore[override]
            if step.name in {"first", "second"}:
                raise MachineError("lost")
            yield from (step.work(task) for task in tasks)

    with pytest.raises(MachineError, match=r"lost\. 5 of 5 shards"):
        score_heads(output, heads, coded=coded, provisional="meanwhile", backend=Both())
    known = open_run(output).annotations(["meanwhile"], kept=True)
    assert set(known["second_source"].to_pylist()) == {"pending"}
    assert set(known["third_source"].to_pylist()) == {"exact"}


def test_damaged_answers_are_made_again(kind: str, curated: Path, copy_of: Copy, expected: dict[str, bytes]) -> None:
    heads, _ = KINDS[kind]()
    output = copy_of(curated)
    with pytest.raises(MachineError):
        score_heads(output, heads, backend=Losing())
    answers = sorted((output / "_gneiss/heads/heads/first").rglob("*.parquet"))
    answers[0].write_bytes(answers[0].read_bytes()[:-10])
    answers[1].write_bytes(b"")
    score_heads(output, heads, backend=InThisProcess())
    assert layer_bytes(output) == expected


def test_another_coded_head_or_names_are_refused(curated: Path) -> None:
    heads, coded = linear()
    others = {**heads, "second": linear_head(9)}
    for given, with_coded, kind, match in [
        (others, coded, ModelError, "stands in for other heads"),
        (heads, heads["first"], ModelError, "found an ordinary head"),
        ({"first": coded}, None, ModelError, "one of them is a coded head"),
        ({"Upper": heads["first"]}, None, InputError, "lower-case name"),
        ({"coded": heads["first"]}, None, InputError, "lower-case name"),
    ]:  # fmt: skip
        with pytest.raises(kind, match=match):
            score_heads(curated, given, coded=with_coded, backend=InThisProcess())


def test_a_defect_of_a_head_keeps_its_traceback(curated: Path, copy_of: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(HeadStep, "tables", broken)
    with pytest.raises(DefectError, match="ZeroDivisionError: of ours") as raised:
        score_heads(copy_of(curated), linear()[0], backend=InThisProcess())
    assert "in broken" in raised.value.traceback


@dataclass(frozen=True)
class DyingStep(HeadStep):
    """The worker of the head `second` is killed in the middle of its second shard, and the next one is slow to open."""

    folder: str = ""

    def open(self) -> Any:
        if self.name == "second" and (Path(self.folder) / "died").exists():
            time.sleep(4)
        return super().open()

    def tables(self, shard: FinishedShard) -> Iterator[pa.Table]:
        for at, table in enumerate(super().tables(shard)):
            yield table.slice(0, 1)
            died = Path(self.folder) / "died"
            if self.name == "second" and shard.first_document and not at and not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield table.slice(1)


def killed(kind: str, output: Path, folder: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> WrittenLayer:
    """Score with a coded head, one head killed in mid-shard."""
    heads, coded = KINDS[kind]()
    monkeypatch.setattr(
        "gneiss.model_training.heads.scoring.HeadStep", lambda *given: DyingStep(*given, folder=str(folder))
    )
    written = score_heads(output, heads, coded=coded, backend=backend, shared_filesystem=False, waiting=AT_ONCE)
    assert (folder / "died").exists()
    assert not [thread.name for thread in enumerate_threads() if thread.name.startswith("head ")]
    return written


@pytest.mark.processes
def test_a_worker_killed_in_mid_shard_changes_no_byte(
    kind: str,
    curated: Path,
    copy_of: Copy,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = copy_of(curated)
    killed(kind, output, tmp_path, LocalProcesses(), monkeypatch)
    assert layer_bytes(output) == expected
    assert "the head second has not answered" in caplog.text


@pytest.mark.processes
@pytest.mark.exhaustive
def test_an_actor_killed_in_mid_shard_changes_no_byte(
    kind: str,
    curated: Path,
    copy_of: Copy,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from gneiss.backends.ray_actors import RayActors
    from tests.backends.ray_cluster import running_head

    output = copy_of(curated)
    with running_head():
        patience = Patience(look_seconds=120)  # each look is a process more
        killed(kind, output, tmp_path, RayActors(shared_filesystem=True, patience=patience), monkeypatch)
    assert layer_bytes(output) == expected
    assert "the head second has not answered" in caplog.text


def test_every_score_is_on_the_grid(curated: Path, copy_of: Copy) -> None:
    output = copy_of(curated)
    score_heads(output, linear()[0], backend=InThisProcess())
    found = open_run(output).annotations(["heads"], kept=True)["first"].to_numpy()
    assert (found * 65_536 == np.rint(found * 65_536)).all()
