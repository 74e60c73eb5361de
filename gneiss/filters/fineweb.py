"""FineWeb's own rules: line ends, short lines, repeated lines, line feeds per word."""

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

PAGES = (
    Page(
        code="FW01",
        name="fineweb",
        summary="Drops lists and templates: lines that are short, repeated, have few words or do not end "
        "like a sentence.",
        why=(
            "Most bad documents that pass Gopher's and C4's rules are lists. FineWeb compared good and bad "
            "crawls by more than fifty document statistics, and kept the thresholds that removed the "
            "difference at the lowest loss. They are applied after C4's rules without terminal punctuation, "
            "which they replace."
        ),
        formula=(
            "Lines are those of str.splitlines. Blank lines (white space only) count as empty, and only for "
            "line feeds, which are the ends of lines. punctuated: the last character ends a sentence in any "
            "script. short: at most 30 code points. repeated: code points of lines that equal an earlier "
            "line, divided by those of all lines. line feeds are divided by words, which are separated by "
            "white space; the value is null if most letters belong to a script without spaces between words. "
            "A document without a line has nulls and is dropped. datatrove only splits lines at LF: if lines "
            "end with CRLF, none is punctuated, and blank lines of spaces count in the length of the text"
        ),
        source=(
            "Penedo et al. 2024 (arXiv 2406.17557), section 3.6. Thresholds as in datatrove's "
            "FineWebQualityFilter, which produced the data set: the paper gives 0.1 for repeated lines where "
            "the code has 0.01, and does not mention line feeds"
        ),
        cost="40 MB/s on one core together with the other heuristics, which share its segmentation "
        "(scripts/bench_crawl.py)",
        example_kept="The council met twice that winter.\nNeither meeting lasted an hour, and nothing was decided.",
        example_dropped="Home\nProducts\nPrices\nImprint\nHome",
        rules={
            "fineweb_punctuated": "fineweb_punctuated_line_fraction >= 0.12",
            "fineweb_long_lines": "fineweb_short_line_fraction <= 0.67",
            "fineweb_lines_differ": "fineweb_repeated_line_char_fraction <= 0.01",
            "fineweb_no_list": "fineweb_line_feeds_per_word <= 0.3",
        },
    ),
)


@dataclass(frozen=True)
class FineWeb(Annotator):
    r"""The measures of FineWeb's own rules; null for a text of blank lines only.

    short_line_chars: maximum code points of a short line.

    >>> from gneiss.annotation import annotate
    >>> annotate(FineWeb(), ["Here is a line of many characters.\nmenu"])["fineweb_short_line_fraction"].to_pylist()
    [0.5]
    """

    key = "fineweb"

    short_line_chars: int = 30

    def __post_init__(self) -> None:
        if self.short_line_chars < 0:
            raise RecipeError(f"fineweb: expected short_line_chars of at least 0, found {self.short_line_chars}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("fineweb_punctuated_line_fraction", "float64", "lines that end a sentence / lines"),
            Column(
                "fineweb_short_line_fraction", "float64", f"lines of at most {self.short_line_chars} characters / lines"
            ),
            Column("fineweb_repeated_line_char_fraction", "float64", "code points of repeated lines / code points"),
            Column("fineweb_line_feeds_per_word", "float64", "ends of lines / words"),
        )

    def compute(self, batch: TextBatch) -> Mapping[str, pa.Array]:
        """See Annotator."""
        import numpy as np

        from gneiss.filters import fineweb_kernel as kernel
        from gneiss.filters.ratio import ratio
        from gneiss.filters.scripts import without_spaces
        from gneiss.filters.segmentation import whitespace_words

        counts = kernel.fineweb_counts(batch, self.short_line_chars).T
        lines, words = counts[kernel.LINES], np.diff(batch.view(whitespace_words).documents)
        words = np.where(without_spaces(batch), 0, words)
        characters = np.where(lines > 0, counts[kernel.LINE_CHARS], 0)
        return {
            "fineweb_punctuated_line_fraction": ratio(counts[kernel.PUNCTUATED_LINES], lines),
            "fineweb_short_line_fraction": ratio(counts[kernel.SHORT_LINES], lines),
            "fineweb_repeated_line_char_fraction": ratio(counts[kernel.REPEATED_LINE_CHARS], characters),
            "fineweb_line_feeds_per_word": ratio(counts[kernel.LINE_ENDS], words),
        }
