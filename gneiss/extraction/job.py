"""The job: find the sources, claim the output, extract what is left, count what became of every record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.backends import Backend
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import BudgetError, OutputError, first_line
from gneiss.extraction.extractors import EXTRACTORS, Extractor, describe, versions_of
from gneiss.extraction.sandbox import Limits
from gneiss.extraction.sources import Source, find_sources
from gneiss.extraction.step import DAMAGED, STAGE, ExtractStep, Settings
from gneiss.jobs.job import open_job
from gneiss.jobs.progress import Progress, Silent
from gneiss.jobs.resume import Kind
from gneiss.output import layout
from gneiss.output.claim import refuse_nesting
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.store.place import place_of
from gneiss.version import __version__

#: Libraries that shape bytes whatever the extractor.
_LIBRARIES = ("brotli", "fastwarc", "pyarrow", "resiliparse", "xxhash")
EXTRACTION = Kind(STAGE, "file", layout.skipped_path, layout.held_sources)


@dataclass(frozen=True)
class Extraction:
    """A finished extraction: where it is, and what became of every record.

    sources: how many there were; finished_before: of these; unreadable: file → reason; lost_bytes: of archives, in
    which no record could be read; max_quarantined: the share of records that may be.
    """

    output: Path
    sources: int
    finished_before: int
    records: int
    documents: int
    skipped: Counter[str]
    quarantined: Counter[str]
    lost_bytes: int
    unreadable: dict[str, str]
    max_quarantined: float

    def check_budgets(self) -> None:
        """Raise BudgetError when a file could not be read, or too many records are in quarantine."""
        if self.unreadable:
            name, reason = next(iter(self.unreadable.items()))
            raise BudgetError(
                f"{len(self.unreadable)} files could not be read, first {name!r}: {reason}. All others are in"
                f" {self.output}; mend them and run the same command again, or take them out of the input"
            )
        if self.quarantined.total() > self.max_quarantined * self.records:
            worst = ", ".join(f"{reason} ({count})" for reason, count in self.quarantined.most_common(3))
            raise BudgetError(
                f"{self.quarantined.total()} of {self.records} records were quarantined (max_quarantined="
                f"{self.max_quarantined:g}): {worst}. They are listed in {self.output / layout.QUARANTINE}"
            )


def extract(
    input: str | Path,
    output: str | Path,
    *,
    extractor: str | Extractor = "trafilatura",
    dump: str | None = None,
    limit: int | None = None,
    limits: Limits = Limits(),  # noqa: B008
    max_quarantined: float = 0.01,
    part_max_bytes: int = 256_000_000,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    progress: Progress = Silent(),  # noqa: B008
) -> Extraction:
    """Extract the text of every page of an input into Parquet files; finished sources are skipped: the call resumes.

    Parameters: `input`: archive or HTML file, directory, glob or file://; `output`: a folder, of which `data/` is input
    for `gneiss.run`; `extractor`: a name, or a value of one's own; `dump`: the column's value, by default what archives
    say of themselves; `limit`: records of each source; `limits`: of one page; `workers`, `backend`,
    `shared_filesystem`: as in `gneiss.run`. Raises InputError, OutputError, MachineError; Extraction.check_budgets
    raises for what could not be read.

    >>> from gneiss.extraction.job import extract
    >>> done = extract("crawl/", "extracted/", dump="CC-MAIN-2024-10")  # doctest: +SKIP
    >>> done.records == done.documents + done.skipped.total() + done.quarantined.total()  # doctest: +SKIP
    True
    """
    folder = Path(place_of(output, "output"))
    chosen = EXTRACTORS[extractor]() if isinstance(extractor, str) else extractor
    settings = Settings(chosen, limits, dump, limit, part_max_bytes)
    identity = _identity(settings)
    sources = find_sources(input)
    refuse_nesting(input, [source.file for source in sources], folder)
    with open_job(folder, identity, progress) as job:
        done = job.finished(EXTRACTION, sources)
        skipped = len(done)
        left = [source for source in sources if source.id not in done]
        progress.begin("extract", {source.id: source.size_bytes for source in sources}, done)
        if left:
            chosen_workers = choose_workers(backend, workers, len(left), worker_resources(), shared_filesystem)
            done.update(job.run(chosen_workers, ExtractStep(settings, folder), left))
        progress.end()
        finished = _summed(folder, sources, done, skipped, max_quarantined)
        write_bytes((json.dumps(_told(finished), indent=1) + "\n").encode(), folder, layout.EXTRACTION_FILE)
    return finished


def _identity(settings: Settings) -> dict[str, Any]:
    """Everything that, with the input, fixes the bytes of the output. Raises MachineError when a library is missing."""
    own = {name: value for name, value in settings.__dict__.items() if name not in ("extractor", "limits")}
    identity = {
        "command": "extract",
        "gneiss": __version__,
        "extractor": describe(settings.extractor),
        "extractor_libraries": versions_of(settings.extractor.libraries),
        "libraries": versions_of(_LIBRARIES),
        **settings.limits.__dict__,
        **own,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))  # as it is read again
    return plain


def _summed(
    output: Path, sources: Sequence[Source], done: dict[str, Receipt], finished_before: int, max_quarantined: float
) -> Extraction:
    """What the files say: counts of the receipts, reasons of the rows."""
    counted = Extraction(output, len(sources), finished_before, 0, 0, Counter(), Counter(), 0, {}, max_quarantined)
    for source in sources:
        receipt = done[source.id]
        if receipt.state != COMMITTED:
            counted.unreadable[source.id] = receipt.reason or "unknown"
            continue
        counted.skipped.update(_reasons(output / layout.skipped_path(source.id)))
        lost_bytes = 0
        if receipt.counts["quarantined"]:
            path = output / layout.quarantine_path(source.id)
            counted.quarantined.update(_reasons(path))
            rows = pq.read_table(path, columns=["reason", "size_bytes"]).to_pylist()
            lost_bytes = sum(row["size_bytes"] for row in rows if row["reason"] == DAMAGED)
        counted = replace(
            counted,
            records=counted.records + (receipt.rows or 0),
            documents=counted.documents + receipt.counts["documents"],
            lost_bytes=counted.lost_bytes + lost_bytes,
        )
    return counted


def _reasons(path: Path) -> dict[str, int]:
    try:
        counts = pq.read_table(path, columns=["reason"])["reason"].value_counts()
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: damaged ({first_line(error)}); delete it and run again") from error
    return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}


def _told(finished: Extraction) -> dict[str, Any]:
    return {
        "records": finished.records,
        "documents": finished.documents,
        "skipped": dict(sorted(finished.skipped.items())),
        "quarantined": dict(sorted(finished.quarantined.items())),
        "lost_bytes": finished.lost_bytes,
        "unreadable": finished.unreadable,
    }
