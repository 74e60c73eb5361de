"""How the script of most letters of a document is written: what counts of words and sentences can be meant for it.

From Unicode's property Script, for letters of Unicode 14.0, like the tables of `gneiss.filters.characters`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from gneiss.arrays import AnyArray, BoolArray, Int64Array, UInt8Array
from gneiss.batch import TextBatch
from gneiss.filters.segmentation import class_at
from gneiss.filters.segmentation_characters import LETTER, code_points, segmentation_classes

#: What `writing` says: words between spaces, and sentences that end with . ? or !; words between spaces, and sentences
#: that end with marks of the script's own; no spaces between words.
ORDINARY, OWN_ENDS, WITHOUT_SPACES = 0, 1, 2


def writing(batch: TextBatch) -> UInt8Array:
    """How most letters of each document are written, uint8 (documents,); ORDINARY where there is none.

    >>> TextBatch.of(["Two words", "两个字 ok", "दो शब्द।"]).view(writing).tolist()
    [0, 2, 1]
    """
    found = np.zeros(len(batch), np.uint8)
    _writing(batch.data, batch.offsets, _letters(), found)
    return found


def without_spaces(batch: TextBatch) -> BoolArray:
    """Which documents are mostly in scripts without spaces between words, bool (documents,)."""
    return np.asarray(batch.view(writing) == WITHOUT_SPACES)


@cache
def _letters() -> UInt8Array:
    """For each code point 1 + how it is written, uint8 (0x110000,); 0 where it is no letter."""
    table = np.where(segmentation_classes() & LETTER, np.uint8(1 + ORDINARY), np.uint8(0))
    for ranges, kind in ((OWN_ENDS_RANGES, OWN_ENDS), (WITHOUT_SPACES_RANGES, WITHOUT_SPACES)):
        for part in code_points(ranges):
            table[part] = 1 + kind
    return table


@njit(cache=True, nogil=True)
def _writing(data: UInt8Array, offsets: Int64Array, letters: AnyArray, found: UInt8Array) -> None:
    count = np.zeros(4, np.int64)
    for document in range(len(offsets) - 1):
        start, end = offsets[document], offsets[document + 1]
        high = 0  # scripts other than ORDINARY begin at U+0531
        for position in range(start, end):
            high += data[position] >= 0xD4
        if high == 0:
            continue
        count[:] = 0
        position = start
        while position < end:
            kind, width = class_at(data, position, end, letters)
            count[kind] += 1
            position += width
        found[document] = np.argmax(count[1:])


#: Letters of Armenian, Bengali, Devanagari, Ethiopic, Gurmukhi, Meetei Mayek, Ol Chiki, Oriya and Syloti Nagri
#: (hexadecimal, inclusive).
OWN_ENDS_RANGES = """
531-556 559 560-588 904-939 93D 950 958-961 971-980 985-98C 98F-990 993-9A8 9AA-9B0 9B2 9B6-9B9 9BD 9CE 9DC-9DD
9DF-9E1 9F0-9F1 9FC A05-A0A A0F-A10 A13-A28 A2A-A30 A32-A33 A35-A36 A38-A39 A59-A5C A5E A72-A74 B05-B0C B0F-B10
B13-B28 B2A-B30 B32-B33 B35-B39 B3D B5C-B5D B5F-B61 B71 1200-1248 124A-124D 1250-1256 1258 125A-125D 1260-1288
128A-128D 1290-12B0 12B2-12B5 12B8-12BE 12C0 12C2-12C5 12C8-12D6 12D8-1310 1312-1315 1318-135A 1380-138F 1C5A-1C7D
2D80-2D96 2DA0-2DA6 2DA8-2DAE 2DB0-2DB6 2DB8-2DBE 2DC0-2DC6 2DC8-2DCE 2DD0-2DD6 2DD8-2DDE A800-A801 A803-A805
A807-A80A A80C-A822 A8F2-A8F7 A8FB A8FD-A8FE AAE0-AAEA AAF2-AAF4 AB01-AB06 AB09-AB0E AB11-AB16 AB20-AB26 AB28-AB2E
ABC0-ABE2 FB13-FB17 1E7E0-1E7E6 1E7E8-1E7EB 1E7ED-1E7EE 1E7F0-1E7FE
"""

#: Letters of Balinese, Bopomofo, Han, Hiragana, Javanese, Katakana, Khmer, Lao, Myanmar, New Tai Lue, Tai Le, Tai Tham,
#: Tai Viet, Thai, Tibetan and Yi (hexadecimal, inclusive).
WITHOUT_SPACES_RANGES = """
E01-E30 E32-E33 E40-E46 E81-E82 E84 E86-E8A E8C-EA3 EA5 EA7-EB0 EB2-EB3 EBD EC0-EC4 EC6 EDC-EDF F00 F40-F47 F49-F6C
F88-F8C 1000-102A 103F 1050-1055 105A-105D 1061 1065-1066 106E-1070 1075-1081 108E 1780-17B3 17D7 17DC 1950-196D
1970-1974 1980-19AB 19B0-19C9 1A20-1A54 1AA7 1B05-1B33 1B45-1B4C 3005 303B 3041-3096 309D-309F 30A1-30FA 30FD-30FF
3105-312F 31A0-31BF 31F0-31FF 3400-4DBF 4E00-A48C A984-A9B2 A9E0-A9E4 A9E6-A9EF A9FA-A9FE AA60-AA76 AA7A AA7E-AAAF
AAB1 AAB5-AAB6 AAB9-AABD AAC0 AAC2 AADB-AADD F900-FA6D FA70-FAD9 FF66-FF6F FF71-FF9D 16FE3 1AFF0-1AFF3 1AFF5-1AFFB
1AFFD-1AFFE 1B000-1B122 1B150-1B152 1B164-1B167 20000-2A6DF 2A700-2B738 2B740-2B81D 2B820-2CEA1 2CEB0-2EBE0
2F800-2FA1D 30000-3134A
"""
