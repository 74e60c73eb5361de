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
        summary="Drops lists and templates: lines that end like no sentence, are short, repeat, or hold few words.",
        why=(
            "What Gopher's and C4's rules let through is mostly lists. FineWeb compared good and bad crawls over more "
            "than fifty measurements of documents, and kept the thresholds that removed the difference at the least "
            "loss. They stand after C4's rules without terminal punctuation, which they replace."
        ),
        formula=(
            "Lines are those of str.splitlines, of which blank ones (of white space only) count as empty, and only for "
            "line feeds, which are the ends of lines. punctuated: the last character ends a sentence in any script. "
            "short: at most 30 code points. repeated: code points of lines that were there before, divided by those of "
            "all lines. line feeds are divided by words, which are runs of anything but white space, and null "
            "where most letters are of a script without spaces between words. A document without a line has nulls, and "
            "is dropped. datatrove takes only LF for the end of a line: where lines end "
            "with CRLF none is punctuated, and blank lines of blanks count in the length of the text"
        ),
        source=(
            "Penedo et al. 2024 (arXiv 2406.17557), section 3.6. Thresholds as in datatrove's FineWebQualityFilter, "
            "which made the data set: the paper prints 0.1 for repeated lines where the code has 0.01, and does not "
            "mention line feeds"
        ),
        cost="with the other heuristics, whose segmentation it shares, 40 MB/s on one core (scripts/bench_crawl.py)",
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
