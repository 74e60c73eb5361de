"""The loss log and the layer made of it, against an oracle that goes token by token in plain Python."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.errors import InputError, OutputError
from gneiss.layers import losses as loss_layer
from gneiss.layers.loss_log import LossLog, bucket_of
from gneiss.layers.losses import COLUMNS, consolidate
from gneiss.loader.packing import Sequence, encoder, sequences
from gneiss.loader.reader import documents
from gneiss.output.finished_run import open_run
from gneiss.output.parquet import read_table
from gneiss.store.place import place_of

Copy = Callable[[Path], Path]
LENGTH, SAMPLES, WINDOW = 64, 3, 10


@pytest.fixture(scope="module")
def epochs(released: Path) -> list[list[Sequence]]:
    """The sequences of 2 ranks, which go over all documents three times."""
    encode = encoder("builtin:cl100k_base")
    return [
        list(sequences(documents(released, epochs=3, rank=rank, world_size=2), encode, LENGTH)) for rank in range(2)
    ]


def loss_of(step: int, sequence: Sequence) -> np.ndarray:
    """Losses that fall with the step and the position, differ by document, and are NaN now and then."""
    losses = np.empty(len(sequence.tokens) - 1)
    for document, start, length in zip(
        sequence.spans.document, sequence.spans.start, sequence.spans.length, strict=True
    ):
        for position in range(length):
            if start + position > 0:
                hardness = (document * 7919 % 13) / 13
                losses[start + position - 1] = 4 / (1 + step / 50) + 1 / (1 + position) + hardness
    if sequence.id % 11 == 0 and len(losses):
        losses[-1] = math.nan
    return losses


def log_training(folder: Path, epochs: list[list[Sequence]], segment_rows: int = 200_000, until: int = 10**9) -> None:
    for rank, epoch in enumerate(epochs):
        with LossLog(folder, rank=rank, segment_rows=segment_rows) as log:
            for step, first in enumerate(range(0, len(epoch), SAMPLES)):
                if step < until:
                    log_step(log, step, epoch[first : first + SAMPLES])


def log_step(log: LossLog, step: int, batch: list[Sequence]) -> None:
    losses, mask = np.full((len(batch), LENGTH), 99.0), np.zeros((len(batch), LENGTH), bool)
    for i, sequence in enumerate(batch):
        own = loss_of(step, sequence)
        losses[i, : len(own)], mask[i, : len(own)] = own, True
    log.add(step, batch, losses, mask=mask, weights=np.full(len(batch), 0.5))


def slow_layer(epochs: list[list[Sequence]], decay: float) -> dict[int, dict[str, Any]]:
    """Document → its row of the layer, token by token."""
    tokens = []  # (document, epoch, step, position, loss)
    for of_epoch in epochs:
        for step, first in enumerate(range(0, len(of_epoch), SAMPLES)):
            for sequence in of_epoch[first : first + SAMPLES]:
                losses = loss_of(step, sequence)
                spans = sequence.spans
                for span in range(len(spans.document)):
                    for position in range(spans.length[span]):
                        at = spans.start[span] + position - 1
                        if at >= 0 and math.isfinite(losses[at]):
                            visit = (int(spans.document[span]), int(spans.epoch[span]))
                            tokens.append((*visit, step, position, losses[at]))
    at_position = defaultdict(list)
    for _, _, step, position, loss in tokens:
        at_position[step // WINDOW, position.bit_length()].append(loss)
    mean = {key: math.fsum(values) / len(values) for key, values in at_position.items()}
    visits: dict[int, dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for document, epoch, step, position, loss in tokens:
        visits[document][epoch].append((loss, loss - mean[step // WINDOW, position.bit_length()]))
    found = {}
    for document, by_epoch in visits.items():
        row: dict[str, Any] = {"loss_visits": len(by_epoch), "loss_tokens": sum(map(len, by_epoch.values()))}
        for column, name in enumerate(("loss", "excess")):
            means = [
                math.fsum(token[column] for token in by_epoch[epoch]) / len(by_epoch[epoch])
                for epoch in sorted(by_epoch)
            ]
            average = means[0]
            for value in means[1:]:
                average = decay * average + (1 - decay) * value
            row |= {f"{name}_first": means[0], f"{name}_last": means[-1], f"{name}_ema": average}
        found[document] = row
    return found


def check_layer(output: Path, expected: dict[int, dict[str, Any]], layer: str = "losses") -> None:
    table = open_run(output).annotations(["weights", layer], ["document", *COLUMNS.names])
    for row in table.to_pylist():
        expected_row = expected.get(row["document"])
        for name in COLUMNS.names:
            if row["status"] != "kept":
                assert row[name] is None
            elif expected_row is None:
                assert row[name] == (0 if name in {"loss_visits", "loss_tokens"} else None)
            else:
                assert row[name] == pytest.approx(expected_row[name], abs=1e-9), (name, row["document"])


@pytest.mark.slow
def test_the_layer_is_what_the_oracle_says(
    released: Path, copy_of: Copy, epochs: list[list[Sequence]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_training(tmp_path / "log", epochs)
    output = copy_of(released)
    written = consolidate(output, [tmp_path / "log"], decay=0.7, window_steps=WINDOW)
    expected = slow_layer(epochs, 0.7)
    assert max(row["loss_visits"] for row in expected.values()) == 3
    check_layer(output, expected)
    assert written.metadata["summary"]["documents_seen"] == len(expected)
    assert written.metadata["summary"]["skipped_tokens"] > 0
    assert consolidate(output, [tmp_path / "log"], decay=0.7, window_steps=WINDOW).was_there
    with pytest.raises(OutputError, match="another decay"):
        consolidate(output, [tmp_path / "log"], decay=0.8, window_steps=WINDOW)

    log_training(tmp_path / "often", epochs, segment_rows=50)  # neither segments nor passes show
    for limit, value in (("DOCUMENTS_PER_PASS", 17), ("VISITS_PER_PASS", 3 * 23)):
        with monkeypatch.context() as patched:
            patched.setattr(loss_layer, limit, value)
            consolidate(output, [tmp_path / "often"], decay=0.7, window_steps=WINDOW, layer=limit.lower())
        check_layer(output, expected, limit.lower())


@pytest.mark.slow
def test_a_pass_reads_every_segment_once_whatever_the_epochs(
    released: Path, copy_of: Copy, epochs: list[list[Sequence]], tmp_path: Path
) -> None:
    log_training(tmp_path / "log", epochs, segment_rows=200)
    segments = sorted((tmp_path / "log").rglob("*.parquet"))
    with (
        mock.patch.object(loss_layer, "DOCUMENTS_PER_PASS", 70),
        mock.patch.object(loss_layer, "read_table", wraps=read_table) as read,
    ):
        consolidate(copy_of(released), [tmp_path / "log"], window_steps=WINDOW)
    opened = Counter(Path(call.args[0]) for call in read.call_args_list)
    of_documents = 2  # passes of at most 70 over 132 documents
    assert len(segments) > 3
    assert opened == dict.fromkeys(segments, 1 + 1 + of_documents)  # first steps, the survey, and these


def test_position_and_time_are_corrected_for(
    released: Path, copy_of: Copy, epochs: list[list[Sequence]], tmp_path: Path
) -> None:
    """The excess ranks documents by what is in them, where the loss ranks them by length and by when they came."""
    log_training(tmp_path / "log", epochs)
    output = copy_of(released)
    consolidate(output, [tmp_path / "log"], window_steps=5)
    table = (
        open_run(output)
        .annotations(["weights", "losses"], ["document", "loss_first", "excess_first"], kept=True)
        .drop_null()
    )
    hardness = table["document"].to_numpy() * 7919 % 13 / 13

    def correlation(name: str) -> float:
        return float(np.corrcoef(hardness, table[name].to_numpy())[0, 1])

    assert correlation("excess_first") > 0.9 > 0.6 > correlation("loss_first")


@pytest.mark.slow
def test_steps_that_are_logged_again_after_a_resume_count_once(
    released: Path, copy_of: Copy, epochs: list[list[Sequence]], tmp_path: Path
) -> None:
    output = copy_of(released)
    expected = slow_layer(epochs, 0.9)
    for rank, epoch in enumerate(epochs):  # both ranks die after step 40, their last checkpoint was at step 25
        for start, end in ((0, 40), (25, 10**9)):
            with LossLog(tmp_path / "log", rank=rank, segment_rows=30) as log:
                for step, first in enumerate(range(0, len(epoch), SAMPLES)):
                    if start <= step < end:
                        log_step(log, step, epoch[first : first + SAMPLES])
    consolidate(output, [tmp_path / "log"], window_steps=WINDOW)
    check_layer(output, expected)

    log_training(tmp_path / "first", epochs, until=30)  # the same into a folder of its own
    for rank, epoch in enumerate(epochs):
        with LossLog(tmp_path / "second", rank=rank) as log:
            for step, first in enumerate(range(0, len(epoch), SAMPLES)):
                if step >= 20:
                    log_step(log, step, epoch[first : first + SAMPLES])
    consolidate(output, [tmp_path / "first", tmp_path / "second"], window_steps=WINDOW, layer="two")
    check_layer(output, expected, "two")


@pytest.mark.parametrize("segment_rows", [1, 40, 10**6])
@pytest.mark.slow
def test_training_that_goes_back_within_a_process_counts_its_last_words(
    segment_rows: int, released: Path, copy_of: Copy, epochs: list[list[Sequence]], tmp_path: Path
) -> None:
    """Back from 40 to 25, at once from 30 to 30, and to the start; a step is logged in micro-batches of one."""
    output = copy_of(released)
    for rank, epoch in enumerate(epochs):
        steps = dict(enumerate(range(0, len(epoch), SAMPLES)))
        with LossLog(tmp_path / "log", rank=rank, segment_rows=segment_rows) as log:
            for step in (*range(12), *range(40), *range(25, 31), *range(29, len(steps))):
                for i in range(steps[step], min(steps[step] + SAMPLES, len(epoch))):
                    log_step(log, step, epoch[i : i + 1])
    consolidate(output, [tmp_path / "log"], window_steps=WINDOW)
    check_layer(output, slow_layer(epochs, 0.9))


def test_a_step_is_never_cut_into_two_segments(epochs: list[list[Sequence]], tmp_path: Path) -> None:
    with LossLog(tmp_path / "log", segment_rows=1) as log:
        for step in (0, 0, 0, 1, 2, 2):
            log_step(log, step, epochs[0][:1])
    segments = [read_table(place_of(path), ["step"]) for path in sorted((tmp_path / "log/rank-00000").iterdir())]
    assert [set(segment["step"].to_pylist()) for segment in segments] == [{0}, {1}, {2}]


def test_damaged_and_foreign_logs_are_refused(released: Path, copy_of: Copy, tmp_path: Path) -> None:
    output = copy_of(released)
    with pytest.raises(InputError, match="no loss log here"):
        consolidate(output, [tmp_path / "nothing"])
    sequence = next(iter(sequences(documents(released), "builtin:cl100k_base", LENGTH)))
    sequence.spans.document[:] = 10**6
    with LossLog(tmp_path / "foreign") as log:
        log.add(0, [sequence], np.ones((1, LENGTH)))
    with pytest.raises(InputError, match="document 1000000 of 132: the log is of training on another run"):
        consolidate(output, [tmp_path / "foreign"])
    (tmp_path / "torn/rank-00000").mkdir(parents=True)
    (tmp_path / "torn/rank-00000/000001.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(InputError, match=r"000001\.parquet: cannot read"):
        consolidate(output, [tmp_path / "torn"])
    with LossLog(tmp_path / "log") as log, pytest.raises(InputError, match="expected \\(1, tokens\\)"):
        log.add(0, [sequence], np.ones((2, LENGTH)))
    with LossLog(tmp_path / "log") as log, pytest.raises(InputError, match="63 or more columns"):
        log.add(0, [sequence], np.ones((1, LENGTH - 2)))
    assert not (output / "annotations/losses").exists()


def test_sequences_are_logged_with_their_weights(epochs: list[list[Sequence]], tmp_path: Path) -> None:
    log_training(tmp_path, epochs, until=5)
    rows = [
        row for row in pq.read_table(tmp_path / "rank-00001/000001.parquet").to_pylist() if row["kind"] == "sequence"
    ]
    batch = epochs[1][: 5 * SAMPLES]
    assert [(row["step"], row["id"]) for row in rows] == [(i // SAMPLES, s.id) for i, s in enumerate(batch)]
    for row, sequence in zip(rows, batch, strict=True):
        finite = [loss for loss in loss_of(row["step"], sequence) if math.isfinite(loss)]
        assert row["tokens"] == len(finite)
        assert row["loss_sum"] == pytest.approx(math.fsum(finite))
        assert row["weight"] == 0.5


def test_tensors_are_taken_as_they_are(epochs: list[list[Sequence]], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    losses = torch.rand(2, LENGTH - 1, requires_grad=True)
    for name, given_losses, weights in (
        ("tensors", losses.to(torch.bfloat16), torch.tensor([1.0, 2.0], dtype=torch.bfloat16)),
        ("arrays", losses.detach().to(torch.bfloat16).float().numpy(), np.array([1.0, 2.0])),
    ):
        with LossLog(tmp_path / name) as log:
            log.add(0, epochs[0][:2], given_losses, weights=weights)
    files = [(tmp_path / name / "rank-00000/000001.parquet").read_bytes() for name in ("tensors", "arrays")]
    assert files[0] == files[1]


@settings(max_examples=300)
@given(st.integers(0, 2**45))
def test_buckets_are_powers_of_two(position: int) -> None:
    assert bucket_of(position) == min(position.bit_length(), 39)


def test_the_metadata_say_how(released: Path, copy_of: Copy, epochs: list[list[Sequence]], tmp_path: Path) -> None:
    log_training(tmp_path / "log", epochs, until=20)
    output = copy_of(released)
    consolidate(output, [tmp_path / "log"])
    metadata = json.loads((output / "_gneiss/layers/losses.json").read_text())
    assert metadata["parameters"]["decay"] == 0.9
    assert metadata["summary"]["steps"] == 20
    assert "mean at its positions" in metadata["columns"]["excess_first"]["meaning"]
    positions = metadata["summary"]["mean_loss_by_position"]
    assert [position["from"] for position in positions] == [0, 1, 2, 4, 8, 16, 32]
    assert sum(position["tokens"] for position in positions) == metadata["summary"]["tokens"]
