"""From a run to a queue of documents to have labelled, in files: what is chosen, what it covers, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gneiss
from gneiss.batch import TextBatch
from gneiss.errors import InputError, ModelError, OutputError
from gneiss.filters.fasttext import fasttext_scores
from gneiss.model_training import Settings, train_quality
from gneiss.model_training.document_features import (
    PROJECTIONS,
    document_batches,
    document_features,
    numeric_annotations,
    standardise,
    word_projections,
)
from gneiss.model_training.labelling.choice import choose_labels, drawn
from gneiss.model_training.labelling.next_round import next_labels
from gneiss.model_training.labelling.queue import COLUMNS, Coverage, Quantiles, Request
from gneiss.output.finished_run import open_run
from gneiss.output.sources import sources
from gneiss.store import place as places
from tests.runs import InThisProcess, annotations, command, files, train
from tests.store.memory import MemoryStore
from tests.support import write_documents

pytestmark = pytest.mark.slow
RECIPE = """
name: scored
input: {text: text, id: id}
phases:
  - name: only
    annotate: [{input_column: {name: score, type: float64}}]
    rules: {scored: "score >= 0 OR score IS NULL"}
    keep: scored
"""
WORDS = [[f"{topic}{chr(97 + k)}" for k in range(26)] for topic in ("river", "engine", "poem", "tax")]
DOCUMENTS = 600
SMALL = Settings(dimensions=4, buckets=1000, min_count=1)


def texts_of(count: int, seed: int) -> list[str]:
    """Documents of four topics, in bursts; every third is that before it with another last word."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    while len(texts) < count:
        words = WORDS[rng.choice(4, p=[0.6, 0.25, 0.1, 0.05])]
        for _ in range(rng.geometric(0.1)):
            again = texts and len(texts) % 3 == 2
            text = texts[-1].rpartition(" ")[0] if again else " ".join(rng.choice(words, 20))
            texts.append(f"{text} {chr(97 + len(texts) % 23)}{len(texts)}")
    return texts[:count]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input of three shards and its run; some documents are dropped, some have no score."""
    folder = tmp_path_factory.mktemp("labels")
    rng, texts = np.random.default_rng(0), texts_of(DOCUMENTS, 0)
    for part in range(3):
        own = texts[part::3]
        scores = [None if x < -2 else float(abs(x) if x > -1.5 else x) for x in rng.normal(size=len(own))]
        write_documents(
            folder / f"input/{part}.parquet",
            own,
            score=pa.array(scores, pa.float64()),
            id=[f"{part}-{i}" for i in range(len(own))],
        )
    (folder / "scored.yaml").write_text(RECIPE)
    gneiss.run(folder / "scored.yaml", folder / "input", folder / "run", backend=InThisProcess())
    return folder


def chosen(scored: Path, output: Path, **options: Any) -> tuple[dict[str, Any], pa.Table]:
    """What a choice writes: coverage.json and the queue."""
    choose_labels(scored / "run", output, **{"budget": 60, **options})
    return json.loads((output / "coverage.json").read_text()), pq.read_table(output / "label_queue.parquet")


def features_of(scored: Path, seed: int = 0) -> tuple[list[tuple[str, int]], np.ndarray[Any, Any]]:
    """Documents and their features, all at once."""
    run = open_run(scored / "run")
    names = numeric_annotations(run)
    found = list(document_batches(sources(run), names))
    documents = [(shard, row) for shard, rows, _ in found for row in rows.tolist()]
    values = np.concatenate([document_features(batch, names, seed) for _, _, batch in found])
    standardise(values)
    return documents, values


@settings(max_examples=8)
@given(
    budget=st.integers(20, 300),
    coreset_share=st.sampled_from([0.1, 0.5, 0.8]),
    audit_share=st.sampled_from([0.0, 0.05, 0.2]),
    seed=st.integers(0, 100),
)
def test_what_is_chosen_stands_for_all_documents(
    scored: Path, budget: int, coreset_share: float, audit_share: float, seed: int
) -> None:
    """C2 in the files: Σu = documents, u ≤ ū, and each document is as near to one that is chosen as is written."""
    shares = {"coreset_share": coreset_share, "audit_share": audit_share}
    with TemporaryDirectory() as folder:
        coverage, table = chosen(scored, Path(folder), budget=budget, seed=seed, **shares)
    documents, values = features_of(scored, seed)
    assert coverage["documents"] == len(documents) == open_run(scored / "run").documents
    assert table.schema.remove_metadata().equals(COLUMNS)
    weights, is_audit = np.array(table["weight"]), np.array(table["why"]) == "audit"
    assert weights.sum() == len(documents)
    assert 1 <= weights.min() <= weights.max() <= coverage["capacity"]
    assert (weights[is_audit] == 1).all()
    assert is_audit.sum() == coverage["audit"] == round(audit_share * budget)
    assert (~is_audit).sum() == coverage["collected"] <= coreset_share * budget
    assert coverage["left_for_margin"] == budget - len(is_audit)
    at = [documents.index(key) for key in zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True)]
    assert at == sorted(at)
    audit, coreset = np.array(at)[is_audit], np.array(at)[~is_audit]
    rest = np.setdiff1d(np.arange(len(documents)), audit)
    nearest = np.sqrt(((values[rest][:, None] - values[coreset][None]) ** 2).sum(axis=2)).min(axis=1)
    assert nearest.max() <= coverage["reach"]["p100"] + 1e-9
    assert np.array(table["radius"]).max() == pytest.approx(coverage["reach"]["p100"])
    assert (nearest <= coverage["radius"] + 1e-9).mean() >= coverage["covered_share"] - 1e-9


def test_ids_and_texts_are_those_of_the_rows(scored: Path, tmp_path: Path) -> None:
    _, table = chosen(scored, tmp_path / "queue")
    for row in table.to_pylist():
        source = pq.read_table(scored / f"input/{row['shard']}.parquet")
        assert row["text"] == source["text"][row["row"]].as_py()
        assert row["id"] == source["id"][row["row"]].as_py() == f"{row['shard']}-{row['row']}"


def test_kept_documents_only_unless_the_input_is_given(scored: Path, tmp_path: Path) -> None:
    run = annotations(scored / "run")
    coverage, table = chosen(scored, tmp_path / "kept")
    status = dict(zip(run["id"].to_pylist(), run["status"].to_pylist(), strict=True))
    assert {status[id_] for id_ in table["id"].to_pylist()} == {"kept"}
    whole, table = chosen(scored, tmp_path / "all", input=scored / "input", budget=200)
    assert coverage["documents"] == list(status.values()).count("kept") < whole["documents"] == DOCUMENTS
    assert {status[id_] for id_ in table["id"].to_pylist()} == {"kept", "dropped"}


def test_the_same_choice_has_the_same_bytes_and_is_made_once(scored: Path, tmp_path: Path) -> None:
    chosen(scored, tmp_path / "one")
    chosen(scored, tmp_path / "other")
    made = [files_of(tmp_path / name) for name in ("one", "other")]
    assert made[0] == made[1]
    assert str(tmp_path).encode() not in b"".join(made[0].values())
    with patch("gneiss.model_training.labelling.choice.document_features", side_effect=AssertionError):
        chosen(scored, tmp_path / "one")
    assert not (chosen(scored, tmp_path / "seed", seed=1)[1]).equals(chosen(scored, tmp_path / "one")[1])


@pytest.mark.parametrize("written", [0, 1])
def test_what_stops_between_two_files_is_made_whole_by_the_same_call(
    scored: Path, tmp_path: Path, written: int
) -> None:
    chosen(scored, tmp_path / "whole")
    name = ["write_parquet", "write_bytes"][written]
    with (
        patch(f"gneiss.model_training.labelling.queue.{name}", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        chosen(scored, tmp_path / "stopped")
    assert (tmp_path / "stopped/label_queue.parquet").exists() is bool(written)
    assert not (tmp_path / "stopped/coverage.json").exists()
    chosen(scored, tmp_path / "stopped")
    for name in ("label_queue.parquet", "coverage.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_another_queue_is_not_written_over(scored: Path, tmp_path: Path, copy_of: Callable[[Path], Path]) -> None:
    chosen(scored, tmp_path / "queue")
    with pytest.raises(OutputError, match=r"asked for otherwise \(budget 60 there, 80 now\); .* choose another output"):
        chosen(scored, tmp_path / "queue", budget=80)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"found 'notes.txt'; choose another output"):
        chosen(scored, tmp_path / "taken")
    changed = tmp_path / "changed"
    changed.mkdir()
    shutil.copytree(scored / "input", changed / "input")
    write_documents(changed / "input/3.parquet", texts_of(30, 5), score=[1.0] * 30)
    gneiss.run(scored / "scored.yaml", changed / "input", changed / "run", backend=InThisProcess())
    with pytest.raises(OutputError, match="of another run, or of this one before it changed"):
        chosen(changed, tmp_path / "queue")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"budget": 19}, "budget=19: expected at least 20 labels"),
        ({"budget": 5000}, r"expected fewer labels than documents, found \d+ documents; have all of them labelled"),
        ({"coreset_share": 0.99}, "coreset_share=0.99, audit_share=0.05: expected shares"),
        ({"coreset_share": 0.0}, "with a label at least for the coreset"),
        ({"coreset_share": 0.01}, "coreset_share=0.01, .* of 60 labels"),
        ({"audit_share": -0.1}, "audit_share=-0.1: expected shares"),
        ({"audit_share": float("nan")}, "audit_share=nan: expected shares"),
    ],
)
def test_what_cannot_be_chosen_is_refused(scored: Path, tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        chosen(scored, tmp_path / "queue", **options)
    assert not list((tmp_path / "queue").glob("*.*"))


def test_the_audit_is_a_uniform_draw() -> None:
    shards = ["a"] * 200 + ["b"] * 200
    rows = np.concatenate([np.arange(200), np.arange(200)])
    times = sum(drawn(seed, shards, rows, 40).astype(np.int64) for seed in range(400))
    assert times.sum() == 40 * 400
    assert abs(times / 400 - 0.1).max() < 0.06  # four standard deviations


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "all documents resemble one"),
        ({"covered_share": 0.9}, "too small for some documents"),
        ({"reach": Quantiles(9.5, 9.6, 9.7, 9.8)}, "a sample, no cover"),
    ],
)
def test_what_distances_mean(changes: dict[str, Any], told: str) -> None:
    request = Request("digest", "kept", 100, 0.5, 0.05, 0)
    reach = Quantiles(5.0, 6.0, 7.0, 7.0)
    coverage = Coverage(
        request, "0", 48, ("score",), 900, 3, 5, 50, 50 / 895, 45, 4, 180, 200, 7.0, 1.0, reach, 1.0, 10.0
    )  # fmt: skip
    assert told in replace(coverage, **changes).meaning


def test_the_command_says_what_it_covers(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("label", "choose", scored / "run", "--budget", 60, "--output", tmp_path / "queue") == 0
    said = capsys.readouterr().out
    assert "audit      3, at random; never trained on" in said
    assert f"queue      {tmp_path}/queue/label_queue.parquet" in said
    assert command("label", "choose", scored / "run", "--budget", 80, "--output", tmp_path / "queue") == 1
    assert "there is a queue already" in capsys.readouterr().err


def test_a_queue_in_a_store_is_that_of_a_disk(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "STORES", (*places.STORES, MemoryStore()))
    run = gneiss.run(scored / "scored.yaml", scored / "input", "memory://bucket/run", backend=InThisProcess())
    choose_labels("memory://bucket/run", "memory://bucket/queue", budget=200)
    choose_labels(scored / "run", tmp_path / "queue", budget=200)
    assert run.digest == open_run(scored / "run").digest
    train(tmp_path / "tiny.bin")
    for at, queue in (("memory://bucket/run", "memory://bucket/queue"), (scored / "run", tmp_path / "queue")):
        assert next_labels(at, queue, model=tmp_path / "tiny.bin", budget=9).round.documents == 9
    for name in ("label_queue.parquet", "coverage.json", "margin-001.parquet"):
        assert places.place_of(f"memory://bucket/queue/{name}").read() == (tmp_path / "queue" / name).read_bytes()


# Rounds of margin


NEAR = RECIPE.replace("    annotate:", "    near_duplicates: {scope: corpus}\n    annotate:")
GOOD = ("river", "poem")


@pytest.fixture(scope="module")
def labelled(scored: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that knows near-duplicates, a queue, its labels, and a model of these."""
    folder = tmp_path_factory.mktemp("next")
    (folder / "near.yaml").write_text(NEAR)
    gneiss.run(folder / "near.yaml", scored / "input", folder / "run", backend=InThisProcess())
    choose_labels(folder / "run", folder / "queue", budget=200)
    queue = pq.read_table(folder / "queue/label_queue.parquet")
    names = ["hq" if text.startswith(GOOD) else "cc" for text in queue["text"].to_pylist()]
    pq.write_table(queue.append_column("label", pa.array(names)), folder / "labels.parquet")
    train_quality(folder / "labels.parquet", folder / "quality", settings=SMALL)
    return folder


@pytest.fixture
def folder(labelled: Path, copy_of: Callable[[Path], Path]) -> Path:
    """A copy of it, to write into."""
    return copy_of(labelled)


def queued(path: Path) -> list[tuple[str, int]]:
    """Shard and row of each document of a file of a queue."""
    table = pq.read_table(path)
    return list(zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True))


def test_a_round_has_the_nearest_to_half_of_each_cluster(folder: Path) -> None:
    """Against a plain loop over all kept documents."""
    found = next_labels(folder / "run", folder / "queue", model=folder / "quality", budget=40)
    assert not found.was_there
    assert found.has_clusters
    run = open_run(folder / "run").annotations(columns=["near_cluster"], kept=True)
    texts = pq.read_table(folder / "run/data")["text"]
    scores = fasttext_scores(texts, folder / "quality/quality.bin", "hq").to_pylist()
    keys = list(zip(run["shard"].to_pylist(), run["row"].to_pylist(), strict=True))
    cluster = {
        key: name or text
        for key, name, text in zip(keys, run["near_cluster"].to_pylist(), texts.to_pylist(), strict=True)
    }
    assert len(set(cluster.values())) < 0.9 * len(cluster)
    known = {cluster[key] for key in queued(folder / "queue/label_queue.parquet")}
    expected: list[tuple[str, int]] = []
    for _, key in sorted(zip([abs(score - 0.5) for score in scores], keys, strict=True), key=lambda pair: pair[0]):
        if cluster[key] not in known and len(expected) < 40:
            expected.append(key)
            known.add(cluster[key])
    table = pq.read_table(folder / "queue/margin-001.parquet")
    assert queued(folder / "queue/margin-001.parquet") == sorted(expected)
    assert len(expected) == found.round.documents == 40
    assert set(table["why"].to_pylist()) == {"margin"}
    assert set(table["weight"].to_pylist()) == {0}
    assert table["radius"].null_count == 40
    assert table["text"].to_pylist() == [texts[keys.index(key)].as_py() for key in sorted(expected)]


def test_the_same_call_finds_its_round_and_another_model_makes_the_next(folder: Path) -> None:
    next_labels(folder / "run", folder / "queue", model=folder / "quality")
    before = files_of(folder / "queue")
    again = next_labels(
        folder / "run", folder / "queue", model=folder / "quality/quality.bin", labels=folder / "labels.parquet"
    )
    assert again.was_there
    assert files_of(folder / "queue") == before
    train_quality(folder / "labels.parquet", folder / "other", settings=replace(SMALL, seed=2))
    further = next_labels(folder / "run", folder / "queue", model=folder / "other")
    assert further.round.file == "margin-002.parquet"
    every = [
        key
        for name in sorted(files(folder / "queue"))
        if name.endswith("parquet")
        for key in queued(folder / "queue" / name)
    ]
    assert len(set(every)) == len(every) == 200 - further.left
    copied = folder / "copied"
    choose_labels(folder / "run", copied, budget=200)
    next_labels(folder / "run", copied, model=folder / "quality")
    assert (copied / "margin-001.parquet").read_bytes() == before["margin-001.parquet"]
    (folder / "queue/margin-001.parquet").unlink()
    again = next_labels(folder / "run", folder / "queue", model=folder / "quality")
    assert again.round.file == "margin-003.parquet", "no round is written over"


def test_rounds_share_what_is_left_of_the_budget(folder: Path) -> None:
    left = 200 - len(queued(folder / "queue/label_queue.parquet"))
    for number in range(1, 5):
        train_quality(folder / "labels.parquet", folder / f"{number}", settings=replace(SMALL, seed=number))
        found = next_labels(folder / "run", folder / "queue", model=folder / f"{number}")
        assert found.round.documents == -(-left // (5 - number))
        left -= found.round.documents
        assert found.left == left
    train_quality(folder / "labels.parquet", folder / "5", settings=replace(SMALL, seed=5))
    with pytest.raises(InputError, match=r"the 200 labels of the budget are queued already; ask for more with budget="):
        next_labels(folder / "run", folder / "queue", model=folder / "5")
    assert next_labels(folder / "run", folder / "queue", model=folder / "5", budget=7).round.documents == 7


@pytest.mark.parametrize("by", ["id", "row"])
def test_what_is_labelled_elsewhere_is_not_queued(folder: Path, by: str) -> None:
    shutil.copytree(folder / "queue", folder / "first")
    next_labels(folder / "run", folder / "first", model=folder / "quality", budget=10)
    columns = ["id"] if by == "id" else ["shard", "row"]
    pq.write_table(pq.read_table(folder / "first/margin-001.parquet", columns=columns), folder / "elsewhere.parquet")
    next_labels(
        folder / "run", folder / "queue", model=folder / "quality", budget=10, labels=folder / "elsewhere.parquet"
    )
    assert not set(queued(folder / "first/margin-001.parquet")) & set(queued(folder / "queue/margin-001.parquet"))


def test_a_round_that_stops_is_not_there(folder: Path) -> None:
    before = files_of(folder / "queue")
    with (
        patch("gneiss.model_training.labelling.queue._with_texts", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        next_labels(folder / "run", folder / "queue", model=folder / "quality")
    assert files_of(folder / "queue") == before
    assert next_labels(folder / "run", folder / "queue", model=folder / "quality").round.file == "margin-001.parquet"


def test_scores_may_be_an_annotation(folder: Path, scored: Path) -> None:
    recipe = NEAR.replace(
        "type: float64}}", "type: float64}}, {fasttext: {models: {prose: {source: quality/quality.bin, label: hq}}}}"
    )
    (folder / "prose.yaml").write_text(recipe)
    gneiss.run(folder / "prose.yaml", scored / "input", folder / "prose", backend=InThisProcess())
    choose_labels(folder / "prose", folder / "of prose", budget=200)
    next_labels(folder / "prose", folder / "of prose", score="prose", budget=20)
    shutil.copytree(folder / "of prose", folder / "by model")
    (folder / "by model/margin-001.parquet").unlink()
    next_labels(folder / "prose", folder / "by model", model=folder / "quality", budget=20)
    assert queued(folder / "of prose/margin-001.parquet") == queued(folder / "by model/margin-001.parquet")
    with pytest.raises(InputError, match="expected probabilities, found"):
        next_labels(folder / "prose", folder / "of prose", score="text_bytes")
    with pytest.raises(InputError, match="no whole layer 'scores'"):
        next_labels(folder / "prose", folder / "of prose", score="scores.prose")
    with pytest.raises(InputError, match="annotation 'prose_label': expected probabilities, found string"):
        next_labels(folder / "prose", folder / "of prose", score="prose_label")


def test_what_has_no_next_round_is_refused(folder: Path, scored: Path) -> None:
    run, queue, model = folder / "run", folder / "queue", folder / "quality"
    pq.write_table(pa.table({"label": ["hq"]}), folder / "nameless.parquet")
    with pytest.raises(InputError, match="no whole queue here; choose what to have labelled first"):
        next_labels(run, folder / "nowhere", model=model)
    with pytest.raises(InputError, match="it was chosen from another run than"):
        next_labels(scored / "run", queue, model=model)
    with pytest.raises(InputError, match="and not both"):
        next_labels(run, queue)
    with pytest.raises(InputError, match="chosen from kept documents: leave out input="):
        next_labels(run, queue, model=model, input=scored / "input")
    with pytest.raises(ModelError, match="expected a fastText, pooled or fusion model of `gneiss train`, found none"):
        next_labels(run, queue, model=folder / "queue")
    with pytest.raises(InputError, match=r"no column 'id'; expected shard and row, or id, of the documents"):
        next_labels(run, queue, model=model, labels=folder / "nameless.parquet")
    (queue / "margin-001.parquet").write_bytes(b"no Parquet")
    with pytest.raises(InputError, match=r"margin-001.parquet: no round of a queue"):
        next_labels(run, queue, model=model)
    (queue / "coverage.json").write_text("{}")
    with pytest.raises(InputError, match=r"coverage.json: cannot read"):
        next_labels(run, queue, model=model)


def test_next_says_what_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("label", "next", folder / "run", "--queue", folder / "queue", "--model", folder / "quality")
    assert command(*given) == 0
    said = capsys.readouterr().out
    assert "nearest to a score of ½\n" in said
    assert f"queue      {folder}/queue/margin-001.parquet" in said
    assert command(*given) == 0
    assert "it was there already" in capsys.readouterr().out


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file."""
    return {name: path.read_bytes() for name, path in files(folder).items()}


# Features


@given(st.lists(st.text(alphabet="ab c日", max_size=12), min_size=1, max_size=6), st.integers(0, 2**31))
def test_projections_are_of_counts_of_words(texts: list[str], seed: int) -> None:
    """Oracle: the signs of each word by itself, added up."""
    found = word_projections(TextBatch.of(texts), seed)
    assert found.shape == (len(texts), PROJECTIONS)
    for text, own in zip(texts, found, strict=True):
        words = text.replace("日", " 日 ").split()
        total = sum((word_projections(TextBatch.of([word]), seed)[0] for word in words), np.zeros(PROJECTIONS))
        length = np.sqrt((total**2).sum())
        assert own == pytest.approx(total / length if length else total)


def test_near_texts_have_near_projections() -> None:
    texts = ["the river runs south past old walls", "the river runs north past old walls", "taxes are due in may"]
    one, near, far = word_projections(TextBatch.of(texts), 0)
    assert 0 < np.linalg.norm(one - near) < 0.8 < np.linalg.norm(one - far)


@given(st.lists(st.one_of(st.floats(-1e300, 1e300), st.sampled_from([float("nan"), float("inf")])), max_size=12))
def test_standardised_columns_are_finite(values: list[float]) -> None:
    features = np.array([values]).T
    standardise(features)
    assert np.isfinite(features).all()
    usable = [value for value in values if abs(value) < 1e6]
    features = np.array([usable]).T
    standardise(features)
    expected = np.array([usable]).T
    if usable and (spread := expected.std()) > 1e-3:
        assert features == pytest.approx((expected - expected.mean()) / spread, abs=1e-6)
