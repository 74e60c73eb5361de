"""The job: find the files, claim the output, extract what is left, count what became of every record."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa

from gneiss.backends import Backend
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import BudgetError, DefectError, InputError, OutputError, first_line
from gneiss.extraction.crawl_files import CrawlInput, find_crawl_files, find_listed, find_selected
from gneiss.extraction.decoding import Decoding
from gneiss.extraction.extractors import EXTRACTORS, Extractor, describe, versions_of
from gneiss.extraction.ranges import misplaced
from gneiss.extraction.records import DAMAGED
from gneiss.extraction.sandbox import Limits
from gneiss.extraction.step import STAGE, ExtractStep, Settings
from gneiss.jobs.job import open_job
from gneiss.jobs.progress import Progress, Silent
from gneiss.jobs.resume import Kind
from gneiss.output import layout
from gneiss.output.claim import refuse_nesting
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.parquet import read_table, write_bytes
from gneiss.store.place import Address, Place, local_paths, place_of
from gneiss.version import __version__

#: Libraries that shape bytes whatever the extractor.
_LIBRARIES = ("brotli", "endec", "pyarrow", "resiliparse", "xxhash", "zstandard")
EXTRACTION = Kind(STAGE, "task", layout.skipped_path, layout.task_files)


@dataclass(frozen=True)
class Extraction:
    """A finished extraction: where it is, and what became of every record.

    tasks: archives, ranges of long ones, and groups of HTML files; finished_before: of these; unreadable: task →
    reason; lost_bytes: of archives, in which no record could be read; max_quarantined: the share of records that may
    be; failed: of the unreadable tasks, those that a defect kept from being read; decoding: task → how its documents
    were decoded; wrong_lengths: records that ended with their gzip member or zstd frame, not where their header says;
    passed_over: files that are no input, by the end of their names.
    """

    output: Place
    tasks: int
    finished_before: int
    records: int
    documents: int
    skipped: Counter[str]
    quarantined: Counter[str]
    lost_bytes: int
    unreadable: dict[str, str]
    max_quarantined: float
    failed: tuple[str, ...] = ()
    decoding: Mapping[str, Decoding] = field(default_factory=dict)
    wrong_lengths: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)

    def check_budgets(self) -> None:
        """Raise BudgetError when a file could not be read, or too many records are in quarantine.

        Raises DefectError when that is for a defect.
        """
        if self.failed:
            name = self.failed[0]
            raise DefectError(
                f"{len(self.failed)} tasks failed by a defect, first {name!r}: {self.unreadable[name]}; please report"
                f" it with its traceback, in {self.output / layout.LOGS}. All others are in {self.output}; the same"
                " command tries these again"
            )
        if self.unreadable:
            name, reason = next(iter(self.unreadable.items()))
            raise BudgetError(
                f"{len(self.unreadable)} tasks could not be read, first {name!r}: {reason}. All others are in"
                f" {self.output}; fix them and run the same command again, or remove them from the input"
            )
        if self.quarantined.total() > self.max_quarantined * self.records:
            worst = ", ".join(f"{reason} ({count})" for reason, count in self.quarantined.most_common(3))
            raise BudgetError(
                f"{self.quarantined.total()} of {self.records} records were quarantined (max_quarantined="
                f"{self.max_quarantined:g}): {worst}. They are listed in {self.output / layout.QUARANTINE}"
            )


def extract(
    input: Address,
    output: Address,
    *,
    paths: Address | None = None,
    cdx: Address | None = None,
    extractor: str | Extractor = "trafilatura",
    dump: str | None = None,
    limit: int | None = None,
    limits: Limits = Limits(),  # noqa: B008
    max_quarantined: float = 0.01,
    part_max_bytes: int = 256_000_000,
    task_max_bytes: int = 200_000_000,
    workers: int | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    progress: Progress = Silent(),  # noqa: B008
) -> Extraction:
    """Extract the text of every page of an input into Parquet files; the same call resumes.

    Parameters: `input`: archive or HTML file, folder, glob or address; `paths`: a list of archives, `cdx`: an index of
    records, both with paths relative to `input`, to read only these; `output`: a folder, whose `data/` is the input of
    `gneiss.run`; `extractor`: a name, or your own value; `dump`: value of that column, by default from the archives;
    `limit`: records per file; `task_max_bytes`: split longer archives into several tasks; `limits`: per page;
    `workers`, `backend`, `shared_filesystem`: as in `gneiss.run`. Raises InputError, OutputError, MachineError;
    `Extraction.check_budgets` raises if too much could not be read.

    >>> from gneiss.extraction.job import extract
    >>> done = extract("crawl/", "extracted/", dump="CC-MAIN-2024-10")  # doctest: +SKIP
    >>> done.records == done.documents + done.skipped.total() + done.quarantined.total()  # doctest: +SKIP
    True
    """
    folder = place_of(output, "output")
    chosen = EXTRACTORS[extractor]() if isinstance(extractor, str) else extractor
    settings = Settings(chosen, limits, dump, limit, part_max_bytes, task_max_bytes)
    identity = _identity(settings)
    found = _found(input, paths, cdx, task_max_bytes if limit is None else None)
    tasks = found.tasks
    refuse_nesting(input, [task.file for task in tasks], folder)
    with open_job(folder, identity, progress) as job:
        done = job.finished(EXTRACTION, tasks)
        skipped = len(done)
        left = [task for task in tasks if task.id not in done]
        hire = partial(
            choose_workers, backend, workers, resources=worker_resources(), shared_filesystem=shared_filesystem,
            local=local_paths([input, folder]),
        )  # fmt: skip
        progress.begin("extract", {task.id: task.size_bytes for task in tasks}, done)
        if left:
            chosen_workers = hire(tasks=len(left))
            done.update(job.run_tasks(chosen_workers, STAGE, ExtractStep(settings, folder), left, len(tasks)))
        while again := misplaced(tasks, done):
            layout.delete_tasks(folder, {task.id for task in again})
            chosen_workers = hire(tasks=len(again))
            done.update(job.run_tasks(chosen_workers, STAGE, ExtractStep(settings, folder), again, len(tasks)))
        progress.end()
        job.check()
        layout.delete_tasks(folder, {id_ for id_, receipt in done.items() if receipt.state != COMMITTED})
        finished = _summed(folder, found, done, skipped, max_quarantined)
        write_bytes((json.dumps(_as_json(finished), indent=1) + "\n").encode(), folder, layout.EXTRACTION_FILE)
    return finished


def _found(input: Address, paths: Address | None, cdx: Address | None, task_max_bytes: int | None) -> CrawlInput:
    if paths is not None and cdx is not None:
        raise InputError("expected a list of archives (paths) or an index of records (cdx), found both")
    if cdx is not None:
        return find_selected(input, cdx)
    if paths is not None:
        return find_listed(input, paths, task_max_bytes)
    return find_crawl_files(input, task_max_bytes)


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
    output: Place, input: CrawlInput, done: dict[str, Receipt], finished_before: int, max_quarantined: float
) -> Extraction:
    """What the files say: counts of the receipts, reasons of the rows."""
    counted = Extraction(
        output, len(input.tasks), finished_before, 0, 0, Counter(), Counter(), 0, {}, max_quarantined,
        passed_over=input.passed_over,
    )  # fmt: skip
    decoding: dict[str, Decoding] = {}
    for task in input.tasks:
        receipt = done[task.id]
        if receipt.state != COMMITTED:
            counted.unreadable[task.id] = receipt.reason or "unknown"
            if receipt.is_defect:
                counted = replace(counted, failed=(*counted.failed, task.id))
            continue
        counted.skipped.update(_reasons(output / layout.skipped_path(task.id)))
        lost_bytes = 0
        if receipt.counts["quarantined"]:
            path = output / layout.quarantine_path(task.id)
            counted.quarantined.update(_reasons(path))
            rows = read_table(path, ["reason", "size_bytes"]).to_pylist()
            lost_bytes = sum(row["size_bytes"] for row in rows if row["reason"] == DAMAGED)
        decoding[task.id] = Decoding.of(receipt.counts)
        counted = replace(
            counted,
            records=counted.records + (receipt.rows or 0),
            documents=counted.documents + receipt.counts["documents"],
            lost_bytes=counted.lost_bytes + lost_bytes,
            wrong_lengths=counted.wrong_lengths + receipt.counts["wrong_lengths"],
        )
    return replace(counted, decoding=decoding)


def _reasons(path: Place) -> dict[str, int]:
    try:
        counts = read_table(path, ["reason"])["reason"].value_counts()
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{path}: damaged ({first_line(error)}); delete it and run again") from error
    return {entry["values"]: entry["counts"] for entry in counts.to_pylist()}


def _as_json(finished: Extraction) -> dict[str, Any]:
    return {
        "records": finished.records,
        "documents": finished.documents,
        "skipped": dict(sorted(finished.skipped.items())),
        "quarantined": dict(sorted(finished.quarantined.items())),
        "lost_bytes": finished.lost_bytes,
        "wrong_lengths": finished.wrong_lengths,
        "passed_over": dict(sorted(finished.passed_over.items())),
        "unreadable": finished.unreadable,
        "decoding": {name: decoding.counts() for name, decoding in finished.decoding.items()},
    }
