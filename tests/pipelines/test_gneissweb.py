"""The published recipe end to end, with six small models that have the published labels, against plain Python.

The oracle knows nothing of gneiss but the tokenizer's vocabulary: it cuts repeats by comparing every window, asks
fastText and textstat about one document after another, and decides F and (R or X).
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from gneiss.curate.curate import Curated, curate
from gneiss.curate.loaded_models import load_models
from gneiss.filters.tokenizer import load_tokenizer
from gneiss.recipe.recipe import Recipe
from tests.support import shard_of

MIN_LENGTH_BYTES = 200
# name in the recipe → the label to score, and words that make a document of the sample have it
MODELS = {
    "dclm": ("hq", ("return", "must")),
    "cosmo": ("hq", ("object", "example")),
    "science": ("science", ("number", "math", "float")),
    "technology": ("technology", ("socket", "thread", "process", "bytes")),
    "education": ("education", ("test", "learn", "example")),
    "medical": ("medical", ("signal", "nerve")),
}
QUALITY = ("dclm", "cosmo")


def real_texts() -> Iterator[str]:
    """Docstrings of the standard library, with some passages that repeat."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        tree = ast.parse(path.read_text("utf-8", "replace"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield text


@cache
def sample_texts() -> list[str]:
    texts = list(islice((text for text in real_texts() if 80 < len(text) < 3000), 260))
    long = [text for text in texts if len(text) > 400][:12]
    tables = ["| 7f3a:0c | 9b:e1 | 44-00-1f |\n" * n for n in (3, 9, 30)]
    prose = ["The river rises in the hills. It runs south. Then it meets the sea. " * n for n in (1, 2, 8)]
    mixed = [f"Ümlaut, €uro und 漢字.\n{a[-350:]}\r\n{b[:300]}\n\n" for a, b in pairwise(long)]
    return [*texts, *mixed, *tables, *prose, "", "x", long[0], long[1].upper()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gneissweb")


@pytest.fixture(scope="module")
def models(folder: Path) -> dict[str, Path]:
    """Six supervised models of 8 dimensions; learned by heart, so their probabilities lie on both sides of 0.002."""
    import fasttext

    paths = {}
    for name, (label, words) in MODELS.items():
        lines = []
        for text in sample_texts():
            is_positive = any(word in text.lower() for word in words)
            lines.append(f"__label__{label if is_positive else 'cc'} {' '.join(text.split())}\n")
        (folder / f"{name}.txt").write_text("".join(lines), "utf-8")
        model = fasttext.train_supervised(
            str(folder / f"{name}.txt"), dim=8, epoch=12, lr=1.0, wordNgrams=2, bucket=5000, thread=1, seed=7, verbose=0
        )
        paths[name] = folder / f"{name}.bin"
        model.save_model(str(paths[name]))
    return paths


@pytest.fixture(scope="module")
def recipe(models: dict[str, Path]) -> Recipe:
    """The packaged recipe with other model files and another tokenizer, and nothing else changed."""
    written = Recipe.load("gneissweb-bytes").canonical()
    fasttext_models, _, tokens = (next(iter(entry.values())) for entry in written["phases"][0]["annotate"])
    assert list(fasttext_models["models"]) == list(MODELS)
    for name, model in fasttext_models["models"].items():
        assert model["label"] == MODELS[name][0]
        model["source"] = str(models[name])
    tokens["tokenizer"] = "builtin:cl100k_base"
    return Recipe.parse(yaml.safe_dump(written, sort_keys=False))


@pytest.fixture(scope="module")
def curated(folder: Path, recipe: Recipe) -> Curated:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GNEISS_CACHE", str(folder / "cache"))
        return curate(shard_of(folder / "sample.parquet", sample_texts()), recipe, load_models(recipe))


# The oracle.


def without_repeats(texts: list[bytes]) -> list[bytes]:
    """Every window that occurred before is cut, but no byte of a first one that is repeated."""
    firsts: dict[bytes, tuple[int, int]] = {}
    repeated = [bytearray(len(text)) for text in texts]
    protected = [bytearray(len(text)) for text in texts]
    marks = b"\1" * MIN_LENGTH_BYTES
    for document, text in enumerate(texts):
        for start in range(len(text) - MIN_LENGTH_BYTES + 1):
            window = text[start : start + MIN_LENGTH_BYTES]
            first, at = firsts.setdefault(window, (document, start))
            if (first, at) != (document, start):
                repeated[document][start : start + MIN_LENGTH_BYTES] = marks
                protected[first][at : at + MIN_LENGTH_BYTES] = marks
    left = []
    for text, again, safe in zip(texts, repeated, protected, strict=True):
        cut = [bool(a and not s) for a, s in zip(again, safe, strict=True)]
        for i in range(len(text)):  # a character of which a part stays, stays
            size = next((n for n in range(1, 5) if i + n == len(text) or text[i + n] & 0xC0 != 0x80), 1)
            if text[i] & 0xC0 != 0x80 and not all(cut[i : i + size]):
                cut[i : i + size] = [False] * size
        left.append(bytes(byte for byte, gone in zip(text, cut, strict=True) if not gone))
    return left


@dataclass(frozen=True)
class Judged:
    """What the oracle says of one document."""

    scores: dict[str, float]
    labels: dict[str, str | None]
    eflaw: float
    tokens: int
    failed: list[str]
    kept: bool


def judge(text: str, loaded: dict[str, Any], encode: Any) -> Judged:
    import textstat

    scores, labels = {}, {}
    for name, model in loaded.items():
        line = " ".join(text.strip().splitlines()) if name == "dclm" else text.replace("\n", " ")
        found, probabilities = model.predict(line, k=2)
        told = dict(zip(found, probabilities, strict=True))
        scores[name] = told.get(f"__label__{MODELS[name][0]}", float("nan")) - 1e-5  # which `predict` adds
        labels[name] = found[0].removeprefix("__label__") if found else None
    eflaw = textstat.mcalpine_eflaw(text)
    tokens = len(encode(text))
    in_category = any(labels[name] == name for name in MODELS if name not in QUALITY)
    low, high = (0.1, 0.5) if in_category else (0.22, 0.28)
    verdicts = {
        "not_emptied": bool(text),
        "quality": scores["dclm"] > 0.002 or scores["cosmo"] > 0.03,
        "readable": eflaw < (70 if in_category else 30),
        "tokens_normal": bool(text) and low <= tokens / len(text) <= high,
    }
    kept = bool(text) and verdicts["quality"] and (verdicts["readable"] or verdicts["tokens_normal"])
    return Judged(scores, labels, eflaw, tokens, [rule for rule, true in verdicts.items() if not true], kept)


@pytest.fixture(scope="module")
def expected(models: dict[str, Path]) -> list[tuple[str, Judged]]:
    """The text after dedup and what is said of it, for each document."""
    import fasttext

    loaded = {name: fasttext.load_model(str(path)) for name, path in models.items()}
    encode = load_tokenizer("builtin:cl100k_base", engine="tokenizers").encode
    left = [text.decode() for text in without_repeats([text.encode() for text in sample_texts()])]
    return [(text, judge(text, loaded, encode)) for text in left]


@pytest.mark.slow
def test_the_sample_puts_every_rule_to_the_test(expected: list[tuple[str, Judged]]) -> None:
    assert len(expected) > 200
    assert 0.1 < sum(judged.kept for _, judged in expected) / len(expected) < 0.9
    for rule in ("quality", "readable", "tokens_normal"):
        assert 10 < sum(rule in judged.failed for _, judged in expected) < len(expected) - 10
    for name in MODELS:
        assert len({judged.labels[name] for _, judged in expected}) >= 2
    changed = sum(text != before for (text, _), before in zip(expected, sample_texts(), strict=True))
    assert 5 < changed < 50


@pytest.mark.slow
def test_every_document_is_decided_as_plain_python_does(curated: Curated, expected: list[tuple[str, Judged]]) -> None:
    statuses = ["kept" if judged.kept else "dropped" for _, judged in expected]
    assert curated.annotations["status"].to_pylist() == statuses
    assert curated.annotations["failed"].to_pylist() == [judged.failed for _, judged in expected]
    assert curated.texts.texts() == [text for text, judged in expected if judged.kept]


def test_every_annotation_is_what_the_libraries_say(curated: Curated, expected: list[tuple[str, Judged]]) -> None:
    annotations = curated.annotations
    assert annotations["eflaw"].to_pylist() == [judged.eflaw for _, judged in expected]
    assert annotations["tokens"].to_pylist() == [judged.tokens for _, judged in expected]
    assert annotations["tokens_per_char"].to_pylist() == [
        judged.tokens / len(text) if text else None for text, judged in expected
    ]
    for name in MODELS:
        assert annotations[f"{name}_label"].to_pylist() == [judged.labels[name] for _, judged in expected]
        scores = [judged.scores[name] for _, judged in expected]
        assert annotations[name].to_pylist() == pytest.approx(scores, abs=2e-6)


def test_quality_is_not_always_true_as_it_is_with_the_published_code(curated: Curated) -> None:
    """Which reports the top label's probability, never below one half."""
    told = curated.statistics.rule_counts("gneissweb", Recipe.load("gneissweb-bytes").phases[0].rules)
    assert told["quality"]["false"] > 10
    assert told["quality"]["decisive"] > 0
