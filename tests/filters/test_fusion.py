"""Fusion: the kernel against plain NumPy, the model's file, and what an annotator of missing annotations says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load, save

from gneiss.annotation import annotate
from gneiss.arrays import BoolArray, Float64Array
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.fusion import Fusion
from gneiss.filters.fusion_model import (
    EXTRACTOR,
    HEAD,
    MASKED,
    Block,
    BlockColumn,
    FusionModel,
    Method,
    read_model,
    write_model,
)
from gneiss.input.plan import make_plan
from tests.support import recipe_of, write_documents

BLOCKS = (
    Block("quality", (BlockColumn("dclm"), BlockColumn("cosmo"))),
    Block("category", (BlockColumn("label", ("science", "cc")), BlockColumn("is_long"))),
    Block("readability", (BlockColumn("eflaw"),)),
)
BOUNDS = (0, 2, 5, 6)


def network(sizes: tuple[int, ...], draw: np.random.Generator) -> tuple[Float64Array, ...]:
    return tuple(
        array
        for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True)  # noqa: RUF007
        for array in (draw.standard_normal((inputs, outputs)), draw.standard_normal(outputs))
    )


def model(method: Method) -> FusionModel:
    draw = np.random.default_rng(7)
    sizes: list[tuple[int, ...]] = [(BOUNDS[-1] + 3, *MASKED, 1)]
    if method == "laser":
        sizes = [*((block.features, *EXTRACTOR) for block in BLOCKS), *[HEAD] * 3]
    mean, deviation = draw.standard_normal(6), draw.uniform(0.5, 2.0, 6)
    return FusionModel(method, BLOCKS, mean, deviation, tuple(network(size, draw) for size in sizes))


def answer(layers: tuple[Float64Array, ...], inputs: Float64Array) -> Float64Array:
    for layer in range(0, len(layers), 2):
        inputs = inputs @ layers[layer] + layers[layer + 1]
        inputs = inputs if layer + 2 == len(layers) else np.maximum(inputs, 0)
    return inputs


def expected(of: FusionModel, features: Float64Array, there: BoolArray) -> tuple[float | None, float | None]:
    """(score, spread) of one document, in plain NumPy."""
    chosen = np.flatnonzero(there).tolist()
    parts = [features[BOUNDS[k] : BOUNDS[k + 1]] for k in range(3)]
    if not chosen:
        return None, None
    if of.method == "laser":
        mean = np.mean([answer(of.networks[k], parts[k]) for k in chosen], axis=0)
        answers = [float(1 / (1 + np.exp(-answer(of.networks[3 + k], mean)[0]))) for k in chosen]
        return float(np.mean(answers)), max(answers) - min(answers)

    def masked(blocks: list[int]) -> float:
        filled = [parts[k] if k in blocks else np.zeros(len(parts[k])) for k in range(3)]
        inputs = np.concatenate([*filled, [float(k in blocks) for k in range(3)]])
        return float(1 / (1 + np.exp(-answer(of.networks[0], inputs)[0])))

    left = [masked([k for k in chosen if k != out]) for out in chosen] if len(chosen) > 1 else [0.0]
    return masked(chosen), max(left) - min(left)


@pytest.mark.parametrize("method", ["masked", "laser"])
def test_the_kernel_computes_what_numpy_does(method: Method) -> None:
    of, draw = model(method), np.random.default_rng(9)
    patterns = np.array([[bool(pattern >> k & 1) for k in range(3)] for pattern in range(8)] * 3)
    features = of.standardised(draw.standard_normal((24, 6)), patterns)
    scores, spreads = of.scores(features, patterns)
    for document in range(24):
        score, spread = expected(of, features[document], patterns[document])
        if score is None:
            assert np.isnan(scores[document])
            assert np.isnan(spreads[document])
        else:
            assert (scores[document], spreads[document]) == pytest.approx((score, spread), abs=1e-12)
    alone, _ = of.scores(features[5:6], patterns[5:6])
    assert alone[0] == scores[5], "whatever else is in the batch"


def annotations(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "dclm": [0.1, None, 0.3, float("nan"), 1e300],
        "cosmo": [0.5, 0.5, 0.5, 0.5, -1e300],
        "label": ["science", "cc", None, None, "other"],
        "is_long": [True, False, True, True, None],
        "eflaw": [12.0, 3.5, 4.0, None, 2.0],
    }
    return values | changed


@pytest.mark.parametrize("method", ["masked", "laser"])
def test_a_score_from_what_is_there(method: Method, tmp_path: Path) -> None:
    (tmp_path / "fusion.safetensors").write_bytes(write_model(model(method)))
    annotator = Fusion(f"{tmp_path}/", "score")
    texts = ["a"] * 5
    found = annotate(annotator, texts, annotations=annotations())
    assert found.column_names == ["score", "score_spread", "score_blocks"]
    assert found["score_blocks"].to_pylist() == [7, 6, 5, 0, 5]
    assert [score is None for score in found["score"].to_pylist()] == [False, False, False, True, False]
    part = Fusion(f"{tmp_path}/", "score", {"readability": ("ease",)})
    renamed = annotate(part, texts, annotations={"ease": annotations()["eflaw"]})
    alone = annotate(annotator, texts, annotations=annotations(dclm=[None] * 5, label=[None] * 5))
    assert renamed["score_blocks"].to_pylist() == [4, 4, 4, 0, 4]
    assert renamed.equals(alone)


def test_annotations_of_another_type_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(write_model(model("masked")))
    for name, values in (("dclm", ["x"] * 5), ("label", [1.0] * 5)):
        with pytest.raises(ModelError, match=f"the annotation '{name}': expected"):
            annotate(Fusion(str(path)), ["a"] * 5, annotations=annotations(**{name: pa.array(values)}))
    for blocks, message in (
        ({"qualty": ("dclm", "cosmo")}, "no block 'qualty'; did you mean 'quality'"),
        ({"quality": ("dclm",)}, "expected 2 annotations, in the places of dclm, cosmo, found 1"),
    ):
        with pytest.raises(ModelError, match=message):
            annotate(Fusion(str(path), blocks=blocks), ["a"], annotations=annotations())


def test_the_plan_says_what_the_model_reads(tmp_path: Path) -> None:
    layers = network((2, *MASKED, 1), np.random.default_rng(0))
    of = FusionModel("masked", BLOCKS[2:], np.zeros(1), np.ones(1), (layers,))
    path, documents = tmp_path / "m.safetensors", write_documents(tmp_path / "a.parquet", ["one two three."])
    path.write_bytes(write_model(of))
    entries = f"[fusion: {{model: {path}}}, readability]"
    recipe = recipe_of(f"- {{name: only, annotate: {entries}, rules: {{good: fusion > 0.5}}}}")
    whole = make_plan(recipe, documents).recipe
    assert whole.phases[0].annotators[0] == Fusion(str(path), blocks={"readability": ("eflaw",)})
    assert make_plan(whole, documents).recipe == whole
    without = recipe_of(f"- {{name: only, annotate: [fusion: {{model: {path}}}]}}")
    with pytest.raises(RecipeError, match="fusion reads the annotation 'eflaw'"):
        make_plan(without, documents)


@pytest.mark.parametrize("method", ["masked", "laser"])
def test_a_file_is_read_as_it_was_written(method: Method, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    content = write_model(model(method))
    path.write_bytes(content)
    assert write_model(read_model(path)) == content


def test_files_that_are_no_model(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    content = write_model(model("masked"))
    arrays = load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    says = json.loads(header["gneiss_fusion"])

    def written(says: Any, **changed: Float64Array) -> bytes:
        return save({**arrays, **changed}, {"gneiss_fusion": json.dumps(says)})

    many = {"name": "y", "values": [str(number) for number in range(5000)]}
    wrong = {
        "empty": b"",
        "truncated": content[:-1],
        "a huge header": (1 << 60).to_bytes(8, "little") + content[8:],
        "no metadata": save(arrays),
        "no JSON": save(arrays, {"gneiss_fusion": "{"}),
        "no mapping": written([]),
        "another version": written({**says, "version": 9}),
        "another method": written({**says, "method": "vote"}),
        "no blocks": written({**says, "blocks": []}),
        "blocks of another shape": written({**says, "blocks": says["blocks"][:1]}),
        "blocks that are none": written({**says, "blocks": [1]}),
        "too many features": written({**says, "blocks": [{"name": "x", "columns": [many]}]}),
        "NaN": written(says, mean=np.full(6, np.nan)),
        "no deviation": written(says, deviation=np.zeros(6)),
        "float32": written(says, mean=np.zeros(6, np.float32)),
        "one array more": written(says, more=np.zeros(1)),
    }  # fmt: skip
    wrong["not there"] = b""
    for name, content in wrong.items():
        path.write_bytes(content)
        if name == "not there":
            path.unlink()
        with pytest.raises(ModelError, match="expected a model of `gneiss train fusion`") as error:
            read_model(path)
        assert str(path) in str(error.value), name
