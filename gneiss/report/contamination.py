"""Documents that have an item of an evaluation set, each with the item, to be reviewed side by side."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gneiss.curate.statistics import KEPT
from gneiss.errors import InputError, printable
from gneiss.filters.evaluation_items import PARTS, EvaluationItems, Item
from gneiss.input.model_files import resolve
from gneiss.output.finished_run import FinishedRun
from gneiss.output.sources import sources
from gneiss.report.documents import open_documents
from gneiss.store.place import Address

#: How many characters of a document are compared, and around the first match and of an item are shown.
_COMPARED, _AROUND, _SHOWN = 1_000_000, 300, 1_500
#: Words as far as eyes need them; letters of scripts without spaces are words by themselves.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")


@dataclass(frozen=True)
class Marked:
    """An excerpt of a text, and what the other text has too: [start, end) in characters, sorted, disjoint."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """The text in pieces, and whether each is marked."""
        at = 0
        for start, end in self.marks:
            yield self.text[at:start], False
            yield self.text[start:end], True
            at = end
        yield self.text[at:], False


@dataclass(frozen=True)
class Hit:
    """A document that has an item: where it is, what it has most of and how much (score over threshold), both texts.

    document: None where its text is not at hand, which is that of a dropped document without the input.
    """

    shard: str
    row: int
    id: str | None
    status: str
    item: str
    part: str
    match: float
    text: Marked
    document: Marked | None


def contamination_hits(
    run: FinishedRun, *, input: Address | None = None, sets_in: Path = Path(), top: int = 100
) -> list[Hit]:
    """The documents of a run that have an item of an evaluation set, those that have most of one first.

    Parameters: `input`: what was given to the run, for the texts of dropped documents; `sets_in`: where relative paths
    of sets in the recipe start; `top`: at most how many. Raises InputError for a run without the annotator
    `evaluation_items`, and for sets that are not those of the run, ModelError for sets that are not there.
    """
    annotators = (one for phase in run.recipe.phases for one in phase.annotators)
    annotator = next((one for one in annotators if isinstance(one, EvaluationItems)), None)
    if annotator is None:
        raise InputError(f"{run.folder}: its recipe has no evaluation_items, which finds the items of a document")
    items = _items(run, annotator, sets_in)
    most = f"greatest({', '.join(f'evaluation_{part}' for part in PARTS)})"
    with open_documents(run) as connection:
        rows = connection.execute(
            f"SELECT shard, row, id, status, evaluation_item, evaluation_part, {most} FROM documents"
            f" WHERE evaluation_item IS NOT NULL ORDER BY {most} DESC, shard, row LIMIT $top",
            {"top": top},
        ).fetchall()
    reader = sources(run, input)
    wanted: dict[str, set[int]] = {}
    for shard, row, _, status, *_ in rows:
        if reader.has_all or status == KEPT:
            wanted.setdefault(shard, set()).add(row)
    texts = {
        (shard, row): value.as_buffer()[: 4 * _COMPARED].to_pybytes().decode(errors="ignore")[:_COMPARED]
        for shard, row, value in reader.values(run.text, wanted)
    }
    return [_hit(items[row[4], row[5]], texts.get((row[0], row[1])), annotator.ngram_words, row) for row in rows]


def _items(run: FinishedRun, annotator: EvaluationItems, sets_in: Path) -> Mapping[tuple[str, str], list[Item]]:
    """The texts of each item and part. Raises InputError and ModelError."""
    files = {}
    for source in annotator.model_files:
        found = resolve(source, sets_in)
        if run.identity["models"].get(source) != found.checksum:
            raise InputError(f"{found.path}: changed since {run.folder} was compared with it; restore it")
        files[source] = found.path
    items: dict[tuple[str, str], list[Item]] = {}
    for item in annotator.items(files):
        items.setdefault((item.name, item.part), []).append(item)
    return items


def _hit(items: Sequence[Item], text: str | None, ngram_words: int, row: Sequence[Any]) -> Hit:
    shard, number, id_, status, name, part, match = row
    of_item, document = _side_by_side(items, text, ngram_words)
    return Hit(shard, number, id_, status, name, part, match, of_item, document)


def _side_by_side(items: Sequence[Item], text: str | None, ngram_words: int) -> tuple[Marked, Marked | None]:
    """The text of an item, of several that which shares most, and what of the document's text there is."""
    if text is None:
        return Marked(items[0].text[:_SHOWN]), None
    pairs = [_compared(item.text, text, ngram_words) for item in items]
    return max(pairs, key=lambda pair: sum(end - start for start, end in pair[0].marks))


def _compared(item: str, text: str, ngram_words: int) -> tuple[Marked, Marked]:
    """Both texts with what they share marked, the second around its first mark."""
    own, other = list(_words(item)), list(_words(text))
    shared = set(_ngrams(own, ngram_words)) & set(_ngrams(other, ngram_words))
    marks = _marks(other, shared, ngram_words)
    start = max(0, (marks[0][0] if marks else 0) - _AROUND)
    end = start + _SHOWN
    within = tuple((low - start, min(high, end) - start) for low, high in marks if low < end)
    of_item = tuple((low, min(high, _SHOWN)) for low, high in _marks(own, shared, ngram_words) if low < _SHOWN)
    return Marked(item[:_SHOWN], of_item), Marked(text[start:end], within)


_Word = tuple[str, int, int]


def _words(text: str) -> Iterator[_Word]:
    for found in _WORD.finditer(text):
        yield unicodedata.normalize("NFKD", found.group()).casefold(), found.start(), found.end()


def _ngrams(words: Sequence[_Word], size: int) -> Iterator[tuple[str, ...]]:
    for first in range(len(words) - size + 1):
        yield tuple(word for word, _, _ in words[first : first + size])


def _marks(words: Sequence[_Word], shared: set[tuple[str, ...]], size: int) -> list[tuple[int, int]]:
    """Where shared n-grams are, joined where they overlap or touch."""
    found: list[tuple[int, int]] = []
    last = -1  # the last word that is marked
    for first, ngram in enumerate(_ngrams(words, size)):
        if ngram in shared:
            end = words[first + size - 1][2]
            if found and first <= last + 1:
                found[-1] = (found[-1][0], end)
            else:
                found.append((words[first][1], end))
            last = first + size - 1
    return found


def hits_as_markdown(run: FinishedRun, hits: Sequence[Hit]) -> str:
    """The hits as Markdown, the two texts of each in the columns of a table; texts stay texts."""
    title = f"# Contamination of {_inline(run.folder)}"
    lines = [title, "", f"{len(hits)} documents, those with the largest overlap first."]
    for number, hit in enumerate(hits, 1):
        document = "(its text is not available: name the input)" if hit.document is None else _cell(hit.document)
        lines += [
            "",
            f"## {number}. {_inline(hit.item)}, {hit.part}: {hit.match:.2f}",
            "",
            f"Shard {_inline(hit.shard)}, row {hit.row}, id {_inline(hit.id)}, {hit.status}",
            "",
            "| evaluation set | document |",
            "| --- | --- |",
            f"| {_cell(hit.text)} | {document} |",
        ]
    return "\n".join(lines) + "\n"


#: What Markdown gives a meaning to, GitHub's to `www.` too; entities have none.
_MEANS = re.compile(r"[\\`*_{}\[\]()#+!|~$:@<>&-]|(?<=www)\.", re.IGNORECASE)


def _inline(text: object) -> str:
    """A text in a line of Markdown, in which nothing of it is markup."""
    return _MEANS.sub(lambda found: f"&#{ord(found.group())};", printable(text))


def _cell(marked: Marked) -> str:
    return "".join(
        f"<mark>{_inline(piece)}</mark>" if is_marked else _inline(piece) for piece, is_marked in marked.pieces()
    )
