"""Gopher's rules for quality and repetition: their measures of a document, and the published thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gneiss.annotation import Annotator, Column
from gneiss.errors import RecipeError
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

#: English prose has at least two of these words.
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
_TOP_LIMITS = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED_LIMITS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}

PAGES = (
    Page(
        code="GO01",
        name="gopher_quality",
        summary="Keeps documents that look like English prose: words of normal length, few symbols and lists.",
        why=(
            "Menus, tables, code, tag clouds and cut-off teasers differ from prose in simple counts: the "
            "length of words, the share of words with a letter, the share of bullet lines, and the most "
            "common English words. Stop words and word lengths are those of English."
        ),
        formula=(
            "Words are separated by white space; the count and the mean length are of words with at least "
            "one character other than punctuation. Hashes (#) and ellipses (... or …) are divided by all "
            "words. Lines are those of str.splitlines; a bullet is - or •. Stop words: the, be, to, of, and, "
            "that, have, with, in lower case, each counted once. A measurement without a denominator is "
            "null, and its rule is not true. The same holds for measurements of words if most letters belong "
            "to a script without spaces between words (Han, kana, Thai …)"
        ),
        source=(
            "Rae et al. 2021 (arXiv 2112.11446), section A.1.1, quality filtering; counted as in datatrove's "
            "GopherQualityFilter, with words split at white space. datatrove's own splitting (spaCy) makes "
            "each punctuation mark a word: of 1,500 documentation pages, 247 are then decided differently, "
            "245 of which it drops and gneiss keeps"
        ),
        cost="40 MB/s on one core together with the other heuristics, which share its segmentation "
        "(scripts/bench_crawl.py)",
        example_kept=(
            "The bridge was opened in 1894 and carried both trams and carts until the war. It was then closed to all "
            "but those who lived on the island, and the toll house at its northern end became a shop. When the new "
            "bridge was built, the council wanted to pull the old one down, but a vote of the islanders saved it."
        ),
        example_dropped="# # home - blog - shop - 12,95 - 14,95 - more ...",
        rules={
            "gopher_length": "gopher_words BETWEEN 50 AND 100000",
            "gopher_word_length": "gopher_mean_word_length BETWEEN 3 AND 10",
            "gopher_few_hashes": "gopher_hashes_per_word <= 0.1",
            "gopher_few_ellipses": "gopher_ellipses_per_word <= 0.1",
            "gopher_few_bullets": "gopher_bullet_line_fraction <= 0.9",
            "gopher_few_cut_lines": "gopher_ellipsis_line_fraction <= 0.3",
            "gopher_letters": "gopher_letter_word_fraction >= 0.8",
            "gopher_stop_words": "gopher_distinct_stop_words >= 2",
        },
    ),
    Page(
        code="GO02",
        name="gopher_repetition",
        summary="Drops documents with many repeated lines, paragraphs or runs of 2 to 10 words.",
        why=(
            "Generated pages, lists of similar records and broken extraction are repetitive, and a model "
            "trained on such text learns to repeat. The rules measure lines and paragraphs (how many are "
            "copies of an earlier one, and their share of the text) and the share of the text in repeated "
            "runs of words."
        ),
        formula=(
            "Lines are those of str.splitlines, and blank if they only contain white space. Paragraphs are "
            "separated by blank lines. A copy equals an earlier line or paragraph. Characters are code "
            "points, divided by those of the whole text, in which the end of a line is one and a blank line "
            "has none. datatrove only splits lines at LF: with CRLF, or with a no-break space in each blank "
            "line, each blank line is a copy of the first, which drops ordinary documents. For 2 to 4 words: "
            "the most frequent run (the first of several), with single spaces, times its occurrences. For 5 "
            "to 10 words: all later occurrences, read from left to right without overlap, the words joined "
            "without a space. If most letters belong to a script without spaces between words (Han, kana, "
            "Thai …), runs of words are meaningless: their measurements are null and their rules are not "
            "true. To keep such documents, write your own rules, such as top_2gram_char_fraction IS NULL OR "
            "top_2gram_char_fraction <= 0.2"
        ),
        source=(
            "Rae et al. 2021 (arXiv 2112.11446), table A1; counted as in datatrove's GopherRepetitionFilter, "
            "with words split at white space; with its own splitting (spaCy), 42 of 1,500 documentation "
            "pages are decided differently, 37 of which it drops and gneiss keeps"
        ),
        cost="40 MB/s on one core together with the other heuristics, which share its segmentation "
        "(scripts/bench_crawl.py)",
        example_kept=(
            "Four tenors auditioned on Monday; by Friday only one of them still wanted the part. He had sung it once, "
            "in a barn, to an audience of farmers who left at the interval."
        ),
        example_dropped="Add to cart\nAdd to cart\nAdd to cart\nAdd to cart\nContact us",
        rules={
            "gopher_lines_differ": "repeated_line_fraction <= 0.3 AND repeated_line_char_fraction <= 0.2",
            "gopher_paragraphs_differ": (
                "repeated_paragraph_fraction <= 0.3 AND repeated_paragraph_char_fraction <= 0.2"
            ),
            "gopher_no_top_ngram": " AND ".join(
                f"top_{n}gram_char_fraction <= {limit:.2f}" for n, limit in _TOP_LIMITS.items()
            ),
            "gopher_ngrams_differ": " AND ".join(
                f"repeated_{n}gram_char_fraction <= {limit:.2f}" for n, limit in _REPEATED_LIMITS.items()
            ),
        },
    ),
)


@dataclass(frozen=True)
class GopherQuality(Annotator):
    """The measures of Gopher's quality rules.

    stop_words: at most 64, matched exactly.

    >>> from gneiss.annotation import annotate
    >>> row = annotate(GopherQuality(), ["- The end of the line ..."]).to_pylist()[0]
    >>> row["gopher_words"], row["gopher_mean_word_length"], row["gopher_distinct_stop_words"]
    (5, 3.0, 2)
    """

    key = "gopher_quality"

    stop_words: tuple[str, ...] = STOP_WORDS

    def __post_init__(self) -> None:
        unusable = [word for word in self.stop_words if word.split() != [word]]
        if unusable or not 1 <= len(set(self.stop_words)) == len(self.stop_words) <= 64:
            raise RecipeError("gopher_quality: expected 1 to 64 different stop words, none with white space")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("gopher_words", "int64", "words with a character that is no punctuation"),
            Column("gopher_mean_word_length", "float64", "their mean length in code points; null without any"),
            Column("gopher_hashes_per_word", "float64", "# / all words; null without words"),
            Column("gopher_ellipses_per_word", "float64", "(... and …) / all words; null without words"),
            Column(
                "gopher_bullet_line_fraction", "float64", "lines that begin with - or • / lines; null without lines"
            ),
            Column("gopher_ellipsis_line_fraction", "float64", "lines that end with ... or … / lines"),
            Column("gopher_letter_word_fraction", "float64", "words with a letter / all words; null without words"),
            Column("gopher_distinct_stop_words", "int64", "how many of the stop words occur"),
        )

    def compute(self, batch: TextBatch) -> Mapping[str, pa.Array]:
        """See Annotator."""
        import numpy as np
        import pyarrow as pa

        from gneiss.filters import gopher_kernel as kernel
        from gneiss.filters.ratio import ratio
        from gneiss.filters.scripts import without_spaces

        counts = kernel.quality_counts(batch, self.stop_words).T
        wordless = without_spaces(batch)
        lines, all_words = counts[kernel.LINES], np.where(wordless, 0, counts[kernel.ALL_WORDS])
        words = np.where(wordless, 0, counts[kernel.WORDS])
        return {
            "gopher_words": pa.array(words, mask=wordless),
            "gopher_mean_word_length": ratio(counts[kernel.WORD_CHARS], words),
            "gopher_hashes_per_word": ratio(counts[kernel.HASHES], all_words),
            "gopher_ellipses_per_word": ratio(counts[kernel.ELLIPSES], all_words),
            "gopher_bullet_line_fraction": ratio(counts[kernel.BULLET_LINES], lines),
            "gopher_ellipsis_line_fraction": ratio(counts[kernel.ELLIPSIS_LINES], lines),
            "gopher_letter_word_fraction": ratio(counts[kernel.LETTER_WORDS], all_words),
            "gopher_distinct_stop_words": pa.array(counts[kernel.STOP_WORDS], mask=wordless),
        }


@dataclass(frozen=True)
class GopherRepetition(Annotator):
    r"""The measures of Gopher's repetition rules; every fraction is null for an empty text, and those of words in
    scripts without spaces between words.

    >>> from gneiss.annotation import annotate
    >>> annotate(GopherRepetition(), ["buy\nbuy\nnow"])["repeated_line_fraction"].to_pylist()
    [0.3333333333333333]
    """

    key = "gopher_repetition"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("repeated_line_fraction", "float64", "lines that were there before / lines"),
            Column("repeated_line_char_fraction", "float64", "code points of these / code points"),
            Column("repeated_paragraph_fraction", "float64", "paragraphs that were there before / paragraphs"),
            Column("repeated_paragraph_char_fraction", "float64", "code points of these / code points"),
            *(
                Column(f"top_{n}gram_char_fraction", "float64", f"most frequent {n} words, all times / code points")
                for n in _TOP_LIMITS
            ),
            *(
                Column(f"repeated_{n}gram_char_fraction", "float64", f"{n} words that were there before / code points")
                for n in _REPEATED_LIMITS
            ),
        )

    def compute(self, batch: TextBatch) -> Mapping[str, pa.Array]:
        """See Annotator."""
        return _annotate_repetition(batch)


def _annotate_repetition(batch: TextBatch) -> Mapping[str, pa.Array]:
    import numpy as np

    from gneiss.filters import gopher_kernel as kernel
    from gneiss.filters.ratio import ratio
    from gneiss.filters.scripts import without_spaces
    from gneiss.filters.segmentation import lines

    counts = kernel.repetition_counts(batch).T
    characters = batch.view(lines).code_points()
    with_words = np.where(without_spaces(batch), 0, characters)
    empty = characters == 0
    counts[kernel.LINE_COUNT][empty] = counts[kernel.PARAGRAPH_COUNT][empty] = 0
    return {
        "repeated_line_fraction": ratio(counts[kernel.REPEATED_LINES], counts[kernel.LINE_COUNT]),
        "repeated_line_char_fraction": ratio(counts[kernel.REPEATED_LINE_CHARS], characters),
        "repeated_paragraph_fraction": ratio(counts[kernel.REPEATED_PARAGRAPHS], counts[kernel.PARAGRAPH_COUNT]),
        "repeated_paragraph_char_fraction": ratio(counts[kernel.REPEATED_PARAGRAPH_CHARS], characters),
        **{
            f"top_{n}gram_char_fraction": ratio(counts[kernel.TOP_NGRAM_CHARS + i], with_words)
            for i, n in enumerate(kernel.TOP_NGRAMS)
        },
        **{
            f"repeated_{n}gram_char_fraction": ratio(counts[kernel.REPEATED_NGRAM_CHARS + i], with_words)
            for i, n in enumerate(kernel.REPEATED_NGRAMS)
        },
    }
