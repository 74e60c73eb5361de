"""Encoders in ONNX files that others exported: outputs of every token, of a text, of a head; what is no encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gneiss.annotation import annotate
from gneiss.arrays import Float32Array
from gneiss.errors import ModelError
from gneiss.filters.encoder import Encoder, EncoderHead
from gneiss.filters.encoder_models.features import EncoderFiles, load_features
from gneiss.filters.encoder_models.onnx_file import Graph, Node, onnx_bytes
from gneiss.filters.encoder_models.settings import FeatureSettings, Pooling
from tests.tiny_encoder import write_tiny_encoder

WIDTH = 5
TEXT = "the river runs south"


def words_of(folder: Path) -> Float32Array:
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    return np.random.default_rng(1).standard_normal((vocabulary, WIDTH)).astype(np.float32)


def write_onnx(
    folder: Path, *, of_token: bool, words: Float32Array | None = None, more: str = "attention_mask"
) -> Path:
    """An encoder whose tokens are its words; or whose texts are the mean of these."""
    write_tiny_encoder(folder, labels=WIDTH)
    name = "last_hidden_state" if of_token else "logits"
    nodes = [Node("Gather", ["words", "input_ids"], [name if of_token else "tokens"])]
    constants = {"words": words_of(folder) if words is None else words}
    if not of_token:
        nodes.append(Node("ReduceMean", ["tokens", "axis"], [name], {"keepdims": 0}))
        constants["axis"] = np.array([1])
    inputs = {given: ("int64", ["batch", "tokens"]) for given in ("input_ids", more)}
    shape = ["batch", "tokens", WIDTH] if of_token else ["batch", WIDTH]
    (folder / "onnx").mkdir(exist_ok=True)
    path = folder / "onnx/model.onnx"
    path.write_bytes(onnx_bytes(Graph(nodes, constants, inputs, {name: ("float32", shape)})))
    return path


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_of_every_token_the_mean_or_the_first_is_taken(pooling: Pooling, tmp_path: Path) -> None:
    write_onnx(tmp_path, of_token=True)
    features = load_features(EncoderFiles.of(tmp_path, "onnx/model.onnx"), FeatureSettings(pooling, 3, 32))
    (window,) = features.windows.of(TEXT)
    tokens = words_of(tmp_path)[window]
    assert features([TEXT])[0] == pytest.approx(tokens.mean(axis=0) if pooling == "mean" else tokens[0], abs=1e-6)


def test_outputs_of_its_own_head_are_scores(tmp_path: Path) -> None:
    write_onnx(tmp_path, of_token=False)
    annotator = Encoder(
        f"{tmp_path}/", {"topic": EncoderHead(label="label 3")}, weights="onnx/model.onnx", window_tokens=32
    )
    found = annotate(annotator, [TEXT])
    features = load_features(EncoderFiles.of(tmp_path, "onnx/model.onnx"), annotator.settings)([TEXT])[0]
    powers = np.exp(features.astype(np.float64))
    assert found["topic"][0].as_py() == pytest.approx(powers[3] / powers.sum(), abs=5.1e-5)
    assert found["topic_label"][0].as_py() == f"label {int(features.argmax())}"


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path, of_token=True)
    content = path.read_bytes()

    def told() -> str:
        with pytest.raises(ModelError) as caught:
            load_features(EncoderFiles.of(tmp_path, "onnx/model.onnx"), FeatureSettings("mean", 3, 32))
        return str(caught.value)

    for spoiled in (content[: len(content) // 2], b"", b"<html>", content[:-1] + b"\xff"):
        path.write_bytes(spoiled)
        assert f"{path}: ONNX Runtime cannot load it" in told()
    write_onnx(tmp_path, of_token=True, more="pixel_values")
    assert "expected the inputs attention_mask, input_ids, token_type_ids, found input_ids, pixel_values" in told()
    write_onnx(tmp_path, of_token=True, words=np.full_like(words_of(tmp_path), np.nan))
    assert "NaN or infinite numbers for a text" in told()
    write_onnx(tmp_path, of_token=True, words=words_of(tmp_path)[:7])
    features = load_features(EncoderFiles.of(tmp_path, "onnx/model.onnx"), FeatureSettings("mean", 3, 32))
    with pytest.raises(ModelError, match="fails on a window; are weights and tokenizer of one model"):
        features([TEXT])
    (tmp_path / "config.json").write_text("{}")
    assert "expected whole numbers vocab_size" in told()
    path.unlink()
    write_tiny_encoder(tmp_path)
    assert "model.onnx: cannot read" in told()
