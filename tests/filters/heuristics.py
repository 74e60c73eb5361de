"""What the tests of the heuristics share: hostile texts, and how often rules of a page hold."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import strategies as st

from gneiss.annotation import Annotator, annotate
from gneiss.filters.page import Page
from gneiss.filters.sentences import ABBREVIATIONS, STARTERS
from gneiss.recipe.rule import Rules, evaluate, locked_connection

PIECES = (
    *(
        "the",
        "be",
        "to",
        "of",
        "The",
        "a",
        "b",
        "ab",
        "c d",
        "word",
        "one two three four five",
        "x y z",
        "ß",
        "é",
        "日本",
    ),
    *(
        " ",
        "  ",
        "\t",
        "\u00a0",
        "\u3000",
        "\n",
        "\n",
        "\n\n",
        "\n\n\n",
        "\r\n",
        "\r",
        "\x0b",
        "\x1c",
        "\x85",
        "\u2028",
    ),
    *(
        ".",
        "...",
        "....",
        "…",
        "?",
        "!",
        '"',
        "'",
        "”",
        "»",
        ")",
        "]",
        "[",
        "[1]",
        "[]",
        "[23",
        "[١]",
        "[edit]",
        "[1[2]]",
    ),
    *("[citation needed]", "#", "##", "-", "•", "- ", "• ", "{", "}", "javascript", "Java[2]Script", "JAVASCRIPT"),
    *("lorem ipsum", "Lorem Ipsum", "terms of use", "use coo\u212aies", "Privacy Policy", "uses cookies", "policy"),
    *(
        "One two three.",
        "It is so. So it is! Is it? Yes.",
        "it is so. is it? no! mr. x (no. 3) came in 1999. then",
        "J. Doe of the U.S. Then Dr. Who... The end. e.g. etc. (p. 7). 'x.' y",
        "นี่คือ",
        "यह है।",
        "e.g. this",
        "x" * 31,
        "y" * 1001,
        "\u200b",
        "।",
        "。",
        "१२",
        "½",
    ),
)
#: Joined at random: with white space between the pieces more often than not, so that there are words.
TEXTS = st.lists(
    st.tuples(
        st.sampled_from(PIECES) | st.text(st.sampled_from("ab .\n#-!\u2028é日\r"), max_size=4), st.sampled_from(" \n ")
    ),
    max_size=40,
).map(lambda parts: "".join(piece + (joint if len(piece) % 2 else "") for piece, joint in parts))


_FOREIGN = (
    ("ARMENIAN", "BENGALI", "DEVANAGARI", "ETHIOPIC", "GURMUKHI", "MEETEI", "OL", "ORIYA", "SYLOTI"),
    (
        *("BALINESE", "BOPOMOFO", "CJK", "HIRAGANA", "JAVANESE", "KATAKANA", "KHMER", "LAO", "MYANMAR", "NEW", "TAI"),
        *("THAI", "TIBETAN", "VERTICAL", "HALFWIDTH", "HENTAIGANA", "YI"),
    ),
)


def written(text: str) -> int:
    """How most letters are written: 0 ordinarily, 1 with sentence ends of their own, 2 without spaces."""
    counts = [0, 0, 0]
    for letter, times in Counter(filter(str.isalpha, text)).items():
        script = unicodedata.name(letter).split()[0]
        counts[next((kind for kind, names in enumerate(_FOREIGN, 1) if script in names), 0)] += times
    return counts.index(max(counts))


_END = re.compile(r"([.!?])[\"')\]”’»]*\s+(?=\S)")
_LAST_WORD = re.compile(r"[^\s\"'`(\[{;:&#*@)}\],\-?!“‘]*$")


def sentence_ends(line: str) -> list[int]:
    """Where the sentences of a line end but the last, white space included."""
    found = []
    for match in _END.finditer(line):
        before, after = line[: match.start()], line[match.end() :]
        capital = re.match(r"[A-Z][A-Za-z]*", after)
        starts = bool(capital) and capital[0].lower() in STARTERS.split() and after[capital.end() :][:1] < "\x80"
        word = _LAST_WORD.search(before)[0].lower()
        if match[1] != ".":
            ends = True
        elif before.endswith(".") or word in ABBREVIATIONS.split() or (len(word) == 1 and word.isalpha()):
            ends = starts
        else:
            ends = not (re.fullmatch(r"[0-9.,]+", word) and re.match("[a-z]", after))
        if ends:
            found.append(match.end())
    return found


def lines_of(text: str) -> list[str]:
    """The lines of a text, blank ones as empty strings, and the empty line after a last line's end."""
    *lines, last = f"{text}x".splitlines()
    return [line if line.strip() else "" for line in (*lines, last[:-1])]


def with_line_feeds(text: str) -> str:
    """The text that heuristics measure: every line ends in LF, blank lines are empty."""
    return "\n".join(lines_of(text))


def decide(annotator: Annotator, page: Page, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether every rule of the page is true, bool (texts,)."""
    table: pa.Table = annotate(annotator, texts)
    table = table.append_column("text_chars", [[len(text) for text in texts]])
    with locked_connection() as connection:
        return evaluate(connection, Rules(page.rules, " AND ".join(page.rules), {}), table).keep
