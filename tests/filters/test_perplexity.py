"""Perplexity: against back-off by hand, and CCNet's text against its definition, step by step."""

from __future__ import annotations

import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import kenlm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError
from gneiss.filters.ccnet_text import normalize
from gneiss.filters.perplexity import Perplexity, _power_of_ten, perplexity

#: A trigram model by hand: n-gram → (log10 probability, log10 back-off weight).
MODEL: dict[tuple[str, ...], tuple[float, float]] = {
    ("<unk>",): (-1.5, 0.0),
    ("<s>",): (-99.0, -0.25),
    ("</s>",): (-1.25, 0.0),
    ("the",): (-0.75, -0.125),
    ("cat",): (-1.0, -0.5),
    ("é",): (-2.0, -0.375),
    ("<s>", "the"): (-0.5, -0.0625),
    ("the", "cat"): (-0.625, -0.25),
    ("cat", "</s>"): (-0.375, 0.0),
    ("é", "é"): (-0.25, -1.0),
    ("<s>", "the", "cat"): (-0.125, 0.0),
    ("the", "cat", "</s>"): (-0.1875, 0.0),
}
LINES = st.lists(
    st.sampled_from(["the", "cat", "é", "dog", "<s>", "</s>", "the\u00a0cat", "\x1c", "x\x0by"]), max_size=9
)


def arpa() -> str:
    """The model as an ARPA file."""
    orders = [[gram for gram in MODEL if len(gram) == order] for order in (1, 2, 3)]
    parts = ["\\data\\\n" + "".join(f"ngram {n}={len(grams)}\n" for n, grams in enumerate(orders, 1))]
    for n, grams in enumerate(orders, 1):
        rows = [f"{MODEL[gram][0]}\t{' '.join(gram)}" + (f"\t{MODEL[gram][1]}" if n < 3 else "") for gram in grams]
        parts.append(f"\\{n}-grams:\n" + "\n".join(rows) + "\n")
    return "\n".join([*parts, "\\end\\\n"])


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("kenlm") / "model.arpa"
    path.write_text(arpa(), "utf-8")
    return str(path)


def probability(history: tuple[str, ...], word: str) -> float:
    """Back-off: the longest known n-gram, and the weights of the histories that were too long for it."""
    history, weight = history[-2:], 0.0
    while (*history, word) not in MODEL:
        if not history:
            return weight + MODEL[("<unk>",)][0]
        weight += MODEL.get(history, (0.0, 0.0))[1]
        history = history[1:]
    return weight + MODEL[(*history, word)][0]


def oracle(text: str) -> list[Any]:
    """The five columns, from the definitions."""
    scores, lengths = [], []
    for line in text.splitlines():
        words = line.replace("\0", " ").split()
        words = [word if (word,) in MODEL and word not in ("<s>", "</s>") else "<unk>" for word in words]
        if words:
            whole = ["<s>", *words, "</s>"]
            scores.append(sum(probability(tuple(whole[:i]), whole[i]) for i in range(1, len(whole))))
            lengths.append(len(words) + 1)
    if not scores:
        return [None] * 5
    lines = [10 ** (-score / length) for score, length in zip(scores, lengths, strict=True)]
    return [10 ** (-sum(scores) / sum(lengths)), sum(scores), sum(lengths), min(lines), max(lines)]


def check(text: str, model: str) -> None:
    row = list(annotate(Perplexity(model), [text]).to_pylist()[0].values())
    assert row == [None if value is None else pytest.approx(value, rel=1e-5) for value in oracle(text)]


@settings(max_examples=200, deadline=None)
@given(lines=st.lists(LINES.map(" ".join), max_size=4))
def test_equals_back_off_by_hand(model: str, lines: list[str]) -> None:
    check("\n".join(lines), model)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("the cat\n\x00\t\r\x0b\x0c\x1c\x85\u2028é.")))
def test_any_text_equals_back_off_by_hand(model: str, text: str) -> None:
    check(text, model)


def test_equals_kenlm_on_one_line(model: str) -> None:
    line = "the cat sat é é cat"
    row = annotate(Perplexity(model), [line]).to_pylist()[0]
    assert row["perplexity"] == pytest.approx(kenlm.Model(model).perplexity(line), rel=1e-6)
    assert row["perplexity_log10"] == pytest.approx(kenlm.Model(model).score(line))
    assert row["perplexity"] == row["perplexity_line_min"] == row["perplexity_line_max"]


def test_nothing_cuts_a_text_short(model: str) -> None:
    """kenlm itself stops at NUL, and takes a literal <s> for the start, which is certain."""
    long = annotate(Perplexity(model), ["the cat\x00the cat", "dog <s> dog", "dog dog dog"]).to_pylist()
    assert long[0]["perplexity_tokens"] == 5
    assert long[1] == long[2]


def test_nulls_columns_and_function(model: str) -> None:
    annotator = Perplexity("hf://owner/name@main/en.bin", "ccnet", "lm")
    table = annotate(annotator, ["THE cät", None, " \n\t\n", "the cat"], {annotator.model_files[0]: Path(model)})
    rows = table.to_pylist()
    assert list(rows[0]) == ["lm", "lm_log10", "lm_tokens", "lm_line_min", "lm_line_max"]
    assert rows[0] == rows[3]
    assert rows[1] == rows[2] == dict.fromkeys(rows[0])
    assert [str(field.type).replace("double", "float64") for field in table.schema] == [
        column.type for column in annotator.columns
    ]
    assert perplexity(["the cat", None], model).to_pylist() == [rows[3]["lm"], None]


def test_document_does_not_depend_on_its_neighbours(model: str) -> None:
    texts = ["the cat", "", "cat\ncat the", "é é"]
    compute = Perplexity(model).load({model: Path(model)})
    together = compute(TextBatch.of(texts))["perplexity"].to_pylist()
    assert together == [compute(TextBatch.of([text]))["perplexity"].to_pylist()[0] for text in texts]


@settings(max_examples=300)
@given(st.floats(0, 50))
def test_power_of_ten(exponent: float) -> None:
    assert _power_of_ten(exponent) == pytest.approx(10**exponent, rel=1e-14)


def ccnet_oracle(line: str) -> str:
    """CCNet's steps one after another, as its paper and public code have them."""
    line = line.strip().lower()
    line = "".join(c for c in unicodedata.normalize("NFD", line) if unicodedata.category(c) != "Mn")
    line = re.sub(r"\d", "0", line)
    pairs = (
        '，, 。. 、, „" ”" “" «" »" 」" 「" 《" 》" ´\' ∶: ：: ？? ！! （( ）) ；; –- ～~ ’\' ━- 〈< 〉> 【[ 】] ％% ►-'
    )
    table = {pair[0]: pair[1] for pair in pairs.split()} | {"—": " - ", "．": ". ", "…": "..."}
    line = "".join(table.get(character, character) for character in line)
    return "".join(character for character in line if unicodedata.category(character) != "Cc")


@settings(max_examples=500)
@given(st.text() | st.text(st.sampled_from("aÄé1９ \t\x7f\x85İ—．…“”「」ß한각e\u0301")))
def test_ccnet_text_equals_its_definition(line: str) -> None:
    assert normalize(line) == ccnet_oracle(line)


PIECES_ARPA = "\\data\\\nngram 1={}\nngram 2=1\n\n\\1-grams:\n{}\n\n\\2-grams:\n-2\t<s> </s>\n\n\\end\\\n"


def piece_model(folder: Path, pieces: list[str]) -> Path:
    """A unigram model of pieces, each as likely as its place."""
    words = ["<unk>", "<s>", "</s>", *pieces]
    rows = [f"{-99 if word == '<s>' else -(1 + place / 64)}\t{word}\t0" for place, word in enumerate(words)]
    path = folder / "en.arpa"
    path.write_text(PIECES_ARPA.format(len(words), "\n".join(rows)), "utf-8")
    return path


def test_pieces_as_in_ccnet(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece, of the extra ccnet, is not installed")
    text = "the river runs south for 000 miles, and the town (in the hills) is - a. small. one, too. " * 20
    (tmp_path / "text").write_text(text.replace(". ", ".\n"))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "en.sp"), vocab_size=60, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "en.sp.model"))
    pieces = [processor.IdToPiece(i) for i in range(processor.GetPieceSize()) if i > 2]
    model = piece_model(tmp_path, list(dict.fromkeys([*pieces, "\u2581", "\u2581."])))
    annotator = Perplexity(str(model), "ccnet", pieces=str(tmp_path / "en.sp.model"))
    assert annotator.model_files == (str(model), str(tmp_path / "en.sp.model"))
    document = " The RIVER runs\nsouth for 123 miles… "
    row = annotate(annotator, [document, "", None]).to_pylist()[0]
    cut = processor.EncodeAsPieces(ccnet_oracle(document))
    log10 = kenlm.Model(str(model)).score(" ".join(cut))
    assert row["perplexity_tokens"] == len(cut) + 1
    assert row["perplexity"] == pytest.approx(10 ** (-log10 / (len(cut) + 1)))
    assert row["perplexity_line_min"] == row["perplexity"] == row["perplexity_line_max"]
    with pytest.raises(ModelError, match=r"text: not a SentencePiece model"):
        annotate(Perplexity(str(model), "ccnet", pieces=str(tmp_path / "text")), ["a"])


def test_a_model_of_pieces_is_refused_without_them(tmp_path: Path, model: str) -> None:
    of_pieces = piece_model(tmp_path, ["\u2581", "\u2581the", "\u2581a", "s"])
    for normalization in ("ccnet", "none"):
        with pytest.raises(
            ModelError, match=r"en\.arpa: this model reads SentencePiece pieces.*`pieces: en\.sp\.model`"
        ):
            annotate(Perplexity(str(of_pieces), normalization), ["the"])  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="expected a model of SentencePiece pieces"):
        annotate(Perplexity(model, "ccnet", pieces=str(of_pieces)), ["the"])
    words = piece_model(tmp_path, ["\u2581", "\u2582\u2581", "the"])  # a word of a picture is no piece
    assert annotate(Perplexity(str(words)), ["the"])["perplexity"].null_count == 0


def test_pieces_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    of_pieces = piece_model(tmp_path, ["\u2581", "\u2581a"])
    with pytest.raises(ModelError, match=r"gneiss-curation\[ccnet\]"):
        annotate(
            Perplexity(str(of_pieces), "ccnet", pieces="en.sp.model"),
            ["a"],
            {str(of_pieces): of_pieces, "en.sp.model": Path("x")},
        )


def test_nearly_constant_perplexities_are_warned_of_once(model: str, caplog: pytest.LogCaptureFixture) -> None:
    unknown = [f"{'zebra ' * 200}{'yak ' * number}" for number in range(60)]
    compute = Perplexity(model).load({model: Path(model)})
    compute(TextBatch.of(unknown[:49]))
    compute(TextBatch.of([f"the cat {'zebra ' * number}" for number in range(60)]))
    assert not caplog.records
    for _ in range(2):
        compute(TextBatch.of(unknown))
    (record,) = caplog.records
    assert re.search("perplexities of nine in ten of 60 documents are between", record.getMessage())


def test_any_white_space_separates_words(model: str) -> None:
    plain, other = annotate(Perplexity(model), ["the cat the", "the\u00a0cat\u3000the"]).to_pylist()
    assert plain == other


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    good = arpa().encode()
    binary = b"mmap lm http://kheafield.com/code format version 5\n\x00"
    path = tmp_path / "corrupt.bin"
    for data in (
        *(b"", b"\x00" * 100, b"xyz" * 50, good[:60], good[: len(good) // 2]),
        good.replace(b"-0.75", b"nan"),
        *(binary, binary + bytes(500), binary + b"\xff" * 500),
    ):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"corrupt\.bin"):
            Perplexity(str(path)).load({str(path): path})
    path.write_bytes(good.replace(b"ngram 1=6", b"ngram 1=400000000"))
    with pytest.raises(ModelError, match=r"claims 400000006 n-grams in \d+ bytes"):
        Perplexity(str(path)).load({str(path): path})
    with pytest.raises(ModelError, match=r"missing\.bin"):
        perplexity(["a"], str(tmp_path / "missing.bin"))
