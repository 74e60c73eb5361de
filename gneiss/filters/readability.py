"""Readability: McAlpine EFLAW as textstat 0.7.5 computes it, its parts, and scores derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gneiss.annotation import Annotator, Column, annotate
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

PAGES = (
    Page(
        code="GW03",
        name="readability",
        summary="Drops text whose sentences are long and full of short words, by the McAlpine EFLAW score.",
        why=(
            "Lists of links, keyword stuffing and tables without sentences have scores in the hundreds, "
            "plain English has scores of 10 to 25. Technical text is harder to read than its quality "
            "suggests, so documents in one of the four categories have a higher limit. The recipe combines "
            "the rule with tokens per character: a document that passes either is kept."
        ),
        formula=(
            "eflaw = (words + mini_words) / sentences, rounded half up to one decimal; 0.0 for an empty text. "
            "mini_words: words of at most 3 code points. sentences: at least 1; those of at most 2 words do not count."
        ),
        source=(
            "R. McAlpine, From Plain English to Global English, as textstat 0.7.5 counts it; rule and thresholds: "
            "GneissWeb (arXiv 2502.14907), readability filter and the published recipe"
        ),
        cost="about 550 MB/s on one core",
        example_kept="The river rises in the hills. It runs south for ninety miles before it meets the sea.",
        example_dropped="home | about us | faq | a to z | log in | my cart | new in | top 10 | contact | terms of use",
        rules={
            "readable": (
                "eflaw < 30 OR (eflaw < 70 AND (science_label = 'science' OR technology_label = 'technology' "
                "OR education_label = 'education' OR medical_label = 'medical'))"
            ),
        },
    ),
)


@dataclass(frozen=True)
class Readability(Annotator):
    """EFLAW, the counts behind it, and ARI, of the whole text.

    The published thresholds depend on textstat 0.7.5's counts, which this equals, with the tables of Unicode 14.0.

    >>> from gneiss.annotation import annotate
    >>> annotate(Readability(), ["The cat sat. The dog ran off."]).to_pylist()[0]["eflaw"]
    7.0
    """

    key = "readability"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("eflaw", "float64", "(words + mini_words) / sentences, rounded half up to one decimal"),
            Column("words", "int64", "words, after deletion of all that is neither word character nor white space"),
            Column("mini_words", "int64", "words of at most 3 code points"),
            Column("sentences", "int64", "runs ended by . ! or ? that hold more than 2 words; at least 1"),
            Column("characters_per_word", "float64", "code points except white space / words; null without words"),
            Column("words_per_sentence", "float64", "words / sentences"),
            Column("ari", "float64", "4.71 characters_per_word + 0.5 words_per_sentence - 21.43; null without words"),
        )

    def compute(self, batch: TextBatch) -> Mapping[str, pa.Array]:
        """See Annotator."""
        return _annotate(batch)


def eflaw(texts: Texts) -> pa.Array:
    """McAlpine EFLAW of each text, equal to textstat 0.7.5's.

    Parameters: `texts`: (documents,) strings. Returns float64 (documents,); a null text gives null.

    >>> eflaw(["The cat sat. The dog ran off.", "", None]).to_pylist()
    [7.0, 0.0, None]
    """
    return annotate(Readability(), texts)["eflaw"].combine_chunks()


def _annotate(batch: TextBatch) -> Mapping[str, pa.Array]:
    import numpy as np
    import pyarrow as pa

    from gneiss.filters.readability_kernel import CHARACTERS, LONG_WORDS, SENTENCES, WORDS, readability_counts

    counts = readability_counts(batch)
    words = counts[:, WORDS]
    mini_words = words - counts[:, LONG_WORDS]
    sentences = np.maximum(counts[:, SENTENCES], 1)
    without_words = words == 0
    characters_per_word = counts[:, CHARACTERS] / np.maximum(words, 1)
    words_per_sentence = words / sentences
    ari = 4.71 * characters_per_word + 0.5 * words_per_sentence - 21.43
    return {
        "eflaw": pa.array(np.floor((words + mini_words) / sentences * 10 + 0.5) / 10),
        "words": pa.array(words),
        "mini_words": pa.array(mini_words),
        "sentences": pa.array(sentences),
        "characters_per_word": pa.array(characters_per_word, mask=without_words),
        "words_per_sentence": pa.array(words_per_sentence),
        "ari": pa.array(ari, mask=without_words),
    }
