"""Contamination: word n-grams that a document shares with evaluation sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.evaluation_sets import refuse_no_sets, set_sources
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES = (
    Page(
        code="DC01",
        name="contamination",
        summary="Drops documents that share 13 consecutive words with a text of an evaluation set.",
        why=(
            "Evaluating a model on questions that it was trained on measures memorization. As in GPT-3, 13 "
            "consecutive words in common count as a copy. That finds every verbatim copy, but also famous "
            "quotations, licences, and phrases that an evaluation set shares with the whole web. Sets built "
            "from public passages (encyclopedia articles, books) match those passages, so only provide the "
            "questions and answers. Inspect what a dry run drops; contamination_fraction distinguishes a "
            "quotation from a page of test questions. Paraphrases and translations are not found. You "
            "provide the sets; none is packaged."
        ),
        formula=(
            "Words are those of Unicode's word segmentation (UAX 29), which splits at dashes and slashes, "
            "without characters other than letters, digits and marks. They are compared after case folding "
            "and compatibility decomposition (NFKD), so NFC, NFD and ligatures are equal; diacritics, vowel "
            "signs and numbers are kept. In scripts without spaces a letter with its marks is a unit: two of "
            "Han, kana or Yi count as a word, four of Thai, Lao, Khmer, Myanmar or Tibetan. An n-gram is a "
            "sequence of words and units that counts as 13 words (ngram_words), such as 26 Han characters. A "
            "shorter text is one n-gram if it counts at least 8 (min_words), and is ignored otherwise. "
            "contamination_ngrams is the number of distinct n-grams of the document that occur in any set; "
            "contamination_set is the set with most of them, the first by name if several tie; "
            "contamination_fraction is the share of the document's words and units in such n-grams. N-grams "
            "are compared by 64-bit hashes: with a million n-grams in the sets, one in 18 trillion n-grams "
            "of documents matches by chance"
        ),
        source=(
            "Brown et al. 2020 (arXiv 2005.14165), appendix C (8 to 13 words, case and punctuation ignored); "
            "punctuation is removed as in EleutherAI's lm-evaluation-harness; datatrove's NGramsDecontFilter "
            "uses 12 words, also folds diacritics and replaces numbers, and drops a document at its first "
            "match"
        ),
        cost=(
            "140 MB/s on one core with 20,000 n-grams in the sets, 60 with 2,500,000, and less if much of "
            "the text is in a set; 30 bytes of memory per n-gram in each worker, and up to four times that "
            "while loading"
        ),
        example_kept="The farmer had sixteen ducks, and every morning she carried their eggs down to the market.",
        example_dropped=(
            "Q: A farmer sells twelve eggs on every day of the week. How many eggs does she sell in a fortnight? A: 168"
        ),
        rules={"not_contaminated": "contamination_ngrams = 0"},
    ),
)


@dataclass(frozen=True)
class Contamination(Annotator):
    """Word n-grams that a document shares with evaluation sets, and the set with which it shares most.

    sets: name → file; folder: all files below a folder, each a set named by its path there without the suffix. A file
    is .txt (one text per line), .jsonl or .parquet, of which `fields` names the fields or columns to read, each string
    in them a text; a row needs one of them, and each must have a text in some set. ngram_words: words of an n-gram;
    min_words: a text of a set with at least this many words, but fewer than ngram_words, is one n-gram.

    >>> from tempfile import TemporaryDirectory
    >>> from gneiss.annotation import annotate
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "quiz.txt").write_text("What has four legs at dawn, two at noon and three at dusk?")
    ...     annotator = Contamination(folder=folder, ngram_words=8)
    ...     annotate(annotator, ["It has FOUR legs at dawn, two at noon. Then?"]).to_pylist()
    [{'contamination_set': 'quiz', 'contamination_ngrams': 1, 'contamination_fraction': 0.8}]
    """

    key = "contamination"

    sets: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    fields: tuple[str, ...] = ("text",)
    ngram_words: int = 13
    min_words: int = 8

    def __post_init__(self) -> None:
        refuse_no_sets(self.key, self.sets, self.folder)
        if not 1 <= self.min_words <= self.ngram_words <= 100:
            raise RecipeError(
                "contamination: expected min_words of at least 1, and ngram_words from there to 100,"
                f" found {self.min_words} and {self.ngram_words}"
            )
        if not self.fields:
            raise RecipeError("contamination: fields: expected at least one field")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("contamination_set", "string", "the evaluation set that shares most n-grams; null without any"),
            Column("contamination_ngrams", "int64", "different n-grams of words that are in an evaluation set"),
            Column("contamination_fraction", "float64", "words in such n-grams / words; null without words"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The files of the sets, without repeats, and the folder, with a slash."""
        return set_sources(self.sets, self.folder)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Read the sets, at about 20 bytes of memory per n-gram, and return the function that annotates a batch.

        Raises ModelError when a set cannot be read, has no text of sufficient length, or repeats a name, and for a
        field without texts.
        """
        from gneiss.batch import TextBatch
        from gneiss.filters.contamination_kernel import ngram_table, overlap
        from gneiss.filters.evaluation_sets import read_texts, set_paths

        paths = set_paths(self.sets, self.folder, files)
        names = sorted(paths)
        with_text: set[str] = set()

        def texts_of(path: Path) -> TextBatch:
            texts = read_texts(path, self.fields)
            with_text.update(field for field, of_field in texts.items() if of_field)
            return TextBatch.of([text for of_field in texts.values() for text in of_field])

        table = ngram_table((texts_of(paths[name]) for name in names), self.ngram_words, self.min_words)
        if unused := [field for field in self.fields if field not in with_text and self.fields != ("text",)]:
            raise ModelError(
                f"contamination: fields: expected texts in {', '.join(unused)} of some evaluation set, found none in"
                f" {', '.join(map(str, paths.values()))[:300]}; name the fields or columns that hold texts"
            )
        for name, size in zip(names, table.sizes, strict=True):
            if not size:
                raise ModelError(f"{paths[name]}: expected a text of at least {self.min_words} words, found none")

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            from gneiss.filters.ratio import ratio

            shared = overlap(batch, table)
            nearest = pa.array(shared.nearest_set, mask=shared.nearest_set < 0)
            return {
                "contamination_set": pa.array(names, pa.string()).take(nearest),
                "contamination_ngrams": pa.array(shared.ngrams),
                "contamination_fraction": ratio(shared.covered, shared.words),
            }

        return compute
