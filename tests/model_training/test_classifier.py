"""Training: the split, the figures, the cards, the bytes, the errors; classifiers that a recipe can use."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.errors import InputError, OutputError
from gneiss.filters.fasttext import FastText, FastTextModel, fasttext_scores
from gneiss.filters.fasttext_models.file import read_model
from gneiss.filters.fasttext_models.table import obstacle
from gneiss.model_training import Classifier, Settings, train_category, train_quality
from gneiss.model_training.evaluation import RETENTIONS, evaluate
from gneiss.model_training.labels import Rule, read_labelled
from gneiss.model_training.source import Skipped, one_line
from gneiss.pipelines.dry_run import dry_run
from tests.runs import NOISE, PLAIN, gneiss

SMALL = Settings(dimensions=4, buckets=1000, min_count=1)
RULE = Rule("label", ("hq",))


def texts_of(words: Sequence[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(words, k=12))}\nno. {seed} {number}" for number in range(count)]


def write(path: Path, **columns: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=50)
    return path


def labelled_rows(good: int = 80, bad: int = 120) -> tuple[list[str], list[str]]:
    return texts_of(PLAIN, good, 1) + texts_of(NOISE, bad, 2), ["hq"] * good + ["bad"] * bad


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts, names = labelled_rows()
    return write(tmp_path_factory.mktemp("labels") / "labels.parquet", text=texts, label=names)


@pytest.fixture(scope="module")
def quality(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier[Settings]:
    return train_quality(labels, tmp_path_factory.mktemp("quality"), settings=SMALL)


# The split and what is read


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_split_is_stratified_and_by_text(labels: Path, share: float) -> None:
    labelled = read_labelled(labels, "text", RULE)
    trained, held_out = labelled.split(share)
    assert held_out.positives == round(share * 80)
    assert len(held_out.documents) - held_out.positives == round(share * 120)
    assert not {d.line for d in trained.documents} & {d.line for d in held_out.documents}
    assert sorted([*trained.documents, *held_out.documents], key=str) == sorted(labelled.documents, key=str)
    digest = [hashlib.sha256(document.line.encode()).hexdigest() for document in labelled.documents]
    assert digest == sorted(digest)
    for label in (True, False):  # by the hash: no held-out document of a label has a higher one than a trained one
        last = max(i for i, d in enumerate(labelled.documents) if d in held_out.documents and d.is_positive is label)
        first = min(i for i, d in enumerate(labelled.documents) if d in trained.documents and d.is_positive is label)
        assert last < first


def test_rows_in_another_order_and_in_many_files_are_the_same(labels: Path, tmp_path: Path) -> None:
    texts, names = labelled_rows()
    order = random.Random(3).sample(range(len(texts)), len(texts))
    for part in range(3):
        rows = order[part::3]
        write(tmp_path / f"many/{part}.parquet", text=[texts[i] for i in rows], label=[names[i] for i in rows])
    assert read_labelled(tmp_path / "many", "text", RULE) == read_labelled(labels, "text", RULE)


def test_what_is_not_used_is_counted(tmp_path: Path) -> None:
    texts, names = labelled_rows()
    raw = [text.encode() for text in texts]
    extra: list[tuple[bytes | None, str | None]] = [
        (None, "hq"), (b"no label", None), (b"not \xff UTF-8", "hq"), (raw[0], "hq"),
        (raw[1].replace(b"\n", b" "), "hq"), (b"both", "hq"), (b"both", "bad"), (b"both", "hq"),
    ]  # fmt: skip
    binary = pa.array([*raw, *(text for text, _ in extra)], pa.binary())
    strings = pa.StringArray.from_buffers(len(binary), *binary.buffers()[1:3], binary.buffers()[0], binary.null_count)
    source = write(tmp_path / "labels.parquet", text=strings, label=[*names, *(label for _, label in extra)])
    model = train_quality(source, tmp_path / "model", settings=SMALL)
    assert model.rows == 208
    assert model.skipped == Skipped(null=2, not_utf8=1, repeated=4, contradictory=1)
    assert model.trained + model.held_out.documents == 200
    card = (tmp_path / "model/MODEL.md").read_text()
    for line in (
        "without text or label: 2",
        "is not UTF-8: 1",
        "text of another: 4",
        "more than one label, left out: 1",
    ):
        assert line in card


@pytest.mark.parametrize("type_", [pa.int64(), pa.float32(), pa.decimal128(22, 2)])
def test_scores_are_labels_from_a_threshold_on(tmp_path: Path, type_: pa.DataType) -> None:
    texts, _ = labelled_rows()
    scores = pa.array([4] * 40 + [3] * 40 + [2] * 60 + [0] * 59 + [None], pa.int64()).cast(type_)
    source = write(tmp_path / "scores.parquet", text=texts, score=scores)
    labelled = read_labelled(source, "text", Rule("score", at_least=3))
    assert labelled.positives == 80
    assert labelled.skipped.null == 1
    assert read_labelled(source, "text", Rule("score", at_least=3.5)).positives == 40


def test_columns_of_other_string_types(tmp_path: Path) -> None:
    texts, names = labelled_rows()
    source = write(
        tmp_path / "labels.parquet",
        body=pa.array(texts, pa.large_string()),
        kind=pa.array(names).dictionary_encode(),
    )
    assert read_labelled(source, "body", Rule("kind", ("hq",))).positives == 80


def test_label_words_in_a_text_are_no_labels(tmp_path: Path) -> None:
    texts, names = labelled_rows()
    spiked = [f"__label__spam {text} __label__hq\t__label__x" for text in texts]
    source = write(tmp_path / "labels.parquet", text=spiked, label=names)
    model = train_quality(source, tmp_path / "model", settings=SMALL)
    assert set(read_model(model.path).labels) == {"__label__hq", "__label__cc"}
    assert model.held_out.by_label.accuracy == 1.0
    scores = fasttext_scores([one_line(text) for text in spiked], model.path, "hq")  # and prediction reads the same
    np.testing.assert_allclose(scores, fasttext_scores(spiked, model.path, "hq"), atol=1e-6)


# The model


@pytest.mark.processes
def test_training_is_reproducible_byte_for_byte(labels: Path, quality: Classifier[Settings], tmp_path: Path) -> None:
    done = gneiss(
        "train", "quality", "--input", labels, "--output", tmp_path / "again",
        "--dimensions", "4", "--buckets", "1000", "--min-count", "1", env={"PYTHONHASHSEED": "77"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("quality.bin", "MODEL.md"):
        assert (tmp_path / "again" / name).read_bytes() == quality.path.with_name(name).read_bytes()
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"quality.bin", "MODEL.md"}
    card = quality.path.with_name("MODEL.md").read_text()
    assert card in done.stdout
    assert not re.search(r"/tmp|/home|/work|\d\d:\d\d|\b20\d\d-", card)
    assert hashlib.sha256(quality.path.read_bytes()).hexdigest() == quality.model_sha256
    assert quality.model_sha256 in card
    assert quality.content_sha256 in card
    other = train_quality(labels, tmp_path / "other", settings=replace(SMALL, seed=2))
    assert other.model_sha256 != quality.model_sha256
    assert other.content_sha256 == quality.content_sha256


def test_the_model_is_used_by_a_recipe(labels: Path, quality: Classifier[Settings], tmp_path: Path) -> None:
    assert obstacle(read_model(quality.path)) is None
    threshold = quality.held_out.retentions[3].threshold
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: own\ninput: {{id: text}}\nphases:\n  - name: only\n    annotate: [{{fasttext: {{models: "
        f"{{prose: {{source: {json.dumps(str(quality.path))}, label: hq}}}}}}}}]\n"
        f"    rules: {{good: prose > {threshold}}}\n"
    )
    dry = dry_run(recipe, labels)
    assert dry.statistics.counts["kept"] == 80
    annotator = FastText({"prose": FastTextModel(str(quality.path), "hq")}, "ensemble")
    found = annotate(annotator, labelled_rows()[0])["prose_label"].to_pylist()
    assert found == ["hq"] * 80 + ["cc"] * 120


@pytest.mark.processes
def test_a_category_has_its_own_label(labels: Path, tmp_path: Path) -> None:
    model = train_category("rivers", labels, tmp_path, positive=["hq"], settings=SMALL)
    assert model.path == tmp_path / "rivers.bin"
    assert set(read_model(model.path).labels) == {"__label__rivers", "__label__cc"}
    assert (model.trained_positives, model.held_out.positives) == (64, 16)
    train_category("rivers", labels, tmp_path, positive="hq", settings=SMALL)  # over itself
    done = gneiss("train", "category", "bad", "--input", labels, "--output", tmp_path / "bad", "--buckets", "1000")
    assert done.returncode == 0, done.stderr  # the label of the category's name
    assert "| trained on     |  96 |  64 |" in done.stdout


@pytest.mark.slow
def test_autotune_chooses_among_what_the_ensemble_supports(labels: Path, tmp_path: Path) -> None:
    model = train_quality(labels, tmp_path, settings=replace(SMALL, autotune_seconds=1))
    file = read_model(model.path)
    assert obstacle(file) is None
    assert (file.dimensions, file.word_ngrams) == (4, model.settings.word_ngrams)
    assert "autotuned for 1 s" in (tmp_path / "MODEL.md").read_text()


# The figures


def plain_figures(
    scores: Sequence[float], labels: Sequence[bool], threshold: float
) -> tuple[float, float | None, float]:
    kept = [label for score, label in zip(scores, labels, strict=True) if score > threshold]
    return len(kept) / len(scores), sum(kept) / len(kept) if kept else None, sum(kept) / max(1, sum(labels))


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_figures_are_those_of_a_plain_recomputation(judged: list[tuple[float, bool]]) -> None:
    scores, labels = [score for score, _ in judged], [label for _, label in judged]
    found = evaluate(np.array(scores), np.array(labels))
    ranked = sorted(scores, reverse=True)
    assert [row.asked for row in found.retentions] == list(RETENTIONS)
    for row in found.retentions:
        assert (row.kept, row.precision, row.recall) == pytest.approx(plain_figures(scores, labels, row.threshold))
        assert row.threshold == round(row.threshold, 6)
        asked = min(max(1, round(row.asked * len(scores))), len(scores) - 1)
        if ranked[asked - 1] - ranked[asked] > 4e-6:
            assert round(row.kept * len(scores)) == asked
    _, precision, recall = plain_figures(scores, labels, 0.5)
    right = sum((score > 0.5) is label for score, label in judged)
    assert found.by_label.accuracy == pytest.approx(right / len(judged))
    assert (found.by_label.precision, found.by_label.recall) == pytest.approx((precision, recall))
    assert found.baseline.accuracy == pytest.approx(max(sum(labels), len(labels) - sum(labels)) / len(labels))
    error = 0.0
    for number, bin_ in enumerate(found.calibration):
        inside = [(s, label) for s, label in judged if int(s * 10) == number or (number == 9 and s == 1)]
        assert bin_.documents == len(inside)
        if inside:
            mean, share = (sum(values) / len(inside) for values in zip(*inside, strict=True))
            assert (bin_.mean_score, bin_.positive_share) == pytest.approx((mean, share))
            error += abs(mean - share) * len(inside)
        else:
            assert bin_.mean_score is bin_.positive_share is None
    assert found.calibration_error == pytest.approx(error / len(judged))


def test_documents_without_a_score_are_kept_by_no_threshold() -> None:
    found = evaluate(np.array([np.nan, np.nan, np.nan, 0.2]), np.array([True, False, True, True]))
    assert found.unscored == 3
    assert found.retentions[-1].kept == 0.25
    assert sum(bin_.documents for bin_ in found.calibration) == 1
    assert found.calibration_error == pytest.approx(0.8)


def test_the_figures_of_a_model_are_of_its_held_out_documents(labels: Path, quality: Classifier[Settings]) -> None:
    _, held_out = read_labelled(labels, "text", RULE).split(0.2)
    scores = fasttext_scores([document.line for document in held_out.documents], quality.path, "hq").to_pylist()
    truth = [document.is_positive for document in held_out.documents]
    assert quality.held_out == evaluate(np.array(scores), np.array(truth))
    card = quality.path.with_name("MODEL.md").read_text()
    for row in quality.held_out.retentions:
        kept, precision, recall = plain_figures(scores, truth, row.threshold)
        assert re.search(rf"\| {row.asked:.0%} +\| +{row.threshold:.6f} \| +{kept:.1%} \| +{precision:.1%} \|", card)
        assert recall == row.recall
    assert "| always the more frequent label |    60.0% |           |   0.0% |" in card


# Errors


def bad_labels(kind: str, folder: Path) -> tuple[Path, Mapping[str, object]]:
    texts, names = labelled_rows()
    scores = [float(i % 6) for i in range(200)]
    path = folder / "bad.parquet"
    if kind == "not parquet":
        path.write_bytes(b"text,label\n")
        return path, {}
    columns: dict[str, tuple[dict[str, object], dict[str, object]]] = {
        "no text": ({"body": texts, "label": names}, {}),
        "no label": ({"text": texts, "kind": names}, {}),
        "numbers as text": ({"text": scores, "label": names}, {}),
        "numbers as labels": ({"text": texts, "label": scores}, {}),
        "booleans without a positive one": ({"text": texts, "label": [i % 2 == 0 for i in range(200)]}, {}),
        "dates as labels": ({"text": texts, "label": [date(2026, 1, 1)] * 200}, {}),
        "strings as scores": ({"text": texts, "label": names}, {"score_threshold": 3}),
        "booleans as scores": ({"text": texts, "label": [True] * 200}, {"score_threshold": 1}),
        "unknown label": ({"text": texts, "label": names}, {"positive": "good"}),
        "one label": ({"text": texts, "label": ["hq"] * 200}, {}),
        "no high score": ({"text": texts, "label": scores}, {"score_threshold": 6}),
        "too few": ({"text": texts, "label": ["hq"] * 19 + ["bad"] * 181}, {}),
        "copies": ({"text": ["a", "b"] * 100, "label": ["hq", "bad"] * 100}, {}),
        "both": ({"text": texts, "label": names}, {"score_threshold": 3, "positive": "hq"}),
        "rare words": ({"text": [f"w{i}" for i in range(200)], "label": names}, {"settings": Settings(min_count=300)}),
    }
    write(path, **columns[kind][0])
    return path, columns[kind][1]


@pytest.mark.parametrize(
    ("kind", "says"),
    {
        "not parquet": "bad.parquet: cannot read: .*Parquet",
        "no text": "bad.parquet: column 'text' is not there; found body, label",
        "no label": "bad.parquet: column 'label' is not there; found text, kind",
        "numbers as text": "column 'text': expected strings, found double",
        "numbers as labels": "column 'label': expected strings or booleans, found double; give a score threshold",
        "booleans without a positive one": r"no row has the label 'hq'; found 'false' \(100\), 'true' \(100\)",
        "dates as labels": r"expected strings or booleans, found date32\[day\]; convert the column",
        "strings as scores": "column 'label': a score threshold needs numbers, found string",
        "booleans as scores": "a score threshold needs numbers, found bool; leave it out, and name the positive labels",
        "unknown label": r"no row has the label 'good'; found 'bad' \(120\), 'hq' \(80\)",
        "one label": "two labels; of 200 distinct texts all are positive",
        "no high score": r"two labels; of 200 distinct texts none is positive \(label >= 6\)",
        "too few": r"too few documents: 19 positive \(label IN \('hq'\)\) and 181 other",
        "copies": "too few documents: 1 positive",
        "both": "exclude each other",
        "rare words": "no word occurs 300 times in the training texts; lower min_count",
    }.items(),
)
def test_labels_that_cannot_be_used(kind: str, says: str, tmp_path: Path) -> None:
    source, arguments = bad_labels(kind, tmp_path)
    with pytest.raises(InputError, match=says):
        train_quality(source, tmp_path / "model", **arguments)  # type: ignore[arg-type]
    assert not [path for path in (tmp_path / "model").rglob("*") if path.is_file()]


def test_booleans_are_labels(tmp_path: Path) -> None:
    texts, names = labelled_rows()
    write(tmp_path / "named.parquet", text=texts, label=names)
    write(tmp_path / "boolean.parquet", text=texts, label=[name == "hq" for name in names])
    named = read_labelled(tmp_path / "named.parquet", "text", RULE)
    boolean = read_labelled(tmp_path / "boolean.parquet", "text", Rule("label", ("true",)))
    assert boolean.documents == named.documents
    assert boolean.found == {"true": 80, "false": 120}


@pytest.mark.processes
def test_other_errors(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        train_quality(tmp_path / "nothing", tmp_path / "model")
    for category in ("cc", "two words", "a/b", "", "x-y"):
        with pytest.raises(InputError, match="category"):
            train_category(category, labels, tmp_path / "model")
    for setting in ({"dimensions": 0}, {"held_out_share": 0.9}, {"word_ngrams": 6}, {"learning_rate": float("nan")}):
        with pytest.raises(InputError, match=next(iter(setting))):
            Settings(**setting)  # type: ignore[arg-type]
    (tmp_path / "model").mkdir()
    (tmp_path / "model/other.bin").touch()
    with pytest.raises(OutputError, match=r"found 'other.bin'"):
        train_quality(labels, tmp_path / "model", settings=SMALL)
    with pytest.raises(OutputError, match="cannot write"):
        train_quality(labels, tmp_path / "model/other.bin", settings=SMALL)
    done = gneiss("train", "quality", "--input", labels, "--output", tmp_path / "x", "--positive", "good")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gneiss: ")
    assert done.stderr.count("\n") == 1
