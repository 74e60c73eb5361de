"""Filters: annotators with the rules published for them, one family per file; and editors."""

from gneiss.filters.c4 import C4, C4Lines
from gneiss.filters.contamination import Contamination
from gneiss.filters.fasttext import FastText, FastTextModel, fasttext_scores
from gneiss.filters.fineweb import FineWeb
from gneiss.filters.gopher import GopherQuality, GopherRepetition
from gneiss.filters.input_column import InputColumn
from gneiss.filters.language import Language
from gneiss.filters.membership import Membership
from gneiss.filters.perplexity import Perplexity
from gneiss.filters.pii import Pii
from gneiss.filters.readability import Readability, eflaw
from gneiss.filters.tokens import Tokens, count_tokens
from gneiss.filters.urls import Urls

__all__ = [
    "C4",
    "C4Lines",
    "Contamination",
    "FastText",
    "FastTextModel",
    "FineWeb",
    "GopherQuality",
    "GopherRepetition",
    "InputColumn",
    "Language",
    "Membership",
    "Perplexity",
    "Pii",
    "Readability",
    "Tokens",
    "Urls",
    "count_tokens",
    "eflaw",
    "fasttext_scores",
]
