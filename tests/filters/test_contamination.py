"""Contamination: n-grams against sets of tuples of strings, and the files of evaluation sets."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.contamination import PAGES, Contamination
from gneiss.filters.contamination_kernel import ngram_table, overlap
from gneiss.filters.contamination_words import WORD_WEIGHT, folded_words, folding
from gneiss.filters.evaluation_sets import read_texts, set_name
from tests.filters.heuristics import TEXTS, decide

#: The characters of UAX 29 that join what is on both sides, and what they join.
MIDDLES = {**dict.fromkeys("'.’‘", "LN"), **dict.fromkeys("·״", "L"), **dict.fromkeys(",;،", "N"), "_": "_"}
IGNORED = "\u00ad\u200c\u200d\ufe0f\ufeff"


def kind_of(c: str) -> str:
    """L letter, N number, U unit, M mark, else the character itself if it joins, or a space."""
    if c in MIDDLES:
        return c
    if unicodedata.category(c).startswith("M") or c in "ﾞﾟ":
        return "M"
    if folding().weights[ord(c)] < WORD_WEIGHT:
        return "U"
    if not re.match(r"[^\W_]", c):
        return " "
    return "N" if unicodedata.category(c).startswith("N") else "L"


def words_of(text: str) -> list[str]:
    """The definition, word for word: the words and units of a text as they are compared."""
    found: list[str] = []
    last, middle = " ", ""  # the kind of the open word's last character, and what stands after it
    for c in (c for c in text if c not in IGNORED):
        kind = kind_of(c)
        if kind == "M":
            if last != " " and not middle:
                found[-1] += c
        elif kind in MIDDLES:
            if middle == kind == "_":
                continue
            last, middle = (last, kind) if last in "LN" and not middle else (" ", "")
        elif kind == " ":
            last, middle = " ", ""
        else:
            joins = last in "LN" and kind in "LN"
            if middle and middle != "_":
                joins = joins and kind == last and kind in MIDDLES[middle]
            found[len(found) - joins :] = [found[-1] + c] if joins else [c]
            last, middle = kind, ""
    return list(map(compared, found))


def compared(word: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold())
    return "".join(c for c in folded if kind_of(c) in "LNUM")


def weight_of(text: str) -> list[int]:
    """The weight of each word and unit."""
    return [int(folding().weights[ord(word[0])]) for word in words_of(text)]


def ngrams_of(text: str, ngram_words: int) -> dict[tuple[str, ...], list[int]]:
    """The n-grams of a text, with where they begin."""
    found: dict[tuple[str, ...], list[int]] = {}
    words, weights = words_of(text), weight_of(text)
    for first in range(len(words)):
        ends = (end for end in range(first, len(words) + 1) if sum(weights[first:end]) >= ngram_words * WORD_WEIGHT)
        if end := next(ends, 0):
            found.setdefault(tuple(words[first:end]), []).append(first)
    return found


def ngrams_of_set(texts: list[str], ngram_words: int, min_words: int) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for text in texts:
        whole = ngrams_of(text, ngram_words)
        is_short = not whole and sum(weight_of(text)) >= min_words * WORD_WEIGHT
        found |= {tuple(words_of(text))} if is_short else set(whole)
    return found


def measured(text: str, sets: list[set[tuple[str, ...]]]) -> tuple[int, int, int, int]:
    """Words, words in n-grams of a set, distinct n-grams, and the set that has most of them or -1."""
    words, own = words_of(text), {}
    for length in {len(ngram) for ngrams in sets for ngram in ngrams}:
        for first in range(len(words) - length + 1):
            own.setdefault(tuple(words[first : first + length]), []).append(first)
    shared = {ngram for ngrams in sets for ngram in ngrams & set(own)}
    covered = {first + i for ngram in shared for first in own[ngram] for i in range(len(ngram))}
    by_set = Counter({index: len(ngrams & shared) for index, ngrams in enumerate(sets)})
    nearest = by_set.most_common(1)[0][0] if shared else -1
    return len(words), len(covered), len(shared), nearest


#: Few different words, so that n-grams meet.
PHRASES = st.lists(
    st.sampled_from(
        [
            *(
                "a",
                "b",
                "A",
                "B!",
                "a-b",
                "_",
                "Ä",
                "a\u0308",
                "日本",
                "a日b",
                "–",
                "1,000",
                "İ",
                "ǅ",
                "\u0301",
                "ก",
                "กา",
            ),
            *("a'b", "a’b", "a.b", "a/b", "1.5", "1;a", "a_b", "ﬁ", "कि", "の", "ガ", "ｶﾞ", "½", "a:b", "a\u00adb", "ß"),
        ]
    ),
    max_size=14,
).map(" ".join)
SETS = st.lists(st.lists(PHRASES | TEXTS, max_size=4), max_size=4)


@given(st.lists(PHRASES | TEXTS, max_size=4), SETS, st.sampled_from([(1, 1), (2, 1), (3, 2), (4, 4), (13, 8)]))
@pytest.mark.slow
def test_overlap_equals_plain_python(texts: list[str], sets: list[list[str]], sizes: tuple[int, int]) -> None:
    table = ngram_table([TextBatch.of(of_set) for of_set in sets], *sizes)
    expected = [ngrams_of_set(of_set, *sizes) for of_set in sets]
    assert table.sizes.tolist() == [len(ngrams) for ngrams in expected]
    assert len(table.hashes) == len(set().union(*expected))
    shared = overlap(TextBatch.of(["x", *texts]).slice(1, len(texts) + 1), table)
    rows = np.stack([shared.words, shared.covered, shared.ngrams, shared.nearest_set], axis=1)
    assert [tuple(row) for row in rows.tolist()] == [measured(text, expected) for text in texts]


@given(st.lists(TEXTS | st.text(max_size=20), max_size=4))
def test_words_equal_plain_python(texts: list[str]) -> None:
    words = folded_words(TextBatch.of(texts))
    assert np.diff(words.documents).tolist() == [len(words_of(text)) for text in texts]


def test_every_word_character_is_compared_in_lower_case() -> None:
    characters = "ABCXYZÀÖØÞĀŸΑΩЀЯԱՖႠჅᲐＡＺ𐐀𞤀ẞ"
    upper, lower = folded_words(TextBatch.of([characters])), folded_words(TextBatch.of([characters.lower()]))
    assert upper.sums.tolist() == lower.sums.tolist()


def test_more_matches_than_there_is_room_for_at_first() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in range(900)]
    table = ngram_table([TextBatch.of([" ".join(words)])], 2, 1)
    shared = overlap(TextBatch.of([" ".join(words)] * 2), table)
    assert shared.ngrams.tolist() == [len(words) - 1] * 2
    assert shared.covered.tolist() == [len(words)] * 2


@pytest.mark.slow
def test_hashes_do_not_collide() -> None:
    generator = np.random.default_rng(5)
    texts = {" ".join(map(str, row)) for row in generator.integers(0, 30, (200_000, 4)).tolist()}
    table = ngram_table([TextBatch.of(sorted(texts))], 4, 4)
    assert len(table.hashes) == len(texts)


QUESTIONS = ["How many wheels do seven bicycles and two tricycles have if one wheel is lost?", "One, two.", "Who?"]
ANSWERS = ["Seven times two and two times three make twenty, less one is nineteen wheels."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    rows = [{"question": QUESTIONS[0], "answer": ANSWERS[0], "n": 1}, {"question": None, "choices": ["a b", 7]}]
    (tmp_path / "lines.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)), "utf-8")
    (tmp_path / "more/plain.txt").write_text("\n".join(QUESTIONS), "utf-8")
    table = pa.table({"question": QUESTIONS, "choices": [[*ANSWERS, None], None, []], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "table.parquet")
    (tmp_path / "_notes.md").write_text("not a set")
    return tmp_path


def test_texts_of_a_set(folder: Path) -> None:
    fields = ("question", "choices", "n")
    assert read_texts(folder / "more/plain.txt", fields) == {"": QUESTIONS}
    assert read_texts(folder / "lines.jsonl", fields) == {"question": QUESTIONS[:1], "choices": ["a b"], "n": []}
    assert read_texts(folder / "table.parquet", fields) == {"question": QUESTIONS, "choices": ANSWERS, "n": []}
    (folder / "half.jsonl").write_text('{"text": "half a \\ud800 pair"}')
    assert read_texts(folder / "half.jsonl", ("text",)) == {"text": ["half a ? pair"]}


def test_lines_of_a_set_end_where_files_end_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\u2028two\x0cthree\x85four\r\nfive\rsix\x1c\nseven".encode())
    assert read_texts(tmp_path / "a.txt", ()) == {"": ["one\u2028two\x0cthree\x85four", "five", "six\x1c", "seven"]}


NESTED = {"choices": {"text": [*ANSWERS, "No."], "label": ["A", "B"]}, "rounds": [{"asked": QUESTIONS[0]}, 7, None]}


def test_strings_in_nested_fields_are_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(NESTED) + "\n" + json.dumps({"choices": [[["deep"]]]}))
    pq.write_table(pa.Table.from_pylist([{**NESTED, "rounds": NESTED["rounds"][:1]}]), tmp_path / "b.parquet")
    texts = read_texts(tmp_path / "a.jsonl", ("choices", "rounds"))
    assert texts == {"choices": [*ANSWERS, "No.", "A", "B", "deep"], "rounds": QUESTIONS[:1]}
    annotator = Contamination({"b": str(tmp_path / "b.parquet")}, fields=("choices", "rounds"))
    assert annotate(annotator, [*ANSWERS, QUESTIONS[0], "A"])["contamination_ngrams"].to_pylist() == [2, 3, 0]


@pytest.mark.parametrize("fields", [("question", "answr"), ("question", "n"), ("question", "choices.text")])
def test_a_field_in_which_no_set_has_a_text_is_refused(folder: Path, fields: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=f"fields: expected texts in {fields[1]} of some evaluation set"):
        annotate(Contamination(folder=str(folder), fields=fields), [""])
    with pytest.raises(ModelError, match="fields: expected texts in question, "):
        annotate(Contamination({"a": str(folder / "more/plain.txt")}, fields=fields), [""])


#: A text of a set, and the document; the first half share it, the second do not.
SAME_WORDS = [
    ("The tide comes in at six—and goes out at noon, they say, on days like this.", "–", "—"),
    ("Is it a river/stream/brook or a canal that runs behind the mill of this town?", "/", " / "),
    ("Is it a river-bank or a canal-side path that runs behind the old mill of this town?", "-", " "),
    ("Où est né le garçon élevé près de la forêt, à l’âge où d’autres apprenaient déjà à lire ?", "NFD", ""),
    ("The efﬁcient ofﬁce of the ﬂoating ﬁsh market was the ﬁrst to be closed that ﬁne day.", "NFKC", ""),
    ("“It’s the farmer’s dog that won’t bark,” she said, “and it’s the miller’s that will.”", "’", "'"),
    ("Die Straße zur Mühle war naß, als der Müller mit zwei Eseln und elf Säcken kam.", "ß", "ss"),
    ("The fee of 1,000 crowns for three fields and one mill was paid on the first day of May.", "1,000", "1000"),
    ("Tất cả học sinh phải làm bài kiểm tra toán vào sáng thứ hai tuần sau nhé.", "NFD", ""),
    ("नदी के किनारे रहने वाले किसान ने अपनी गाय को कितने रुपये में बेचा था और किसको", "NFD", ""),
    ("The so\u00adcalled river was a canal, and every boat on it was hired from one and the same man.", "\u00ad", ""),
    ("東京の川沿いに住んでいる農夫は毎朝牛を何頭連れて市場へ行きますか。", "NFKC", ""),
    ("แม่น้ำสายนี้ไหลจากภูเขาลงไปทางใต้จนถึงทะเลเป็นระยะทางกี่กิโลเมตรตามที่ครูบอก", "NFD", ""),
]


@pytest.mark.parametrize(("text", "old", "new"), SAME_WORDS)
def test_words_are_the_same_in_any_spelling(tmp_path: Path, text: str, old: str, new: str) -> None:
    other = unicodedata.normalize(old, text) if old.startswith("NF") else text.replace(old, new)
    for of_set, document in ((text, other), (other, text.upper())):
        (tmp_path / "a.txt").write_text(of_set, "utf-8")
        rows = annotate(Contamination(folder=str(tmp_path)), [f"Quiz: {document} (12)"]).to_pylist()
        assert rows[0]["contamination_ngrams"] > 0


OTHER_WORDS = [
    ("कल शाम बाज़ार में किसान ने अपनी पुरानी गाय को कितने रुपये में और किसको बेचा", "ि", "ु"),
    ("गाँव के बच्चे रोज़ सुबह नदी के पास वाले पुराने स्कूल में पढ़ने जाते हैं", "े", "ो"),
    ("ஆற்றங்கரையில் வசிக்கும் விவசாயி தன் மாட்டை எவ்வளவு விலைக்கு யாருக்கு விற்றார் என்று ஆசிரியர் கேட்டார்", "ா", "ி"),
    ("Où est né le garçon élevé près de la forêt, là où d’autres apprenaient déjà à lire ?", "é", "e"),
    ("中华人民共和国最高人民检察院公布了去年的数据，其中有多少件案件已经结案？", "公布了去年的数据", "今天"),
    ("国立研究開発法人宇宙航空研究開発機構は昨年何機の衛星を打ち上げましたか。", "は昨年何機", "が"),
]


@pytest.mark.parametrize(("text", "old", "new"), OTHER_WORDS)
def test_other_words_and_names_are_no_match(tmp_path: Path, text: str, old: str, new: str) -> None:
    assert old in text
    (tmp_path / "a.txt").write_text(text, "utf-8")
    rows = annotate(Contamination(folder=str(tmp_path)), [text, text.replace(old, new)]).to_pylist()
    assert rows[0]["contamination_ngrams"] > 0
    assert rows[1]["contamination_ngrams"] == 0


def test_words_are_those_of_uax_29() -> None:
    regex = pytest.importorskip("regex")
    texts = [text for text, *_ in SAME_WORDS[:10] if "ß" not in text]
    texts += [
        "e.g. 3.14, U.S.A.; a.5 b,c don't 'quoted' x_y 10,000.50 naïve café—bar re-do and/or",
        "Привет, мир! Ещё 2-я",
    ]
    for text in texts:
        theirs = [word for word in regex.split(r"(?wV1)\b", text) if re.search(r"\w", word)]
        assert words_of(text) == list(map(compared, theirs))


def test_a_folder_of_sets(folder: Path) -> None:
    annotator = Contamination(folder=str(folder), fields=("question", "answer"))
    texts = [
        "Quiz: how many wheels do SEVEN bicycles, and two tricycles, have – if one wheel is lost?",
        ANSWERS[0],
        "How many wheels do seven bicycles and two tricycles have?",
        "",
    ]
    assert annotate(annotator, [*texts, None]).to_pylist() == [
        {"contamination_set": "lines", "contamination_ngrams": 3, "contamination_fraction": 15 / 16},
        {"contamination_set": "lines", "contamination_ngrams": 2, "contamination_fraction": 1.0},
        {"contamination_set": None, "contamination_ngrams": 0, "contamination_fraction": 0.0},
        {"contamination_set": None, "contamination_ngrams": 0, "contamination_fraction": None},
        {"contamination_set": None, "contamination_ngrams": None, "contamination_fraction": None},
    ]
    assert decide(annotator, PAGES[0], texts).tolist() == [False, False, True, True]


def test_sets_by_name_beside_a_folder(folder: Path) -> None:
    sets = {"a": str(folder / "more/plain.txt"), "z": str(folder / "table.parquet")}
    files = {source: Path(source) for source in sets.values()}
    annotator = Contamination(sets, fields=("choices",))
    assert annotator.model_files == tuple(sets.values())
    assert annotate(annotator, [QUESTIONS[0], ANSWERS[0]], files)["contamination_set"].to_pylist() == ["a", "z"]
    both = Contamination({"more/plain": sets["a"]}, f"{folder}/", fields=("question",))
    assert both.model_files == (sets["a"], f"{folder}/")
    with pytest.raises(ModelError, match=r"plain\.txt: there is another evaluation set 'more/plain': .*plain"):
        annotate(both, [""])


def test_short_texts_of_a_set(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("one two three four five six seven eight\nnine ten\n")
    annotator = Contamination({"s": str(tmp_path / "s.txt")})
    texts = ["zero one two three four five six seven eight", "one two three four five six seven", "nine ten"]
    assert annotate(annotator, texts)["contamination_ngrams"].to_pylist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x", "a.csv: expected an evaluation set in a file that ends in .jsonl, .parquet, .txt"),
        (".txt", "x", "expected an evaluation set"),
        ("a.txt", "", "a.txt: expected the texts of an evaluation set, found none"),
        ("a.txt", "too short", "a.txt: expected a text of at least 8 words, found none"),
        ("a.txt", b"caf\xe9", "cannot be read as an evaluation set"),
        ("a.jsonl", '{"text": "x"}\n{', "a.jsonl, line 2: no valid JSON"),
        ("a.jsonl", "[" * 100_000, "a.jsonl, line 1: no valid JSON"),
        ("a.jsonl", '{"query": "x"}', "a.jsonl, line 1: expected an object with one of text"),
        ("a.jsonl", '"text"', "a.jsonl, line 1: expected an object"),
        ("a.jsonl", '{"text": 7}', "found none"),
        ("a.parquet", "x", "a.parquet: cannot be read as Parquet"),
    ],
)
def test_a_file_that_is_no_set(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=message):
        annotate(Contamination({"a": str(path)}), [""])


def test_a_table_without_the_column(folder: Path) -> None:
    with pytest.raises(ModelError, match="expected one of the columns text, found question, choices, n"):
        read_texts(folder / "table.parquet", ("text",))
    with pytest.raises(ModelError, match="cannot be read"):
        read_texts(folder / "missing.txt", ("text",))
    with pytest.raises(ModelError, match=r"README\.md: expected an evaluation set"):
        set_name("README.md")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "`sets`, `folder` or both"),
        ({"folder": "hf://owner/repo/evals"}, "expected a local folder"),
        ({"folder": "evals", "min_words": 14}, "found 14 and 13"),
        ({"folder": "evals", "min_words": 0}, "min_words of at least 1"),
        ({"folder": "evals", "ngram_words": 101}, "to 100"),
        ({"folder": "evals", "fields": ()}, "at least one field"),
    ],
)
def test_parameters_are_checked(given: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Contamination(**given)  # type: ignore[arg-type]


def test_examples_of_the_page(tmp_path: Path) -> None:
    (page,) = PAGES
    (tmp_path / "duck.txt").write_text(page.example_dropped.partition("A: ")[0])
    annotator = Contamination(folder=str(tmp_path))
    assert decide(annotator, page, [page.example_kept, page.example_dropped]).tolist() == [True, False]


@pytest.mark.slow
def test_what_is_not_utf8_stays_inside_its_document() -> None:
    data = np.frombuffer(b"one tw\xe3\x81 \xf0\x9f\xff\xc3 a\xe2", np.uint8)
    batch = TextBatch(data, np.array([0, 7, 8, 12, len(data)], np.int64))
    assert folded_words(batch).documents[-1] <= len(data)
