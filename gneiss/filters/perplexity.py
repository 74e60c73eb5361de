"""Perplexity of a text under a KenLM n-gram model, as a whole and by line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gneiss.annotation import Annotate, Annotator, Column, annotate
from gneiss.errors import ModelError, first_line
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

#: Normalization for the model: "none", or "ccnet", `gneiss.filters.ccnet_text` of each line.
Normalization: TypeAlias = Literal["none", "ccnet"]
_Row: TypeAlias = tuple[float | None, float | None, int | None, float | None, float | None]
#: What SentencePiece puts before the pieces that begin words.
_MARK = "\u2581"
#: Perplexities of this many documents are near each other if nine in ten differ by less than this factor.
_ENOUGH, _NEAR = 50, 1.05
_log = logging.getLogger(__name__)

PAGES = (
    Page(
        code="CC01",
        name="perplexity",
        summary="Separates prose like that of the model from lists, markup, machine output and other languages.",
        why=(
            "An n-gram model trained on good text of a language assigns low perplexity to similar text. "
            "CCNet ranks the documents of a language by perplexity and cuts the ranking in three: head, "
            "middle, tail. A threshold only holds for one model and language, so none is published here: use "
            "quantiles of your own corpus. Very low perplexity is suspect too, because boilerplate and "
            "repetition have it."
        ),
        formula=(
            "10 ** -(sum of log10 p of every word and line end / their number); lines are scored one by one. "
            "A model of SentencePiece pieces, such as CCNet's (en.arpa.bin), needs pieces (en.sp.model) and "
            "normalization: ccnet. As in CCNet's code, the document is then one line, and its words are "
            "pieces. Without them nearly every word is unknown and perplexities are near 1e6, so such a "
            "model is refused. A batch with nearly equal perplexities causes a warning"
        ),
        source="CCNet (arXiv 1911.00359), section 4.2; K. Heafield, KenLM (2011)",
        cost="the model's lookups: about 28 MB/s on one core for a 5-gram, less with CCNet's normalization",
        example_kept="The river rises in the hills. It runs south for ninety miles before it meets the sea.",
        example_dropped="xx3 qty sku 00-11 del/ret frm wrhse blk grn 4pk nr sys ovr",
    ),
)


@dataclass(frozen=True)
class Perplexity(Annotator):
    """Perplexity of the whole text and its extremes over lines, by one KenLM model over white-space words or pieces.

    model: ARPA or binary file, a local path or `hf://repo@revision/file`; normalization: what to do to each line first;
    column: the name of the perplexity, which the other columns take as prefix; pieces: the SentencePiece model whose
    pieces the model reads, which needs the package sentencepiece; the text is then one line, as in CCNet's code.

    Lines are those of str.splitlines, a word is what white space or NUL separates; a line without words counts
    for nothing, each other line has one token more than words, its end. The model's own markers (`<s>`, `</s>`) in a
    text are unknown words. All columns are null for a text without words.
    """

    key = "perplexity"
    maps_files = True

    model: str
    normalization: Normalization = "none"
    column: str = "perplexity"
    pieces: str | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column(self.column, "float64", f"perplexity per token by {self.model}"),
            Column(f"{self.column}_log10", "float64", "log10 probability of all tokens together"),
            Column(f"{self.column}_tokens", "int64", "words and line ends that the model has scored"),
            Column(f"{self.column}_line_min", "float64", "perplexity of the line that surprises least"),
            Column(f"{self.column}_line_max", "float64", "perplexity of the line that surprises most"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The model's file, and that of its pieces."""
        return (self.model,) if self.pieces is None else (self.model, self.pieces)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Map the model into memory, which all workers of a node share.

        Raises ModelError for what is no model, for a model of pieces without them, and for pieces of another model.
        """
        from gneiss.filters.ccnet_text import normalize

        model = open_model(files[self.model])
        _check_words(files[self.model], model, self.pieces)
        prepare = normalize if self.normalization == "ccnet" else None
        cut = None if self.pieces is None else open_pieces(files[self.pieces])
        warned = False

        def score(text: str) -> _Row:
            if cut is None:
                return _of_lines(text.replace("\0", " ").splitlines(), model.score, prepare)
            return _of_lines([" ".join(cut(text if prepare is None else prepare(text)))], model.score, None)

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            nonlocal warned
            rows = [score(text) for text in batch.texts()]
            if not warned and (near := _nearly_the_same([row[0] for row in rows if row[0] is not None])):
                warned = True
                _log.warning(
                    "perplexity: %s: %s; it says little of these texts: does the model read other words, another"
                    " language or another normalization?", self.model, near,
                )  # fmt: skip
            return {
                column.name: pa.array([row[position] for row in rows], getattr(pa, column.type)())
                for position, column in enumerate(self.columns)
            }

        return compute


def perplexity(texts: Texts, model: str, normalization: Normalization = "none") -> pa.Array:
    """Perplexity of each text by a KenLM model.

    Parameters: `texts`: (documents,) strings; `model`: path of an ARPA or binary file; `normalization`: of each line.
    Returns float64 (documents,); null for a null text and for one without words. Raises ModelError.
    """
    return annotate(Perplexity(model, normalization), texts)["perplexity"].combine_chunks()


def open_model(path: Path) -> Any:
    """A kenlm.Model. Raises ModelError, naming the file, for what cannot be one."""
    import kenlm

    config = kenlm.Config()
    config.load_method = kenlm.LoadMethod.LAZY
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    _check_counts(path)
    try:
        return kenlm.Model(str(path), config)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: not a KenLM model: {reason[:300]}") from error


def open_pieces(path: Path) -> Callable[[str], list[str]]:
    """The function that cuts a text into the pieces of a SentencePiece model. Raises ModelError."""
    try:
        import sentencepiece
    except ImportError as error:
        raise ModelError(
            f"{path}: pieces need the package sentencepiece, which is not installed:"
            " `pip install 'gneiss-curation[ccnet]'`"
        ) from error
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.Load(str(path))
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{path}: not a SentencePiece model: {first_line(error)}") from error

    def cut(text: str) -> list[str]:
        return list(processor.EncodeAsPieces(text))

    return cut


def _check_words(path: Path, model: Any, pieces: str | None) -> None:
    """A model of pieces knows the mark that begins them, alone and before what any language has."""
    of_pieces = _MARK in model and any(f"{_MARK}{character}" in model for character in ".,-(0a")
    if of_pieces and pieces is None:
        raise ModelError(
            f"{path}: this model reads SentencePiece pieces, so it knows nearly no word of a text; name their model, as"
            " in `pieces: en.sp.model` with `normalization: ccnet` for CCNet's"
        )
    if pieces is not None and not of_pieces:
        raise ModelError(f"{path}: expected a model of SentencePiece pieces, as `pieces` is given; it knows none")


def _nearly_the_same(perplexities: list[float]) -> str:
    """What is to be said of perplexities that differ by little, where there are enough of them; else nothing."""
    if len(perplexities) < _ENOUGH:
        return ""
    ordered = sorted(perplexities)
    least, most = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    if most > _NEAR * least:
        return ""
    return f"the perplexities of nine in ten of {len(ordered)} documents are between {least:.6g} and {most:.6g}"


def _check_counts(path: Path) -> None:
    """KenLM allocates what the head of an ARPA file claims; an n-gram takes at least 4 bytes of the file."""
    try:
        with path.open("rb") as file:
            if not file.readline(100).startswith(b"\\data\\"):
                return
            counts = 0
            while (line := file.readline(100)).startswith(b"ngram "):
                count = line.partition(b"=")[2].strip()
                counts += int(count) if count.isdigit() else 0
            size_bytes = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path}: cannot open the language model: {error}") from error
    if counts * 4 > size_bytes:
        raise ModelError(f"{path}: not a KenLM model: it claims {counts} n-grams in {size_bytes} bytes")


def _of_lines(lines: list[str], score: Callable[[bytes], float], prepare: Callable[[str], str] | None) -> _Row:
    log10, tokens = 0.0, 0
    least, most = float("inf"), float("-inf")
    for line in lines:
        words = " ".join((line if prepare is None else prepare(line)).split()).encode()
        length = len(words.split()) + 1
        if length == 1:
            continue
        line_log10 = score(words if b"s>" not in words else b" ".join(map(_unmarked, words.split())))
        log10 += line_log10
        tokens += length
        surprise = -line_log10 / length
        least, most = min(least, surprise), max(most, surprise)
    if not tokens:
        return (None,) * 5
    return _power_of_ten(-log10 / tokens), log10, tokens, _power_of_ten(least), _power_of_ten(most)


def _unmarked(word: bytes) -> bytes:
    return b"<unk>" if word in (b"<s>", b"</s>") else word


def _power_of_ten(exponent: float) -> float:
    """10 ** exponent by sums and products only, because the last bit of libm's pow depends on the processor."""
    whole = floor(exponent)
    power = term = 1.0
    for n in range(1, 30):
        term *= (exponent - whole) * _LN_10 / n
        power += term
    return power * float(f"1e{whole}")


_LN_10 = 2.302585092994046
