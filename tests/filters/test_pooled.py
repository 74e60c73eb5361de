"""Pooled networks: the kernel against plain Python, the model's file, and what is not one."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError
from gneiss.filters.pooled import Pooled
from gneiss.filters.pooled_model import PooledNetwork, read_network, write_network
from gneiss.filters.scoring import annotator_of
from gneiss.routing.policy import Scorer


def network(buckets: int = 7, outputs: int = 5) -> PooledNetwork:
    draw = np.random.default_rng(7)
    return PooledNetwork(
        draw.standard_normal((buckets, 3, outputs)).astype(np.float32),
        draw.standard_normal(outputs),
        draw.standard_normal(2 * outputs),
        draw.standard_normal(1),
    )


NETWORK = network()


def fnv1a(word: bytes) -> int:
    value = 2166136261
    for byte in word:
        value = (value ^ (byte if byte < 128 else byte - 256 & 0xFFFFFFFF)) * 16777619 & 0xFFFFFFFF
    return value


def score(text: str, of: PooledNetwork) -> float | None:
    words = [word for word in re.split(rb"[\x00\t\n\v\f\r ]+", text.encode()) if word]
    if not words:
        return None
    worth = [of.table[fnv1a(word) % len(of.table)].astype(float) for word in words]
    worth += [np.zeros(worth[0].shape)] * 2
    groups = [sum((worth[i + k][k] for k in range(3)), of.bias) for i in range(len(words))]
    found = np.maximum(groups, 0)
    logit = np.concatenate([found.mean(axis=0), found.max(axis=0)]) @ of.weights + of.last_bias[0]
    return float(1 / (1 + math.exp(-logit)))


TEXTS = st.text(st.one_of(st.sampled_from("ab \n\t\0é\u00a0\u2028"), st.characters(exclude_categories=["Cs"])))


@given(st.lists(TEXTS, max_size=4))
def test_the_kernel_is_the_network(texts: list[str]) -> None:
    expected = [score(text, NETWORK) for text in texts]
    found = NETWORK.scores(TextBatch.of(texts))
    assert [None if math.isnan(value) else value for value in found] == [
        value if value is None else pytest.approx(value, rel=1e-12) for value in expected
    ]
    alone = [NETWORK.scores(TextBatch.of([text]))[0] for text in texts]
    assert found.tobytes() == np.array(alone, np.float64).tobytes()  # whatever stands beside it


def test_the_annotator_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "pooled.safetensors"
    path.write_bytes(write_network(NETWORK))
    assert write_network(read_network(path)) == path.read_bytes()
    texts = ["one two three four", None, " \n", "one"]
    found = annotate(Pooled(f"{tmp_path}/", "good"), texts)["good"].to_pylist()
    assert found[1:3] == [None, None]
    assert [found[0], found[3]] == [pytest.approx(score(texts[i] or "", NETWORK)) for i in (0, 3)]


def test_a_policy_may_have_it_as_a_tier() -> None:
    tier = Scorer("pooled", 0.5, "above", {"pooled": {"model": "own/"}})
    assert annotator_of(tier) == Pooled("own/")


def test_large_weights_overflow_nowhere() -> None:
    outputs = 4
    most = PooledNetwork(
        np.full((1, 3, outputs), 1e9, np.float32), np.full(outputs, 1e9), np.full(2 * outputs, -1e9), np.full(1, 1e9)
    )
    assert most.scores(TextBatch.of(["word " * 1000])).tolist() == [0.0]


def changed(**arrays: Any) -> bytes:
    given = load(write_network(NETWORK)) | arrays
    return save({k: v for k, v in given.items() if v is not None}, {"gneiss_pooled": json.dumps({"version": 1})})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "expected a model of `gneiss train pooled`"),
        (write_network(NETWORK)[:-9], "expected a model of `gneiss train pooled`"),
        (save(load(write_network(NETWORK))), "gneiss_pooled"),
        (save(load(write_network(NETWORK)), {"gneiss_pooled": '{"version": 2}'}), "expected version 1"),
        (save(load(write_network(NETWORK)), {"gneiss_pooled": "{"}), "expected a model of `gneiss train pooled`"),
        (changed(bias=None), "bias"),
        (changed(bias=np.zeros(4)), r"table: expected float32 \(7, 3, 4\), all above 0, found float32 \(7, 3, 5\)"),
        (changed(bias=np.full(5, np.nan)), "bias: NaN, infinite or absurdly large"),
        (changed(last_bias=np.array([2e9])), "last_bias: NaN, infinite or absurdly large"),
        (changed(weights=np.zeros(9)), r"weights: expected float64 \(10,\)"),
        (changed(weights=np.zeros(10, np.float32)), r"found float32 \(10,\)"),
        (changed(last_bias=np.zeros(())), r"last_bias: expected float64 \(1,\)"),
        (changed(table=np.zeros((0, 3, 5), np.float32)), "table: expected"),
        (changed(table=np.zeros((), np.float32)), "table: expected"),
        (changed(table=np.zeros((7, 2, 5), np.float32)), "table: expected"),
    ],
)
def test_what_is_no_model_is_refused_by_name(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "pooled.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=told) as raised:
        Pooled(str(path)).load({str(path): path})
    assert str(path) in str(raised.value)
    with pytest.raises(ModelError, match=r"gone\.safetensors"):
        read_network(tmp_path / "gone.safetensors")
