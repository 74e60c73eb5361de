"""The step of an extraction: an archive, or a group of HTML files, in; Parquet files and a receipt out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeAlias

from gneiss.errors import DefectError
from gneiss.extraction.charset import REPLACEMENT
from gneiss.extraction.crawl_files import CrawlFiles, CrawlReader
from gneiss.extraction.decoding import Decoding
from gneiss.extraction.extractors import Extractor
from gneiss.extraction.pages import NO_TEXT, NOT_HTML, TOO_LARGE, Page, Skip, page_of
from gneiss.extraction.ranges import counts_of
from gneiss.extraction.record import Record
from gneiss.extraction.records import Damage
from gneiss.extraction.sandbox import Death, Limits, Sandbox
from gneiss.extraction.tables import Document, Rejected, write_documents, write_rejected
from gneiss.extraction.wire import Answer, Outcome
from gneiss.output.layout import quarantine_path, skipped_path
from gneiss.output.ledger import COMMITTED, FOOTER_KEY, UNREADABLE, Receipt
from gneiss.store.place import Place

STAGE = "extract"
#: Why a record is in quarantine, beside DAMAGED and NO_RECORD, and the sandbox's DEADLINE, MEMORY and CRASH.
CUT_SHORT, UNDECODABLE, FAILED = "cut short", "cannot be decoded", "extractor failed"
#: Why a record is skipped, by what the sandbox answers.
_SKIPPED = {Outcome.TEXT: NO_TEXT, Outcome.TOO_LARGE: TOO_LARGE, Outcome.NOT_HTML: NOT_HTML}
_BATCH_PAGES, _BATCH_BYTES = 256, 1_000_000
_PART_OF = re.compile(rb"^isPartOf\s*:\s*(\S+)", re.IGNORECASE | re.MULTILINE)

#: A page in the sandbox; the document that it becomes but for its text; the row that it becomes if it becomes none.
_Waiting: TypeAlias = tuple[Page, Callable[..., Document], Callable[[str, str], Rejected]]


@dataclass(frozen=True)
class Settings:
    """What fixes the documents of a task, beside the versions of libraries.

    dump: of all documents; None: what the archive's own warcinfo record says; limit: only this many records of each
    task; part_max_bytes: a data file ends with the table of documents that reaches it; task_max_bytes: a longer archive
    is cut into ranges of equal length, each a task.
    """

    extractor: Extractor
    limits: Limits = field(default_factory=Limits)
    dump: str | None = None
    limit: int | None = None
    part_max_bytes: int = 256_000_000
    task_max_bytes: int = 200_000_000


@dataclass(frozen=True)
class ExtractStep:
    """Crawl files in, committed files and a receipt out."""

    settings: Settings
    output: Place

    def open(self) -> Callable[[CrawlFiles], Receipt]:
        """Nothing to load: each task has a sandbox of its own, so that it sees the same whatever came before."""
        return self._extract

    def lost(self, task: CrawlFiles, reason: str) -> Receipt:
        """A task whose files could not be read."""
        return Receipt(task.id, UNREADABLE, task.fingerprint, None, reason=reason, etag=task.etag, stage=STAGE)

    def _extract(self, task: CrawlFiles) -> Receipt:
        settings = self.settings
        with Sandbox(settings.extractor, settings.limits) as sandbox:
            sorting = _Sorting(settings, sandbox)
            reader = CrawlReader(task, settings.limits.max_record_bytes)
            files = write_documents(sorting.documents(reader), self.output, task.id, settings.part_max_bytes)
        documents, skipped, quarantined = sum(file.rows for file in files), sorting.skipped, sorting.quarantined
        if sorting.records != documents + len(skipped) + len(quarantined):
            raise DefectError(
                f"{task.id}: {sorting.records} records were read, but {documents} documents + {len(skipped)} skipped"
                f" + {len(quarantined)} quarantined were written; please report it"
            )
        task.check_unchanged()  # whose records are those that were read, before its last file says that it is done
        if quarantined:
            files.append(write_rejected(quarantined, self.output, quarantine_path(task.id)))
        counts = {
            "documents": documents,
            "skipped": len(skipped),
            "quarantined": len(quarantined),
            "wrong_lengths": sorting.wrong_lengths,
            **counts_of(reader.archive),
            **sorting.decoding.counts(),
        }
        receipt = Receipt(task.id, COMMITTED, task.fingerprint, sorting.records, counts, tuple(files), stage=STAGE)
        footer = {FOOTER_KEY: receipt.footer()}
        own = write_rejected(skipped, self.output, skipped_path(task.id), footer)
        return replace(receipt, files=(*files, own), etag=task.etag)


@dataclass
class _Sorting:
    """Sorts the records of one task into documents, which it yields, skipped and quarantined ones, which it keeps."""

    settings: Settings
    sandbox: Sandbox
    records: int = 0
    wrong_lengths: int = 0
    skipped: list[Rejected] = field(default_factory=list)
    quarantined: list[Rejected] = field(default_factory=list)
    decoding: Decoding = field(default_factory=Decoding)

    def documents(self, reader: CrawlReader) -> Iterator[Document]:
        """Yield the documents of a task, in order; pages go through the sandbox in batches."""
        dump = self.settings.dump
        waiting: list[_Waiting] = []
        waiting_bytes = 0
        for name, record in islice(reader, self.settings.limit):
            if not self.records and dump is None and reader.archive and (info := reader.archive.info):
                dump = _dump_of(info) if info.kind == "warcinfo" else None
            self.records += 1
            if isinstance(record, Damage):
                at = (None, None, name, record.offset, record.size_bytes)
                self.quarantined.append(Rejected(record.kind, record.reason, *at))
                continue
            if record.kind == "warcinfo" and self.settings.dump is None and record.content:
                dump = _dump_of(record)
            rejected = partial(
                Rejected, record_id=record.id, url=record.url, file_path=name, offset=record.offset,
                size_bytes=record.size_bytes,
            )  # fmt: skip
            if cut_short := record.cut_short or _of_segment(record):
                self.quarantined.append(rejected(CUT_SHORT, cut_short))
                continue
            self.wrong_lengths += record.has_wrong_length
            page = page_of(record)
            if isinstance(page, Skip):
                self.skipped.append(rejected(page.reason, page.detail))
                continue
            document = partial(Document, id=record.id, dump=dump, url=record.url, date=record.date, file_path=name)
            if reader.is_of_archives:
                document = partial(document, warc_file=name, warc_offset=record.offset, warc_length=record.length)
            waiting.append((page, document, rejected))
            waiting_bytes += len(page.body)
            if waiting_bytes >= _BATCH_BYTES or len(waiting) == _BATCH_PAGES:
                yield from self._answered(waiting)
                waiting, waiting_bytes = [], 0
        yield from self._answered(waiting)

    def _answered(self, waiting: Sequence[_Waiting]) -> Iterator[Document]:
        answers = self.sandbox.extract([page for page, _, _ in waiting])
        for (page, document, rejected), answer in zip(waiting, answers, strict=True):
            if isinstance(answer, Answer) and answer.outcome == Outcome.TEXT and answer.text.strip():
                found = document(
                    text=answer.text, charset=answer.charset, charset_from=answer.charset_from,
                    replaced_characters=answer.text.count("\ufffd"), extractor=answer.extractor or None,
                )  # fmt: skip
                self.decoding.add(found)
                yield found
            elif isinstance(answer, Answer) and answer.outcome in _SKIPPED:
                detail = answer.text if answer.outcome != Outcome.TEXT else _nothing_in(page, answer)
                self.skipped.append(rejected(_SKIPPED[answer.outcome], detail))
            else:
                self.quarantined.append(rejected(*_verdict(answer)))


def _dump_of(info: Record) -> str | None:
    """The crawl that a warcinfo record says that it is of."""
    found = _PART_OF.search(info.content or b"")
    return found[1].decode("utf-8", "replace") if found else None


def _of_segment(record: Record) -> str:
    """Why a record holds only a part of a page, if it does."""
    is_first = record.segment is not None and record.kind in ("response", "resource", "conversion")
    return f"segment {record.segment} of a page whose others are records of their own" if is_first else ""


def _nothing_in(page: Page, answer: Answer) -> str:
    if answer.charset == REPLACEMENT:
        return "a charset that browsers refuse"
    return "the extractor found none" if page.body.strip() else "an empty body"


def _verdict(answer: Answer | Death) -> tuple[str, str]:
    if isinstance(answer, Death):
        return answer.reason, answer.detail
    return (UNDECODABLE if answer.outcome == Outcome.UNDECODABLE else FAILED), answer.text
