"""Heads and their files: the same scores as fastText's library, and as a plain sum; coded ones; what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gneiss.batch import TextBatch
from gneiss.errors import InputError, ModelError
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.heads.building import build_code, dense, train_head
from gneiss.model_training.heads.head import Head, packed_head, read_head
from gneiss.model_training.networks import forward
from tests.model_training.heads.made_heads import SPACE, linear_head, network_heads, texts_of
from tests.runs import train

TEXTS = ["the river runs south", "", "login cart", "nothing known", "wächst 日本", "a" * 5000]


def test_a_linear_head_is_a_sum_over_features() -> None:
    head = linear_head(0)
    batch = TextBatch.of(TEXTS)
    found = head.answers(batch)
    expected = dense(SPACE, batch) @ head.network[0][:, 0] + head.network[1]
    np.testing.assert_allclose(found.score, expected, rtol=1e-12)
    np.testing.assert_allclose(found.mass, 1.0, rtol=1e-5)
    assert found.entries.tolist() == (dense(SPACE, batch) > 0).sum(axis=1).tolist()


def test_a_network_gives_the_probability_of_its_second_output() -> None:
    head, _ = network_heads()
    logits = forward(list(head.network), dense(SPACE, TextBatch.of(TEXTS)))[-1]
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose(head.answers(TextBatch.of(TEXTS)).score, expected, rtol=1e-12)


def test_a_text_has_one_score_whatever_stands_beside_it() -> None:
    for head in (linear_head(1), network_heads()[0]):
        whole = head.answers(TextBatch.of(TEXTS)).score
        alone = [head.answers(TextBatch.of([text])).score[0] for text in TEXTS]
        assert whole.tolist() == alone


def test_a_fasttext_file_is_a_linear_head(tmp_path: Path) -> None:
    import fasttext

    train(tmp_path / "tiny.bin")
    head = read_head(tmp_path / "tiny.bin")
    model = fasttext.load_model(str(tmp_path / "tiny.bin"))
    assert head.is_linear
    texts = [text for text in TEXTS if text]
    for text, score in zip(texts, head.answers(TextBatch.of(texts)).score, strict=True):
        labels, scores = model.predict(text, k=2)
        probability = scores[labels.index(f"__label__{model.labels[1].removeprefix('__label__')}")]
        assert 1 / (1 + np.exp(-score)) == pytest.approx(probability, abs=2e-5)


def test_a_federated_model_is_a_linear_head(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal((SPACE.size, 1)).astype(np.float32)
    write_model(SPACE, weights, ("cc", "hq"), tmp_path / "quality.bin")
    found = read_head(tmp_path / "quality.bin")
    assert found.space == SPACE
    assert (found.network[0] == weights * 16).all()


@pytest.mark.parametrize("kind", ["linear", "network", "coded linear", "coded network"])
def test_a_file_holds_a_head(tmp_path: Path, kind: str) -> None:
    networks = network_heads()
    head = {
        "linear": linear_head(0),
        "network": networks[0],
        "coded linear": build_code([linear_head(0), linear_head(1)]),
        "coded network": build_code(networks, [texts_of(0)[0], texts_of(1)[0]]),
    }[kind]
    path = tmp_path / "head.safetensors"
    path.write_bytes(packed_head(head))
    found = read_head(path)
    assert packed_head(found) == path.read_bytes()
    assert (found.space, found.code) == (head.space, head.code)
    assert (found.answers(TextBatch.of(TEXTS)).score == head.answers(TextBatch.of(TEXTS)).score).all()


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    good = packed_head(linear_head(0))
    for content in (b"", b"{}", good[:-40], good.replace(b'word_ngrams\\": 2', b'word_ngrams\\": 0'), b"\xff" * 100):
        assert content != good
        path.write_bytes(content)
        with pytest.raises(ModelError, match="expected a head"):
            read_head(path)
    with pytest.raises(ModelError, match="expected a head"):
        read_head(tmp_path / "none.safetensors")
    train(tmp_path / "three.bin", ("hq", "cc"))
    weights = np.zeros((SPACE.size, 3), np.float32)
    write_model(SPACE, weights, ("a", "b", "c"), tmp_path / "three.bin")
    with pytest.raises(ModelError, match="two labels"):
        read_head(tmp_path / "three.bin")


def test_layers_that_do_not_fit_are_refused() -> None:
    good = linear_head(0).network
    for network, match in [
        ((good[0][1:], good[1]), "do not fit"),
        ((good[0] * np.nan, good[1]), "finite float64"),
        ((good[0].astype(np.float32), good[1]), "finite float64"),
        ((np.ones((SPACE.size, 2)), np.ones(2)), "expected 1 outputs, found 2"),
        ((), "do not fit"),
    ]:
        with pytest.raises(ModelError, match=match):
            Head(SPACE, network)


def test_what_cannot_be_coded_is_refused() -> None:
    one, network = linear_head(0), network_heads()[0]
    other = Head(FeatureSpace.of(["x"], 1, 0), (np.zeros((2, 1)), np.zeros(1)))
    texts = [texts_of(0)[0]] * 2
    for heads, of, match in [
        ([one], (), "2 heads or more, found 1"),
        ([one, other], (), "the heads read other features"),
        ([one, network], (), "each kind by itself"),
        ([one, build_code([one, linear_head(1)])], (), "is a coded one"),
        ([network] * 3, texts, "code them in pairs"),
        ([network] * 2, (), "2 or more texts for each network"),
    ]:
        with pytest.raises(InputError, match=match):
            build_code(heads, of)
    wide = FeatureSpace.of([], 2, 20_000)
    with pytest.raises(InputError, match="at most 16,384 words and buckets"):
        train_head(wide, ["a"], np.array([1]))
    with pytest.raises(InputError, match="a label for each text"):
        train_head(SPACE, ["a"], np.array([1, 0]))
