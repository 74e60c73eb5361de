"""Token counts: against `tokenizers`, for byte-level vocabularies trained here and for the builtin one."""

from __future__ import annotations

import json
import random
import re
import sysconfig
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError
from gneiss.filters import tokenizer as module
from gneiss.filters.tokenizer import BUILTIN, Tokenizer, load_tokenizer
from gneiss.filters.tokenizer_probes import probes
from gneiss.filters.tokens import Tokens, count_tokens

SPECIALS = ["<|endoftext|>", "<fim_prefix>", "<file_sep>"]
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)
#: Pre-tokenizers of published byte-level vocabularies: name → how text is cut before merging.
PRE_TOKENIZERS = {
    "gpt2": BYTE_LEVEL,
    "starcoder": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTE_LEVEL]),
    "llama3": pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    ),
}
PIECES = (
    *(*SPECIALS, "<|endof", " ", "  ", "\n", "\u00a0" * 3, "\u3000"),
    *("12", "don't", "word", "é", "e\u0301", "日本", "\x00"),
)
HOSTILE = st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=30).map("".join)


def real_texts(limit_bytes: int) -> list[str]:
    """Modules of the standard library, whole, in order of name."""
    texts: list[str] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text("utf-8", errors="replace")
        if (limit_bytes := limit_bytes - len(text)) < 0:
            break
        texts.append(text)
    return texts


def train(pre_tokenizer: Any, vocab_size: int = 3000) -> tokenizers.Tokenizer:
    """A byte-level BPE in the shape of a published one, small."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=SPECIALS,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*real_texts(1_000_000), *list(probes([]))], trainer)
    return tokenizer


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name → tokenizer.json, one for each of `PRE_TOKENIZERS`."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for name, pre_tokenizer in PRE_TOKENIZERS.items():
        train(pre_tokenizer).save(str(folder / f"{name}.json"))
    return {name: folder / f"{name}.json" for name in PRE_TOKENIZERS}


@pytest.fixture(scope="session")
def engines(trained: dict[str, Path]) -> dict[str, tuple[Tokenizer, tokenizers.Tokenizer]]:
    """Name → ours, as loaded without a fallback, and the reference."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {
            name: (load_tokenizer(str(path)), tokenizers.Tokenizer.from_file(str(path)))
            for name, path in trained.items()
        }


@pytest.fixture(scope="session")
def cl100k() -> tokenizers.Tokenizer:
    """`tokenizers` with the builtin vocabulary."""
    return module.cl100k.reference()


def reference_ids(reference: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in reference.encode_batch_fast(texts, add_special_tokens=False)]


def check_tokens(tokenizer: Tokenizer, texts: list[str], expected: list[list[int]]) -> None:
    """Counts, ids and offsets of a batch; the offsets by decoding each token's bytes."""
    batch = TextBatch.of(texts)
    assert tokenizer.counts(batch).tolist() == [len(ids) for ids in expected]
    tokens = tokenizer.tokens(batch)
    assert tokens.ids.dtype == np.int32
    assert tokens.documents.tolist() == [0, *np.cumsum([len(ids) for ids in expected]).tolist()]
    for document, ids in enumerate(expected):
        part = slice(tokens.documents[document], tokens.documents[document + 1])
        assert tokens.ids[part].tolist() == ids, repr(texts[document][:200])
        assert tokenizer.sizes is not None
        assert tokens.starts[part].tolist() == [0, *np.cumsum(tokenizer.sizes[ids]).tolist()][: len(ids)]


@pytest.mark.parametrize("size", [500_000, pytest.param(3_000_000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@pytest.mark.slow
def test_real_text_equals_tokenizers(
    name: str, size: int, engines: dict[str, tuple[Tokenizer, tokenizers.Tokenizer]]
) -> None:
    tokenizer, reference = engines[name]
    texts = real_texts(size)
    check_tokens(tokenizer, texts, reference_ids(reference, texts))


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@given(texts=st.lists(HOSTILE, max_size=4))
@pytest.mark.slow
def test_hostile_text_equals_tokenizers(
    name: str, engines: dict[str, tuple[Tokenizer, tokenizers.Tokenizer]], texts: list[str]
) -> None:
    tokenizer, reference = engines[name]
    check_tokens(tokenizer, texts, reference_ids(reference, texts))


@pytest.mark.slow
def test_builtin_equals_tokenizers_on_real_text(cl100k: tokenizers.Tokenizer) -> None:
    texts = [*real_texts(1_000_000), *probes(["<|endoftext|>", "<|im_start|>"])]
    check_tokens(load_tokenizer(BUILTIN), texts, reference_ids(cl100k, texts))


@given(texts=st.lists(HOSTILE, max_size=4))
@pytest.mark.slow
def test_builtin_equals_tokenizers_on_hostile_text(
    builtin: Tokenizer, cl100k: tokenizers.Tokenizer, texts: list[str]
) -> None:
    check_tokens(builtin, texts, reference_ids(cl100k, texts))


@pytest.fixture(scope="session")
def builtin() -> Tokenizer:
    return load_tokenizer(BUILTIN)


def test_tokens_may_end_inside_a_character(builtin: Tokenizer) -> None:
    text = "\U00020b9f\ue000"
    tokens = builtin.tokens(TextBatch.of(["ab", text, ""]))
    starts = tokens.starts[tokens.documents[1] : tokens.documents[2]]
    encoded = text.encode()
    pieces = [encoded[a:b] for a, b in zip(starts, [*starts[1:], len(encoded)], strict=True)]
    assert b"".join(pieces) == encoded
    assert any(b"\x80" <= piece[:1] < b"\xc0" for piece in pieces)


@pytest.mark.slow
def test_special_tokens_count_as_one(trained: dict[str, Path]) -> None:
    for engine in ("auto", "tokenizers"):
        tokenizer = load_tokenizer(str(trained["gpt2"]), engine=engine)
        assert tokenizer.counts(TextBatch.of(["<|endoftext|><file_sep>"])).tolist() == [2]
    import splintr

    shipped = splintr.Tokenizer.from_pretrained("cl100k_base").special_tokens()
    assert {token: shipped[token] for token in module.cl100k.SPECIALS} == module.cl100k.SPECIALS
    # splintr's own copy of cl100k_base would count <|im_start|> as one too; the vocabulary as published does not.
    assert count_tokens(["<|endoftext|><|fim_prefix|>", "<|im_start|>"]).to_pylist() == [2, 6]


@pytest.mark.slow
def test_long_words_and_lines(engines: dict[str, tuple[Tokenizer, tokenizers.Tokenizer]], builtin: Tokenizer) -> None:
    draw = random.Random(0)
    texts = [
        "a" * 500_000,
        "".join(draw.choices("abcdefgh", k=300_000)),
        " " * 300_000,
        "\u00a0" * 100_000,
        "1" * 200_000,
    ]
    for tokenizer, reference in engines.values():
        check_tokens(tokenizer, texts, reference_ids(reference, texts))
    assert builtin.counts(TextBatch.of(["a" * 3_000_000])).tolist() == [375_000]


@pytest.mark.slow
def test_cache_stays_bounded(trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import splintr

    monkeypatch.setattr(module, "_CACHE_CHARS", 1000)
    engine = splintr.from_json_bytes(trained["gpt2"].read_bytes())
    encode = module._bounded(engine)
    draw = random.Random(0)
    for _ in range(200):
        encode("".join(draw.choices("abcdefghijklmnop", k=100)))
        assert engine.cache_len <= 11


class Liar:
    """Stands for a fast engine that is wrong about runs of no-break spaces."""

    def __init__(self, honest: Any) -> None:
        self.honest = honest

    def encode_flat(self, text: str) -> bytes:
        return bytes(self.honest.encode_flat(text.replace("\u00a0" * 16, "\u00a0")))

    def clear_cache(self) -> None:
        self.honest.clear_cache()


def test_an_engine_that_differs_is_refused_loudly(trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import splintr

    honest: Callable[[bytes], Any] = splintr.from_json_bytes
    monkeypatch.setattr(splintr, "from_json_bytes", lambda data: Liar(honest(data)))
    text = "a" + "\u00a0" * 40 + "b"
    path = str(trained["starcoder"])
    with pytest.warns(RuntimeWarning, match="splintr fails: other ids for"):
        counts = annotate(Tokens(path), [text])["tokens"].to_pylist()
    assert counts == [len(tokenizers.Tokenizer.from_file(path).encode(text, add_special_tokens=False).ids)]


def test_an_engine_that_cannot_read_the_file_is_refused_loudly(tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "words.json"
    tokenizer.save(str(path))
    with pytest.warns(RuntimeWarning, match="using tokenizers"):
        loaded = load_tokenizer(str(path))
    assert loaded.counts(TextBatch.of(["a b, a", ""])).tolist() == [4, 0]


def test_truncation_and_padding_of_the_file_do_not_count(trained: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(trained["gpt2"]))
    text = "one two three four five six"
    whole = len(tokenizer.encode(text).ids)
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "cut.json"))
    for engine in ("auto", "tokenizers"):
        loaded = load_tokenizer(str(tmp_path / "cut.json"), engine=engine)
        assert loaded.counts(TextBatch.of([text])).tolist() == [whole]


def test_offsets_are_refused_where_ids_do_not_have_them(trained: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = tokenizers.Tokenizer.from_file(str(trained["gpt2"]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(tmp_path / "nfc.json"))
    with pytest.raises(ModelError, match="no offsets"):
        load_tokenizer(str(tmp_path / "nfc.json"), engine="tokenizers").tokens(TextBatch.of(["a"]))
    tokenizer = train(pre_tokenizers.ByteLevel(add_prefix_space=True), 300)
    tokenizer.save(str(tmp_path / "prefix.json"))
    loaded = load_tokenizer(str(tmp_path / "prefix.json"), engine="tokenizers")
    with pytest.raises(ModelError, match="document 1 are not as long"):
        loaded.tokens(TextBatch.of([" a", "a"]))


def corrupted(path: Path) -> list[bytes]:
    """Ways in which a tokenizer.json is not one."""
    good = path.read_bytes()
    layout = json.loads(good)

    def changed(**parts: Any) -> bytes:
        return json.dumps({**layout, "model": {**layout["model"], **parts}}).encode()

    return [
        *(b"", b"{}", b"[]", b"\x00" * 100, good[: len(good) // 2]),
        good.replace(b'"merges"', b'"merge"'),
        changed(merges=[["no", "such"]]),
        changed(dropout=0.5),
        changed(vocab={**layout["model"]["vocab"], "far": 4_000_000_000}),
    ]


def test_a_corrupt_file_is_named(trained: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "corrupt.json"
    for data in corrupted(trained["gpt2"]):
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"corrupt\.json"):
            load_tokenizer(str(path))
    with pytest.raises(ModelError, match=r"missing\.json"):
        load_tokenizer(str(tmp_path / "missing.json"))
    with pytest.raises(ModelError, match="only builtin:cl100k_base"):
        load_tokenizer("builtin:p50k_base")


def test_columns_nulls_and_ratios(trained: dict[str, Path]) -> None:
    texts = ["naïve", "", None, "日本"]
    annotator = Tokens("hf://owner/name@main/tokenizer.json", column="gpt2_tokens")
    assert annotator.model_files == ("hf://owner/name@main/tokenizer.json",)
    table = annotate(annotator, texts, {annotator.model_files[0]: trained["gpt2"]})
    counts = table["gpt2_tokens"].to_pylist()
    assert table["gpt2_tokens_per_char"].to_pylist() == [counts[0] / 5, None, None, counts[3] / 2]
    assert table["gpt2_tokens_per_byte"].to_pylist() == [counts[0] / 6, None, None, counts[3] / 6]
    assert counts[1:3] == [0, None]
    assert [str(field.type).replace("double", "float64") for field in table.schema] == [
        column.type for column in annotator.columns
    ]
    assert Tokens().model_files == ()


def test_parameters_from_yaml() -> None:
    kind = TypeAdapter(Tokens)
    assert kind.validate_python({"tokenizer": "x.json", "engine": "tokenizers"}) == Tokens(
        "x.json", engine="tokenizers"
    )
    with pytest.raises(ValidationError):
        kind.validate_python({"engine": "fastest"})


def test_document_does_not_depend_on_its_neighbours(builtin: Tokenizer) -> None:
    texts = real_texts(200_000)
    together = builtin.counts(TextBatch.of(texts)).tolist()
    assert together == [int(builtin.counts(TextBatch.of([text]))[0]) for text in texts]
    assert builtin.counts(TextBatch.of(texts).slice(2, 5)).tolist() == together[2:5]


@given(st.lists(st.tuples(st.sampled_from(["a", "é", "word ", " ", "\n", "\u3000"]), st.integers(1, 90)), max_size=6))
@example([("word ", 2), ("a", 11)])
def test_only_very_long_runs_are_cut(builtin: Tokenizer, runs: list[tuple[str, int]]) -> None:
    """An engine takes some 70 times the memory of a word: a gigabyte of one letter ended the worker."""
    text = "".join(piece * count for piece, count in runs)
    with mock.patch.object(module, "_LONG_RUN", 20):
        pieces = list(module._pieces(text))
        found = builtin.tokens(TextBatch.of([text, "x"]))
        assert builtin.counts(TextBatch.of([text])).tolist() == [found.documents[1]]
    assert "".join(pieces) == text
    for piece in pieces:
        assert max(map(len, re.findall(r"\s+|\S+", piece)), default=0) <= 2 * 20
    if max(map(len, re.findall(r"\s+|\S+", text)), default=0) < 20:
        assert pieces == [text]
    assert found.ids.tolist() == [id_ for piece in [*pieces, "x"] for id_ in builtin.encode(piece).tolist()]


def test_a_very_long_word_is_encoded_in_pieces(builtin: Tokenizer) -> None:
    seen: list[int] = []
    tokenizer = Tokenizer("x", lambda text: (seen.append(len(text)), np.zeros(1, np.int32))[1], builtin.sizes)
    tokenizer.counts(TextBatch.of(["a" * (5 * module._LONG_RUN + 7), "a " * module._LONG_RUN]))
    assert max(seen[:-1]) <= 2 * module._LONG_RUN
    assert seen[-1] == 2 * module._LONG_RUN
