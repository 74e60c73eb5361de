"""fastText's features against a slow oracle, on text and on bytes that are none."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.errors import InputError
from gneiss.model_training.federated.features import FeatureSpace

SPACES = b" \n\r\t\v\f\0"
WORDS = ("a", "the", "über", "слово", "🙂", "exactly8", "a_word_of_more_than_twenty_four_bytes", "\u00a0", "</s")


def hashed(word: bytes) -> int:
    value = 2166136261
    for byte in word:
        value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
    return value


def oracle(space: FeatureSpace, text: bytes) -> dict[int, float]:
    for character in SPACES:
        text = text.replace(bytes([character]), b" ")
    words = [word for word in text.split(b" ") if word]
    words = [*(words[: words.index(b"</s>")] if b"</s>" in words else words), b"</s>"]
    words = [word for word in words if not word.startswith(b"__label__")]
    known = {word.encode(): number for number, word in enumerate(space.words)}
    found = [known[word] for word in words if word in known]
    signed = [value - (1 << 32) if value >> 31 else value for value in map(hashed, words)]
    for start in range(len(words)):
        value = signed[start]
        for after in signed[start + 1 : start + space.word_ngrams]:
            value = (value * 116049371 + after) % (1 << 64)
            found.append(len(known) + value % space.buckets)
    return {feature: count / len(found) for feature, count in Counter(found).items()}


tokens = st.sampled_from([*WORDS, "</s>", "__label__hq", "__label__", "__label", "unknown", ""])
texts = st.lists(
    st.lists(st.tuples(tokens | st.text(max_size=3), st.sampled_from([" ", "\n", "\t", "\0", "\v", "\u2028", ""])))
    .map(lambda pairs: "".join(word + space for word, space in pairs))
    .map(str.encode)
    | st.binary(max_size=30),
    min_size=1,
    max_size=8,
)
spaces = st.builds(
    lambda words, shape: FeatureSpace.of(words, *shape),
    st.lists(st.sampled_from(WORDS), unique=True),
    st.sampled_from([(1, 0), (1, 7), (2, 1), (2, 262_144), (3, 100_003), (4, 5)]),
)


def batch_of(texts: list[bytes]) -> TextBatch:
    return TextBatch(np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)]))


@given(spaces, texts)
def test_features_are_those_of_the_oracle(space: FeatureSpace, texts: list[bytes]) -> None:
    rows = space.rows(batch_of(texts))
    assert len(rows) == len(texts)
    for row, text in enumerate(texts):
        start, end = rows.starts[row], rows.starts[row + 1]
        columns = rows.columns[start:end].tolist()
        assert columns == sorted(set(columns))
        expected = oracle(space, text)
        assert columns == sorted(expected)
        assert rows.values[start:end].tolist() == [np.float32(expected[column]) for column in columns]


def test_many_documents_and_long_ones() -> None:
    space = FeatureSpace.of(["a", "b"], 3, 1000)
    long = [b"a b c d " * 2000, b"", b"x" * 100_000, *[b"b b"] * 500]
    rows = space.rows(batch_of(long))
    assert rows.columns[rows.starts[-2] :].tolist() == sorted(oracle(space, b"b b"))
    assert rows.values[: rows.starts[1]].sum() == pytest.approx(1.0, abs=1e-5)


def test_words_of_equal_hash_are_told_apart() -> None:
    by_hash: dict[int, str] = {}
    for number in range(200_000):
        word = f"{number:x}"
        other = by_hash.setdefault(hashed(word.encode()), word)
        if other != word:
            break
    space = FeatureSpace.of([other, word], 1, 0)
    rows = space.rows(TextBatch.of([other, word]))
    assert rows.columns.tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("words", "shape", "said"),
    [
        (["a", "a"], (1, 0), "'a' is there twice"),
        (["a b"], (1, 0), "no word to fastText"),
        ([""], (1, 0), "no word to fastText"),
        (["__label__x"], (1, 0), "no word to fastText"),
        (["\ud800"], (1, 0), "no word to fastText"),
        (["a\x1b[1m\n"], (1, 0), r"a\\u001b\[1m\\n"),
        ([], (2, 0), "n-grams of several words need some"),
        ([], (0, 5), "word_ngrams: expected 1 to 16, found 0"),
        ([], (1, -1), "buckets: expected 0 to"),
    ],
)
def test_what_is_no_feature_space(words: list[str], shape: tuple[int, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FeatureSpace.of(words, *shape)


def test_the_end_of_a_text_is_the_first_word() -> None:
    with pytest.raises(InputError, match="expected </s> first, found a"):
        FeatureSpace(("a", "</s>"))


def test_sites_compare_what_features_mean() -> None:
    spaces = [FeatureSpace.of(["a"]), FeatureSpace.of(["b"]), FeatureSpace.of(["a"], 3), FeatureSpace.of(["a"], 2, 9)]
    assert len({space.sha256 for space in spaces}) == 4
    assert FeatureSpace.of(["a"]).sha256 == spaces[0].sha256
