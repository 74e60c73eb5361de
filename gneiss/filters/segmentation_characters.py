"""What each code point is to the heuristics: white space, letter, symbol, end of a sentence, end of a line.

The tables are those of Unicode 14.0, like those of `gneiss.filters.characters`, whatever the interpreter's version.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from gneiss.arrays import UInt8Array
from gneiss.batch import SPACE_RANGES
from gneiss.filters.characters import NUMBER_RANGES, WORD_RANGES

#: Bits of `segmentation_classes`. ORDINARY is set where SYMBOL_RANGES is not; DECIMAL is what `\\d` matches.
SPACE, LETTER, ORDINARY, TERMINAL, LINE_BREAK, DECIMAL = 1, 2, 4, 8, 16, 32


@cache
def segmentation_classes() -> UInt8Array:
    r"""The class bits of every code point, uint8 (0x110000,), read-only.

    >>> classes = segmentation_classes()
    >>> [int(classes[ord(character)]) for character in "a-.\n7"]
    [6, 0, 8, 21, 36]
    """
    classes = np.full(0x110000, ORDINARY, np.uint8)
    for bit, ranges in (
        (SPACE, SPACE_RANGES),
        (LETTER, WORD_RANGES),
        (TERMINAL, TERMINAL_RANGES),
        (LINE_BREAK, LINE_BREAK_RANGES),
        (DECIMAL, DECIMAL_RANGES),
    ):
        for part in code_points(ranges):
            classes[part] |= bit
    for part in code_points(f"{NUMBER_RANGES} 5F"):  # word characters but numbers and the underscore are letters
        classes[part] &= ~LETTER & 0xFF
    for part in code_points(f"{SYMBOL_RANGES} {TERMINAL_RANGES}"):
        classes[part] &= ~ORDINARY & 0xFF
    classes.flags.writeable = False
    return classes


def code_points(ranges: str) -> Iterator[slice]:
    """The slices of a table that ranges of code points name (hexadecimal, inclusive)."""
    for item in ranges.split():
        first, _, last = item.partition("-")
        yield slice(int(first, 16), int(last or first, 16) + 1)


#: Where `str.splitlines` ends a line; a carriage return and the line feed after it end one line together.
LINE_BREAK_RANGES = "A-D 1C-1E 85 2028-2029"

#: What ends a sentence in any script: Unicode's Sentence_Terminal and a few more (hexadecimal, inclusive).
TERMINAL_RANGES = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6
17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E
2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52
FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6
111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944
11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F
1DA88
"""

#: Symbols, besides the ends of sentences: a word of nothing else is no word to Gopher's rules.
SYMBOL_RANGES = """
0-8 B-1F 22-2D 2F 3A-3E 40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001 3008-300D 3010-3011
FF05 FF08-FF09 FF0C FF11 FF1A-FF1B FF5E
"""

#: Code points of the category Nd.
DECIMAL_RANGES = """
30-39 660-669 6F0-6F9 7C0-7C9 966-96F 9E6-9EF A66-A6F AE6-AEF B66-B6F BE6-BEF C66-C6F CE6-CEF D66-D6F DE6-DEF E50-E59
ED0-ED9 F20-F29 1040-1049 1090-1099 17E0-17E9 1810-1819 1946-194F 19D0-19D9 1A80-1A89 1A90-1A99 1B50-1B59 1BB0-1BB9
1C40-1C49 1C50-1C59 A620-A629 A8D0-A8D9 A900-A909 A9D0-A9D9 A9F0-A9F9 AA50-AA59 ABF0-ABF9 FF10-FF19 104A0-104A9
10D30-10D39 11066-1106F 110F0-110F9 11136-1113F 111D0-111D9 112F0-112F9 11450-11459 114D0-114D9 11650-11659 116C0-116C9
11730-11739 118E0-118E9 11950-11959 11C50-11C59 11D50-11D59 11DA0-11DA9 16A60-16A69 16AC0-16AC9 16B50-16B59 1D7CE-1D7FF
1E140-1E149 1E2F0-1E2F9 1E950-1E959 1FBF0-1FBF9
"""
