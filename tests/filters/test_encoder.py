"""The annotator `encoder`: its own and other heads, a recipe with it, and what is told of models that do not fit."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gneiss.annotation import annotate
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.encoder import Encoder, EncoderHead
from gneiss.filters.encoder_models.features import EncoderFiles, load_features
from gneiss.filters.encoder_models.head import Kind, LinearHead, TrainedHead, write_head
from gneiss.filters.encoder_models.settings import FeatureSettings
from gneiss.input.plan import make_plan
from tests.support import recipe_of, write_documents
from tests.tiny_encoder import WIDTH, write_tiny_encoder

TEXTS = ["the river runs south", "buy now, cheap!", "", None, "light energy " * 60]
POOLER, MEAN = FeatureSettings("pooler", 3, 32), FeatureSettings("mean", 3, 32)


def head(labels: tuple[str, ...] = ("good",), kind: Kind = "sigmoid", width: int = WIDTH) -> LinearHead:
    draw = np.random.default_rng(3)
    return LinearHead(kind, labels, draw.standard_normal((width, len(labels))), draw.standard_normal(len(labels)))


def write_trained(encoder: Path, path: Path, of: LinearHead, settings: FeatureSettings = MEAN) -> str:
    path.write_bytes(write_head(TrainedHead(of, settings, EncoderFiles.of(encoder).weights_sha256())))
    return str(path)


def test_its_own_head_gives_a_number(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m")
    found = annotate(Encoder(f"{encoder}/", window_tokens=32), TEXTS)["encoder"].to_pylist()
    features = load_features(EncoderFiles.of(encoder), POOLER)([text or "" for text in TEXTS]).astype(np.float64)
    arrays = load_file(encoder / "model.safetensors")
    expected = features @ arrays["classifier.weight"][0] + arrays["classifier.bias"][0]
    assert [score is None for score in found] == [False, False, True, True, False]
    for score, of in zip(found, expected.tolist(), strict=True):
        assert score is None or score == pytest.approx(of, abs=5.1e-5)
        assert score is None or score == round(score, 4)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_its_own_head_gives_probabilities_of_labels(problem: str, tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m", labels=3, problem_type=problem)
    heads = {f"p{number}": EncoderHead(label=f"label {number}") for number in range(3)}
    found = annotate(Encoder(f"{encoder}/", heads, window_tokens=32), TEXTS)
    features = load_features(EncoderFiles.of(encoder), POOLER)(["the river runs south"]).astype(np.float64)
    arrays = load_file(encoder / "model.safetensors")
    logits = (features @ arrays["classifier.weight"].T + arrays["classifier.bias"])[0]
    powers = np.exp(logits)
    expected = powers / powers.sum() if problem.startswith("single") else powers / (1 + powers)
    assert [found[f"p{number}"][0].as_py() for number in range(3)] == pytest.approx(expected.tolist(), abs=5.1e-5)
    assert found["p0_label"].to_pylist()[0] == f"label {int(logits.argmax())}"
    assert found["p0_label"].to_pylist()[2:4] == [None, None]


def test_a_text_of_5_mb_and_one_word_of_5_mb_are_scored(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m")
    begin = time.process_time()
    found = annotate(Encoder(f"{encoder}/", window_tokens=32), ["river " * 850_000, "x" * 5_000_000, "\n" * 5_000_000])
    assert [score is None for score in found["encoder"].to_pylist()] == [False, False, True]
    assert time.process_time() - begin < 5


def test_several_trained_heads_over_one_encoder(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m", labels=0)
    one, other = head(), head(("a", "b"), "softmax")
    heads = {
        "one": EncoderHead(write_trained(encoder, tmp_path / "one.safetensors", one)),
        "other": EncoderHead(write_trained(encoder, tmp_path / "other.safetensors", other), "b"),
    }
    found = annotate(Encoder(f"{encoder}/", heads, window_tokens=32), TEXTS)
    features = load_features(EncoderFiles.of(encoder), MEAN)(["the river runs south"])
    assert found.column_names == ["one", "other", "other_label"]
    assert found["one"][0].as_py() == round(float(one.scores(features)[0, 0]), 4)
    assert found["other"][0].as_py() == round(float(other.scores(features)[0, 1]), 4)


def test_heads_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m", labels=0)
    other = write_tiny_encoder(tmp_path / "other", labels=0, seed=1)

    def told(of: EncoderHead, model: Path = encoder, windows: int = 3) -> str:
        with pytest.raises(ModelError) as caught:
            annotate(Encoder(f"{model}/", {"score": of}, windows=windows, window_tokens=32), TEXTS)
        return str(caught.value)

    fitting = write_trained(encoder, tmp_path / "h.safetensors", head())
    assert "the encoder has no head of its own (classifier.weight); name one of" in told(EncoderHead())
    assert "the head learnt from another encoder" in told(EncoderHead(fitting), other)
    assert "windows=3" in told(EncoderHead(fitting), windows=2)
    assert "label: expected one of good, found 'bad'" in told(EncoderHead(fitting, "bad"))
    wide = write_trained(encoder, tmp_path / "wide.safetensors", head(width=WIDTH + 1))
    assert "the head reads 17 features, the encoder gives 16" in told(EncoderHead(wide))
    two = write_trained(encoder, tmp_path / "two.safetensors", head(("a", "b"), "softmax"))
    assert "label: expected one of a, b, found None" in told(EncoderHead(two))


def test_a_damaged_head_is_named(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m", labels=0)
    path = tmp_path / "h.safetensors"
    source = write_trained(encoder, path, head())
    whole, arrays = path.read_bytes(), load_file(path)

    def with_(**changed: np.ndarray) -> bytes:
        says = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
        save_file({**arrays, **changed}, tmp_path / "changed", says)
        return (tmp_path / "changed").read_bytes()

    for content, reason in (
        (whole[:-4], "expected a head of `gneiss train encoder`"),
        (b"", "expected a head of `gneiss train encoder`"),
        (with_(weights=arrays["weights"] * np.nan), "NaN or infinite weights"),
        (with_(bias=np.zeros(2)), "expected weights and bias for 1 labels"),
        (with_(bias=arrays["bias"].astype(np.float32)), "expected float64"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"h.safetensors: .*{reason}"):
            annotate(Encoder(f"{encoder}/", {"score": EncoderHead(source)}, window_tokens=32), TEXTS)


def test_a_model_with_another_number_of_labels_is_refused(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m", labels=2, id2label={"0": "a", "1": "b", "2": "c"})
    with pytest.raises(ModelError, match=r"expected a head of 3 outputs by config.json, found 2"):
        annotate(Encoder(f"{encoder}/", {"a": EncoderHead(label="a")}, window_tokens=32), TEXTS)


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    encoder = write_tiny_encoder(tmp_path / "m")
    with pytest.raises(ModelError, match=r"onnxruntime, which is not installed: .*gneiss-curation\[encoder\]"):
        annotate(Encoder(f"{encoder}/", window_tokens=32), TEXTS)
    recipe = recipe_of(f"- {{name: only, annotate: [encoder: {{model: {encoder}/, window_tokens: 32}}]}}")
    with pytest.raises(ModelError, match=r"gneiss-curation\[encoder\]"):
        make_plan(recipe, write_documents(tmp_path / "a.parquet", ["one"]))


def test_without_torch_its_extra_is_named_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    encoder = write_tiny_encoder(tmp_path / "m")
    with pytest.raises(ModelError, match=r"torch, which is not installed: .*gneiss-curation\[train\]"):
        annotate(Encoder(f"{encoder}/", window_tokens=32, engine="torch"), TEXTS)
    recipe = recipe_of(f"- {{name: only, annotate: [encoder: {{model: {encoder}/, engine: torch}}]}}")
    with pytest.raises(ModelError, match=r"gneiss-curation\[train\]"):
        make_plan(recipe, write_documents(tmp_path / "a.parquet", ["one"]))


def libraries_of(encoder: Path, documents: Path, **more: str) -> dict[str, str]:
    annotate = {"encoder": {"model": f"{encoder}/", **more}}
    plan = make_plan(recipe_of(f"- {json.dumps({'name': 'only', 'annotate': [annotate]})}"), documents)
    found = plan.identity["libraries"]
    assert isinstance(found, dict)
    return {name: found[name] for name in ("onnxruntime", "torch") if name in found}


def test_a_run_depends_on_torch_where_that_computes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed (make test-train)")
    encoder, documents = write_tiny_encoder(tmp_path / "m"), write_documents(tmp_path / "a.parquet", ["one"])
    onnx, torch = ({name: version(name)} for name in ("onnxruntime", "torch"))
    assert libraries_of(encoder, documents) == onnx
    assert libraries_of(encoder, documents, engine="torch") == torch
    assert libraries_of(encoder, documents, device="gpu") == onnx | torch


def test_a_run_depends_on_the_models_files_and_on_onnxruntime(tmp_path: Path) -> None:
    encoder = write_tiny_encoder(tmp_path / "m")
    documents = write_documents(tmp_path / "a.parquet", ["one"])
    plan = make_plan(recipe_of(f"- {{name: only, annotate: [encoder: {{model: {encoder}/}}]}}"), documents)
    assert plan.identity["libraries"]["onnxruntime"] == version("onnxruntime")  # type: ignore[index]
    assert [Path(model.source).name for model in plan.models] == ["config.json", "tokenizer.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ("{model: edu}", "model: expected a folder, with a slash at the end: edu/"),
        ("{model: edu/, windows: 0}", "windows: expected 1 to 64, found 0"),
        ("{model: edu/, window_tokens: 4}", "window_tokens: expected 8 to 8192, found 4"),
        ("{model: edu/, device: gpu, precision: int8}", "device: gpu runs the safetensors of a BERT only, and no int8"),
        ("{model: edu/, device: gpu, weights: onnx/model.onnx}", "device: gpu runs the safetensors of a BERT only"),
        ("{model: edu/, engine: torch, precision: int8}", "engine: torch runs the safetensors of a BERT only"),
        ("{model: edu/, engine: onnxruntime, device: gpu}", "engine: a GPU is torch's"),
        ("{model: edu/, gpu_precision: int8}", "gpu_precision"),
        ("{model: edu/, heads: {a: {label: x}, a_label: {}}}", "two heads both give the column 'a_label'"),
        ("{model: edu/, heads: {}}", "heads: expected one head or more"),
        ("{model: edu/, heads: {edu: {lable: x}}}", "lable"),
    ],
)
def test_what_no_recipe_may_ask_for(parameters: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        recipe_of(f"- {{name: only, annotate: [encoder: {parameters}]}}")
