"""Pooled networks learn: gradients against differences, what they learn, their card, the bytes, bad labels."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.filters.pooled import Pooled
from gneiss.filters.pooled_model import PooledNetwork, read_network, write_network
from gneiss.model_training import PooledSettings, train_pooled
from gneiss.model_training.models import Classifier
from gneiss.model_training.pooled.kernel import MOST_WORDS, Factors, learn, table_of, word_buckets
from gneiss.model_training.pooled.training import fit_pooled
from gneiss.model_training.trained_model import trained_model

PLAIN = ("the", "river", "runs", "south", "and", "plants", "light")
NOISE = ("buy", "now", "cheap", "light", "energy", "of")
SETTINGS = PooledSettings(buckets=300)


def texts_of(words: Sequence[str], count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(5, 40))) for _ in range(count)]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    texts = [*texts_of(PLAIN, 60, 1), *texts_of(NOISE, 80, 2), ""]
    pq.write_table(pa.table({"text": texts, "label": ["hq"] * 60 + ["bad"] * 81}), path)
    return path


@pytest.fixture(scope="module")
def trained(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier[PooledSettings]:
    return train_pooled(labels, tmp_path_factory.mktemp("pooled"), settings=SETTINGS)


@pytest.mark.parametrize("text", ["a b c d", "a b c a d b", "a b", "a"])
def test_a_step_goes_down_the_gradient(text: str) -> None:
    """A step of Adagrad from sums of 0 is rate · gradient / |gradient|; the sums are the gradients squared.

    Not of the numbers of a word that is there twice: it takes two steps.
    """
    draw = np.random.default_rng(3)
    shapes = ((9, 2), (3, 2, 4), (4,), (8,), (1,))
    network = Factors(*(draw.standard_normal(shape) for shape in shapes))
    batch = TextBatch.of([text])

    def loss(of: Factors) -> float:
        tabled = PooledNetwork(table_of(of.words, of.places), of.bias, of.weights, of.last_bias)
        return -float(np.log(tabled.scores(batch)[0]))

    before, squares = Factors(*(array.copy() for array in network)), Factors(*map(np.zeros_like, network))
    starts, buckets = word_buckets(batch.data, batch.offsets, 9)
    learn(starts, buckets, np.array([True]), np.array([0]), network, squares, 0.1, 0.0, 1)
    is_repeated = len(set(buckets.tolist())) < len(buckets)
    assert is_repeated is (len(text) > 7)
    for place, shape in [*enumerate(shapes)][is_repeated:]:
        found = (before[place] - network[place]) / 0.1 * np.sqrt(squares[place])
        assert found.ravel().tolist() == pytest.approx(differences(loss, before, place, shape), abs=2e-4)


def differences(loss: Callable[[Factors], float], of: Factors, place: int, shape: tuple[int, ...]) -> list[float]:
    found = []
    for position in np.ndindex(shape):
        sides = []
        for step in (1e-2, -1e-2):
            moved = Factors(*(array.copy() for array in of))
            moved[place][position] += step
            sides.append(loss(moved))
        found.append((sides[0] - sides[1]) / 2e-2)
    return found


def test_it_learns_and_the_recipe_of_its_card_gives_its_scores(trained: Classifier[PooledSettings]) -> None:
    assert trained.held_out.by_label.accuracy >= 0.9 > 0.7 > trained.held_out.baseline.accuracy
    card = trained.path.with_name("MODEL.md").read_text()
    (written,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    (entry,) = yaml.safe_load(written)["annotate"]
    assert entry == {"pooled": {"model": "pooled.safetensors"}}
    good, bad = texts_of(PLAIN, 20, 3), texts_of(NOISE, 20, 4)
    scores = np.array(annotate(Pooled(f"{trained.path.parent}/"), [*good, *bad])["pooled"])
    assert ((scores > 0.5) == np.repeat([True, False], 20)).mean() > 0.9
    assert str(trained.path.parent) not in card
    assert trained.model_sha256 in card


def test_it_knows_the_order_of_words() -> None:
    texts = ["a b c a b c", "c b a c b a"]
    network = fit_pooled(TextBatch.of(texts * 60), np.tile([True, False], 60), PooledSettings(buckets=50))
    forwards, backwards = network.scores(TextBatch.of(texts))
    assert forwards > 0.9 > 0.1 > backwards


def test_a_word_that_was_never_seen_is_worth_nothing(trained: Classifier[PooledSettings]) -> None:
    batch = TextBatch.of([" ".join((*PLAIN, *NOISE))])
    _, buckets = word_buckets(batch.data, batch.offsets, 300)
    worth = np.abs(read_network(trained.path).table).sum(axis=(1, 2))
    assert set(np.flatnonzero(worth).tolist()) == set(buckets.tolist())


def test_of_a_long_text_it_learns_from_the_beginning() -> None:
    words = random.Random(8).choices(PLAIN, k=MOST_WORDS + 5)
    settings = PooledSettings(buckets=20, epochs=1)
    of_whole, of_cut, of_less = (
        write_network(fit_pooled(TextBatch.of([" ".join(words[:count])]), np.array([True]), settings))
        for count in (len(words), MOST_WORDS, MOST_WORDS - 20)
    )
    assert of_whole == of_cut != of_less


def test_the_same_labels_give_the_same_bytes(trained: Classifier[PooledSettings], labels: Path, tmp_path: Path) -> None:
    table = pq.read_table(labels)
    order = random.Random(7).sample(range(len(table)), len(table))
    pq.write_table(table.take(order), tmp_path / "mixed.parquet")
    again = train_pooled(tmp_path / "mixed.parquet", tmp_path / "pooled", settings=SETTINGS)
    for name in ("pooled.safetensors", "MODEL.md"):
        assert again.path.with_name(name).read_bytes() == trained.path.with_name(name).read_bytes()
    other = train_pooled(labels, tmp_path / "other", settings=PooledSettings(buckets=300, seed=2))
    assert other.model_sha256 != trained.model_sha256


def test_label_next_scores_by_it(trained: Classifier[PooledSettings]) -> None:
    found = trained_model(trained.path.parent)
    assert (found.annotator, found.column) == (Pooled(str(trained.path)), "pooled")


def test_what_cannot_be_trained_on(labels: Path, tmp_path: Path) -> None:
    for given in ({"buckets": 0}, {"epochs": 0}, {"learning_rate": float("nan")}, {"held_out_share": 0.9}):
        ((name, _),) = given.items()
        with pytest.raises(InputError, match=f"{name}: expected"):
            PooledSettings(**given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no row has the label 'good'"):
        train_pooled(labels, tmp_path / "pooled", positive="good")
    with pytest.raises(InputError, match="no text to train on has a word"):
        fit_pooled(TextBatch.of([" ", ""]), np.array([True, False]), SETTINGS)
    assert not (tmp_path / "pooled").exists()
    (tmp_path / "pooled").mkdir()
    (tmp_path / "pooled/other").touch()
    with pytest.raises(OutputError, match="expected an empty folder"):
        train_pooled(labels, tmp_path / "pooled", settings=SETTINGS)


def test_the_command_line_trains_the_same_model(
    trained: Classifier[PooledSettings], labels: Path, tmp_path: Path
) -> None:
    options = ["--input", labels, "--output", tmp_path / "pooled", "--buckets", 300]
    done = CliRunner().invoke(app, ["train", "pooled", *map(str, options)])
    assert done.exit_code == 0, done.output
    assert "pooled.safetensors and MODEL.md are written" in done.output
    assert (tmp_path / "pooled/pooled.safetensors").read_bytes() == trained.path.read_bytes()
