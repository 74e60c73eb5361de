"""Extractors of text from HTML. Each is a frozen value; loaded, it is a pure function from HTML to text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from html.entities import html5
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from gneiss.errors import MachineError

if TYPE_CHECKING:
    from lxml.html import HtmlElement
    from resiliparse.parse.html import HTMLTree

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
    text of earlier pages, is off: with it a page's text would depend on the pages before. What it loses or alters
    otherwise is put into a form that it keeps: see docs/extract.md.
    """

    favour_precision: bool = True
    include_tables: bool = True

    @property
    def libraries(self) -> tuple[str, ...]:
        """See Extractor."""
        return ("trafilatura", "justext", "lxml", "lxml-html-clean")

    def load(self) -> ExtractText:
        """See Extractor."""
        from lxml.html import HTMLParser
        from trafilatura import extract, utils

        # as the library's own, which drops without a word what is nested deeper than 256 elements
        utils.HTML_PARSER = HTMLParser(
            collect_ids=False,
            default_doctype=False,
            encoding="utf-8",
            remove_comments=True,
            remove_pis=True,
            huge_tree=True,
        )

        def text_of(html: str) -> str | None:
            tree = utils.load_html(_kept_by_trafilatura(html))
            if tree is None:
                return None
            if (cell := _CELL.search(html)) and _ITEM.search(html, cell.end()):
                _open_lists_in_cells(tree)
            text: str | None = extract(
                tree,
                favor_precision=self.favour_precision,
                include_comments=False,
                include_tables=self.include_tables,
                deduplicate=False,
            )
            return text

        return text_of


#: An ampersand that, if it were not escaped, would begin a reference as HTML reads them.
_ESCAPED = re.compile(
    rf"&amp;(?=#[0-9]|#[xX][0-9A-Fa-f]|[A-Za-z][A-Za-z0-9]{{0,31}};"
    rf"|{'|'.join(sorted((name for name in html5 if not name.endswith(';')), key=len, reverse=True))})"
)
_END_OF_HTML = re.compile(r"</html[\t\n\f\r ]*+>", re.IGNORECASE)
_ENDS = re.compile(r"</(?:body|html)[\t\n\f\r ]*+>", re.IGNORECASE)
_CELL, _ITEM = (re.compile(rf"<(?:{tags})\b", re.IGNORECASE) for tags in ("td|th", "li|dd"))
_IN_CELL, _OPENED, _OF_LINKS = 1, 2, 3
_OPENED_AS = {"ul": "div", "ol": "div", "dl": "div", "li": "p", "dt": "p", "dd": "p"}


def _kept_by_trafilatura(html: str) -> str:
    """HTML of the same meaning: no form feeds, which join words; escapes that are undone twice; no end of the body."""
    html = _ESCAPED.sub("&amp;amp;", html.replace("\f", " "))
    end = _END_OF_HTML.search(html)
    return _ENDS.sub("", html) if end and html[end.end() :].strip() else html


def _open_lists_in_cells(tree: HtmlElement) -> None:
    """Make paragraphs of the lists in table cells, which are dropped, but for those that are mostly links."""
    states: dict[HtmlElement, int] = {}
    for element in tree.iter():
        state = states.get(element.getparent(), 0)
        if not state and element.tag in ("td", "th"):
            state = _IN_CELL
        elif state == _IN_CELL and element.tag in ("ul", "ol", "dl"):
            length = len(element.text_content())
            linked = sum(len(link.text_content()) for link in element.iter("a"))
            state = _OF_LINKS if 2 * linked > length else _OPENED
        if state == _OPENED:
            element.tag = _OPENED_AS.get(element.tag, element.tag)
        if state:
            states[element] = state


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
        from resiliparse.parse.html import HTMLTree

        def text_of(html: str) -> str:
            tree = HTMLTree.parse(html)
            if self.main_content:
                _lower_lists(tree)
            text: str = extract_plain_text(
                tree,
                main_content=self.main_content,
                alt_texts=False,
                comments=not self.main_content,
                skip_elements=_NO_MAIN_CONTENT if self.main_content else None,
            )
            return text

        return text_of


#: Its main content may keep these: without them, and without comments, it is more precise by 0.027, and loses 0.002 of
#: recall (trafilatura's evaluation set).
_NO_MAIN_CONTENT = ["nav", "footer", "button"]
#: Lists less deep in the body than this are taken for navigation, whatever is in them.
_LIST_DEPTH = 4


def _lower_lists(tree: HTMLTree) -> None:
    """Wrap the lists that are not deep in the body: whether they are mostly links is still looked at."""
    level: list[Any] = [tree.body] if tree.body is not None else []
    for depth in range(1, _LIST_DEPTH):
        children = [child for parent in level for child in _elements_in(parent)]
        level = [child for child in children if child.tag != "ul"]
        for found in children:
            if found.tag == "ul" and (place := found.parent) is not None:
                for _ in range(_LIST_DEPTH - depth):
                    wrapper: Any = tree.create_element("div")
                    place.replace_child(wrapper, found)
                    wrapper.append_child(found)
                    place = wrapper


def _elements_in(parent: Any) -> Iterator[Any]:
    child = parent.first_element_child
    while child is not None:
        yield child
        child = child.next_element_sibling


@dataclass(frozen=True)
class InTurn:
    """The text of the first of several extractors that finds any."""

    extractors: tuple[Extractor, ...]

    @property
    def libraries(self) -> tuple[str, ...]:
        """See Extractor."""
        return tuple(dict.fromkeys(name for extractor in self.extractors for name in extractor.libraries))

    def load(self) -> ExtractText:
        """See Extractor."""
        extract = first_text([(name_of(extractor), extractor.load()) for extractor in self.extractors])
        return lambda html: extract(html)[0]


def name_of(extractor: Extractor) -> str:
    """What an extractor is called in the documents."""
    return type(extractor).__name__.lower()


def first_text(named: Sequence[tuple[str, ExtractText]]) -> Callable[[str], tuple[str, str]]:
    """From HTML to the first text that one of several extractors finds, and its name; both empty if there is none.

    One that raises counts as one that finds nothing, unless none after it finds any.
    """

    def extract(html: str) -> tuple[str, str]:
        failure: Exception | None = None
        for name, text_of in named:
            try:
                text = text_of(html) or ""
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - raised below
                failure = failure or error
                continue
            if text.strip():
                return text, name
        if failure:
            raise failure
        return "", ""

    return extract


EXTRACTORS: Mapping[str, Callable[[], Extractor]] = {
    "trafilatura": Trafilatura,
    "resiliparse": Resiliparse,
    "trafilatura, then resiliparse": lambda: InTurn((Trafilatura(), Resiliparse())),
}


def versions_of(libraries: Sequence[str]) -> dict[str, str]:
    """Library → version. Raises MachineError when one is missing."""
    from importlib.metadata import PackageNotFoundError, version

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
    parameters = (
        {"extractors": [describe(each) for each in extractor.extractors]}
        if isinstance(extractor, InTurn)
        else asdict(extractor)  # type: ignore[call-overload]
    )
    return {"module": kind.__module__, "name": kind.__qualname__, "parameters": parameters}


def restore(described: Mapping[str, Any]) -> Extractor:
    """The inverse of `describe`. It imports the module named there: never pass untrusted descriptions."""
    kind = getattr(import_module(described["module"]), described["name"])
    if kind is InTurn:
        return InTurn(tuple(map(restore, described["parameters"]["extractors"])))
    extractor: Extractor = kind(**described["parameters"])
    return extractor
