"""Items of evaluation sets: the question, answer or passage that a document has most of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.errors import ModelError, RecipeError
from gneiss.filters.evaluation_sets import refuse_no_sets, set_sources
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch
    from gneiss.filters.evaluation_items_kernel import ItemTable

#: What the texts of an item are, in the order in which they count where a document has as much of two.
PARTS = ("question", "answer", "passage")

PAGES = (
    Page(
        code="DC02",
        name="evaluation_items",
        summary="Drops documents that contain most of a question or an answer of an evaluation set.",
        why=(
            "Contamination by item, for review: evaluation_item identifies the row of the set, and `gneiss "
            "contamination review` shows it beside the document. Questions, answers and passages are scored "
            "separately, because a passage is often public text that may stay. Common words have little "
            "weight, so a shared phrase is not a copy. A short item must be contained as a whole; for a long "
            "one 80 % suffice, so that a copy with a changed name is found. Paraphrases and translations are "
            "not found, and texts under 8 words (an answer such as `42`) are not searched for on their own. "
            "You provide the sets; none is packaged."
        ),
        formula=(
            "Words are those of contamination (DC01). The weight of a word is log((1 + texts) / texts with "
            "it) over all texts of the sets, that of an n-gram of 5 words (ngram_words) the sum of its "
            "words; an n-gram in more than 1,000 texts has no weight. The score of a text is the weight of "
            "its n-grams that occur in the document, each counted once, over that of all its n-grams. Its "
            "threshold is 1 up to 15 words, and falls linearly to 0.8 (threshold) at 40 words; a text of "
            "fewer than 8 words (min_words) is not searched for. evaluation_question, _answer and _passage "
            "are the largest ratio of score to threshold of such texts; from 1 on, the document contains the "
            "text. evaluation_item is the set and row, from 0, of the text with the largest ratio, if that "
            "is at least 1, and evaluation_part its kind"
        ),
        source=(
            "after allenai/decon, which decontaminated OLMo 3 (arXiv 2512.13961): n-grams weighted by "
            "inverse document frequency, separate scores for questions, answers and passages, 1 up to 20 "
            "tokens and 0.8 from 50 on. Words, the weights of n-grams and the independence of the parts are "
            "ours; decon samples n-grams and expands them"
        ),
        cost="that of DC01, and 60 bytes of memory per n-gram of the sets",
        example_kept="The farmer had sixteen ducks, and every morning she carried their eggs down to the market.",
        example_dropped=(
            "Q: A farmer sells twelve eggs on every day of the week. How many eggs does she sell in a fortnight? A: 168"
        ),
        rules={"no_evaluation_item": "evaluation_question < 1 AND evaluation_answer < 1"},
    ),
)


class Item(NamedTuple):
    """A text of an evaluation set: the name of the set, its row, and what it is there (see PARTS)."""

    set: str
    row: int
    part: str
    text: str

    @property
    def name(self) -> str:
        """Set and row."""
        return f"{self.set}:{self.row}"


@dataclass(frozen=True)
class EvaluationItems(Annotator):
    """How much of the questions, answers and passages of evaluation sets a document contains.

    sets, folder: see Contamination; question, answer, passage: the fields or columns that hold each, of which every row
    needs one (the lines of a .txt are questions); ngram_words: words of an n-gram; min_words: shorter texts are not
    looked for; threshold: the share of a long text that makes a copy.

    >>> from tempfile import TemporaryDirectory
    >>> from gneiss.annotation import annotate
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "quiz.txt").write_text("What has four legs at dawn, two at noon and three at dusk?")
    ...     annotator = EvaluationItems(folder=folder)
    ...     found = annotate(annotator, ["So: WHAT has four legs at dawn, two at noon, and three at dusk?"])
    >>> found["evaluation_item"].to_pylist(), found["evaluation_question"].to_pylist()
    (['quiz:0'], [1.0])
    """

    key = "evaluation_items"

    sets: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None
    question: tuple[str, ...] = ("question",)
    answer: tuple[str, ...] = ("answer",)
    passage: tuple[str, ...] = ()
    ngram_words: int = 5
    min_words: int = 8
    threshold: float = 0.8

    def __post_init__(self) -> None:
        refuse_no_sets(self.key, self.sets, self.folder)
        if not 1 <= self.ngram_words <= self.min_words <= 100:
            raise RecipeError(
                "evaluation_items: expected ngram_words of at least 1, and min_words from there to 100,"
                f" found {self.ngram_words} and {self.min_words}"
            )
        if not 0 < self.threshold <= 1:
            raise RecipeError(f"evaluation_items: threshold: expected a share above 0, found {self.threshold}")
        if not self._parts or len(self._parts) < sum(map(len, self._fields.values())):
            raise RecipeError("evaluation_items: expected a field for a question, answer or passage, each for one only")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("evaluation_item", "string", "set and row of the text that it has most of; null where it has none"),
            Column("evaluation_part", "string", "what that text is: question, answer or passage"),
            *(
                Column(f"evaluation_{part}", "float64", f"most of a {part}, score over threshold: from 1 on a copy")
                for part in PARTS
            ),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The files of the sets, without repeats, and the folder, with a slash."""
        return set_sources(self.sets, self.folder)

    @property
    def _fields(self) -> Mapping[str, tuple[str, ...]]:
        """Part → the fields that hold it."""
        return dict(zip(PARTS, (self.question, self.answer, self.passage), strict=True))

    @property
    def _parts(self) -> Mapping[str, str]:
        """Field → what it holds."""
        return {field: part for part, fields in self._fields.items() for field in fields}

    def items(self, files: Mapping[str, Path]) -> list[Item]:
        """The texts of all sets, by set. Raises ModelError."""
        from gneiss.filters.evaluation_sets import read_rows, set_paths

        parts = self._parts
        return [
            Item(name, text.row, parts.get(text.field, PARTS[0]), text.text)
            for name, path in sorted(set_paths(self.sets, self.folder, files).items())
            for text in read_rows(path, list(parts))
        ]

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Read the sets and return the function that annotates a batch.

        Raises ModelError when a set cannot be read or repeats a name, and where no text is long enough.
        """
        from gneiss.batch import TextBatch
        from gneiss.filters.evaluation_items_kernel import item_table

        items = self.items(files)
        for part, named in self._fields.items():
            if named and named != (part,) and part not in {item.part for item in items}:
                raise ModelError(
                    f"evaluation_items: {part}: expected texts in {', '.join(named)} of some evaluation set,"
                    " found none; name the fields or columns that hold them"
                )
        table = item_table(
            TextBatch.of([item.text for item in items]), self.ngram_words, self.min_words, self.threshold
        )
        if not table.totals.any():
            raise ModelError(
                f"evaluation_items: {', '.join(self.model_files)[:300]}: expected a text of at least {self.min_words}"
                " words, found none"
            )
        return _annotate(items, table)


def _annotate(items: Sequence[Item], table: ItemTable) -> Annotate:
    import numpy as np
    import pyarrow as pa

    from gneiss.filters.evaluation_items_kernel import matching

    part = np.array([PARTS.index(item.part) for item in items])

    def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
        found = matching(batch, table)
        most = np.zeros((len(PARTS), len(batch)))
        np.maximum.at(most, (part[found.text], found.document), found.match)
        # of each document the text that it has most of; then the kind of part, and the order of texts
        order = np.lexsort((found.text, part[found.text], -found.match, found.document))
        document, first = np.unique(found.document[order], return_index=True)
        best = order[first]
        is_copy = found.match[best] >= 1
        names, kinds = np.full(len(batch), None), np.full(len(batch), None)
        for row, text in zip(document[is_copy].tolist(), found.text[best[is_copy]].tolist(), strict=True):
            names[row], kinds[row] = items[text].name, items[text].part
        columns = {"evaluation_item": names, "evaluation_part": kinds}
        return {
            **{name: pa.array(values, pa.string()) for name, values in columns.items()},
            **{f"evaluation_{kind}": pa.array(values) for kind, values in zip(PARTS, most, strict=True)},
        }

    return compute
