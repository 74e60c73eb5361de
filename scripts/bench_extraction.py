"""What extraction costs beside the extractor itself, and how much of a page's text the extractors find.

    python scripts/bench_extraction.py --corpus DIR [--quick] [--evaluation TESTS] [--json FILE]

Cost is CPU time of the whole step against the extractor's, in one run. DIR/warc holds archives (*.warc.gz). Ours is all
of `gneiss extract` for them but the start of a worker (pyarrow imports pandas, where it is installed): reading,
charsets, pipes, the sandbox and its start, Parquet.
The extractor alone gets the same pages as text, decoded beforehand, in this process.

TESTS is the folder `tests` of a checkout of trafilatura: 990 pages, each with pieces of text that an extractor should
keep, and others that it should leave out (evaldata.json). Precision, recall and F count pieces, as evaluate.py there
does. The command fails when an F is below the floor that it had when it was last looked at.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import pyarrow as pa
from bench_filters import Figures

from gneiss.extraction.bodies import decode_body
from gneiss.extraction.charset import to_text
from gneiss.extraction.crawl_files import CrawlFiles, CrawlReader, find_crawl_files
from gneiss.extraction.extractors import Extractor, Resiliparse, Trafilatura
from gneiss.extraction.pages import Page, page_of
from gneiss.extraction.record import Record
from gneiss.extraction.sandbox import Limits
from gneiss.extraction.step import ExtractStep, Settings
from gneiss.store.place import place_of

QUICK_RECORDS, REPETITIONS = 400, 3
#: The least F of an extractor on the evaluation set.
FLOORS = {"trafilatura": 0.92, "resiliparse": 0.86}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with archives in its folder `warc`")
    parser.add_argument("--quick", action="store_true", help="the first records of the smallest archive")
    parser.add_argument("--evaluation", type=Path, help="the folder `tests` of a checkout of trafilatura")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures = extraction_part(arguments.corpus, arguments.quick)
    if arguments.evaluation:
        figures |= evaluation_part(arguments.evaluation)
    for name, value in figures.items():
        print(f"{name:45} {value:.4g}" if isinstance(value, float) else f"{name:45} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    for name, floor in FLOORS.items():
        if figures.get(f"evaluation_{name}_f", 1.0) < floor:
            raise SystemExit(f"{name}: expected an F of at least {floor}")


def extraction_part(corpus: Path, quick: bool) -> Figures:
    """Overhead and MB/s of HTML per core with both extractors; `extraction_overhead` is the default one's.

    An overhead is the median of ratios between runs that follow one another: the machine may be shared.
    """
    if not (corpus / "warc").is_dir():
        return {"extraction_missing": f"{corpus / 'warc'}: no archives there"}
    pa.array([None])  # imports pandas, where it is installed: once in a worker
    limit = QUICK_RECORDS if quick else None
    tasks = sorted(find_crawl_files(corpus / "warc").tasks, key=lambda task: task.size_bytes)[: 1 if quick else None]
    pages = [page for task in tasks for page in pages_of(task, limit)]
    size_bytes = sum(len(page.body) for page in pages)
    figures: Figures = {"extraction_pages": len(pages), "extraction_html_bytes": size_bytes}
    for extractor in (Resiliparse(), Trafilatura()):
        name = type(extractor).__name__.lower()
        alone, whole = [], []
        for _ in range(REPETITIONS):
            # anew each time, since a string keeps its UTF-8 once it was asked for
            bodies = [(decode_body(page.body, page.codings, Limits.max_record_bytes), page.charset) for page in pages]
            html = [to_text(body, charset) for body, charset in bodies]
            alone.append(cpu_seconds(partial(run_alone, extractor, html)))
            whole.append(cpu_seconds(partial(run_whole, Settings(extractor, limit=limit), tasks)))
        ratios = [(ours - theirs) / theirs for ours, theirs in zip(whole, alone, strict=True)]
        figures |= {
            f"extraction_{name}_mb_per_s_alone": size_bytes / median(alone) / 1e6,
            f"extraction_{name}_mb_per_s": size_bytes / median(whole) / 1e6,
            f"extraction_{name}_overhead": median(ratios),
        }
    return figures | {"extraction_overhead": figures["extraction_trafilatura_overhead"]}


def evaluation_part(tests: Path) -> Figures:
    """Precision, recall and F of both extractors on trafilatura's evaluation set."""
    given = (tests / "evaldata.json").read_bytes()
    pages = []
    for item in json.loads(given).values():
        paths = (tests / folder / item["file"] for folder in ("cache", "eval"))
        html = to_text(next(path for path in paths if path.is_file()).read_bytes())
        pages.append((html, *({_spaced(piece) for piece in item[key]} for key in ("with", "without"))))
    figures: Figures = {"evaluation_pages": len(pages), "evaluation_sha256": hashlib.sha256(given).hexdigest()}
    for extractor in (Resiliparse(), Trafilatura()):
        extract = extractor.load()
        texts = [_spaced(extract(html) or "") for html, _, _ in pages]
        wanted, right, wrong = 0, 0, 0
        for text, (_, inside, outside) in zip(texts, pages, strict=True):
            wanted += len(inside)
            right += sum(piece in text for piece in inside)
            wrong += sum(piece in text for piece in outside)
        precision, recall = right / (right + wrong), right / wanted
        name = f"evaluation_{type(extractor).__name__.lower()}"
        f = 2 * precision * recall / (precision + recall)
        figures |= {f"{name}_precision": precision, f"{name}_recall": recall, f"{name}_f": f}
    return figures


def _spaced(text: str) -> str:
    return " ".join(text.split())


def pages_of(task: CrawlFiles, limit: int | None) -> list[Page]:
    """The pages of a task, or of its first records."""
    records = [record for _, record in islice(CrawlReader(task, Limits.max_record_bytes), limit)]
    return [page for record in records if isinstance(record, Record) and isinstance(page := page_of(record), Page)]


def run_alone(extractor: Extractor, html: list[str]) -> None:
    """The extractor over pages that are text already."""
    extract = extractor.load()
    for page in html:
        extract(page)


def run_whole(settings: Settings, tasks: list[CrawlFiles]) -> None:
    """The step of `gneiss extract`, files and all, in this process and its sandbox."""
    with tempfile.TemporaryDirectory() as folder:
        work = ExtractStep(settings, place_of(folder)).open()
        for task in tasks:
            if reason := work(task).reason:
                raise SystemExit(f"{task.id}: {reason}")


def cpu_seconds(run: Callable[[], None]) -> float:
    """CPU time of a call, with that of the processes that it started."""
    before = _used()
    run()
    return _used() - before


def _used() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
