"""Classifiers in the form in which they are published, written by transformers with random weights, and held to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gneiss.annotation import annotate
from gneiss.errors import ModelError
from gneiss.filters.encoder import Encoder, EncoderHead
from tests.tiny_encoder import WORDS, tokenizer

torch = pytest.importorskip("torch", reason="torch is not installed (make test-train)")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (make test-train)")

pytestmark = pytest.mark.slow
TEXTS = ["the river runs south", "Buy now!!", " ".join(WORDS) * 9]
#: Sizes of a model, small; FineWeb-Edu's is Snowflake Arctic Embed M: 12 layers of 768.
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 64, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip


def published(folder: Path, labels: int, **more: object) -> tuple[Path, list[list[float]]]:
    """Write a BertForSequenceClassification as transformers does; and its logits of TEXTS, by transformers."""
    folder.mkdir()
    vocabulary = tokenizer(folder / "tokenizer.json")
    torch.manual_seed(3)
    config = transformers.BertConfig(vocab_size=vocabulary, num_labels=labels, **SIZES, **more)
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for array in model.parameters():
            array.add_(0.2 * torch.randn_like(array))
    model.save_pretrained(folder)
    read = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found = []
    for text in TEXTS:
        ids = read.encode(text).ids
        with torch.no_grad():
            found.append(model(torch.tensor([[*ids[:31], ids[-1]] if len(ids) > 32 else ids])).logits[0].tolist())
    return folder, found


def test_a_regression_as_fineweb_edus(tmp_path: Path) -> None:
    folder, expected = published(tmp_path / "edu", 1, problem_type="regression")
    written = json.loads((folder / "config.json").read_text())
    assert written["architectures"] == ["BertForSequenceClassification"]
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= load_file(folder / "model.safetensors").keys()
    found = annotate(Encoder(f"{folder}/", windows=1, window_tokens=32), TEXTS)["encoder"].to_pylist()
    assert found == pytest.approx([score for (score,) in expected], abs=1e-4)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_classes(problem: str, tmp_path: Path) -> None:
    names = {0: "zero", 1: "one", 2: "two"}
    folder, logits = published(tmp_path / "m", 3, problem_type=problem, id2label=names)
    heads = {name: EncoderHead(label=name) for name in names.values()}
    found = annotate(Encoder(f"{folder}/", heads, windows=1, window_tokens=32), TEXTS)
    given = torch.tensor(logits)
    expected = (given.softmax(1) if problem.startswith("single") else given.sigmoid()).numpy()
    by_name = np.array([found[name].to_pylist() for name in names.values()]).T
    assert by_name == pytest.approx(expected, abs=1e-4)
    assert found["zero_label"].to_pylist() == [names[int(top)] for top in expected.argmax(axis=1)]


def test_an_encoder_of_another_kind_is_told_to_be_exported(tmp_path: Path) -> None:
    folder = tmp_path / "modern"
    folder.mkdir()
    vocabulary = tokenizer(folder / "tokenizer.json")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    special = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    config = transformers.ModernBertConfig(vocab_size=vocabulary, num_labels=1, **sizes, **special)
    transformers.ModernBertForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"expected model_type bert.*found 'modernbert'; export the model to ONNX"):
        annotate(Encoder(f"{folder}/", windows=1, window_tokens=32), TEXTS)
