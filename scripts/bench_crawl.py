"""What the way from a crawl to clean text costs, against the libraries that others use: ratios in one run, one thread.

    python scripts/bench_crawl.py --corpus DIR [--quick] [--json FILE]

DIR holds Parquet files with a column `text`, and archives in its folder `warc`. Each part measures CPU time and checks
equality, and returns flat figures. The peers are optional (`pip install datatrove rensa`, and spacy for datatrove's own
splitting): a figure without its peer is null. bench_near_duplicates.py and bench_extraction.py measure more of theirs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from bench_extraction import extraction_part
from bench_filters import Figures, describe, read_corpus, timed
from bench_near_duplicates import minhash_part

from gneiss.annotation import Annotator
from gneiss.batch import TextBatch
from gneiss.filters import c4, fineweb, gopher
from gneiss.filters.page import Page
from gneiss.recipe.rule import Rules, evaluate, locked_connection

BATCH_BYTES = 16_000_000
SENTENCE_END = re.compile(r"[.!?][\"')\]”’»]*\s+(?=[^\sa-z])")


@dataclass(frozen=True)
class Heuristic:
    """One of ours, and the datatrove filter that it must equal."""

    annotator: Annotator
    page: Page
    peer: str


HEURISTICS = (
    Heuristic(gopher.GopherQuality(), gopher.PAGES[0], "GopherQualityFilter"),
    Heuristic(gopher.GopherRepetition(), gopher.PAGES[1], "GopherRepetitionFilter"),
    Heuristic(c4.C4(), c4.PAGES[0], "C4QualityFilter"),
    Heuristic(fineweb.FineWeb(), fineweb.PAGES[0], "FineWebQualityFilter"),
)


def main() -> None:
    """Measure every part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of Parquet files, with a folder `warc`")
    parser.add_argument("--quick", action="store_true", help="fewer documents and repetitions")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    batch = read_corpus(arguments.corpus, None)
    figures = describe(arguments.corpus, batch)
    for part in (heuristics_part, splitting_part, minhash_part):
        figures |= part(batch, arguments.quick)
    figures |= extraction_part(arguments.corpus, arguments.quick)
    for name, value in figures.items():
        print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def heuristics_part(batch: TextBatch, quick: bool) -> Figures:
    """Gopher quality and repetition, C4 and FineWeb together, down to the decisions, against datatrove's filters.

    Ours count everything that the rules ask for; datatrove's stop at the first rule that a document fails. Both split
    words at white space, and sentences alike: datatrove's own splitting takes several times as long.
    """
    batch = batch.slice(0, min(len(batch), 3_500 if quick else 12_000))
    decide, ours = our_decisions(), []
    for _ in range(3):
        seconds, decisions = timed(lambda: decide(batch))
        ours.append(seconds)
    figures: Figures = {
        "heuristics_documents": len(batch),
        "heuristics_bytes": batch.size_bytes,
        "heuristics_mb_per_s": batch.size_bytes / median(ours) / 1e6,
        "heuristics_over_datatrove": None,
        "heuristics_decisions_equal": None,
    }
    if not importlib.util.find_spec("datatrove"):
        return figures | {"heuristics_missing": "datatrove is not installed, so there is nothing to compare with"}
    with our_splitting():
        seconds, expected = decide_by_datatrove(batch.texts())
    for heuristic, own, peer in zip(HEURISTICS, decisions, expected, strict=True):
        if len(differing := np.flatnonzero(own != peer)):
            print(f"{heuristic.page.name}: {len(differing)} decisions differ, first that of document {differing[0]}")
    return figures | {
        "heuristics_datatrove_mb_per_s": batch.size_bytes / sum(seconds) / 1e6,
        "heuristics_over_datatrove": sum(seconds) / median(ours),
        "heuristics_decisions_equal": float(np.mean(decisions == expected)),
        **{
            f"heuristics_kept_{heuristic.page.name}": int(kept.sum())
            for heuristic, kept in zip(HEURISTICS, decisions, strict=True)
        },
    }


def splitting_part(batch: TextBatch, quick: bool) -> Figures:
    """Which decisions change when words are split at white space, and not by datatrove's own tokenizer (spaCy)."""
    batch = batch.slice(0, min(len(batch), 300 if quick else 1_500))
    if not (importlib.util.find_spec("datatrove") and importlib.util.find_spec("spacy")):
        return {"splitting_missing": "datatrove or spacy is not installed"}
    decide = our_decisions()
    ours, decisions = timed(lambda: decide(batch))
    seconds, expected = decide_by_datatrove(batch.texts())
    figures: Figures = {
        "splitting_documents": len(batch),
        "splitting_datatrove_mb_per_s": batch.size_bytes / sum(seconds) / 1e6,
        "splitting_over_datatrove": sum(seconds) / ours,
        "splitting_decisions_equal": float(np.mean(decisions == expected)),
    }
    for heuristic, own, peer in zip(HEURISTICS, decisions, expected, strict=True):
        figures[f"splitting_{heuristic.page.name}_only_we_keep"] = int((own & ~peer).sum())
        figures[f"splitting_{heuristic.page.name}_only_datatrove_keeps"] = int((~own & peer).sum())
    return figures


def our_decisions() -> Callable[[TextBatch], npt.NDArray[np.bool_]]:
    """Load ours; the function gives decisions, bool (heuristics, documents): annotations batch by batch, then rules."""
    functions = [heuristic.annotator.load({}) for heuristic in HEURISTICS]
    connection = locked_connection()

    def decide(batch: TextBatch) -> npt.NDArray[np.bool_]:
        parts = [batch.slice(start, stop) for start, stop in slices(batch)]
        annotated = [[pa.table(dict(compute(part))) for compute in functions] for part in parts]
        tables = map(pa.concat_tables, zip(*annotated, strict=True))
        rules = [Rules(heuristic.page.rules, " AND ".join(heuristic.page.rules), {}) for heuristic in HEURISTICS]
        return np.array([evaluate(connection, own, table).keep for own, table in zip(rules, tables, strict=True)])

    decide(TextBatch.of(["Compiled before it is measured."]))
    return decide


def decide_by_datatrove(texts: Sequence[str]) -> tuple[list[float], npt.NDArray[np.bool_]]:
    """Seconds of each of datatrove's filters, and their decisions, bool (heuristics, documents)."""
    from datatrove.data import Document
    from datatrove.pipeline import filters

    judges: list[Callable[[Any], Any]] = [getattr(filters, heuristic.peer)().filter for heuristic in HEURISTICS]
    for judge in judges:
        judge(Document(text="Loaded before it is measured.", id=""))
    seconds, kept = [0.0] * len(judges), np.zeros((len(judges), len(texts)), np.bool_)
    for document, text in enumerate(texts):  # one document after the other: datatrove remembers the last five splits
        for index, judge in enumerate(judges):
            copy = Document(text=text, id="")
            start = time.process_time()
            kept[index, document] = judge(copy) is True
            seconds[index] += time.process_time() - start
    return seconds, kept


class OurSplitting:
    """What datatrove asks of a word tokenizer, split as ours."""

    def word_tokenize(self, text: str) -> list[str]:
        """Words between white space."""
        return text.split()

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Sentences by the definition of our C4."""
        ends = [*(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
        return list(zip([0, *ends[:-1]], ends, strict=True))


@contextmanager
def our_splitting() -> Iterator[None]:
    """datatrove with our splitting in place of its own."""
    from datatrove.utils import text, word_tokenizers

    own = word_tokenizers.load_word_tokenizer
    word_tokenizers.load_word_tokenizer = lambda language: OurSplitting()
    try:
        yield
    finally:
        word_tokenizers.load_word_tokenizer = own
        text.split_into_parts.cache_clear()


def slices(batch: TextBatch) -> Iterator[tuple[int, int]]:
    """Runs of documents of at most BATCH_BYTES; a longer document stands alone."""
    start = 0
    while start < len(batch):
        stop = int(np.searchsorted(batch.offsets, batch.offsets[start] + BATCH_BYTES, "right")) - 1
        yield start, (stop := min(max(stop, start + 1), len(batch)))
        start = stop


if __name__ == "__main__":
    main()
