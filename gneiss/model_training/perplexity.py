"""KenLM language models: Kneser-Ney n-grams, estimated by KenLM's own programs.

K. Heafield et al., Scalable Modified Kneser-Ney Language Model Estimation (ACL 2013).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gneiss.errors import InputError
from gneiss.filters.ccnet_text import normalize
from gneiss.filters.perplexity import Normalization, perplexity
from gneiss.model_training.card import perplexity_card
from gneiss.model_training.kenlm_programs import find_programs, run_program
from gneiss.model_training.models import LanguageModel, Structure
from gneiss.model_training.source import CARD, Skipped, claim, decoded, read_rows
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of

MIN_HELD_OUT = 10
SHARES = (0.05, 0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.75, 0.9, 0.95)


@dataclass
class _Corpus:
    """The distinct texts of a source: training lines are written as they are read, held-out texts are kept."""

    rows: int = 0
    null: int = 0
    not_utf8: int = 0
    repeated: int = 0
    trained: int = 0
    lines: int = 0
    words: int = 0


def train_perplexity(
    texts: Path,
    output: Path,
    *,
    text: str = "text",
    order: int = 5,
    normalization: Normalization = "ccnet",
    structure: Structure = "probing",
    held_out_share: float = 0.05,
    memory_mb: int = 2000,
    lmplz: Path | None = None,
) -> LanguageModel:
    """Train a language model on the lines of the texts and write perplexity.kenlm and MODEL.md.

    Parameters: `texts`: a Parquet file or a folder of them, of good text in one language; `output`: its own
    folder; `order`: 2 to 6 words; `normalization`: of each line, the same in the recipe; `held_out_share`: 0 < share <=
    0.5 of the texts, chosen by a hash, for quantiles; `memory_mb`: memory limit of lmplz; `lmplz`: its path, with
    build_binary in the same folder; by default both are found on PATH.
    Raises MachineError when a program is missing or fails, InputError for texts that cannot be used, OutputError.
    """
    if not 2 <= order <= 6:
        raise InputError(f"order: expected 2 to 6, found {order}")
    if not 0 < held_out_share <= 0.5:
        raise InputError(f"held_out_share: expected more than 0, at most 0.5, found {held_out_share:g}")
    estimator, builder = find_programs(lmplz)
    path = output / "perplexity.kenlm"
    claim(output, path.name)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=output) as scratch:
        folder = Path(scratch)
        corpus, held_out, content_sha256 = _write_corpus(
            texts, text, normalization, held_out_share, folder / "lines.txt"
        )
        if len(held_out) < MIN_HELD_OUT or not corpus.words:
            raise InputError(
                f"{texts}: too few documents: {corpus.trained} to train on and {len(held_out)} held out;"
                f" {MIN_HELD_OUT} held out are needed: give more texts, or a larger held_out_share"
            )
        # Special words are <unk> to our annotator; lmplz would stop at them. Small texts may have no discounts.
        said = run_program(
            estimator, "-o", str(order), "-S", f"{memory_mb}M", "-T", f"{folder}/", "--skip_symbols",
            "--discount_fallback", "--text", str(folder / "lines.txt"), "--arpa", str(folder / "model.arpa"),
        )  # fmt: skip
        run_program(builder, "-T", f"{folder}/", structure, str(folder / "model.arpa"), str(folder / "model.kenlm"))
        place_of(path).put(folder / "model.kenlm")
    scores = perplexity(held_out, str(path), normalization).drop_null().to_numpy(zero_copy_only=False)
    with path.open("rb") as file:
        model_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    model = LanguageModel(
        path=path,
        order=order,
        structure=structure,
        normalization=normalization,
        held_out_share=held_out_share,
        rows=corpus.rows,
        skipped=Skipped(corpus.null, corpus.not_utf8, corpus.repeated),
        trained=corpus.trained,
        trained_lines=corpus.lines,
        trained_words=corpus.words,
        held_out=len(held_out),
        quantiles={share: float(np.quantile(scores, share, method="lower")) for share in SHARES},
        has_fallback_discounts="fallback discount" in said,
        content_sha256=content_sha256,
        model_sha256=model_sha256,
        size_bytes=path.stat().st_size,
    )
    write_bytes(perplexity_card(model).encode(), place_of(output), CARD)
    return model


def _write_corpus(
    source: Path, text: str, normalization: Normalization, held_out_share: float, path: Path
) -> tuple[_Corpus, list[str], str]:
    corpus, held_out = _Corpus(), []
    seen: set[bytes] = set()
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for content in _texts(source, text, corpus):
            key = hashlib.sha256(content.encode()).digest()[:16]
            if key in seen:
                corpus.repeated += 1
                continue
            seen.add(key)
            lines = list(_lines(content, normalization))
            if int.from_bytes(key[:8], "big") < held_out_share * 2**64:
                if lines:  # texts without words have no perplexity
                    held_out.append(content)
                continue
            corpus.trained += 1
            for line in lines:
                corpus.lines += 1
                corpus.words += len(line.split())
                digest.update(line)
                file.write(line)
    return corpus, held_out, digest.hexdigest()


def _texts(source: Path, text: str, corpus: _Corpus) -> Iterator[str]:
    for table in read_rows(source, text):
        for raw in table[text]:
            corpus.rows += 1
            content = decoded(raw.as_py()) if raw.is_valid else None
            corpus.null += not raw.is_valid
            corpus.not_utf8 += raw.is_valid and content is None
            if content is not None:
                yield content


def _lines(content: str, normalization: Normalization) -> Iterator[bytes]:
    """The words that the annotator scores, with the end of the line."""
    for line in content.replace("\0", " ").splitlines():
        words = (normalize(line) if normalization == "ccnet" else line).split()
        if words:
            yield " ".join(words).encode() + b"\n"
