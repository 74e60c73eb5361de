"""Characters that were lost before a text came here: U+FFFD, which decoders put in place of bad bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gneiss.annotation import Annotator, Column
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

PAGES = (
    Page(
        code="RC01",
        name="replaced_characters",
        summary="Drops documents that lost more than one character in a hundred in decoding.",
        why=(
            "A page that declares a wrong charset, or mixes two, is decoded with U+FFFD in place of "
            "characters, as in a browser. Such text is useless for training. A few lost characters do no "
            "harm."
        ),
        formula="replaced_characters = number of U+FFFD in the text",
        source=(
            "none is published; the threshold is ours. Sentences in ten other charsets, decoded as UTF-8, "
            "lose 12 % (German) to 81 % (Greek) of their characters; a truncated or damaged page loses only "
            "a few"
        ),
        cost="110 MB/s",
        example_kept="The caf\ufffd on the corner opens at seven, and "
        + "its coffee is said to be the best in town. " * 3,
        example_dropped="\ufffd\ufffd\ufffd\ufffd \ufffd\ufffd\ufffd \ufffd, 1998\ufffd",
        rules={"decoded": "replaced_characters <= 0.01 * text_chars"},
    ),
)


@dataclass(frozen=True)
class ReplacedCharacters(Annotator):
    """How many characters of a text were lost in decoding.

    >>> from gneiss.annotation import annotate
    >>> annotate(ReplacedCharacters(), ["Gr\\ufffd\\ufffde", "Größe", None])["replaced_characters"].to_pylist()
    [2, 0, None]
    """

    key = "replaced_characters"

    columns = (Column("replaced_characters", "int64", "U+FFFD in the text, each for a character that was lost"),)

    def compute(self, batch: TextBatch) -> Mapping[str, pa.Array]:
        """Count the replacement characters of each text."""
        import pyarrow.compute as pc

        return {"replaced_characters": pc.count_substring(batch.to_arrow(), "\ufffd")}
