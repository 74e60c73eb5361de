"""Heads over an encoder: what they read, their files, what another encoder or a faulty file is told, and memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from gneiss.backends.resources import WORKER_BYTES, Resources
from gneiss.batch import TextBatch
from gneiss.errors import InputError, ModelError
from gneiss.filters.encoder_models.features import load_features
from gneiss.filters.encoder_models.head import LinearHead, TrainedHead, write_head
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.heads.building import build_code, train_head
from gneiss.model_training.heads.encoder_space import EncoderSpace
from gneiss.model_training.heads.files import train_head_file
from gneiss.model_training.heads.head import Head, packed_head, read_head
from gneiss.model_training.heads.scoring import BATCH_BYTES, score_heads
from gneiss.model_training.heads.shard_scores import Decoder
from gneiss.model_training.labels import rule_of
from gneiss.model_training.networks import forward
from tests.model_training.heads.made_heads import (
    SETTINGS,
    SPACE,
    encoder_source,
    encoder_space,
    linear_head,
    network_heads,
    sentences,
    texts_of,
)
from tests.runs import InThisProcess
from tests.tiny_encoder import WIDTH, WORDS

TEXTS = ["the river runs south", "", "buy now", "a" * 3000, "wächst 日本"]


def features_of(texts: Sequence[str]) -> np.ndarray:
    return load_features(encoder_source().files, SETTINGS)(texts).astype(np.float64)


def test_a_head_reads_the_features_of_the_encoder() -> None:
    features = features_of(TEXTS)
    linear = linear_head(0, encoder_space())
    found = linear.answers(TextBatch.of(TEXTS))
    np.testing.assert_allclose(found.score, features @ linear.network[0][:, 0] + linear.network[1], rtol=1e-12)
    assert np.isnan(found.score).tolist() == [False, True, False, False, False]  # no token, no score
    assert found.entries.tolist() == [WIDTH, 0, WIDTH, WIDTH, WIDTH]
    np.testing.assert_allclose(np.delete(found.mass, 1), np.nansum(np.abs(features), axis=1)[[0, 2, 3, 4]], rtol=1e-6)
    network, _ = network_heads(encoder_space())
    logits = forward(list(network.network), features)[-1]
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose(network.answers(TextBatch.of(TEXTS)).score, expected, rtol=1e-12)


def test_it_learns_its_labels() -> None:
    texts = [*sentences(WORDS[:6], 60, 0), *sentences(WORDS[6:], 60, 1)]
    labels = np.repeat([1, 0], 60)
    for hidden, epochs, middle in ((8, 200, 0.5), (0, 400, 0.0)):
        head = train_head(encoder_space(), [*texts, ""], np.append(labels, 1), hidden=hidden, epochs=epochs)
        assert ((head.answers(TextBatch.of(texts)).score > middle) == labels).mean() > 0.75  # by chance .5
    with pytest.raises(InputError, match="none of the texts has a feature"):
        train_head(encoder_space(), ["", " "], np.array([0, 1]))


@pytest.mark.parametrize("kind", ["linear", "network", "coded linear", "coded network"])
def test_a_file_holds_a_head_and_not_where_its_encoder_is(tmp_path: Path, kind: str) -> None:
    space = encoder_space()
    head = {
        "linear": lambda: linear_head(0, space),
        "network": lambda: network_heads(space)[0],
        "coded linear": lambda: build_code([linear_head(0, space), linear_head(1, space)]),
        "coded network": lambda: build_code(network_heads(space), [texts_of(0)[0], texts_of(1)[0]]),
    }[kind]()
    path = tmp_path / "head.safetensors"
    path.write_bytes(packed_head(head))
    assert encoder_source().model.encode() not in path.read_bytes()
    found = read_head(path)
    assert packed_head(found) == path.read_bytes()
    assert (found.space, found.code) == (replace(space, source=None), head.code)
    with pytest.raises(InputError, match="reads the features of an encoder; say where the encoder is"):
        found.answers(TextBatch.of(TEXTS))
    there = found.at(encoder_source())
    assert there.answers(TextBatch.of(TEXTS)).score.tobytes() == head.answers(TextBatch.of(TEXTS)).score.tobytes()


def test_heads_of_train_encoder_are_heads(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    sha256 = encoder_source().files.weights_sha256()
    one = LinearHead("sigmoid", ("hq",), draw.standard_normal((WIDTH, 1)), draw.standard_normal(1))
    two = LinearHead("softmax", ("cc", "hq"), draw.standard_normal((WIDTH, 2)), draw.standard_normal(2))
    for head, of in ((one, lambda p: p[:, 0]), (two, lambda p: p[:, 1])):
        (tmp_path / "head.safetensors").write_bytes(write_head(TrainedHead(head, SETTINGS, sha256)))
        found = read_head(tmp_path / "head.safetensors").at(encoder_source())
        score = found.answers(TextBatch.of(TEXTS)).score
        expected = of(head.scores(features_of(TEXTS).astype(np.float32)))
        np.testing.assert_allclose(1 / (1 + np.exp(-score)), expected, rtol=1e-9)
    for kind, outputs in (("regression", 1), ("softmax", 3)):
        names = tuple(map(str, range(outputs)))
        other = LinearHead(kind, names, np.ones((WIDTH, outputs)), np.ones(outputs))  # type: ignore[arg-type]
        (tmp_path / "head.safetensors").write_bytes(write_head(TrainedHead(other, SETTINGS, sha256)))
        with pytest.raises(ModelError, match=f"of one label, or of two, found {kind} of {outputs}"):
            read_head(tmp_path / "head.safetensors")


def test_a_head_of_another_encoder_or_of_other_features_is_refused(tmp_path: Path) -> None:
    head = linear_head(0, encoder_space())
    with pytest.raises(ModelError, match="the head learnt from another encoder: expected weights of sha256"):
        head.at(encoder_source(1))
    with pytest.raises(ModelError, match="no file at"):
        head.at(EncoderSource(f"{tmp_path}/none/"))
    with pytest.raises(InputError, match=f"expected a folder, with a slash at the end: {tmp_path}/"):
        EncoderSource(str(tmp_path))
    wide = Head(replace(encoder_space(), size=WIDTH + 1), (np.ones((WIDTH + 1, 1)), np.ones(1)))
    with pytest.raises(ModelError, match=f"reads {WIDTH + 1} features, the encoder gives {WIDTH}"):
        wide.answers(TextBatch.of(TEXTS))
    fewer = Head(replace(encoder_space(), settings=replace(SETTINGS, windows=1)), head.network)
    for other in (fewer, linear_head(0)):
        with pytest.raises(InputError, match="the heads read other features"):
            build_code([head, other])


def test_a_faulty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    good = packed_head(linear_head(0, encoder_space()))
    for content in (b"", good[:-9], good.replace(b"window_tokens", b"window_tokenz"), b"\xff" * 200):
        assert content != good
        path.write_bytes(content)
        with pytest.raises(ModelError, match="expected a head"):
            read_head(path)
    path.write_bytes(good)
    arrays = load_file(path)
    says = {"version": 1, "code": None, "encoder_sha256": "0" * 64, "settings": {}}
    for changed, match in [
        ({"layer.0.weights": arrays["layer.0.weights"] * np.nan}, "finite float64"),
        ({"layer.0.weights": arrays["layer.0.weights"].astype(np.float32)}, "finite float64"),
        ({"layer.0.bias": np.ones(2)}, "do not fit"),
    ]:
        save_file(arrays | changed, path, {"gneiss_head": json.dumps(says)})
        with pytest.raises(ModelError, match=match):
            read_head(path)
    (tmp_path / "wrong.safetensors").write_bytes(
        write_head(
            TrainedHead(LinearHead("sigmoid", ("hq",), np.ones((2, 1)), np.ones(1)), SETTINGS, "0" * 64)
        ).replace(np.float64(1).tobytes(), np.float64(np.nan).tobytes())
    )
    with pytest.raises(ModelError, match="NaN or infinite weights"):
        read_head(tmp_path / "wrong.safetensors")


def test_without_onnxruntime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"gneiss-curation\[encoder\]"):
        linear_head(0, encoder_space()).at(encoder_source())


def test_where_encoders_differ_in_a_bit_the_lost_head_is_waited_for() -> None:
    """Workers on processors of two kinds may find other features, of which a decoded score would be wrong."""
    heads = {name: linear_head(seed, encoder_space()) for seed, name in enumerate("abc")}
    coded = build_code(list(heads.values()))
    batch = TextBatch.of(TEXTS)
    known = {name: head.answers(batch) for name, head in heads.items() if name != "b"}
    of_coded = coded.answers(batch)
    assert Decoder(heads, coded).scores("b", known, of_coded).is_exact.all()
    moved = replace(
        known["c"], mass=np.where(np.arange(len(TEXTS)) == 2, np.nextafter(known["c"].mass, 9), 1 * known["c"].mass)
    )
    found = Decoder(heads, coded).scores("b", {**known, "c": moved}, of_coded)
    assert found.is_pending.tolist() == [False, False, True, False, False]


@dataclass(frozen=True)
class Counting(InThisProcess):
    """Keeps what workers ask for."""

    asked: list[Resources] = field(default_factory=list)

    def admit(self, workers: int, resources: Resources, local: Sequence[str] = ()) -> None:
        self.asked.append(resources)
        super().admit(workers, resources, local)


def test_memory_of_a_worker_is_that_of_its_encoder_and_head(curated: Path, copy_of: Callable[[Path], Path]) -> None:
    """Every worker loads the encoder; a linear head over words has its weights and its words."""
    heads = {"a": linear_head(0, encoder_space()), "b": linear_head(1, encoder_space())}
    backend = Counting()
    score_heads(copy_of(curated), heads, backend=backend)
    weights = encoder_source().files.weights.stat().st_size
    assert backend.asked[0].memory_bytes == WORKER_BYTES + BATCH_BYTES + 5 * weights + 4 * 8 * (WIDTH + 1)
    assert linear_head(0).loaded_bytes == 4 * 8 * (SPACE.size + 1) + 200 * len(SPACE.words)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_answers_of_other_heads_and_other_runs_are_made_again(
    curated: Path, copy_of: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"a": linear_head(0, encoder_space()), "b": linear_head(1, encoder_space())}
    whole, output = copy_of(curated), copy_of(curated)
    score_heads(whole, heads, backend=InThisProcess())
    with monkeypatch.context() as at:
        at.setattr("gneiss.model_training.heads.scoring.write_layer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score_heads(output, {**heads, "b": linear_head(2, encoder_space())}, backend=InThisProcess())
    files = sorted((output / "_gneiss/heads").rglob("*.parquet"))
    assert len(files) == 10
    table = pq.read_table(files[0])  # of the head a, and right but for the run
    metadata = {b"gneiss.head": json.dumps(["another run", heads["a"].sha256]).encode()}
    wrong = pa.table(
        {**{name: table[name] for name in table.column_names}, "score": pa.nulls(len(table), pa.float64())}
    )
    pq.write_table(wrong.replace_schema_metadata(metadata), files[0])
    score_heads(output, heads, backend=InThisProcess())
    for name in sorted(path.relative_to(whole) for path in (whole / "annotations/heads").rglob("*.parquet")):
        assert (output / name).read_bytes() == (whole / name).read_bytes()


def test_heads_over_an_encoder_are_trained_from_files(tmp_path: Path) -> None:
    for number in range(2):
        texts, labels = texts_of(number)
        kinds = ["hq" if label else "cc" for label in labels.tolist()]
        pq.write_table(pa.table({"text": texts, "label": kinds}), tmp_path / f"{number}.parquet")
    rule = rule_of("label", None, None, "hq")
    given: dict[str, Any] = {"hidden": 4, "epochs": 3, "encoder": encoder_source()}
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    made = train_head_file(tmp_path / "0.parquet", first, rule, settings=SETTINGS, **given)
    assert made.space == encoder_space()
    train_head_file(tmp_path / "1.parquet", second, rule, start=read_head(first), **given)
    one, other = (read_head(path).at(encoder_source()) for path in (first, second))
    assert one.space == other.space == encoder_space()
    assert one.network[0].shape == (WIDTH, 4)
    content = first.read_bytes()
    train_head_file(tmp_path / "0.parquet", first, rule, settings=SETTINGS, **given)
    assert first.read_bytes() == content
    with pytest.raises(InputError, match="say where the encoder is"):
        train_head_file(tmp_path / "1.parquet", second, rule, start=read_head(first))
    assert isinstance(build_code([one, other], [texts_of(0)[0], texts_of(1)[0]]).space, EncoderSpace)
