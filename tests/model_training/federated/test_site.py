"""Sites: what they answer depends on the task and their documents alone, and says no more of these than it should."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.model_training.federated.asking import task_message, training_message
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.linear import Sampling, draw_of
from gneiss.model_training.federated.message import Message, packed
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.site import SENT_FOLDER, DocumentSite
from gneiss.model_training.federated.site_documents import FEATURES_FILE, SECRET_FILE, site_examples
from gneiss.model_training.federated.strategies.by_name import ROUNDS
from gneiss.model_training.federated.strategies.steps import norm, shortened
from gneiss.model_training.federated.strategies.strategy import Task
from tests.model_training.federated.silos_of_text import SPACE, documents, federation, site_files

X = np.random.default_rng(1).normal(size=(SPACE.size, 1)).astype(np.float32)


def training(strategy: str = "fadam_gt", round_: int = 0, **others: Any) -> Message:
    found = federation(strategy)
    rule = ROUNDS[strategy](found.rates)
    task = training_message(found, rule, Task(X, X / 7 if strategy == "fadam_gt" else None), round_)
    return Message({**task.meta, **others}, task.arrays)


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold", "local_adam", "fadam_et", "fadam_gt"])
def test_an_answer_is_what_the_strategy_makes_of_the_documents(tmp_path: Path, strategy: str) -> None:
    files = site_files(tmp_path, "ann", min_documents=2)
    found, rule = federation(strategy), ROUNDS[strategy](federation(strategy).rates)
    task = Task(X, X / 7 if strategy in {"scaffold", "fadam_et", "fadam_gt"} else None)
    answer = DocumentSite(files).work(training_message(found, rule, task, 4))
    gradient = Sampling(16, 1e-4, 2).gradient(site_examples(files).trained, draw_of(0, 4, "ann"))
    expected = rule.answer(task, gradient)
    assert np.array_equal(answer.arrays["difference"], expected.difference)
    assert (expected.tracked is None) is ("tracked" not in answer.arrays)
    if expected.tracked is not None:
        assert np.array_equal(answer.arrays["tracked"], expected.tracked)
    assert answer.meta["held_out"]["documents"] == 8


def test_the_same_task_has_the_same_answer_whatever_came_before(tmp_path: Path) -> None:
    first = packed(DocumentSite(site_files(tmp_path, "ann")).work(training()))
    site = DocumentSite(site_files(tmp_path, "ann"))
    others = [packed(site.work(training(round_=1))), packed(site.work(training("fedavg")))]
    assert packed(site.work(training())) == first
    assert first not in others


def test_features_of_few_documents_do_not_move_nor_are_tracked(tmp_path: Path) -> None:
    table, rare = documents("ann"), "w38 w39 w38 w39"
    secret = pa.table({"text": [f"{rare} w1 w2"] + [f"w{n} w3" for n in range(9)], "label": ["hq"] * 10})
    (tmp_path / "ann").mkdir()
    pq.write_table(pa.concat_tables([table, secret]), tmp_path / "ann" / "labels.parquet")
    files = site_files(tmp_path, "ann", min_documents=5)
    rows = site_examples(files).trained.rows
    counts = np.bincount(rows.columns, minlength=SPACE.size)
    answer = DocumentSite(files).work(training("fedavg"))
    moved = answer.arrays["difference"][:, 0] != 0
    assert moved.any()
    assert not moved[counts < 5].any()
    tracked = DocumentSite(files).work(training("fadam_gt")).arrays["tracked"][:, 0]
    assert not tracked[counts < 5].any()


def test_features_are_kept_and_made_again_when_documents_or_words_change(tmp_path: Path) -> None:
    files = site_files(tmp_path, "ann")
    made = site_examples(files)
    kept = (tmp_path / "ann" / FEATURES_FILE).read_bytes()
    again = site_examples(files)
    assert np.array_equal(again.trained.rows.columns, made.trained.rows.columns)
    assert (tmp_path / "ann" / FEATURES_FILE).read_bytes() == kept
    fewer = site_examples(replace(files, space=FeatureSpace.of(["w1"], 1, 0)))
    assert fewer.trained.rows.columns.max() == 1
    pq.write_table(documents("ann", 60), tmp_path / "ann" / "labels.parquet")
    assert len(site_examples(files).trained) == 48


@pytest.mark.parametrize("damage", ["cut", "column", "other"])
def test_a_damaged_file_of_features_is_made_anew(tmp_path: Path, damage: str) -> None:
    files, path = site_files(tmp_path, "ann"), tmp_path / "ann" / FEATURES_FILE
    made = site_examples(files)
    sound = path.read_bytes()
    hostile = sound.replace(made.trained.rows.columns[:9].tobytes(), b"\x7f" * 36, 1)
    assert hostile != sound
    path.write_bytes({"cut": sound[:-5], "column": hostile, "other": b"not safetensors"}[damage])
    assert np.array_equal(site_examples(files).trained.rows.columns, made.trained.rows.columns)
    assert path.read_bytes() == sound


def test_vectors_are_protected_before_they_leave(tmp_path: Path) -> None:
    bare = DocumentSite(site_files(tmp_path, "ann", min_documents=2)).work(training())
    assert "protection" not in bare.meta
    clipped = DocumentSite(site_files(tmp_path, "ann", min_documents=2, protection=Protection(0.01))).work(training())
    assert clipped.meta["protection"] == {"clip_norm": 0.01, "noise_std": 0.0}
    for name, vector in clipped.arrays.items():
        assert norm(vector) == pytest.approx(0.01, rel=1e-5)
        assert vector == pytest.approx(shortened(bare.arrays[name], 0.01), abs=1e-9)
    assert not (tmp_path / "ann" / SECRET_FILE).exists()


def test_noise_is_of_a_secret_that_the_site_keeps(tmp_path: Path) -> None:
    files = site_files(tmp_path, "ann", min_documents=2, protection=Protection(1.0, 0.1))
    first = DocumentSite(files).work(training())
    secret = (tmp_path / "ann" / SECRET_FILE).read_bytes()
    assert len(secret) == 32
    assert packed(DocumentSite(files).work(training())) == packed(first)
    assert (first.arrays["difference"] != 0).all()  # of features that the site has not, too
    assert secret.hex() not in str(first.meta)
    again = DocumentSite(files).work(training(round_=1))
    assert abs(again.arrays["difference"] - first.arrays["difference"]).max() > 0.05
    (tmp_path / "ann" / SECRET_FILE).unlink()
    assert packed(DocumentSite(files).work(training())) != packed(first)
    (tmp_path / "ann" / SECRET_FILE).write_bytes(b"short")
    with pytest.raises(InputError, match="expected 32 bytes, found 5; restore it"):
        DocumentSite(files).work(training())


def test_what_a_site_sends_is_noted(tmp_path: Path) -> None:
    site = DocumentSite(site_files(tmp_path, "ann", min_documents=2))
    answers = [site.work(training()), site.work(task_message(federation(), "count", 1))]
    assert packed(site.work(training())) == packed(answers[0])
    files = sorted((tmp_path / "ann" / SENT_FOLDER).iterdir())
    noted = [json.loads(path.read_text()) for path in files]
    assert [path.name.rpartition("-")[0] for path in files] == ["000000-train", "000001-count"]
    assert [line["sha256"] for line in noted] == [hashlib.sha256(packed(answer)).hexdigest() for answer in answers]
    assert noted[0]["features_moved"] == np.count_nonzero(answers[0].arrays["difference"])
    assert answers[1].meta["labels"] == noted[1]["meta"]["labels"]


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"kind": "send everything"}, "no task is called 'send everything'"),
        ({"features": "0" * 64}, "give coordinator and site one vocabulary"),
        ({"steps": 10**9}, "steps: expected a whole number from 1 to 10000, found 1000000000"),
        ({"batch": 0}, "batch"),
        ({"rate": "fast"}, "rate"),
        ({"seed": -1}, "seed"),
        ({"round": None}, "round"),
        ({"optimizer": "os.system"}, "expected the optimizer amsgrad or none"),
        ({"corrected": None}, "expected the arrays x, found correction, x"),
    ],
)
def test_tasks_out_of_bounds_are_refused(tmp_path: Path, meta: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        DocumentSite(site_files(tmp_path, "ann")).work(training(**meta))


def test_a_site_needs_a_document(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    pq.write_table(documents("ann").slice(0, 0), tmp_path / "ann" / "labels.parquet")
    with pytest.raises(InputError, match="no labelled text"):
        site_examples(site_files(tmp_path, "ann"))
    assert not (tmp_path / "ann" / FEATURES_FILE).exists()
