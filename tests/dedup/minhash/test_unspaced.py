"""Shingles of scripts without spaces between words."""

from __future__ import annotations

import random
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.batch import TextBatch
from gneiss.dedup import find_near_duplicates
from gneiss.dedup.minhash.shingle_sets import shingle_sets
from gneiss.dedup.minhash.unspaced import UNSPACED_RANGES, may_be_unspaced, unspaced
from gneiss.filters.characters import NUMBER_RANGES, WORD_RANGES
from gneiss.filters.scripts import WITHOUT_SPACES_RANGES
from tests.dedup.minhash import oracle

#: Han, Hiragana, Katakana with its sign of length, Thai with marks, beyond U+FFFF; with spaces: Hangul, Latin, accents.
mixed_texts = st.text(alphabet="中文かカーกัี𠀀한éa\u0301 ", max_size=30).map(lambda text: " ".join(text.split()))

CHINESE = (
    "本手册介绍如何安装系统以及如何在安装之后进行配置每一章都可以单独阅读读者不需要预先了解其他章节的内容"
    "安装程序会检测硬件并询问语言键盘和网络然后对磁盘进行分区格式化文件系统并复制基本系统最后安装引导程序"
)
JAPANESE = (
    "このマニュアルはシステムのインストール方法とその後の設定について説明します各章は独立して読むことができます"
    "インストーラーはハードウェアを検出し言語とキーボードとネットワークを尋ねディスクを分割して基本システムをコピーします"
)
THAI = (
    "คู่มือนี้อธิบายวิธีการติดตั้งระบบและวิธีการตั้งค่าหลังจากการติดตั้งแต่ละบทสามารถอ่านแยกกันได้โดยไม่ต้องรู้เนื้อหาของบทอื่น"
    "โปรแกรมติดตั้งจะตรวจสอบฮาร์ดแวร์และถามภาษาแป้นพิมพ์และเครือข่ายจากนั้นแบ่งพาร์ทิชันดิสก์และคัดลอกระบบพื้นฐาน"
)


@given(st.lists(mixed_texts, max_size=5), st.integers(1, 6))
def test_shingles_as_the_oracle(texts: list[str], shingle_words: int) -> None:
    found = shingle_sets(TextBatch.of(texts), shingle_words)
    for document, text in enumerate(texts):
        hashes = {oracle.hash_shingle(shingle) for shingle in oracle.shingles(text, shingle_words)}
        assert found.hashes[found.bounds[document] : found.bounds[document + 1]].tolist() == sorted(hashes)


def test_two_characters_count_as_a_word() -> None:
    assert oracle.shingles("中文", 2) == {("中", "文")}
    assert oracle.shingles("ok中文字", 1) == {("ok",), ("ok", "中"), ("中", "文"), ("文", "字")}
    assert oracle.shingles("a b中文 c", 2) == {
        ("a", "b"), ("a", "b", "中"), ("b", "中", "文"), ("中", "文", "c"),
    }  # fmt: skip


@given(mixed_texts)
def test_white_space_between_such_characters_does_not_matter(text: str) -> None:
    spaced = " ".join(word for word, _ in oracle.weighed_words(text))
    one, other = (shingle_sets(TextBatch.of([written]), 3).hashes.tolist() for written in (text, spaced))
    assert one == other


def test_the_characters_are_those_of_the_scripts_that_heuristics_know() -> None:
    """And what stands among their letters: marks, numbers, signs of length."""
    found, letters = oracle.characters_of(UNSPACED_RANGES), oracle.characters_of(WITHOUT_SPACES_RANGES)
    assert letters <= found
    of_any_script = oracle.characters_of(WORD_RANGES) - oracle.characters_of(NUMBER_RANGES)
    signs = [unicodedata.name(sign) for sign in (found & of_any_script) - letters]
    assert [sign for sign in signs if "MARK" not in sign] == ["JAVANESE PANGRANGKEP"]  # a mark of repetition
    assert set(np.flatnonzero(unspaced()).tolist()) == set(map(ord, found))


def test_no_character_is_missed_at_first_sight() -> None:
    for code_point in range(sys.maxunicode + 1):
        if not 0xD800 <= code_point < 0xE000 and code_point < len(unspaced()) and unspaced()[code_point]:
            octets = np.frombuffer(chr(code_point).encode(), np.uint8)
            assert may_be_unspaced(octets, 0, len(octets))


@pytest.mark.parametrize(
    "text", [CHINESE, JAPANESE, THAI, CHINESE[:60] + " words between them, such as these " + THAI[:90]]
)
def test_an_edited_copy_is_found_and_another_text_is_not(text: str) -> None:
    choose = random.Random(1)
    other = "".join(choose.sample(text, len(text)))
    at = len(text) // 2
    edited = text[:at] + text[at + 1 :]
    found = find_near_duplicates([text, other, edited, "、".join(text.split("。"))], verify=0.8)
    assert found["document"].to_pylist() == [0, 2, 3]
    assert found["similarity"].to_pylist()[1] < 1


def test_a_share_about_one_half_is_no_border() -> None:
    """Two pages half in English, which a choice by most letters would cut differently."""
    english = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(40))
    texts = [f"{CHINESE} {english}", f"{CHINESE}。 {english} another word"]
    assert find_near_duplicates(texts, verify=0.8).num_rows == 2


def test_code_has_words_between_spaces() -> None:
    """With `normalize: spaces` punctuation counts, which `words` ignores."""
    lines = [f"total_{chr(97 + n)} = price_{chr(97 + n)} * count_{chr(97 + n)} + tax_{chr(97 + n)}" for n in range(20)]
    code = "\n".join(lines)
    texts = [code, code.replace("\n", "\n    "), code.replace("*", "/").replace("+", "-")]
    assert find_near_duplicates(texts, normalize="words", verify=0.8)["document"].to_pylist() == [0, 1, 2]
    assert find_near_duplicates(texts, normalize="spaces", verify=0.8)["document"].to_pylist() == [0, 1]
