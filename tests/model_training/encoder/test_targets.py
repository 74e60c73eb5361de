"""Heads for numbers and for several labels: what they learn, their cards and recipes, the bytes, what is refused."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gneiss.annotation import annotate
from gneiss.arrays import Float64Array
from gneiss.cli.main import app
from gneiss.errors import InputError
from gneiss.filters.encoder import Encoder, EncoderHead
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training import train_encoder_targets
from gneiss.model_training.encoder.least_squares import fit_least_squares
from gneiss.model_training.encoder.target_figures import (
    ClassFigures,
    RegressionFigures,
    class_figures,
    regression_figures,
)
from gneiss.model_training.models import TargetHead
from tests.tiny_encoder import WORDS, write_tiny_encoder

SETTINGS = FeatureSettings(windows=2, window_tokens=24)
TOPICS = {"nature": WORDS[1:4], "shop": WORDS[4:7], "physics": WORDS[7:12]}


def texts_of(words: Sequence[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices([*words, "the"], k=draw.randint(5, 30))) for _ in range(count)]


def number_of(text: str) -> float:
    """What a regression is to learn: the share of words of nature, 0 to 5."""
    words = text.split()
    return 5 * sum(word in TOPICS["nature"] for word in words) / len(words)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    texts = [text for seed, words in enumerate(TOPICS.values()) for text in texts_of(words, 60, seed)]
    topics = [topic for topic in TOPICS for _ in range(60)]
    table = {"text": [*texts, ""], "topic": [*topics, None], "number": [*map(number_of, texts), None]}
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("models") / "minilm", labels=0)


def trained(labels: Path, minilm: Path, output: Path, kind: str) -> TargetHead:
    column = "number" if kind == "regression" else "topic"
    return train_encoder_targets(labels, f"{minilm}/", output, kind=kind, label=column, settings=SETTINGS)  # type: ignore[arg-type]


def scores_by_card(made: TargetHead, minilm: Path, texts: Sequence[str]) -> pa.Table:
    """The annotations of the recipe that is on the card."""
    card = made.path.with_name("MODEL.md").read_text()
    assert "model: minilm/" in card
    assert str(minilm.parent) not in card
    (written,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    given = yaml.safe_load(written)["annotate"][0]["encoder"]
    heads = {name: EncoderHead(str(made.path), of.get("label")) for name, of in given["heads"].items()}
    return annotate(Encoder(**given | {"model": f"{minilm}/", "heads": heads}), list(texts))


@pytest.mark.slow
def test_a_regression_learns_numbers(labels: Path, minilm: Path, tmp_path: Path) -> None:
    made = trained(labels, minilm, tmp_path / "head", "regression")
    figures = made.held_out
    assert isinstance(figures, RegressionFigures)
    assert figures.error < figures.baseline / 2
    assert min(figures.pearson or 0, figures.spearman or 0) > 0.7
    kept = [of.mean for of in figures.retentions]
    assert kept[0] > kept[4] > kept[8]
    texts = [text for seed, words in enumerate(TOPICS.values()) for text in texts_of(words, 10, 50 + seed)]
    scores = scores_by_card(made, minilm, texts)["encoder"].to_pylist()
    assert np.corrcoef(scores, [number_of(text) for text in texts])[0, 1] > 0.6


@pytest.mark.slow
def test_classes_are_learnt(labels: Path, minilm: Path, tmp_path: Path) -> None:
    made = trained(labels, minilm, tmp_path / "head", "classes")
    figures = made.held_out
    assert isinstance(figures, ClassFigures)
    assert [of.label for of in figures.labels] == list(made.labels) == sorted(TOPICS)
    assert min(figures.accuracy, figures.macro_f1) > 0.8 > 0.4 > figures.baseline
    texts = [text for seed, words in enumerate(TOPICS.values()) for text in texts_of(words, 10, 50 + seed)]
    found = scores_by_card(made, minilm, texts)
    assert found.column_names == ["encoder", "encoder_label"]
    right = [
        of == topic for of, topic in zip(found["encoder_label"].to_pylist(), np.repeat(list(TOPICS), 10), strict=True)
    ]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("kind", ["regression", "classes"])
def test_the_same_labels_in_another_order_and_on_the_command_line_give_the_same_bytes(
    kind: str, labels: Path, minilm: Path, tmp_path: Path
) -> None:
    made = trained(labels, minilm, tmp_path / "head", kind)
    table = pq.read_table(labels)
    order = random.Random(7).sample(range(len(table)), len(table))
    pq.write_table(table.take(order), tmp_path / "mixed.parquet")
    options = ["--input", tmp_path / "mixed.parquet", "--model", f"{minilm}/", "--output", tmp_path / "again"]
    column = "number" if kind == "regression" else "topic"
    more = ["--window-tokens", "24", "--windows", "2", "--head", kind, "--label-column", column]
    done = CliRunner().invoke(app, ["train", "encoder", *map(str, options), *more])
    assert done.exit_code == 0, done.output
    for name in ("head.safetensors", "MODEL.md"):
        assert (tmp_path / "again" / name).read_bytes() == made.path.with_name(name).read_bytes()


def test_what_cannot_be_trained_on(labels: Path, minilm: Path, tmp_path: Path) -> None:
    def told(table: pa.Table | None, column: str, kind: str) -> str:
        path = labels if table is None else tmp_path / "labels.parquet"
        if table is not None:
            pq.write_table(table, path)
        with pytest.raises(InputError) as caught:
            train_encoder_targets(path, f"{minilm}/", tmp_path / "head", kind=kind, label=column)  # type: ignore[arg-type]
        return str(caught.value)

    whole = pq.read_table(labels)
    assert "a regression learns numbers, found string" in told(None, "topic", "regression")
    assert "expected strings or booleans, found double" in told(None, "number", "classes")
    assert "expected 40 distinct texts with different numbers, found 30 texts" in told(
        whole[:30], "number", "regression"
    )
    assert "found 180 texts and 1 numbers" in told(
        whole.set_column(2, "number", pa.array([1.0] * 181))[:180], "number", "regression"
    )
    assert "20 distinct texts of each label are needed, found 10 of 'shop'" in told(whole[:70], "topic", "classes")
    assert "expected 2 to 1000 labels, found 1" in told(whole[:60], "topic", "classes")
    assert not (tmp_path / "head").exists()


def test_a_text_whose_rows_disagree_counts_not_at_all(labels: Path, minilm: Path, tmp_path: Path) -> None:
    whole = pq.read_table(labels)
    other = whole[:5].set_column(1, "topic", pa.array(["shop"] * 5))
    pq.write_table(pa.concat_tables([whole, other, whole[60:70]]), tmp_path / "labels.parquet")
    made = trained(tmp_path / "labels.parquet", minilm, tmp_path / "head", "classes")
    assert (made.skipped.contradictory, made.skipped.null, made.rows) == (5, 1, 196)
    assert made.trained + made.held_out.documents == 175


@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.floats(1e-3, 10))
def test_least_squares_are_those_of_the_normal_equations(seed: int, width: int, l2: float) -> None:
    draw = np.random.default_rng(seed)
    features, numbers = draw.standard_normal((30, width)) * 3 + 1, draw.standard_normal(30)
    features[:, 0] = 2.0  # never varies
    weights, bias = fit_least_squares(features, numbers, l2)
    mean, deviation = features.mean(0), np.where(features.std(0) > 0, features.std(0), 1)
    scaled = (features - mean) / deviation
    expected = (
        np.linalg.solve(scaled.T @ scaled / 30 + l2 * np.eye(width), scaled.T @ (numbers - numbers.mean()) / 30)
        / deviation
    )
    assert weights == pytest.approx(expected, abs=1e-6)
    assert bias == pytest.approx(numbers.mean() - float(expected @ mean), abs=1e-6)


def plain_ranks(values: Float64Array) -> list[float]:
    return [
        float(sum(other < value for other in values) + (sum(other == value for other in values) - 1) / 2)
        for value in values
    ]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=20))
def test_figures_of_a_regression(pairs: list[tuple[int, int]]) -> None:
    scores, numbers = (np.array(of, np.float64) for of in zip(*pairs, strict=True))
    found = regression_figures(scores, numbers, 3.0)
    assert found.error == pytest.approx(np.mean([(a - b) ** 2 for a, b in pairs]))
    if found.spearman is not None:
        assert found.spearman == pytest.approx(np.corrcoef(plain_ranks(scores), plain_ranks(numbers))[0, 1])
    assert (found.pearson is None) == (len(set(scores)) == 1 or len(set(numbers)) == 1)
    for of in found.retentions:
        assert of.kept == np.mean(scores > of.threshold)


def test_documents_without_a_score_have_no_label_and_the_mean() -> None:
    found = class_figures(np.array([[0.9, 0.1], [np.nan, np.nan]]), np.array([0, 1]), ("a", "b"))
    assert (found.unscored, found.accuracy, found.labels[1].recall) == (1, 0.5, 0.0)
    assert regression_figures(np.array([1.0, np.nan]), np.array([1.0, 5.0]), 2.0).error == 4.5
