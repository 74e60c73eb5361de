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
from gneiss.output import layout

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
            help="A WARC, WET or HTML file, a folder, a glob, or such an address: s3://, https://, …",
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="An output folder; the same command resumes.")],
    paths: Annotated[
        str | None, typer.Option(help="A list of archives, such as warc.paths.gz: paths relative to --input.")
    ] = None,
    cdx: Annotated[
        str | None, typer.Option(help="An index, CDXJ or Parquet: only its records are read, of files in --input.")
    ] = None,
    extractor: Annotated[
        ExtractorOption,
        typer.Option(help="`trafilatura`: best text; `resiliparse`: many times faster, or where there is none."),
    ] = ExtractorOption.trafilatura,
    dump: Annotated[
        str | None, typer.Option(help="Name of the crawl, for the column `dump`. Default: what the archives say.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first records of each file, to try it.")] = None,
    workers: Workers = None,
    backend: OnBackend = BackendOption.auto,
    shared_filesystem: SharedFilesystem = False,
    deadline_seconds: Annotated[float, typer.Option(min=0.1, help="CPU time that a page may take.")] = 10.0,
    memory_mb: Annotated[
        int, typer.Option(min=200, help="Memory that a page may take, with the extractor's own.")
    ] = 1000,
    max_record_mb: Annotated[
        float, typer.Option(min=0.001, help="Longer records are skipped, as they are or decoded.")
    ] = 10,
    task_mb: Annotated[
        float, typer.Option(min=0.001, help="Longer archives are cut into tasks of equal length, which workers share.")
    ] = 200,
    max_quarantined: Annotated[
        float, typer.Option(min=0, max=1, help="Share of records that may be quarantined; beyond it exit code 3.")
    ] = 0.01,
) -> None:
    """Extract the text of crawled pages: WARC, WET and HTML in; Parquet shards with FineWeb's columns out."""
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
