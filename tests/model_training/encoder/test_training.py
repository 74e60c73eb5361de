"""Heads over an encoder: what they learn, their card, its recipe, the bytes, and what cannot be trained on."""

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
from typer.testing import CliRunner

from gneiss.annotation import annotate
from gneiss.cli.main import app
from gneiss.errors import InputError, ModelError, OutputError
from gneiss.filters.encoder import Encoder, EncoderHead
from gneiss.filters.encoder_models.head import read_head
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training import train_encoder
from gneiss.model_training.models import Classifier, HeadSettings
from tests.tiny_encoder import write_tiny_encoder

PLAIN = ("the", "river", "runs", "south", "and", "plants", "light")
NOISE = ("buy", "now", "cheap", "light", "energy", "of")
SETTINGS = FeatureSettings(windows=2, window_tokens=24)


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
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("models") / "minilm", labels=0)


@pytest.fixture(scope="module")
def trained(labels: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier[HeadSettings]:
    return train_encoder(labels, f"{minilm}/", tmp_path_factory.mktemp("head"), settings=SETTINGS)


def test_it_learns_and_the_recipe_of_its_card_gives_its_scores(trained: Classifier[HeadSettings], minilm: Path) -> None:
    assert trained.held_out.by_label.accuracy >= 0.9 > 0.7 > trained.held_out.baseline.accuracy
    card = trained.path.with_name("MODEL.md").read_text()
    (written,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    (entry,) = yaml.safe_load(written)["annotate"]
    given = entry["encoder"] | {
        "model": f"{minilm}/", "heads": {"encoder": EncoderHead(str(trained.path.parent / "head.safetensors"))}
    }  # fmt: skip
    good, bad = texts_of(PLAIN, 20, 3), texts_of(NOISE, 20, 4)
    scores = np.array(annotate(Encoder(**given), [*good, *bad])["encoder"])
    assert ((scores > 0.5) == np.repeat([True, False], 20)).mean() > 0.9
    assert "model: minilm/" in card
    assert str(minilm.parent) not in card
    assert read_head(trained.path).encoder_sha256 in card


def test_the_same_labels_give_the_same_bytes(
    trained: Classifier[HeadSettings], labels: Path, minilm: Path, tmp_path: Path
) -> None:
    table = pq.read_table(labels)
    order = random.Random(7).sample(range(len(table)), len(table))
    pq.write_table(table.take(order), tmp_path / "mixed.parquet")
    again = train_encoder(tmp_path / "mixed.parquet", f"{minilm}/", tmp_path / "head", settings=SETTINGS)
    for name in ("head.safetensors", "MODEL.md"):
        assert again.path.with_name(name).read_bytes() == trained.path.with_name(name).read_bytes()


def test_what_cannot_be_trained_on(labels: Path, minilm: Path, tmp_path: Path) -> None:
    for given, told in (
        ({"model": str(minilm)}, "expected a folder"),
        ({"l2": 0.0}, "l2: expected 1e-09 to 1e"),
        ({"held_out_share": 0.9}, "held_out_share: expected 0.05 to 0.5"),
        ({"positive": "good"}, "no row has the label 'good'"),
    ):
        with pytest.raises(InputError, match=told):
            train_encoder(labels, output=tmp_path / "head", **{"model": f"{minilm}/", **given})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no file at .*/nothing/config.json"):
        train_encoder(labels, f"{tmp_path}/nothing/", tmp_path / "head")
    assert not (tmp_path / "head").exists()
    (tmp_path / "head").mkdir()
    (tmp_path / "head/other").touch()
    with pytest.raises(OutputError, match="expected an empty folder"):
        train_encoder(labels, f"{minilm}/", tmp_path / "head", settings=SETTINGS)


def test_the_command_line_trains_the_same_head(
    trained: Classifier[HeadSettings], labels: Path, minilm: Path, tmp_path: Path
) -> None:
    options = ["--input", labels, "--model", f"{minilm}/", "--output", tmp_path / "head", "--window-tokens", 24]
    done = CliRunner().invoke(app, ["train", "encoder", *map(str, options), "--windows", "2"])
    assert done.exit_code == 0, done.output
    assert "head.safetensors and MODEL.md are written" in done.output
    assert (tmp_path / "head/head.safetensors").read_bytes() == trained.path.read_bytes()
