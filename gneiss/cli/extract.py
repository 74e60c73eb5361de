"""`gneiss extract`: from archives of a crawl to Parquet files of documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from gneiss.cli.options import BackendOption, OnBackend, SharedFilesystem, Workers
from gneiss.cli.terminal import say, shown_progress
from gneiss.errors import printable

if TYPE_CHECKING:
    from gneiss.extraction.decoding import Decoding
    from gneiss.extraction.job import Extraction


class ExtractorOption(StrEnum):
    """Extractors of text from pages."""

    trafilatura = "trafilatura"
    resiliparse = "resiliparse"
    in_turn = "trafilatura, then resiliparse"


def extract(
    input: Annotated[
        str,
        typer.Option(
            "--input",
            "-i",
            help="WARC, WET or HTML file, folder or glob; a local path or s3://, https://, …",
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Output folder. The same command resumes an interrupted run.")
    ],
    paths: Annotated[
        str | None, typer.Option(help="List of archives, such as warc.paths.gz, with paths relative to --input.")
    ] = None,
    cdx: Annotated[
        str | None,
        typer.Option(help="CDXJ or Parquet index. Only the records it lists are read, from the files in --input."),
    ] = None,
    extractor: Annotated[
        ExtractorOption,
        typer.Option(help="`trafilatura` extracts the best text; `resiliparse` is many times faster."),
    ] = ExtractorOption.trafilatura,
    dump: Annotated[
        str | None, typer.Option(help="Name of the crawl for the column `dump`. Default: from the archives.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first N records of each file.")] = None,
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
    deadline_seconds: Annotated[float, typer.Option(min=0.1, help="CPU seconds allowed per page.")] = 10.0,
    memory_mb: Annotated[int, typer.Option(min=200, help="Memory limit of an extractor process, in MB.")] = 1000,
    max_record_mb: Annotated[
        float, typer.Option(min=0.001, help="Skip records larger than this, before or after decompression, in MB.")
    ] = 10,
    task_mb: Annotated[
        float, typer.Option(min=0.001, help="Split archives larger than this into tasks of equal size, in MB.")
    ] = 200,
    max_quarantined: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of records that may be quarantined; if exceeded, the exit code is 3."),
    ] = 0.01,
) -> None:
    """Extract text from WARC, WET and HTML files into Parquet shards with FineWeb's columns.

    Example: gneiss extract --input warcs/ --output extracted/
    """
    from gneiss.extraction.job import extract as run_extraction
    from gneiss.extraction.sandbox import Limits

    finished = run_extraction(
        input,
        output,
        paths=paths,
        cdx=cdx,
        extractor=extractor.value,
        dump=dump,
        limit=limit,
        limits=Limits(deadline_seconds, memory_mb * 1_000_000, int(max_record_mb * 1_000_000)),
        max_quarantined=max_quarantined,
        task_max_bytes=int(task_mb * 1_000_000),
        workers=workers,
        backend=backend.value,
        shared_filesystem=shared_filesystem,
        progress=shown_progress(task="task", rows="records", of="archives and pages"),
    )
    _print(finished)
    finished.check_budgets()


def _print_decoding(of_files: Mapping[str, Decoding]) -> None:
    from gneiss.extraction.decoding import Decoding

    whole = Decoding.total(of_files.values())
    if not whole.charsets:
        return
    found = Counter[str]()
    for (_, charset_from), count in whole.charsets.items():
        found[charset_from] += count
    say(f"charsets    {', '.join(f'{count:,} by {name}' for name, count in found.most_common())}")
    if whole.replaced_characters:
        worst = max(of_files, key=lambda name: of_files[name].documents_with_replaced_characters)
        say(
            f"            {whole.replaced_characters:,} replaced characters in"
            f" {whole.documents_with_replaced_characters:,} documents,"
            f" {of_files[worst].documents_with_replaced_characters:,} of them in {printable(worst)}"
        )


def _print(finished: Extraction) -> None:
    from gneiss.extraction.crawl_files import describe_passed_over
    from gneiss.output import layout

    say(
        f"{finished.records:,} records: {finished.documents:,} documents, {finished.skipped.total():,} skipped,"
        f" {finished.quarantined.total():,} quarantined"
    )
    rows = [("skipped", *row) for row in finished.skipped.most_common()]
    rows += [("quarantined", *row) for row in finished.quarantined.most_common()]
    for kind, reason, count in rows:
        say(f"  {count:>12,}  {kind}: {printable(reason)}")
    if finished.lost_bytes:
        say(f"{finished.lost_bytes:,} bytes of damaged archives could not be read")
    _print_decoding(finished.decoding)
    if finished.wrong_lengths:
        say(
            f"{finished.wrong_lengths:,} records have a wrong Content-Length; each was read to the end of its gzip"
            " member or zstd frame"
        )
    if finished.passed_over:
        say(f"files that are not read: {printable(describe_passed_over(finished.passed_over))}")
    for name, reason in finished.unreadable.items():
        fate = "failed by a defect" if name in finished.failed else "could not be read"
        say(f"task {printable(name)} {fate}: {printable(reason)}")
    before = (
        f" ({finished.finished_before} of {finished.tasks} tasks were finished before)"
        if finished.finished_before
        else ""
    )
    say(f"documents   {finished.output / layout.DATA}{before}")
    say(f"next        gneiss run RECIPE --input {finished.output / layout.DATA} --output CURATED")
