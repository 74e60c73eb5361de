"""Federated models as fastText files: fastText's library, ours, and the collapsed table predict what the weights do."""

from __future__ import annotations

import math
from pathlib import Path

import fasttext
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.errors import InputError, MachineError, ModelError
from gneiss.filters.fasttext_models.ensemble import load_ensemble
from gneiss.filters.fasttext_models.file import read_model
from gneiss.filters.fasttext_models.library import load_library
from gneiss.filters.fasttext_models.output import Predictor
from gneiss.filters.fasttext_models.table import build_table, open_table
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.linear import logits
from gneiss.model_training.federated.model import write_model

#: What float32 sums differ by.
EXACT = 4e-7
WORDS = ["the", "a", "of", "über", "слово", "🙂", "x" * 30]
AWKWARD = [
    "", "\n", "</s>", "the </s> a", "__label__x", "the __label__a of", "a\0the", "a\vof", "über слово 🙂", "\u2028",
    "the of a " * 50, "unknown words only",
]  # fmt: skip
#: n-grams and buckets.
SHAPES = [
    (1, 0), (1, 262_144), (2, 262_144), (2, 100_003), (3, 100_003),
    pytest.param((3, 2_000_000), marks=pytest.mark.exhaustive),
]  # fmt: skip


def soup(seed: int, count: int) -> list[str]:
    """Random bytes, what is UTF-8 of them."""
    draw = np.random.default_rng(seed)
    raw = [draw.integers(0, 256, draw.integers(0, 300)).astype(np.uint8).tobytes() for _ in range(count)]
    return [text.decode("utf-8", "replace" if number % 2 else "ignore") for number, text in enumerate(raw)]


def written(space: FeatureSpace, labels: list[str], seed: int, path: Path) -> np.ndarray:
    outputs = 1 if len(labels) == 2 else len(labels)
    weights = np.random.default_rng(seed).normal(0, 0.1, (space.size, outputs)).astype(np.float32)
    write_model(space, weights, labels, path)
    return weights


def expected(space: FeatureSpace, weights: np.ndarray, texts: list[str]) -> np.ndarray:
    """Probabilities (texts, labels) of the weights; NaN without features."""
    rows = space.rows(TextBatch.of(texts))
    z = logits(weights, rows)
    if z.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    raised = np.exp(z - z.max(axis=1, keepdims=True))
    found = raised / raised.sum(axis=1, keepdims=True)
    found[np.diff(rows.starts) == 0] = np.nan
    return found


def ours(predictor: Predictor, texts: list[str]) -> np.ndarray:
    probabilities, top = predictor.predict(TextBatch.of(texts), False)
    probabilities = probabilities.copy()
    probabilities[top < 0] = np.nan
    return probabilities


def of_table(path: Path) -> Predictor:
    table = path.with_suffix(".table")
    build_table([read_model(path)], table)
    return load_ensemble(table, ["m"])["m"]


def of_fasttext(path: Path, labels: list[str], texts: list[str]) -> np.ndarray:
    """By the library itself. It reports exp(log(p + 1e-5)), in float32."""
    model = fasttext.load_model(str(path))
    found = np.full((len(texts), len(labels)), np.nan)
    for row, text in enumerate(texts):
        for label, value in zip(*model.predict(text.replace("\n", " "), k=-1), strict=True):
            found[row, labels.index(label.removeprefix("__label__"))] = value - 1e-5
    return found


def check(space: FeatureSpace, labels: list[str], texts: list[str], seed: int, path: Path) -> None:
    weights = written(space, labels, seed, path)
    right = expected(space, weights, texts)
    model = read_model(path)
    assert (model.labels, model.word_ngrams, model.buckets) == (
        tuple(f"__label__{label}" for label in labels), space.word_ngrams, space.buckets,
    )  # fmt: skip
    for found in (
        of_fasttext(path, labels, texts), ours(load_library(model), texts), ours(of_table(path), texts),
    ):  # fmt: skip
        assert np.array_equal(np.isnan(found), np.isnan(right))
        assert np.nanmax(np.abs(found - right), initial=0.0) <= EXACT


@pytest.mark.parametrize("shape", SHAPES)
def test_all_engines_predict_what_the_weights_do(shape: tuple[int, int], tmp_path: Path) -> None:
    texts = [*AWKWARD, *soup(1, 40)]
    check(FeatureSpace.of(WORDS, *shape), ["cc", "hq"], texts, 7, tmp_path / "quality.bin")


def test_of_several_classes_too(tmp_path: Path) -> None:
    texts = [*AWKWARD, *soup(2, 40)]
    check(FeatureSpace.of(WORDS, 2, 1000), ["a", "b", "c", "d", "e"], texts, 7, tmp_path / "domain.bin")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.sampled_from([(1, 0), (1, 3), (2, 1), (3, 1009)]),
    texts=st.lists(st.text(max_size=40) | st.sampled_from(AWKWARD), min_size=1, max_size=8),
    labels=st.sampled_from([["cc", "hq"], ["x", "y", "z"]]),
    seed=st.integers(0, 99),
)
def test_any_text(shape: tuple[int, int], texts: list[str], labels: list[str], seed: int, tmp_path: Path) -> None:
    check(FeatureSpace.of(WORDS, *shape), labels, texts, seed, tmp_path / "quality.bin")


def test_beside_a_model_of_fasttext_there_is_one_table(tmp_path: Path) -> None:
    """Of equal n-grams and buckets, they share a pass over the text."""
    lines = tmp_path / "lines.txt"
    lines.write_text("__label__hq the word of über\n__label__cc a thing слово the\n" * 5, "utf-8")
    trained, federated, table = (tmp_path / name for name in ("trained.bin", "federated.bin", "both.table"))
    fasttext.train_supervised(
        str(lines), dim=8, bucket=1000, wordNgrams=2, minCount=1, epoch=20, lr=1.0, thread=1, verbose=0
    ).save_model(str(trained))
    space = FeatureSpace.of(WORDS, 2, 1000)
    weights = written(space, ["cc", "hq"], 11, federated)
    build_table([read_model(trained), read_model(federated)], table)
    assert len(open_table(table).groups) == 1
    predictors = load_ensemble(table, ["trained", "federated"])
    assert np.abs(ours(predictors["federated"], AWKWARD) - expected(space, weights, AWKWARD)).max() <= EXACT
    of_library = ours(load_library(read_model(trained)), AWKWARD)
    assert np.abs(ours(predictors["trained"], AWKWARD) - of_library).max() <= 1e-5


def test_every_text_has_a_prediction(tmp_path: Path) -> None:
    """`</s>` is in every vocabulary, and ends every text."""
    space = FeatureSpace.of([], 1, 0)
    weights = written(space, ["cc", "hq"], 3, tmp_path / "m.bin")
    right = expected(space, weights, AWKWARD)
    assert right[:, 1] == pytest.approx(1 / (1 + math.exp(-16 * weights[0, 0])), abs=1e-7)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    space = FeatureSpace.of(WORDS, 2, 100)
    for name in "ab":
        written(space, ["cc", "hq"], 5, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_does_not_fit_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    space = FeatureSpace.of(["a"], 2, 3)
    path = tmp_path / "m.bin"
    with pytest.raises(InputError, match="expected 5 x 1 for 2 words, 3 buckets and 2 labels, found 5 x 2"):
        write_model(space, np.zeros((5, 2)), ["cc", "hq"], path)
    with pytest.raises(InputError, match="at least two, each once"):
        write_model(space, np.zeros((5, 1)), ["hq", "hq"], path)
    with pytest.raises(InputError, match="white space"):
        write_model(space, np.zeros((5, 1)), ["hq", "c c"], path)
    with pytest.raises(ModelError, match="absurdly large weights"):
        write_model(space, np.full((5, 1), np.nan), ["cc", "hq"], path)
    with pytest.raises(MachineError, match="cannot write the model"):
        write_model(space, np.zeros((5, 1)), ["cc", "hq"], tmp_path / "missing" / "m.bin")
    assert list(tmp_path.iterdir()) == []
