"""Perplexity of a text under a KenLM n-gram model, as a whole and by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from gneiss.annotation import Annotate, Annotator, Column, annotate
from gneiss.errors import ModelError
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

#: Normalization for the model: "none", or "ccnet", `gneiss.filters.ccnet_text` of each line.
Normalization: TypeAlias = Literal["none", "ccnet"]

PAGES = (
    Page(
        code="CC01",
        name="perplexity",
        summary="Tells prose like the model's from lists, markup, machine output and other languages.",
        why=(
            "An n-gram model trained on good text of a language is little surprised by more of it. CCNet ranks the "
            "documents of a language by perplexity and cuts the ranking in three: head, middle, tail. A limit belongs "
            "to a model and a language, so none is published here: take quantiles of one's own corpus. A very low "
            "perplexity is suspect too: it is what boilerplate and repetition have."
        ),
        formula="10 ** -(sum of log10 p of every word and line end / their number); lines are scored one by one",
        source="CCNet (arXiv 1911.00359), section 4.2; K. Heafield, KenLM (2011)",
        cost="the model's lookups: about 28 MB/s on one core for a 5-gram, less with CCNet's normalization",
        example_kept="The river rises in the hills. It runs south for ninety miles before it meets the sea.",
        example_dropped="xx3 qty sku 00-11 del/ret frm wrhse blk grn 4pk nr sys ovr",
    ),
)


@dataclass(frozen=True)
class Perplexity(Annotator):
    """Perplexity of the whole text and its extremes over lines, by one KenLM model over white-space words.

    model: ARPA or binary file, a local path or `hf://repo@revision/file`; normalization: what to do to each line first;
    column: the name of the perplexity, which the other columns take as prefix.

    Lines are those of str.splitlines, a word is what ASCII white space or NUL separates; a line without words counts
    for nothing, each other line has one token more than words, its end. The model's own markers (`<s>`, `</s>`) in a
    text are unknown words. All columns are null for a text without words.
    """

    key = "perplexity"

    model: str
    normalization: Normalization = "none"
    column: str = "perplexity"

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
        """The model's file."""
        return (self.model,)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Map the model into memory, which all workers of a node share. Raises ModelError for what is no model."""
        from gneiss.filters.ccnet_text import normalize

        score = open_model(files[self.model]).score
        prepare = normalize if self.normalization == "ccnet" else None

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa

            rows = [_of_lines(text.replace("\0", " ").splitlines(), score, prepare) for text in batch.texts()]
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


def _of_lines(
    lines: list[str], score: Callable[[bytes], float], prepare: Callable[[str], str] | None
) -> tuple[float | None, float | None, int | None, float | None, float | None]:
    log10, tokens = 0.0, 0
    least, most = float("inf"), float("-inf")
    for line in lines:
        words = (line if prepare is None else prepare(line)).encode()
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
