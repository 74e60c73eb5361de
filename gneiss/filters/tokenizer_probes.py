"""Texts for verifying a fast tokenizer."""

from __future__ import annotations

import random
from collections.abc import Iterator

_BY_HAND = (
    *(
        "",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "a",
        "é",
        "e\u0301",
        "日本語",
        "\U0001f600",
        "\ue000",
        "\ufeff",
        "\ufffd",
    ),
    *(
        space * run
        for space in " \n\t\r\u00a0\u2003\u2028\u3000\u0085\x0b\x1c"
        for run in (2, 3, 15, 16, 17, 64, 129, 1000)
    ),
    *(f"a{space * run}b" for space in " \n\t\r\u00a0\u2003\u2028\u3000\u0085\x0b\x1c" for run in (1, 2, 3, 17, 83)),
    *("1" * run for run in (1, 2, 3, 4, 5, 7, 50, 1001)),
    *(
        "a" * 5000,
        "ab" * 700,
        "=" * 100,
        "-*" * 300,
        "𝒳" * 50,
        "ก" * 100,
        "👩‍👩‍👧‍👦" * 9,
        "\u200b\u200d\ufe0f",
        "क्षि त्र",
    ),
    *(
        "I'm you're he'll we'd they've it's DON'T ''s 'S’s 'ſ",
        "3.14 1,000,000 ½²³ ⅷ ١٢٣ १२३ 0x1F 1e-9",
        " \n \n\n  \t x",
    ),
    "def f(x):\n    if x:\n\t\treturn {'a': [1, 2], \"b\": -3.5e+10}  # ok\n\n\nclass A_b(C): ...\r\n",
    'https://example.org/a?b=c&d=%20#e <p class="x">&nbsp;</p> $\\frac{a}{b}$ a@b.c ::->>= __init__ C++ #1',
    "The quick brown fox jumps over the lazy dog. Straße, naïve café; Ελληνικά, русский текст, العربية, עברית, ไทย.",
    "\u00a0\u00a0 a \u00a0b\u00a0\n\u00a0 1\u00a0%  \u2009x\u202f!\u3000。、「」…—–",
)


def probes(specials: list[str]) -> Iterator[str]:
    """Texts on which tokenizers are known or likely to differ: some handwritten, some drawn from all of Unicode.

    specials: the tokenizer's added tokens, tried whole, cut, doubled and among spaces.
    """
    yield from _BY_HAND
    for token in specials[:200]:
        yield from (token, f"a {token} b{token}{token}\n {token}\t", token[:-1], f"<{token}", f"é{token.upper()}\u00a0")
    draw = random.Random(20250227)
    alphabets = [
        "ab \n\t\u00a0'-1é",
        "".join(map(chr, range(0x250))),
        "".join(map(chr, (*range(0x300, 0x600), *range(0x900, 0xA00), *range(0x2000, 0x2100)))),
        "".join(
            map(chr, (*range(0x3000, 0x3100), *range(0x4E00, 0x4F00), *range(0xAC00, 0xAD00), *range(0xFE00, 0x10000)))
        ),
        "".join(chr(draw.randrange(0xE000, 0x110000)) for _ in range(500)),
    ]
    for alphabet in (*alphabets, "".join(alphabets)):
        for length in (3, 17, 300, 3000):
            for spaces in (0, length // 3):
                yield "".join(draw.choices(alphabet, k=length) + draw.choices(" \n\u00a0\u3000", k=spaces))
                yield "".join(draw.sample(draw.choices(alphabet, k=length) + [" "] * spaces, length + spaces))
