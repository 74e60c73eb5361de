"""What cannot be meant for a script is null there, and no edit follows from it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given

from gneiss.annotation import annotate
from gneiss.batch import TextBatch
from gneiss.filters.c4 import C4, C4Lines
from gneiss.filters.fineweb import FineWeb
from gneiss.filters.gopher import GopherQuality, GopherRepetition
from gneiss.filters.scripts import OWN_ENDS, OWN_ENDS_RANGES, WITHOUT_SPACES, WITHOUT_SPACES_RANGES, writing
from gneiss.filters.segmentation_characters import code_points
from tests.filters.heuristics import TEXTS, written

WITHOUT = {
    "Chinese": "这条河从山里流出来，向南流了九十英里才到海边。\n现在那里只住着一个牧羊人和他的两条狗。",
    "Japanese": "その川は山から流れ出て、海に着くまで南へ九十マイル流れる。\n今そこには羊飼いが一人住んでいるだけだ。",
    "Thai": "แม่น้ำไหลมาจากภูเขาแล้วลงไปทางใต้จนถึงทะเล\nตอนนี้มีแต่คนเลี้ยงแกะอยู่ที่นั่น",
    "Tibetan": "གཙང་པོ་དེ་རི་ནས་འབབ་ནས་ལྷོ་ཕྱོགས་སུ་འགྲོ་གི་ཡོད།\nད་ལྟ་དེར་རྫི་བོ་གཅིག་ལས་མེད།",
    "Khmer": "ទន្លេនេះហូរចេញពីភ្នំ ហើយហូរទៅទិសខាងត្បូងរហូតដល់សមុទ្រ។\nឥឡូវនេះមានតែអ្នកគង្វាលម្នាក់ប៉ុណ្ណោះ។",
}
OWN = {
    "Hindi": "यह नदी पहाड़ों से निकलती है और दक्षिण की ओर बहती है।\nअब वहाँ केवल एक गड़रिया रहता है।",
    "Amharic": "ወንዙ ከተራራው ይነሳና ወደ ደቡብ ይፈሳል። አሁን እዚያ የሚኖረው አንድ እረኛ ብቻ ነው።",
    "Armenian": "Գետը սկիզբ է առնում լեռներից և հոսում հարավ։ Հիմա այնտեղ ապրում է մի հովիվ։",
}
ORDINARY = {
    "English": "The river rises in the hills (河, 川) and runs south.",
    "Korean": "강은 산에서 시작되어 남쪽으로 흐른다. 지금은 양치기 한 사람만 산다.",
    "Russian": "Река начинается в горах и течёт на юг. Теперь там живёт только пастух.",
    "none": "1234 — … 5678",
}


@pytest.mark.parametrize("language", WITHOUT)
def test_counts_of_words_are_null_without_spaces(language: str) -> None:
    text = WITHOUT[language]
    repetition = annotate(GopherRepetition(), [text]).to_pylist()[0]
    assert {name for name, value in repetition.items() if value is None} == {n for n in repetition if "gram" in n}
    quality = annotate(GopherQuality(), [text]).to_pylist()[0]
    assert {name for name, value in quality.items() if value is not None} == {n for n in quality if "line" in n}
    fineweb = annotate(FineWeb(), [text]).to_pylist()[0]
    assert [name for name, value in fineweb.items() if value is None] == ["fineweb_line_feeds_per_word"]


@pytest.mark.parametrize("text", [*WITHOUT.values(), *OWN.values()], ids=[*WITHOUT, *OWN])
def test_c4_says_nothing_of_such_a_document_and_leaves_it(text: str) -> None:
    assert set(annotate(C4(), [text]).to_pylist()[0].values()) == {None}
    batch = TextBatch.of(["menu", text, "menu"])
    for terminal_punctuation in (True, False):
        assert C4Lines(terminal_punctuation).edit(batch).edits.apply(batch).texts() == ["", text, ""]


@pytest.mark.parametrize("text", ORDINARY.values(), ids=ORDINARY)
def test_other_documents_are_measured(text: str) -> None:
    assert TextBatch.of([text]).view(writing).tolist() == [0]
    assert annotate(C4(), [text])["c4_sentences"].null_count == 0


@given(TEXTS)
def test_writing_equals_plain_python(text: str) -> None:
    assert TextBatch.of([text]).view(writing).tolist() == [written(text)]


def test_tables_are_unicode_scripts() -> None:
    regex = pytest.importorskip("regex")
    without = (
        *("Balinese", "Bopomofo", "Han", "Hiragana", "Javanese", "Katakana", "Khmer", "Lao", "Myanmar", "New_Tai_Lue"),
        *("Tai_Le", "Tai_Tham", "Tai_Viet", "Thai", "Tibetan", "Yi"),
    )
    own = ("Armenian", "Bengali", "Devanagari", "Ethiopic", "Gurmukhi", "Meetei_Mayek", "Ol_Chiki", "Oriya")
    for ranges, scripts in ((WITHOUT_SPACES_RANGES, without), (OWN_ENDS_RANGES, (*own, "Syloti_Nagri"))):
        listed = {point for part in code_points(ranges) for point in range(part.start, part.stop)}
        of_scripts = regex.compile("[" + "".join(rf"\p{{Script={script}}}" for script in scripts) + "]")
        if unicodedata.unidata_version != "14.0.0":
            assert all(of_scripts.match(chr(point)) for point in listed)
            continue
        letters = (point for point in range(0x110000) if chr(point).isalpha())
        assert listed == {point for point in letters if of_scripts.match(chr(point))}
    assert (OWN_ENDS, WITHOUT_SPACES) == (1, 2)
