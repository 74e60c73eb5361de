"""Figures over a corpus: the AUC against all pairs, intervals against where they must lie, a card with an audit."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError
from gneiss.filters.fasttext import fasttext_scores
from gneiss.model_training import Settings, train_category, train_quality
from gneiss.model_training.corpus_figures import auc, auc_estimate, audited, weighted
from gneiss.model_training.labels import Rule, read_labelled
from tests.runs import NOISE, PLAIN, files

SMALL = Settings(dimensions=4, buckets=1000, min_count=1)
ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.6, 0.9, float("nan")]), st.booleans(), st.integers(1, 9)),
    min_size=1,
    max_size=12,
)


@given(ROWS)
def test_the_auc_is_the_share_of_pairs_in_order(rows: list[tuple[float, bool, int]]) -> None:
    scores = np.array([-1.0 if score != score else score for score, _, _ in rows])
    is_positive, weights = np.array([p for _, p, _ in rows], np.bool_), np.array([w for *_, w in rows], np.float64)
    positive = [(s, w) for s, p, w in zip(scores, is_positive, weights, strict=True) if p]
    negative = [(s, w) for s, p, w in zip(scores, is_positive, weights, strict=True) if not p]
    pairs = list(product(positive, negative))
    found = auc(scores, is_positive, weights)
    if not pairs:
        assert found is None
        return
    in_order = sum(v * w * ((s > t) + (s == t) / 2) for (s, v), (t, w) in pairs)
    assert found == pytest.approx(in_order / sum(v * w for (_, v), (_, w) in pairs))


@given(ROWS)
def test_weights_count_documents_as_often_as_they_stand_for_one(rows: list[tuple[float, bool, int]]) -> None:
    scores, is_positive = np.array([s for s, _, _ in rows]), np.array([p for _, p, _ in rows], np.bool_)
    times = np.array([w for *_, w in rows])
    found = weighted(scores, is_positive, times.astype(np.float64))
    whole = audited(np.repeat(scores, times), np.repeat(is_positive, times))
    assert found.stood_for == whole.documents
    assert found.accuracy == pytest.approx(whole.accuracy.value)
    assert found.f1 == (None if whole.f1 is None else pytest.approx(whole.f1.value))
    assert found.auc == (None if whole.auc is None else pytest.approx(whole.auc.value))


@given(ROWS)
def test_f1_is_that_of_precision_and_recall(rows: list[tuple[float, bool, int]]) -> None:
    found = audited(np.array([s for s, _, _ in rows]), np.array([p for _, p, _ in rows], np.bool_))
    right = sum(s > 0.5 and p for s, p, _ in rows)
    said, positives = sum(s > 0.5 for s, *_ in rows), sum(p for _, p, _ in rows)
    if found.f1 is None:
        assert said + positives == 0
    else:
        assert found.f1.value == pytest.approx(2 * right / (said + positives))
        assert 0 <= found.f1.low <= found.f1.value <= found.f1.high <= 1


@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_the_interval_of_an_auc_is_around_it_and_symmetric(value: float, positives: int, negatives: int) -> None:
    found, mirrored = auc_estimate(value, positives, negatives), auc_estimate(1 - value, positives, negatives)
    assert 0 <= found.low <= value + 1e-12
    assert value - 1e-12 <= found.high <= 1
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-9)
    assert found.high - found.low > 0


@pytest.mark.slow
def test_intervals_have_the_truth_as_often_as_they_say() -> None:
    """500 audits of 120 documents of a made-up corpus: the truth is in 95 % of the intervals, give or take four."""
    rng = np.random.default_rng(0)
    truth = rng.random(200_000) < 0.3
    scores = 1 / (1 + np.exp(-(rng.normal(size=len(truth)) + 2.5 * truth - 1.2)))
    corpus = audited(scores, truth)
    assert corpus.f1
    assert corpus.auc
    inside = np.zeros(3)
    for _ in range(500):
        rows = rng.integers(0, len(truth), 120)
        found = audited(scores[rows], truth[rows])
        assert found.f1
        assert found.auc
        inside += [
            found.accuracy.low <= corpus.accuracy.value <= found.accuracy.high,
            found.f1.low <= corpus.f1.value <= found.f1.high,
            found.auc.low <= corpus.auc.value <= found.auc.high,
        ]
    assert (abs(inside / 500 - 0.95) < 0.04).all()


# On a card


def rows_of(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts and their labels: of two fifths `hq`."""
    draw = random.Random(seed)
    names = ["hq" if draw.random() < 0.4 else "cc" for _ in range(count)]
    words = [" ".join(draw.choices(PLAIN if name == "hq" else NOISE, k=9)) for name in names]
    return [f"{text} {seed} {number}" for number, text in enumerate(words)], names


def write(path: Path, texts: list[str], names: list[str], **columns: object) -> Path:
    pq.write_table(pa.table({"text": texts, "label": names, **columns}), path, row_group_size=40)
    return path


@pytest.mark.slow
def test_an_audit_is_not_trained_on_and_gives_figures(tmp_path: Path) -> None:
    texts, names = rows_of(300, 1)
    why = ["audit" if i % 5 == 0 else "coreset" if i % 5 < 3 else "margin" for i in range(300)]
    weight = [0 if reason == "margin" else 1 if reason == "audit" else 1 + i % 7 for i, reason in enumerate(why)]
    texts[7], names[7] = texts[10], names[10]  # the text of an audited document is trained on nowhere
    queue = write(tmp_path / "queue.parquet", texts, names, why=why, weight=weight)
    model = train_quality(queue, tmp_path / "model", settings=SMALL)
    is_audit = [reason == "audit" for reason in why]
    rest = [i for i in range(300) if not is_audit[i] and i != 7]
    plain = write(tmp_path / "plain.parquet", [texts[i] for i in rest], [names[i] for i in rest])
    alone = train_quality(plain, tmp_path / "alone", settings=SMALL)
    assert (tmp_path / "model/quality.bin").read_bytes() == (tmp_path / "alone/quality.bin").read_bytes()
    assert model.held_out == alone.held_out
    assert alone.audit is alone.weighted is None
    scores = fasttext_scores([texts[i] for i in range(300) if is_audit[i]], model.path, "hq").to_numpy()
    truth = np.array([names[i] == "hq" for i in range(300) if is_audit[i]])
    assert model.audit == audited(scores, truth)
    assert model.weighted
    held_out = read_labelled(queue, "text", Rule("label", ("hq",))).split(0.2)[1].documents
    assert model.weighted.documents == sum(document.weight > 0 for document in held_out)
    assert model.weighted.stood_for == sum(document.weight for document in held_out)
    card = (tmp_path / "model/MODEL.md").read_text()
    assert f"| audited            |     60 | {model.audit.accuracy} |" in card
    assert "## Over the corpus" not in (tmp_path / "alone/MODEL.md").read_text()


@pytest.mark.slow
def test_a_document_that_was_drawn_twice_counts_twice(tmp_path: Path) -> None:
    texts, names = rows_of(200, 2)
    more = write(
        tmp_path / "l.parquet", [*texts, texts[0]], [*names, names[0]], why=["audit"] * 9 + ["x"] * 191 + ["audit"]
    )
    model = train_category("prose", more, tmp_path / "model", positive="hq", settings=SMALL)
    assert model.audit
    assert model.audit.documents == 10
    assert model.weighted is None


@pytest.mark.slow
def test_columns_of_other_meaning_change_nothing(tmp_path: Path) -> None:
    texts, names = rows_of(200, 3)
    train_quality(write(tmp_path / "plain.parquet", texts, names), tmp_path / "plain", settings=SMALL)
    others = write(tmp_path / "o.parquet", texts, names, why=["well written"] * 200, weight=[0.5] * 200)
    train_quality(others, tmp_path / "others", settings=SMALL)
    of_plain, of_others = files(tmp_path / "plain"), files(tmp_path / "others")
    assert [path.read_bytes() for path in of_plain.values()] == [path.read_bytes() for path in of_others.values()]
    wrong = write(tmp_path / "w.parquet", texts, names, why=["coreset"] * 200, weight=[0.5] * 200)
    with pytest.raises(InputError, match="column 'weight': expected whole numbers, as `label choose` writes them"):
        train_quality(wrong, tmp_path / "wrong", settings=SMALL)
