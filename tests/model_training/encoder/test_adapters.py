"""Adapters of an encoder, trained in one place: what they learn, the recipe of their card, what is refused."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from gneiss.annotation import annotate
from gneiss.cli.main import app
from gneiss.errors import InputError, ModelError
from gneiss.filters.encoder import Encoder, EncoderHead
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.model_training import train_encoder_adapters
from gneiss.model_training.models import AdapterSettings
from tests.model_training.encoder.test_training import NOISE, PLAIN, texts_of
from tests.tiny_encoder import write_tiny_encoder

SETTINGS = AdapterSettings(features=FeatureSettings("cls", 1, 24), rank=2, layers=2, steps=60, rate=1e-2)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    texts = [*texts_of(PLAIN, 60, 1), *texts_of(NOISE, 80, 2)]
    pq.write_table(pa.table({"text": texts, "label": ["hq"] * 60 + ["bad"] * 80}), path)
    return path


@pytest.mark.slow
def test_adapters_learn_and_their_card_and_the_command_line_give_the_same(labels: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed (make test-train)")
    minilm = write_tiny_encoder(tmp_path / "minilm", labels=0)
    made = train_encoder_adapters(labels, f"{minilm}/", tmp_path / "own", settings=SETTINGS)
    assert made.held_out.by_label.accuracy >= 0.9 > 0.7 > made.held_out.baseline.accuracy
    (written,) = re.findall(r"```yaml\n(.*?)```", made.path.with_name("MODEL.md").read_text(), re.DOTALL)
    given = yaml.safe_load(written)["annotate"][0]["encoder"]
    heads = {"encoder": EncoderHead(str(made.path), given["heads"]["encoder"]["label"])}
    read = Encoder(**given | {"model": f"{made.path.parent}/{given['model']}", "heads": heads})
    scores = np.array(annotate(read, [*texts_of(PLAIN, 20, 3), *texts_of(NOISE, 20, 4)])["encoder"])
    assert ((scores > 0.5) == np.repeat([True, False], 20)).mean() > 0.9
    options = ["--input", labels, "--model", f"{minilm}/", "--output", tmp_path / "again", "--window-tokens", 24]
    more = ["--adapters", "2", "--adapted-layers", "2", "--steps", "60", "--learning-rate", "0.01"]
    done = CliRunner().invoke(app, ["train", "encoder", *map(str, options), *more])
    assert done.exit_code == 0, done.output
    for name in ("head.safetensors", "MODEL.md", "encoder/model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (made.path.parent / name).read_bytes()


def test_what_cannot_be_trained(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="rank: expected 1 to 1024, found 0"):
        AdapterSettings(rank=0)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"torch, which is not installed: .*gneiss-curation\[train\]"):
        train_encoder_adapters(labels, f"{tmp_path}/", tmp_path / "own")
    assert not (tmp_path / "own").exists()
