"""The sandboxed process: decodes a page and extracts its text, under limits that end the process.

`python -m gneiss.extraction.inside DESCRIPTION BODIES` reads batches of pages on stdin, their bodies from the open file
BODIES, and answers on stdout; see `sandbox`.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gneiss.extraction.bodies import BrokenBodyError, TooLargeError, decode_body
from gneiss.extraction.charset import REPLACEMENT, decoded
from gneiss.extraction.extractors import InTurn, first_text, name_of, restore
from gneiss.extraction.pages import Page
from gneiss.extraction.sniffing import HTML, PLAIN, UNKNOWN, XHTML, is_garbled, sniff
from gneiss.extraction.wire import MEMORY_EXIT, READY, Answer, Outcome, pack_answer, read_batch

#: Extracted before the first page, so that no page is charged for a library's lazy loading.
_WARMING = "<html><body><article><h1>Title</h1>" + "<p>A paragraph of some words, naïve and plain.</p>" * 20
_MOST_OPEN_FILES = 64


def answer_to(page: Page, extract: Callable[[str], tuple[str, str]], max_record_bytes: int) -> Answer:
    """The text of one page. extract: from HTML to the text, and the name of the extractor that found it."""
    try:
        body = decode_body(page.body, page.codings, max_record_bytes)
        if page.media_type == PLAIN:
            found = decoded(body, page.charset, is_html=False)
            return Answer(Outcome.TEXT, found.text, found.charset, found.charset_from)
        kind = sniff(body, page.media_type)
        if kind not in (HTML, XHTML):
            return Answer(Outcome.NOT_HTML, kind)
        found = decoded(body, page.charset)
        if is_garbled(found.text, body if found.charset == "utf-8" else None):
            return Answer(Outcome.NOT_HTML, UNKNOWN)
        text, extractor = ("", "") if found.charset == REPLACEMENT else extract(found.text)
        return Answer(Outcome.TEXT, text.replace("\0", ""), found.charset, found.charset_from, extractor)
    except TooLargeError:
        return Answer(Outcome.TOO_LARGE, f"over {max_record_bytes} bytes when decoded")
    except BrokenBodyError as error:
        return Answer(Outcome.UNDECODABLE, str(error))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library says of a hostile page stands in quarantine
        return Answer(Outcome.FAILED, f"{type(error).__name__}: {error}"[:300])


def main(description: str, bodies: int) -> None:
    """Answer batch after batch until stdin ends."""
    request = json.loads(description)
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a library's prints must not disturb the answers
    logging.disable(logging.CRITICAL)
    extractor = restore(request["extractor"])
    parts = extractor.extractors if isinstance(extractor, InTurn) else (extractor,)
    named = [(name_of(part), part.load()) for part in parts]
    for part in named:
        answer_to(Page(_WARMING.encode("cp1252")), first_text([part]), len(_WARMING))
    extract = first_text(named)
    _limit(request)
    _write(answers, READY)
    stdin = os.fdopen(0, "rb", 1 << 20)
    while batch := [*read_batch(stdin, bodies)]:
        for page in batch:
            signal.setitimer(signal.ITIMER_PROF, request["deadline_seconds"])  # its signal ends the process: no handler
            try:
                answer = pack_answer(answer_to(page, extract, request["max_record_bytes"]))
            except MemoryError:
                os._exit(MEMORY_EXIT)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if _peak_bytes(request["memory_bytes"]) > request["memory_bytes"]:
                os._exit(MEMORY_EXIT)
            _write(answers, answer)


def _limit(limits: dict[str, Any]) -> None:
    """Refuse what no extractor needs: files, processes, core dumps, and unbounded memory.

    The hard limit is far above a page's limit, because a library that swallows a refusal returns a wrong text; the
    verdict depends on measured use.
    """
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for kind, most in (
        (resource.RLIMIT_AS, mapped + 2 * limits["memory_bytes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MOST_OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _peak_bytes(suspicious: int) -> int:
    """The peak memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if peak <= suspicious:
        return peak
    # the cheaper figure includes the parent process's memory
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _write(descriptor: int, message: bytes) -> None:
    view = memoryview(message)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    try:
        main(sys.argv[1], int(sys.argv[2]))
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # the parent is gone
    except MemoryError:
        os._exit(MEMORY_EXIT)  # a page that does not even fit into memory
