"""The ladder at tiny size: what is planted is there, recipes take it away, and the whole script."""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

import planted_junk
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from planted_junk import KEEP, KINDS, Planted, Planting, curate, kept, plant, real_texts

SMALL = Planting(corpus_bytes=240_000, document_bytes=1500, held_out_documents=10, reference_documents=40, templates=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of sentences of made-up words and real ones, of two domains."""
    rng = random.Random(0)
    letters = "aaabcdeeeefghiiiklmnooprssttu"
    vocabulary = ["".join(rng.choices(letters, k=rng.randint(3, 8))) for _ in range(600)]

    def sentence() -> str:
        words = rng.choices(vocabulary, k=6)
        return f"The {words[0]} of {words[1]} and {words[2]} is to be with {words[3]} that {words[4]}s {words[5]}."

    texts = [" ".join(sentence() for _ in range(rng.randint(8, 18))) for _ in range(420)]
    folder = tmp_path_factory.mktemp("real")
    sources = ["one" if i % 2 else "two" for i in range(len(texts))]
    pq.write_table(pa.table({"text": texts, "source": sources}), folder / "real.parquet")
    return folder


@pytest.fixture(scope="module")
def planted(corpus: Path) -> Planted:
    return plant(real_texts(corpus, SMALL.document_bytes), SMALL)


def test_half_of_the_bytes_is_junk_of_five_kinds(planted: Planted, corpus: Path) -> None:
    sizes: Counter[str] = Counter()
    for text, kind in zip(planted.texts, planted.kinds, strict=True):
        sizes[kind] += len(text.encode())
    shares = {kind: sizes[kind] / sizes.total() for kind in KINDS}
    assert shares == pytest.approx({kind: 0.5 if kind == "real" else 0.1 for kind in KINDS}, abs=0.02)
    assert plant(real_texts(corpus, SMALL.document_bytes), SMALL) == planted


def test_what_is_held_out_or_labelled_is_not_in_the_corpus(planted: Planted) -> None:
    held_out = {text for texts in planted.held_out.values() for text in texts}
    assert {domain: len(texts) for domain, texts in planted.held_out.items()} == {"one": 10, "two": 10}
    real = {text for text, kind in zip(planted.texts, planted.kinds, strict=True) if kind == "real"}
    reference = {text for text, label in planted.labels if label == "hq"}
    assert not held_out & real | held_out & reference | real & {text for text, _ in planted.labels}


def test_too_few_documents_are_refused(corpus: Path) -> None:
    with pytest.raises(SystemExit, match="too few texts"):
        plant(real_texts(corpus, 1500), planted_junk.Planting())


@pytest.mark.processes
def test_each_recipe_takes_the_junk_that_it_is_for(planted: Planted, tmp_path: Path) -> None:
    outputs = curate(planted, tmp_path / "planted")
    assert outputs.keys() == KEEP.keys()
    left = {name: Counter(kind for _, kind in kept(output)) for name, output in outputs.items()}
    raw = left["raw"]
    assert raw == Counter(planted.kinds)
    assert left["dedup"]["templates"] < 0.3 * raw["templates"]
    assert left["dedup"]["real"] == raw["real"]
    assert left["dedup + Gopher"]["machine"] < 0.2 * raw["machine"]
    assert left["dedup + readability"]["seo"] == 0
    assert left["ensemble"] <= left["dedup"] < raw


@pytest.mark.exhaustive
@pytest.mark.processes
@pytest.mark.parametrize("mode", [["--quick", "--budget-tokens", "20480"], ["--budget-tokens", "16384"]])
def test_the_script(
    mode: list[str], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="the experiments need torch: pip install 'gneiss-curation[train]'")
    import ladder

    from gneiss.ablate import Size

    monkeypatch.setattr("ladder.Planting", lambda corpus_bytes: SMALL)
    monkeypatch.setattr("ladder.SIZES", dict.fromkeys(("tiny", "10m"), Size(32, 1, 2, 4e-3)))
    arguments = [*mode, "--corpus", str(corpus), "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", ["ladder.py", *arguments, "--output", str(tmp_path / "out")])
    ladder.main()
    printed = capsys.readouterr().out
    assert "| ensemble + LinUpper |" in printed
    assert "raw, half 1 and raw, half 2" in printed
    assert (tmp_path / "out/ablation.json").exists()
