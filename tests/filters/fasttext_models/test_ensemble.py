"""The collapsed ensemble against fastText itself and against a slow oracle in Python."""

import math
import struct
from collections import defaultdict
from pathlib import Path
from pydoc_data.topics import topics

import fasttext
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError
from gneiss.filters.fasttext import FastText, FastTextModel
from gneiss.filters.fasttext_models.ensemble import joining_matters, load_ensemble
from gneiss.filters.fasttext_models.file import read_model
from gneiss.filters.fasttext_models.kernel import EOS_HASH, hash_bytes
from gneiss.filters.fasttext_models.library import load_library
from gneiss.filters.fasttext_models.output import exp
from gneiss.filters.fasttext_models.table import build_table, obstacle, open_table, table_name

SPACES = b" \n\r\t\v\f\0"
EXACT = 1e-5
FLOAT32 = 1e-3  # fastText adds up in float32: of a million words it has lost the fourth digit, the ensemble has not


def fnv(word: bytes) -> int:
    value = 2166136261
    for byte in word:
        value = ((value ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
    return value


def tokens(text: str) -> list[bytes]:
    """A line's words as fastText reads them: up to `</s>`, without what looks like a label."""
    data = text.encode()
    for space in SPACES:
        data = data.replace(bytes([space]), b" ")
    words = [word for word in data.split(b" ") if word]
    words = [*words[: words.index(b"</s>")], b"</s>"] if b"</s>" in words else [*words, b"</s>"]
    return [word for word in words if not word.startswith(b"__label__")]


def read_as(text: str, joined: bool) -> str:
    return " ".join(text.strip().splitlines()) if joined else text.replace("\n", " ")


class Oracle:
    """fastText's arithmetic in Python, from the matrices that the library shows."""

    def __init__(self, path: Path) -> None:
        file, library = read_model(path), fasttext.load_model(str(path))
        self.outputs = library.get_input_matrix().astype(np.float64) @ library.get_output_matrix().T.astype(np.float64)
        self.words = {word.encode(): row for row, word in enumerate(library.get_words())}
        self.ngrams, self.buckets, self.loss = file.word_ngrams, file.buckets, file.loss

    def logits(self, text: str) -> np.ndarray | None:
        words = tokens(text)
        rows = [self.words[word] for word in words if word in self.words]
        hashes = [fnv(word) for word in words]
        signed = [value - (1 << 32) if value >> 31 else value for value in hashes]
        for start in range(len(words)):
            value = signed[start]
            for after in signed[start + 1 : start + self.ngrams]:
                value = (value * 116049371 + after) % (1 << 64)
                rows.append(len(self.words) + value % self.buckets)
        return self.outputs[rows].mean(axis=0) if rows else None

    def bounds(self, text: str) -> tuple[np.ndarray, np.ndarray] | None:
        """What the probabilities must lie between: fastText's logistic function is a staircase."""
        logits = self.logits(text)
        if logits is None:
            return None
        if self.loss == "softmax":
            exact = np.exp(logits - logits.max())
            exact /= exact.sum()
            return exact - EXACT, exact + EXACT

        def stair(x: float) -> float:
            if abs(x) > 8:
                return float(x > 0)
            return 1 / (1 + math.exp(8 - math.floor((x + 8) * 32) / 32))

        slack = 1e-4 * max(1.0, np.abs(logits).max() / 8)
        return tuple(np.array([stair(x + sign * slack) for x in logits]) + sign * EXACT for sign in (-1, 1))


def ensemble(paths: list[Path], folder: Path) -> list:
    table = folder / table_name(paths)
    build_table([read_model(path) for path in paths], table)
    return list(load_ensemble(table, [str(number) for number in range(len(paths))]).values())


def check(paths: list[Path], texts: list[str], folder: Path, joins: tuple[bool, ...] = (False, True)) -> None:
    batch = TextBatch.of(texts)
    for path, predictor in zip(paths, ensemble(paths, folder), strict=True):
        oracle, library = Oracle(path), load_library(read_model(path))
        assert predictor.labels == library.labels
        for joined in joins:
            probabilities, top = predictor.predict(batch, joined)
            of_library, top_of_library = library.predict(batch, joined)
            for document, text in enumerate(texts):
                bounds = oracle.bounds(read_as(text, joined))
                if bounds is None:
                    assert top[document] == top_of_library[document] == -1
                    continue
                low, high = bounds
                mine, theirs = probabilities[document], of_library[document]
                assert (low <= mine).all(), (text, mine)
                assert (mine <= high).all(), (text, mine)
                slack = EXACT if len(text) < 50_000 else FLOAT32
                assert (low - slack <= theirs).all(), (text, theirs)
                assert (theirs <= high + slack).all(), (text, theirs)
                if np.sort(high)[-2:-1] < np.sort(low)[-1]:
                    assert top[document] == top_of_library[document] == mine.argmax()
                elif (mine == theirs).all():
                    assert top[document] == top_of_library[document]


VOCABULARY = [
    *["a", "the", "word", "exactly8", "ninebytes", "sixteen_bytes_xx", "a_word_of_more_than_twenty_four_bytes"],
    *[
        "über",
        "слово",
        "单词",
        "🙂",
        "\u00a0",
        "e\u0301",
        "\ufffd",
        "\ue000",
        "\x85",
        "\u2028x",
        "\x1c",
        "</s",
        "__label",
    ],
]
ODD = [
    "</s>",
    "__label__hq",
    "__label__",
    "__label__zz",
    "<s>",
    "unknown",
    "Über",
    "\udbff\udfff".encode("utf-16", "surrogatepass").decode("utf-16"),
]
SEPARATORS = [
    " ",
    " ",
    " ",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\v",
    "\f",
    "\x1c",
    "\x1f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u3000",
    "\u00a0",
    "",
    "\n \n",
]

words = st.sampled_from(VOCABULARY)
texts = st.lists(
    st.lists(
        st.tuples(words | st.sampled_from(ODD) | st.text(max_size=4), st.sampled_from(SEPARATORS)), max_size=20
    ).map(lambda pairs: "".join(word + separator for word, separator in pairs)),
    min_size=1,
    max_size=12,
)
models = st.fixed_dictionaries(
    {
        "dim": st.integers(1, 20),
        "bucket": st.sampled_from([1, 2, 7, 64, 1000]),
        "wordNgrams": st.integers(1, 4),
        "loss": st.sampled_from(["softmax", "softmax", "ova", "ns"]),
        "seed": st.integers(0, 9),
    }
)
lines = st.lists(st.tuples(st.sampled_from("abc"), st.lists(words, min_size=1, max_size=8)), min_size=3, max_size=12)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.tuples(models, lines), min_size=1, max_size=3), texts)
@pytest.mark.slow
def test_equals_library_and_oracle(train_fasttext, tmp_path_factory, parameters, texts):
    paths = []
    for arguments, labelled in parameters:
        labelled = [("a", ["the"]), ("b", ["word"]), *labelled]
        paths.append(train_fasttext([f"__label__{label} {' '.join(line)}" for label, line in labelled], **arguments))
    check(paths, texts, tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def manual() -> list[str]:
    """Real text: the chapters of Python's manual that come with the interpreter."""
    return list(topics.values())


@pytest.fixture(scope="module")
def trained(train_fasttext, manual) -> list[Path]:
    """Two models of a real vocabulary, partly their own, well enough trained that probabilities are near 0 and 1."""
    paths = []
    for offset in (0, 1):
        labelled = [
            f"__label__{'hq' if number % 3 else 'cc'} {' '.join(paragraph.split())}"
            for number, chapter in enumerate(manual[offset::2])
            for paragraph in chapter.split("\n\n")
        ]
        paths.append(train_fasttext(labelled, dim=20, bucket=5000, lr=1.0, epoch=20))
    return paths


@pytest.mark.slow
def test_real_text(trained, manual, tmp_path):
    check(trained, manual, tmp_path)
    predictor = ensemble(trained, tmp_path)[0]
    probabilities, _ = predictor.predict(TextBatch.of(manual), False)
    assert probabilities.min() < 0.01  # else the test would say little
    assert probabilities.max() > 0.99


HOSTILE = [
    "", " ", "\n", "\n" * 1000, "\0", "\0" * 1000, "\r\r\n", "x",
    "</s>", "the </s> class", "</s></s>", " </s>\nclass def", "class</s>", "< /s>",
    "__label__hq", "__label__hq class __label__cc", "class __label__zz def", "__label__", "__label_", "_ __label__",
    "\ufffd" * 50, "\ue000 \uf8ff", "\U0010ffff", "\x7f\x80\x9f", "\ufeffclass", "cl\u00adass",
    "class\u2028def", "\u3000class def\u3000", "\xa0class", "class\x1fdef", "\x1cclass\x1d", "\0\u3000class",
    "class\x85", "a" * 100_000, "the " * 50_000, "é" * 70_000, "class\0def\0" * 300,
    "".join(map(chr, range(0xD800))), "".join(chr(c) + " " for c in range(0xD800)),
]  # fmt: skip


@pytest.mark.slow
def test_hostile_texts(trained, tmp_path):
    check(trained, HOSTILE, tmp_path)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_line_of_ten_megabytes(trained, manual, tmp_path):
    text = (" ".join(manual) * (10_000_000 // sum(map(len, manual)) + 1)).replace("\n", " ")
    assert len(text) > 10_000_000
    check(trained[:1], [text.replace(" ", "_"), text], tmp_path, joins=(False,))


def test_batches_do_not_matter(trained, manual, tmp_path):
    texts = manual[:60] + HOSTILE
    for predictor in ensemble(trained, tmp_path):
        for joined in (False, True):
            whole = predictor.predict(TextBatch.of(texts), joined)[0]
            alone = [predictor.predict(TextBatch.of([text]), joined)[0][0] for text in texts]
            sliced = predictor.predict(TextBatch.of(texts).slice(7, 40), joined)[0]
            assert np.array_equal(whole, alone)
            assert np.array_equal(whole[7:40], sliced)


@pytest.mark.slow
def test_words_of_the_same_hash(train_fasttext, tmp_path):
    by_hash, pairs = defaultdict(list), []
    for number in range(400_000):
        word = f"{number:x}"
        same = by_hash[fnv(word.encode())]
        same.append(word)
        if len(same) == 2:
            pairs.append(same)
    assert len(pairs) > 3
    first, second = zip(*pairs, strict=True)
    both = train_fasttext([f"__label__hq {' '.join(first)}", f"__label__cc {' '.join(second)}"], wordNgrams=1, epoch=50)
    one = train_fasttext([f"__label__hq {' '.join(first)} x", "__label__cc x y z"], wordNgrams=1, epoch=50)
    check([both, one], [*first, *second, " ".join(first), " ".join(second)], tmp_path)


def test_many_models_and_columns(train_fasttext, tmp_path):
    a = train_fasttext([f"__label__{n} word{n} word{n + 1}" for n in range(6)], loss="ova")
    b = train_fasttext([f"__label__{n} word{n} the" for n in range(5)])
    c = train_fasttext(["__label__only word1 the"])
    paths = [a, b, c, *[b] * 40]
    files = [read_model(path) for path in paths]
    build_table(files, tmp_path / "many.table")
    table = open_table(tmp_path / "many.table")
    assert [len(group.columns_of) - 1 for group in table.groups] == [32, 11]
    predictors = list(load_ensemble(tmp_path / "many.table", list(map(str, range(43)))).values())
    batch = TextBatch.of(["word1 the word5", "nothing", "the"])
    for file, predictor in zip(files, predictors, strict=True):
        expected, top = load_library(file).predict(batch, False)
        assert np.abs(predictor.predict(batch, False)[0] - expected).max() < EXACT
        assert np.array_equal(predictor.predict(batch, False)[1], top)


def test_table_is_the_same_bytes(trained, tmp_path):
    files = [read_model(path) for path in trained]
    for name in "ab":
        build_table(files, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert table_name(trained) == table_name(trained) != table_name(trained[::-1])


def test_workers_of_a_machine_share_the_memory_of_a_table(trained, tmp_path):
    build_table([read_model(trained[0])], tmp_path / "table")
    table = open_table(tmp_path / "table")
    assert all(group.rows.sum() is not None for group in table.groups)
    lines = Path("/proc/self/smaps").read_text().splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.endswith(str(tmp_path / "table")))
    sizes = {name: int(size.split()[0]) for name, size in (line.split(":") for line in lines[first + 1 : first + 20])}
    assert lines[first].split()[1] == "r--s"
    assert sizes["Rss"] > 0
    assert sizes["Private_Dirty"] == sizes["Anonymous"] == 0


def test_damaged_table(trained, tmp_path):
    path = tmp_path / "t.table"
    build_table([read_model(path) for path in trained], path)
    data = path.read_bytes()
    broken = [b"", data[:-1], data[1:], data[:1000], data[-27:], data[-60:], data[: len(data) // 2], b"x" * 99]
    broken += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (5000, -1, -30, -40, -60, -100, -300)]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ModelError, match=str(path)):
            open_table(path)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="expected a table of 3 models, found 2"):
        load_ensemble(path, ["a", "b", "c"])


def test_nan_and_repeated_words_leave_no_table(trained, tmp_path):
    file = read_model(trained[0])
    data = trained[0].read_bytes()
    bad = tmp_path / "bad.bin"
    nan = bytearray(data)
    struct.pack_into("<f", nan, file.input_start + 400, float("nan"))
    repeated = bytearray(data)
    same = [i for i in range(len(file.word_starts)) if file.word_lengths[i] == 3][:2]
    first, second = (slice(file.word_starts[i], file.word_starts[i] + 3) for i in same)
    repeated[second] = repeated[first]
    for content, message in ((nan, "NaN"), (repeated, "twice")):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match=f"{bad}.*{message}"):
            build_table([read_model(trained[1]), read_model(bad)], tmp_path / "t.table")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.bin"]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"quantize": True, "bucket": 300}, "quantized"),
        ({"loss": "hs"}, "hierarchical"),
        ({"minn": 2, "maxn": 3}, "character"),
        ({"label": "__class__"}, "__label__"),
    ],
)
def test_what_cannot_be_collapsed_is_left_to_the_library(train_fasttext, tmp_path, caplog, parameters, reason):
    prefix = parameters.get("label", "__label__")
    path = train_fasttext([f"{prefix}hq one two", f"{prefix}cc three four"] * 3, **parameters)
    plain = train_fasttext(["__label__hq one two", "__label__cc three four"] * 3)
    assert reason in obstacle(read_model(path))
    with pytest.raises(ModelError, match=f"{path}.*{reason}"):
        build_table([read_model(path)], tmp_path / "t.table")
    label, other = prefix.removeprefix("__label__") + "hq", prefix.removeprefix("__label__") + "cc"
    named = {"odd": FastTextModel(str(path), label, (other,)), "plain": FastTextModel(str(plain), "hq")}
    texts = ["one two", "three", "__label__x one __class__hq"]
    mine, theirs = annotate(FastText(named), texts), annotate(FastText(named, engine="library"), texts)
    assert reason in caplog.text
    assert mine["odd"].equals(theirs["odd"])
    assert np.allclose(mine["plain"], theirs["plain"], atol=EXACT, rtol=0)
    with pytest.raises(ModelError, match=f"{path}.*{reason}"):
        annotate(FastText(named, engine="ensemble"), texts)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*SEPARATORS, "a", "b", "\u00e9", "\u2029", "\u1680", "\u200a", "\u200b", "\u205f"])).map(
        "".join
    )
)
def test_joining_is_not_missed(text):
    batch = TextBatch.of(["before", text, "after"])
    before, matters, after = joining_matters(batch.data, batch.offsets)
    assert not before
    assert not after
    if not matters:
        assert tokens(read_as(text, False)) == tokens(read_as(text, True))


def test_joining_does_not_matter_in_ordinary_text(manual):
    batch = TextBatch.of([*manual, "“quoted”", "naïve café\n", "  - item…\r\n"])
    assert not joining_matters(batch.data, batch.offsets).any()


def test_strippable_characters_are_pythons():
    spaces = [
        chr(c) for c in range(0x110000) if chr(c).isspace() and chr(c).encode() not in {bytes([s]) for s in SPACES}
    ]
    batch = TextBatch.of([text for space in spaces for text in (f"{space}a", f"a{space}")])
    assert joining_matters(batch.data, batch.offsets).all()


def test_hash():
    for word in ("</s>", "über", "", "\x00\x7f\x80ÿ"):
        data = word.encode()
        assert hash_bytes(np.frombuffer(data, np.uint8), 0, len(data)) == fnv(data)
    assert fnv(b"</s>") == EOS_HASH


@given(st.floats(-700, 700))
def test_exp(x):
    assert exp(x) == pytest.approx(math.exp(x), rel=1e-14)
