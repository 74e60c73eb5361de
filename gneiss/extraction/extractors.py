"""Extractors of text from HTML. Each is a frozen value; loaded, it is a pure function from HTML to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeAlias

from gneiss.errors import MachineError

#: A page's HTML → its text, empty or None if there is none; pure, whatever pages came before.
ExtractText: TypeAlias = Callable[[str], str | None]


class Extractor(Protocol):
    """Extracts the text of a page: a frozen dataclass of plain values, at the top level of a module."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The packages whose versions affect the text."""

    def load(self) -> ExtractText:
        """Import the libraries; called in the process that runs the extractor."""


@dataclass(frozen=True)
class Trafilatura:
    """The main text of a page, by rules, readability and justext (Barbaresi 2021); what FineWeb used.

    favour_precision: rather lose text than keep boilerplate. Comments are dropped. Its `deduplicate`, which remembers
    text of earlier pages, is off: with it a page's text would depend on the pages before.
    """

    favour_precision: bool = True
    include_tables: bool = True

    @property
    def libraries(self) -> tuple[str, ...]:
        """See Extractor."""
        return ("trafilatura", "justext", "lxml", "lxml-html-clean")

    def load(self) -> ExtractText:
        """See Extractor."""
        from trafilatura import extract

        def text_of(html: str) -> str | None:
            text: str | None = extract(
                html,
                favor_precision=self.favour_precision,
                include_comments=False,
                include_tables=self.include_tables,
                deduplicate=False,
            )
            return text

        return text_of


@dataclass(frozen=True)
class Resiliparse:
    """The main text of a page, by rules over its tree only (Bevendorff et al. 2018): many times faster."""

    main_content: bool = True

    @property
    def libraries(self) -> tuple[str, ...]:
        """See Extractor."""
        return ("resiliparse",)

    def load(self) -> ExtractText:
        """See Extractor."""
        from resiliparse.extract.html2text import extract_plain_text

        def text_of(html: str) -> str:
            text: str = extract_plain_text(html, main_content=self.main_content, alt_texts=False)
            return text

        return text_of


EXTRACTORS: Mapping[str, Callable[[], Extractor]] = {"trafilatura": Trafilatura, "resiliparse": Resiliparse}


def versions_of(libraries: Sequence[str]) -> dict[str, str]:
    """Library → version. Raises MachineError when one is missing."""
    try:
        return {name: version(name) for name in libraries}
    except PackageNotFoundError as error:
        raise MachineError(f"the package {error.name} is missing; install it into this environment") from error


def describe(extractor: Extractor) -> dict[str, Any]:
    """An extractor as plain values, from which `restore` rebuilds it in another process.

    >>> restore(describe(Resiliparse()))
    Resiliparse(main_content=True)
    """
    kind = type(extractor)
    return {"module": kind.__module__, "name": kind.__qualname__, "parameters": asdict(extractor)}  # type: ignore[call-overload]


def restore(described: Mapping[str, Any]) -> Extractor:
    """The inverse of `describe`. It imports the module named there: never pass untrusted descriptions."""
    extractor: Extractor = getattr(import_module(described["module"]), described["name"])(**described["parameters"])
    return extractor
