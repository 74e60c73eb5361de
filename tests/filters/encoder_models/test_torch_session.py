"""A BERT by torch against ONNX Runtime, on a processor and on a GPU; batches; and what a GPU without memory does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.arrays import Float32Array
from gneiss.errors import ModelError
from gneiss.filters.encoder import Encoder
from gneiss.filters.encoder_models.bert import Bert, read_bert
from gneiss.filters.encoder_models.features import EncoderFiles, Features, load_features
from gneiss.filters.encoder_models.own_head import own_head
from gneiss.filters.encoder_models.settings import Execution, FeatureSettings, GpuPrecision, Pooling
from tests.tiny_encoder import WIDTH, WORDS, write_tiny_encoder

torch = pytest.importorskip("torch", reason="torch is not installed (make test-train)")

from gneiss.filters.encoder_models import torch_session as sessions  # noqa: E402
from gneiss.filters.encoder_models.torch_session import TorchSession, gpu_session, torch_session  # noqa: E402

TEXTS = [" ".join(WORDS[(start + n) % 12] for n in range(start % 17)) for start in range(40)] + ["light energy " * 80]
#: Tokens of all windows of TEXTS and more.
ALL = 4096


def bert_of(folder: Path) -> Bert:
    files = EncoderFiles.of(folder)
    return read_bert(files.config, files.weights)


def both(
    folder: Path, pooling: Pooling, device: str, precision: GpuPrecision = "float32"
) -> tuple[Float32Array, Float32Array]:
    """Features by ONNX Runtime, and by torch with all windows in one batch."""
    files = EncoderFiles.of(write_tiny_encoder(folder))
    features = load_features(files, FeatureSettings(pooling, 3, 32))
    session = torch_session(bert_of(folder), pooling, device, precision, ALL)
    return features(TEXTS), Features(features.windows, session, WIDTH)(TEXTS)


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_torch_computes_the_same_for_windows_padded_together(pooling: Pooling, tmp_path: Path) -> None:
    alone, together = both(tmp_path, pooling, "cpu")
    assert np.isnan(together[::17]).any(axis=1).all(), "texts without tokens"
    assert together[1:] == pytest.approx(alone[1:], abs=2e-5, nan_ok=True)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_mixed_precision_is_near(pooling: Pooling, precision: GpuPrecision, tmp_path: Path) -> None:
    alone, together = both(tmp_path, pooling, "cpu", precision)
    step = {"float16": 2**-11, "bfloat16": 2**-8}[precision]
    far = np.abs(together - alone)[~np.isnan(alone)]
    assert step / 50 < far.mean() < 4 * step


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_gpu_computes_nearly_the_same(precision: GpuPrecision, tmp_path: Path) -> None:
    alone, together = both(tmp_path, "mean", "cuda:0", precision)
    assert together[1:] == pytest.approx(alone[1:], abs=0.1 if precision == "bfloat16" else 0.02, nan_ok=True)


def test_by_engine_torch_scores_are_those_of_onnx_runtime(tmp_path: Path) -> None:
    model = f"{write_tiny_encoder(tmp_path)}/"
    by_onnx = annotate(Encoder(model, window_tokens=32), TEXTS)["encoder"].to_pylist()
    by_torch = annotate(Encoder(model, window_tokens=32, engine="torch"), TEXTS)["encoder"].to_pylist()
    assert by_torch == pytest.approx(by_onnx, abs=1.01e-4, nan_ok=True)
    assert sum(one != other for one, other in zip(by_onnx, by_torch, strict=True)) <= 2


@pytest.mark.parametrize(
    ("precision", "batch_tokens", "most_units"), [("float32", 1, 0), ("float32", ALL, 1), ("bfloat16", ALL, 2)]
)
def test_what_stands_beside_a_text_moves_its_score_by_a_unit_of_the_last_digit_at_most(
    precision: GpuPrecision, batch_tokens: int, most_units: int, tmp_path: Path
) -> None:
    files, settings = EncoderFiles.of(write_tiny_encoder(tmp_path)), FeatureSettings("pooler", 3, 16)
    session = torch_session(bert_of(tmp_path), "pooler", "cpu", precision, batch_tokens)
    features = Features(load_features(files, settings).windows, session, WIDTH)
    head = own_head(files, WIDTH, settings)

    def scored(texts: list[str]) -> Float32Array:
        return np.round(head.scores(features(texts))[:, 0], session.digits)

    @given(st.lists(st.text(alphabet="the runs!é中\n\0", max_size=200), min_size=1, max_size=6), st.randoms())
    def check(texts: list[str], random: Random) -> None:
        order = random.sample(range(len(texts)), len(texts))
        together = scored([texts[number] for number in order])
        for place, number in enumerate(order):
            (alone,) = scored([texts[number]])
            assert np.isnan(alone) == np.isnan(together[place])
            assert np.isnan(alone) or abs(alone - together[place]) <= (most_units + 0.01) * 10**-session.digits

    check()


def holding(windows: int, monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """Let sessions have memory for so many windows; returns what they are asked for."""
    whole, asked = TorchSession._features, list[int]()

    def small(self: TorchSession, ids: torch.Tensor, is_token: torch.Tensor) -> Float32Array:
        asked.append(len(ids))
        if len(ids) > windows:
            raise error
        return whole(self, ids, is_token)

    monkeypatch.setattr(TorchSession, "_features", small)
    return asked


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory.\nmore"), RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")],
)
def test_windows_that_do_not_fit_go_by_halves(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = EncoderFiles.of(write_tiny_encoder(tmp_path))
    features = load_features(files, FeatureSettings("mean", 3, 32))
    session = torch_session(bert_of(tmp_path), "mean", batch_tokens=ALL)
    asked = holding(10, monkeypatch, error)
    found = Features(features.windows, session, WIDTH)(TEXTS)
    assert found[1:] == pytest.approx(features(TEXTS)[1:], abs=2e-5, nan_ok=True)
    assert asked[0] > 10
    assert max(asked[4:]) <= 10


def test_another_failure_of_torch_is_no_matter_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = torch_session(bert_of(write_tiny_encoder(tmp_path)), "mean", batch_tokens=ALL)
    holding(0, monkeypatch, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        session.run([np.array([1, 2])])


def test_an_overflow_is_told_and_gives_no_score(tmp_path: Path) -> None:
    bert = bert_of(write_tiny_encoder(tmp_path))
    name = "encoder.layer.0.intermediate.dense.weight"
    large = Bert(bert.config, {**bert.arrays, name: bert.arrays[name] * np.float32(1e6)})
    ids = [np.array([5, 6, 7])]
    assert np.isfinite(torch_session(large, "mean").run(ids)).all()
    with pytest.raises(ModelError, match="past what float16 holds; use gpu_precision: bfloat16"):
        torch_session(large, "mean", "cpu", "float16").run(ids)


@contextmanager
def a_gpu_of(windows: int, monkeypatch: pytest.MonkeyPatch, devices: int = 2) -> Iterator[list[str]]:
    """Torch sees GPUs, which are the processor, and hold so many windows; gives the devices that sessions asked for."""
    asked = []

    def on_the_processor(bert: Bert, pooling: Pooling, device: str, precision: GpuPrecision) -> TorchSession:
        asked.append(device)
        return torch_session(bert, pooling, "cpu", precision)

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: devices)
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(sessions, "torch_session", on_the_processor)
        holding(windows, patch, torch.OutOfMemoryError("CUDA out of memory"))
        yield asked


def test_a_worker_measures_the_batch_of_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bert = bert_of(write_tiny_encoder(tmp_path))
    seconds = {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.9}
    with a_gpu_of(1000, monkeypatch) as devices, monkeypatch.context() as patch:
        patch.setattr(sessions, "seconds_of", lambda session, windows, tokens: seconds[windows])
        session = gpu_session(bert, FeatureSettings("mean", 3, 32), "float32")
    assert session.batch_tokens == 4 * 32
    assert devices[0] in ("cuda:0", "cuda:1")


def test_the_annotator_on_a_gpu_scores_in_batches_of_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = f"{write_tiny_encoder(tmp_path)}/"
    expected = annotate(Encoder(model, window_tokens=32), TEXTS)["encoder"].to_pylist()
    with a_gpu_of(5, monkeypatch) as devices:
        found = annotate(Encoder(model, window_tokens=32, device="gpu"), TEXTS)["encoder"].to_pylist()
    assert len(devices) == 1
    pairs = [(of, to) for of, to in zip(found, expected, strict=True) if of is not None and to is not None]
    assert len(pairs) == sum(of is not None for of in expected)
    assert np.mean([abs(of - to) for of, to in pairs]) < 0.01
    assert all(score is None or score == round(score, 3) for score in found)


def test_without_a_gpu_the_processor_is_taken_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    files, settings = EncoderFiles.of(write_tiny_encoder(tmp_path)), FeatureSettings("mean", 3, 32)
    with caplog.at_level(logging.WARNING, logger="gneiss"):
        asked = load_features(files, settings, Execution("gpu"))(TEXTS)
    assert "torch sees none on this machine; scoring on the CPU" in caplog.text
    assert asked.tobytes() == load_features(files, settings)(TEXTS).tobytes()
