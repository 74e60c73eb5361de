"""Tokens per document, per character and per byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gneiss.annotation import Annotate, Annotator, Column, annotate
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch, Texts

PAGES = (
    Page(
        code="GW04",
        name="tokens",
        summary="Drops text with unusually many or unusually few tokens per character.",
        why=(
            "English prose has about one token per four characters. Many more tokens indicate numbers, "
            "markup, misspelt or foreign words; far fewer indicate long horizontal rules, spaces or repeated "
            "long words. Technical text varies more, so documents in one of the four categories have wider "
            "limits. The recipe combines the rule with readability: a document that passes either is kept."
        ),
        formula="tokens_per_char = tokens of the whole text / its code points; null for an empty text",
        source=(
            "GneissWeb (arXiv 2502.14907), extreme-tokenized documents and the published recipe; the "
            "thresholds are for the tokenizer of bigcode/starcoder"
        ),
        cost="about 55 MB/s on one core, with a vocabulary that splintr supports; 3 MB/s otherwise",
        example_kept="The river rises in the hills. It runs south for ninety miles before it meets the sea.",
        example_dropped="7f3a:0c 9b:e1 44-00-1f 0x3E8 12.5.88.3 a1b2c3 #99 $4.07 [0][1][1] 2f/6d/88 9-9-9",
        rules={
            "tokens_normal": (
                "tokens_per_char BETWEEN 0.22 AND 0.28 OR (tokens_per_char BETWEEN 0.1 AND 0.5 AND "
                "(science_label = 'science' OR technology_label = 'technology' "
                "OR education_label = 'education' OR medical_label = 'medical'))"
            ),
        },
    ),
)


@dataclass(frozen=True)
class Tokens(Annotator):
    """Exact token counts of the whole text, never of chunks, equal to those of the library `tokenizers`.

    tokenizer: `builtin:cl100k_base`, or a tokenizer.json as a local path or `hf://repo@revision/file`; column: the name
    of the count, and the prefix of the ratios _per_char and _per_byte; engine: "tokenizers" uses that library, "auto" a
    faster one if it is verified to be equal. A literal special token in the text (`<|endoftext|>`) counts as one token;
    nothing is added to the text.

    >>> from gneiss.annotation import annotate
    >>> annotate(Tokens(), ["Some text to count."]).to_pylist()[0]["tokens"]
    5
    """

    key = "tokens"

    tokenizer: str = "builtin:cl100k_base"
    column: str = "tokens"
    engine: Literal["auto", "tokenizers"] = "auto"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column(self.column, "int64", f"tokens of the whole text by {self.tokenizer}"),
            Column(f"{self.column}_per_char", "float64", f"{self.column} / code points; null for an empty text"),
            Column(f"{self.column}_per_byte", "float64", f"{self.column} / bytes of UTF-8; null for an empty text"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The tokenizer's file; none for a builtin one."""
        return () if self.tokenizer.startswith("builtin:") else (self.tokenizer,)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Open the tokenizer and return the function that annotates a batch. Raises ModelError."""
        from gneiss.filters.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(self.tokenizer, files, self.engine)

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import numpy as np
            import pyarrow as pa
            import pyarrow.compute as pc

            tokens = tokenizer.counts(batch)
            characters = np.asarray(pc.utf8_length(batch.to_arrow())).astype(np.int64)
            size_bytes = np.diff(batch.offsets)
            empty = size_bytes == 0
            return {
                self.column: pa.array(tokens),
                f"{self.column}_per_char": pa.array(tokens / np.maximum(characters, 1), mask=empty),
                f"{self.column}_per_byte": pa.array(tokens / np.maximum(size_bytes, 1), mask=empty),
            }

        return compute


def count_tokens(texts: Texts, tokenizer: str = "builtin:cl100k_base") -> pa.Array:
    """Tokens of each text.

    Parameters: `texts`: (documents,) strings; `tokenizer`: `builtin:cl100k_base` or the path of a tokenizer.json.
    Returns int64 (documents,); a null text gives null. Raises ModelError.

    >>> count_tokens(["Some text to count.", "", None]).to_pylist()
    [5, 0, None]
    """
    return annotate(Tokens(tokenizer), texts)["tokens"].combine_chunks()
