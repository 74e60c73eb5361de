"""A BERT by torch against ONNX Runtime, on a processor and on a GPU; and what a GPU without memory does."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from gneiss.arrays import Float32Array
from gneiss.filters.encoder_models.bert import read_bert
from gneiss.filters.encoder_models.features import EncoderFiles, Features, load_features
from gneiss.filters.encoder_models.settings import FeatureSettings, Pooling
from tests.tiny_encoder import WIDTH, WORDS, write_tiny_encoder

torch = pytest.importorskip("torch", reason="torch is not installed (make test-train)")

from gneiss.filters.encoder_models.torch_session import TorchSession, torch_session  # noqa: E402

TEXTS = [" ".join(WORDS[(start + n) % 12] for n in range(start % 17)) for start in range(40)] + ["light energy " * 80]


def both(folder: Path, pooling: Pooling, device: str) -> tuple[Float32Array, Float32Array]:
    """Features by ONNX Runtime, and by torch."""
    files = EncoderFiles.of(write_tiny_encoder(folder))
    features = load_features(files, FeatureSettings(pooling, 3, 32))
    session = torch_session(read_bert(files.config, files.weights), pooling, device)
    return features(TEXTS), Features(features.windows, session, WIDTH)(TEXTS)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_torch_computes_the_same_for_windows_padded_together(pooling: Pooling, tmp_path: Path) -> None:
    alone, together = both(tmp_path, pooling, "cpu")
    assert np.isnan(together[::17]).any(axis=1).all(), "texts without tokens"
    assert together[1:] == pytest.approx(alone[1:], abs=2e-5, nan_ok=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_computes_nearly_the_same(tmp_path: Path) -> None:
    alone, together = both(tmp_path, "mean", "cuda")
    assert together[1:] == pytest.approx(alone[1:], abs=0.05, nan_ok=True)


def test_windows_that_do_not_fit_go_by_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = EncoderFiles.of(write_tiny_encoder(tmp_path))
    features = load_features(files, FeatureSettings("mean", 3, 32))
    session = torch_session(read_bert(files.config, files.weights), "mean", "cpu")
    whole = TorchSession._features
    asked = []

    def small(self: TorchSession, ids: torch.Tensor, is_token: torch.Tensor) -> torch.Tensor:
        asked.append(len(ids))
        if len(ids) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory.\nmore")
        return whole(self, ids, is_token)

    monkeypatch.setattr(TorchSession, "_features", small)
    found = Features(features.windows, session, WIDTH)(TEXTS)
    assert found[1:] == pytest.approx(features(TEXTS)[1:], abs=2e-5, nan_ok=True)
    assert asked[0] > 10
    assert max(asked[5:]) <= 10


def test_without_a_gpu_the_processor_is_taken_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    files, settings = EncoderFiles.of(write_tiny_encoder(tmp_path)), FeatureSettings("mean", 3, 32)
    with caplog.at_level(logging.WARNING, logger="gneiss"):
        asked = load_features(files, settings, "gpu")(TEXTS)
    assert "torch sees none on this machine; scored on the processor" in caplog.text
    assert asked.tobytes() == load_features(files, settings)(TEXTS).tobytes()
