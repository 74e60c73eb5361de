"""A judge that stands for a language model: a function of the text, so that the demo needs none."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gneiss.demo.harvest import FUNCTION_WORDS

#: Of the words, from which share on a text explains; about half of the demo's documents that its rules keep do.
FUNCTION_WORDS_SHARE = 0.26
_WORD = re.compile(r"[a-z']+")


def explains(texts: Sequence[str]) -> list[bool]:
    """Whether each text explains rather than lists: at least 26 % of its words are function words.

    >>> explains(["It is read by the harvest, and it may be kept in a page.", "Parameters: axis, dtype, out, where"])
    [True, False]
    """
    return [_function_words_share(text) >= FUNCTION_WORDS_SHARE for text in texts]


def _function_words_share(text: str) -> float:
    words = _WORD.findall(text.lower())
    return sum(word in FUNCTION_WORDS for word in words) / max(1, len(words))
