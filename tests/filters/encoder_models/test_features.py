"""Features of an encoder: the graph against plain NumPy, windows, neighbours, memory, and files that do not fit."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gneiss.arrays import AnyArray, Float32Array, Float64Array, Int64Array
from gneiss.errors import ModelError
from gneiss.filters.encoder_models.features import EncoderFiles, Features, load_features
from gneiss.filters.encoder_models.session import OutOfMemoryError
from gneiss.filters.encoder_models.settings import Execution, FeatureSettings, Pooling, Precision
from gneiss.filters.encoder_models.windows import Windows
from tests.tiny_encoder import HEADS, LAYERS, WIDTH, WORDS, write_tiny_encoder

SETTINGS = FeatureSettings(windows=3, window_tokens=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def features_of(folder: Path, settings: FeatureSettings = SETTINGS) -> Features:
    return load_features(EncoderFiles.of(folder), settings)


def plain_bert(arrays: dict[str, AnyArray], ids: Int64Array, pooling: Pooling) -> Float64Array:
    """The forward pass of one window, in float64, as the paper writes it."""

    def dense(x: AnyArray, name: str) -> AnyArray:
        return x @ arrays[f"bert.{name}.weight"].T.astype(np.float64) + arrays[f"bert.{name}.bias"]

    def norm(x: AnyArray, name: str) -> AnyArray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * arrays[f"bert.{name}.weight"] + arrays[f"bert.{name}.bias"]

    def heads(x: AnyArray) -> AnyArray:
        return x.reshape(len(ids), HEADS, -1).transpose(1, 0, 2)

    of = "embeddings."
    x = arrays[f"bert.{of}word_embeddings.weight"][ids] + arrays[f"bert.{of}position_embeddings.weight"][: len(ids)]
    x = norm(x + arrays[f"bert.{of}token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}." for number in range(LAYERS)):
        query, key, value = (heads(dense(x, f"{layer}attention.self.{part}")) for part in ("query", "key", "value"))
        attention = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(WIDTH / HEADS))
        attention /= attention.sum(-1, keepdims=True)
        attended = (attention @ value).transpose(1, 0, 2).reshape(len(ids), WIDTH)
        x = norm(dense(attended, f"{layer}attention.output.dense") + x, f"{layer}attention.output.LayerNorm")
        between = dense(x, f"{layer}intermediate.dense")
        between *= 0.5 * (1 + np.vectorize(math.erf)(between / math.sqrt(2)))
        x = norm(dense(between, f"{layer}output.dense") + x, f"{layer}output.LayerNorm")
    if pooling == "mean":
        return x.mean(0)  # type: ignore[no-any-return]
    return x[0] if pooling == "cls" else np.tanh(dense(x[0], "pooler.dense"))  # type: ignore[no-any-return]


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_the_graph_computes_what_numpy_does(folder: Path, pooling: Pooling) -> None:
    features = features_of(folder, FeatureSettings(pooling, 3, 16))
    arrays = load_file(folder / "model.safetensors")
    texts = ["the river runs south", "Buy now!!", "light " * 9, "energy of plants " * 40]
    for text, found in zip(texts, features(texts), strict=True):
        windows = features.windows.of(text)
        expected = np.mean([plain_bert(arrays, ids, pooling) for ids in windows], axis=0)
        assert found == pytest.approx(expected, abs=1e-5)
    assert [len(features.windows.of(text)) for text in texts] == [1, 1, 1, 3]


def test_int8_is_near_float32(folder: Path) -> None:
    texts = [" ".join(WORDS[n % 12] for n in range(start, start + 9)) for start in range(12)]
    exact = features_of(folder, FeatureSettings("mean", 3, 16, "float32"))(texts)
    rounded = features_of(folder, FeatureSettings("mean", 3, 16, "int8"))(texts)
    assert 0 < np.abs(exact - rounded).mean() < 0.05
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_whatever_stands_beside_a_text_changes_no_bit_of_its_features(folder: Path, precision: Precision) -> None:
    features = features_of(folder, FeatureSettings("mean", 3, 16, precision))

    @given(st.lists(st.text(alphabet="the runs!é中\n\0", max_size=200), min_size=1, max_size=6), st.randoms())
    def check(texts: list[str], random: Random) -> None:
        order = random.sample(range(len(texts)), len(texts))
        together = features([texts[number] for number in order])
        for place, number in enumerate(order):
            assert features([texts[number]]).tobytes() == together[place : place + 1].tobytes()

    check()


def letters(most: int, tokens: int) -> Windows:
    """Windows over single letters, between 1 and 2."""
    return Windows(lambda text: [10 + ord(letter) for letter in text], (1,), (2,), most, tokens)


@given(st.integers(0, 400), st.integers(1, 4), st.integers(3, 12))
def test_windows_are_the_beginning_the_end_and_what_is_between(length: int, most: int, tokens: int) -> None:
    text = "".join(chr(65 + number % 50) for number in range(length))
    found = [ids.tolist() for ids in letters(most, tokens).of(text)]
    room = tokens - 2
    assert len(found) == min(most, math.ceil(length / room))
    for ids in found:
        assert (ids[0], ids[-1]) == (1, 2)
        inside = "".join(chr(token - 10) for token in ids[1:-1])
        assert len(inside) == min(room, length)
        assert inside in text
    if found:
        assert [token - 10 for token in found[0][1:-1]] == [ord(letter) for letter in text[:room]]
    if len(found) > 1:
        assert [token - 10 for token in found[-1][1:-1]] == [ord(letter) for letter in text[-room:]]


def test_of_a_text_of_5_mb_only_the_windows_are_read() -> None:
    read = 0

    def encode(text: str) -> list[int]:
        nonlocal read
        read += len(text)
        return [ord(letter) for letter in text]

    text = "a" * 2_500_000 + "b" + "c" * 2_500_000
    beginning, middle, end = Windows(encode, (), (), 3, 512).of(text)
    assert (set(beginning), set(middle), set(end)) == ({97}, {97, 98, 99}, {99})
    assert read == 3 * 16 * 512


class Small:
    """A session whose device holds so many tokens; has what it is asked for, (windows, tokens of the longest)."""

    def __init__(self, holds: int, batch_tokens: int = 60) -> None:
        self.holds, self.batch_tokens = holds, batch_tokens
        self.asked: list[tuple[int, int]] = []

    digits = 4

    def run(self, windows: Sequence[Int64Array]) -> Float32Array:
        self.asked.append((len(windows), max(map(len, windows))))
        if len(windows) * self.asked[-1][1] > self.holds:
            raise OutOfMemoryError("CUDA out of memory")
        return np.array([[ids.sum()] for ids in windows], np.float32)


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 200), st.integers(20, 300))
def test_batches_hold_so_many_tokens_and_are_halved_where_memory_ends(
    sizes: list[int], batch_tokens: int, holds: int
) -> None:
    texts = ["a" * size for size in sizes]
    session = Small(holds, batch_tokens)
    found = Features(letters(1, 16), session, 1)(texts)
    alone = [Features(letters(1, 16), Small(1000, 1), 1)([text])[0, 0] for text in texts]
    assert np.array_equal(found[:, 0], alone, equal_nan=True)
    assert all(count == 1 or count * longest <= batch_tokens for count, longest in session.asked)
    fitted = [count for count, longest in session.asked if count * longest <= holds]
    assert sum(fitted) == sum(size > 0 for size in sizes)
    assert len(session.asked) - len(fitted) <= 5, "it goes on with less, and does not try again what did not fit"


def test_batches_are_as_large_as_they_may_be() -> None:
    texts = ["a" * (1 + number * 7 % 11) for number in range(20)]  # windows of 3 to 13 tokens
    wide, narrow = Small(1000), Small(30)
    Features(letters(1, 16), wide, 1)(texts)
    Features(letters(1, 16), narrow, 1)(texts)
    assert [count * longest <= 60 < (count + 1) * 13 for count, longest in wide.asked][:-1] == [True] * 3
    assert narrow.asked[:2] == [(8, 6), (4, 4)]
    with pytest.raises(ModelError, match="no memory for a window of 3 tokens: CUDA out of memory; lower window_tokens"):
        Features(letters(1, 16), Small(0), 1)(["a"])


def test_a_gpu_without_torch_is_a_processor_and_it_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with caplog.at_level(logging.WARNING, logger="gneiss"):
        asked = load_features(EncoderFiles.of(folder), SETTINGS, Execution("gpu"))(["the river"])
    assert "torch is not installed (extra `train`); scoring on the CPU" in caplog.text
    assert asked.tobytes() == features_of(folder)(["the river"]).tobytes()


def test_a_model_without_a_pooler_has_none(tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    save_file({name: array for name, array in arrays.items() if "pooler" not in name}, tmp_path / "model.safetensors")
    assert features_of(tmp_path)(["the river"]).shape == (1, WIDTH)
    with pytest.raises(ModelError, match=r"no pooler \(pooler.dense.weight\); use mean or cls"):
        features_of(tmp_path, FeatureSettings("pooler", 3, 16))


def test_a_text_without_tokens_has_no_features(folder: Path) -> None:
    found = features_of(folder)(["", " \n\t", "the river"])
    assert np.isnan(found).all(axis=1).tolist() == [True, True, False]


def spoiled(name: str, change: Callable[[AnyArray], AnyArray]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        arrays = load_file(folder / "model.safetensors")
        save_file(arrays | {name: change(arrays[name])}, folder / "model.safetensors")

    return spoil


def written(name: str, content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(content)

    return write


def of_few_positions(folder: Path) -> None:
    spoiled("bert.embeddings.position_embeddings.weight", lambda array: array[:8].copy())(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8}))


def cut_off(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


WORD = "bert.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoiled(WORD, lambda a: np.where(a > 1, np.nan, a).astype(np.float32)), "word_embeddings.weight: NaN"),
        (spoiled("bert.pooler.dense.bias", lambda a: a + np.float32(np.inf)), "pooler.dense.bias: NaN or infinite"),
        (spoiled(WORD, lambda a: a[:-1].copy()), "expected the shape"),
        (cut_off, "model.safetensors: expected weights in safetensors"),
        (written("model.safetensors", "{}"), "model.safetensors: expected weights in safetensors"),
        (written("config.json", "{"), "config.json: cannot read the encoder's configuration"),
        (written("config.json", "[]"), "config.json: expected a mapping"),
        (written("config.json", '{"model_type": "roberta"}'), "expected model_type bert.*export the model to ONNX"),
        (written("tokenizer.json", "{}"), "tokenizer.json is not a tokenizer.json"),
        (of_few_positions, "reads at most 8 tokens, found window_tokens: 16"),
    ],
)  # fmt: skip
def test_files_that_are_no_encoder_are_named(spoil: Callable[[Path], None], told: str, tmp_path: Path) -> None:
    spoil(write_tiny_encoder(tmp_path))
    with pytest.raises(ModelError, match=told):
        features_of(tmp_path)


@pytest.mark.parametrize("rows", [60, 4000])
def test_a_tokenizer_of_another_model_does_not_fit(rows: int, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path, vocab_size=rows)
    spoiled(WORD, lambda array: np.resize(array, (rows, WIDTH)))(tmp_path)
    with pytest.raises(ModelError, match=rf"the tokenizer does not fit the encoder: .*the encoder knows {rows}"):
        features_of(tmp_path)
