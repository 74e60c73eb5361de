"""Reading text out of a Python installation: docstrings, descriptions, licences, text and HTML, as documents.

Source files are parsed, never imported; a package's files are those that its installer recorded. So nothing depends on
the location of the installation, compiled or stray files, the order of a folder, or other packages.
"""

from __future__ import annotations

import ast
import html
import os
import platform
import re
import site
import sysconfig
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["docstring", "description", "licence", "text", "html"]

#: The Apache licence fits on a page; a longer text continues in the next document.
PAGE_MAX_CHARACTERS = 12_000
PAGE_MIN_CHARACTERS = 200
#: Longer files are tables, generated code or data.
FILE_MAX_BYTES = 2_000_000
_RECORD_MAX_BYTES = 100_000_000
#: Tables, word lists, grammars and other languages have fewer function words.
FUNCTION_WORDS_MIN_SHARE = 0.1

FUNCTION_WORDS = frozenset(
    ("a", "an", "and", "are", "as", "at", "be", "by", "can", "for", "from", "if", "in", "is", "it", "may", "not", "of",
     "on", "or", "that", "the", "this", "to", "when", "with", "you")
)  # fmt: skip
_SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test", ".."})
# A machine may have its own; everything else of a standard library belongs to its version. The rest is for machines.
_SKIPPED_FILES = frozenset(
    {"sitecustomize.py", "usercustomize.py", "cmakelists.txt", "entry_points.txt", "top_level.txt", "vendor.txt"}
)
_LANGUAGE_REFERENCE = "pydoc_data/topics.py"  # what `help()` prints: the standard library ships it as string constants
_LICENCE = re.compile(r"licen[cs]e|copying|notice|^copyright", re.IGNORECASE)
_README = re.compile(r"^(?:readme|changes|changelog|news|history)$", re.IGNORECASE)
_NOT_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ud800-\udfff]")  # controls, and halves of UTF-16 pairs
# Lines of Markdown and reStructuredText that hold nothing but pictures, badges, link targets or tags.
_DECORATION = re.compile(
    r"^[ \t]*(?:\[?!\[.*|</?\w.*>|<!--.*-->|(?:\|[\w -]+\|[ \t]*)+|\.\. (?:image|figure|raw|\||_).*"
    r"|:(?:target|alt|width|height|scale|align|class):.*|\[[^\]\n]+\]:[ \t]*\S+)[ \t]*$",
    re.MULTILINE,
)

_HIDDEN_ELEMENTS = frozenset({"script", "style", "title"})
_INLINE_ELEMENTS = frozenset(
    {"a", "abbr", "b", "code", "em", "i", "kbd", "small", "span", "strong", "sub", "sup", "tt"}
)
_PARAGRAPH_ELEMENTS = frozenset({"p", "div", "pre", "section", "h1", "h2", "h3", "h4", "ul", "ol", "dl", "table"})


@dataclass(frozen=True)
class Roots:
    """Search paths: folders with installed packages (the first that holds one wins) and the standard library."""

    site_folders: tuple[Path, ...]
    stdlib: Path | None

    @classmethod
    def of_interpreter(cls) -> Roots:
        """The folders of the running interpreter, independent of `sys.path` and the working directory."""
        user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
        folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages(), *user]
        return cls(tuple(dict.fromkeys(map(Path, folders))), Path(sysconfig.get_path("stdlib")))


@dataclass(frozen=True)
class Package:
    """An installed package: `files` are relative to `folder`; `requires` are requirements as its metadata has them."""

    name: str
    version: str
    folder: Path
    files: tuple[str, ...]
    requires: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """A page of text; `path` is relative to the package's folder, `page` counts from 1 within the file."""

    package: str
    version: str
    path: str
    page: int
    kind: Kind
    text: str

    @property
    def url(self) -> str:
        """The origin of the text, on a host that cannot exist (RFC 2606)."""
        fragment = f"#page-{self.page}" if self.page > 1 else ""
        return f"https://packages.example/{self.package}/{self.version}/{self.path}{fragment}"

    @property
    def id(self) -> str:
        """A name-based UUID (RFC 9562, version 5) of the URL, written as FineWeb writes its ids."""
        return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, self.url)}>"


def harvest(roots: Roots, requirements: Sequence[str], skipped: Counter[str]) -> Iterator[Document]:
    """The documents of the standard library and of the required packages with all that they require.

    Parameters: `requirements`: such as `ray[default]`; `skipped`: counts the skipped files by reason.
    """
    packages = sorted(required(roots.site_folders, requirements), key=lambda package: package.name)
    if roots.stdlib is not None:
        files = tuple(_walk(roots.stdlib))
        packages.insert(0, Package("python", platform.python_version(), roots.stdlib, files))
    for package in packages:
        for path in sorted(set(package.files)):
            if (kind := kind_of(path)) is None or (data := _read(package.folder / path, skipped)) is None:
                continue
            try:
                blocks = _blocks(kind, path, data)
            except UnicodeDecodeError:
                skipped["not UTF-8"] += 1
                continue
            except (SyntaxError, ValueError, RecursionError, MemoryError):  # all four are ways of ast.parse to refuse
                skipped["not parsable"] += 1
                continue
            for page, text in enumerate(pages(blocks), start=1):
                if kind == "licence" or is_running_text(text):
                    yield Document(package.name, package.version, path, page, kind, text)


def required(folders: Iterable[Path], requirements: Sequence[str]) -> list[Package]:
    """The installed ones among the requirements and all that they require.

    Environment markers count as true (packages that are not installed are not found); requested extras are followed.
    Editable installs are skipped, because their files belong to no version.
    """
    installed: dict[str, Package] = {}
    for folder in folders:
        for info in sorted(folder.glob("*.dist-info")):
            if (package := _package(info)) is not None:
                installed.setdefault(package.name, package)
    chosen: dict[str, Package] = {}
    waiting, seen = deque(requirements), set(requirements)
    while waiting:
        name, extras = _parsed(waiting.popleft())
        if name not in installed:
            continue
        chosen[name] = installed[name]
        for requirement in installed[name].requires:
            wanted, _, marker = requirement.partition(";")
            needs = re.findall(r"extra\s*==\s*[\"']([^\"']+)", marker)
            if wanted not in seen and (not needs or extras.intersection(needs)):
                seen.add(wanted)
                waiting.append(wanted)
    return list(chosen.values())


def _package(info: Path) -> Package | None:
    """An installed package; None for an editable install or a folder without a name and a version in it."""

    def text(name: str) -> str:
        # Not counted as skipped: other folders are not packages, and not every installer writes every file.
        return (_read(info / name, Counter(), _RECORD_MAX_BYTES) or b"").decode(errors="replace")

    metadata = HeaderParser().parsestr(text("METADATA"))
    name, version = metadata["Name"], metadata["Version"]
    if not name or not version or re.search(r'"editable"\s*:\s*true', text("direct_url.json")):
        return None
    rows = (line.rsplit(",", 2)[0] for line in text("RECORD").splitlines())  # path, hash, size; CSV, as PEP 376 has it
    recorded = (PurePosixPath(row[1:-1].replace('""', '"') if row.startswith('"') else row) for row in rows if row)
    files = (str(path) for path in recorded if not path.is_absolute() and not _SKIPPED_FOLDERS.intersection(path.parts))
    return Package(_normalized(name), version, info.parent, tuple(files), tuple(metadata.get_all("Requires-Dist", [])))


def _parsed(requirement: str) -> tuple[str, frozenset[str]]:
    match = re.match(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?", requirement)
    return (_normalized(match[1]), frozenset(re.findall(r"[\w.-]+", match[2] or ""))) if match else ("", frozenset())


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _walk(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):  # follows no links
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("config-")]
        relative = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        yield from (str(relative / name) for name in files if not _NOT_TEXT.search(name))


def _read(path: Path, skipped: Counter[str], max_bytes: int = FILE_MAX_BYTES) -> bytes | None:
    try:
        if not path.is_file():  # recorded but removed, a loop of links, a pipe
            skipped["missing"] += 1
        elif path.stat().st_size > max_bytes:
            skipped["too large"] += 1
        else:
            return path.read_bytes()
    except OSError:
        skipped["unreadable"] += 1
    return None


def kind_of(path: str) -> Kind | None:
    """The kind of text in a file, by its name; None for files that are not read.

    >>> kind_of("numpy/ma/core.py"), kind_of("numpy-2.4.6.dist-info/METADATA"), kind_of("numpy/random/LICENSE.md")
    ('docstring', 'description', 'licence')
    >>> kind_of("numpy/random/_pcg64.so") is None
    True
    """
    file = PurePosixPath(path)
    suffix = file.suffix.lower()
    if file.name.lower() in _SKIPPED_FILES:
        return None
    if suffix in {".py", ".pyi"}:
        return "text" if path == _LANGUAGE_REFERENCE else "docstring"
    if file.name == "METADATA" and file.parent.suffix == ".dist-info":
        return "description"
    if suffix in {".html", ".htm"}:
        return "html"
    if _LICENCE.search(file.stem) and suffix not in {".js", ".json"}:
        return "licence"
    return "text" if suffix in {".txt", ".rst", ".md", ".markdown"} or _README.match(file.name) else None


def _blocks(kind: Kind, path: str, data: bytes) -> list[str]:
    """The text of a file in blocks; a page may hold any number of them."""
    if kind == "docstring":
        return _docstrings(path, data) if b'"""' in data or b"'''" in data else []
    if path == _LANGUAGE_REFERENCE:
        constants = (node for node in ast.walk(_tree(data)) if isinstance(node, ast.Constant))
        return [node.value for node in constants if isinstance(node.value, str)]
    text = clean(data.decode("utf-8-sig"))
    if "{%" in text:  # a template
        return []
    if kind == "description":
        text = text.partition("\n\n")[2]
    if kind == "html":
        text = html_text(text)
    elif kind != "licence":
        text = _DECORATION.sub("", text)
    return clean(text).split("\n\n")


def _tree(data: bytes) -> ast.Module:
    with warnings.catch_warnings():  # other people's invalid escapes
        warnings.simplefilter("ignore")
        return ast.parse(data)


def _docstrings(path: str, data: bytes) -> list[str]:
    """A module's reference: its docstring, then a heading and the docstring of each class and function, in order."""
    module = path.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")
    tree = _tree(data)
    blocks = []
    if docstring := ast.get_docstring(tree):
        blocks.append(docstring if docstring.startswith(module) else f"{module}\n\n{docstring}")
    waiting: deque[tuple[str, ast.stmt]] = deque(("", node) for node in tree.body)
    while waiting:
        prefix, node = waiting.popleft()
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        name = prefix + node.name
        if docstring := ast.get_docstring(node):
            blocks.append(f"{name}{_signature(node)}\n\n{docstring}")
        if isinstance(node, ast.ClassDef):
            waiting.extendleft((f"{name}.", child) for child in reversed(node.body))
    return blocks


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        return ""
    arguments = node.args
    names = [argument.arg for argument in [*arguments.posonlyargs, *arguments.args]]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    names += [f"**{arguments.kwarg.arg}"] if arguments.kwarg else []
    return f"({', '.join(names)})"


def html_text(page: str) -> str:
    """The text of an HTML page: one line per block, without tags, comments, scripts and styles.

    Takes linear time, unlike html.parser on unclosed tags.

    >>> html_text("<title>x</title><p>One &amp; <b>two</b></p><script>if (a<b) {}</script>three<!-- <i> -->")
    '\\n\\n\\n\\nOne & two\\n\\n\\n\\nthree'
    """
    first, *rest = page.split("<!--")
    page = first + "".join(piece.partition("-->")[2] for piece in rest)
    pieces, hidden = [], ""
    for position, piece in enumerate(re.split(r"<([^<>]*)>", page)):
        if position % 2 == 0:
            pieces.append("" if hidden else piece)
            continue
        tag = re.split(r"[^\w/-]", piece.lower(), maxsplit=1)[0]
        if hidden:
            hidden = "" if tag == f"/{hidden}" else hidden
        elif tag in _HIDDEN_ELEMENTS:
            hidden = tag
        if tag.strip("/") not in _INLINE_ELEMENTS:
            pieces.append("\n\n" if tag.strip("/") in _PARAGRAPH_ELEMENTS else "\n")
    return html.unescape("".join(pieces))


def clean(text: str) -> str:
    r"""Text with \n for every line end, no control characters, no blanks before a line end, one empty line at most.

    >>> clean("a \r\n\r\n\r\nb\x0c")
    'a\n\nb'
    """
    text = _NOT_TEXT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "\n".join(line.rstrip(" \t") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def pages(blocks: Iterable[str]) -> Iterator[str]:
    """Pack blocks in order into texts of PAGE_MIN_CHARACTERS to PAGE_MAX_CHARACTERS; shorter ones are dropped.

    >>> [len(page) for page in pages(["a" * 9_000, "b" * 9_000, "c" * 100, "d" * 25_000])]
    [9000, 9102, 12000, 12000, 1000]
    """
    page = ""
    for block in map(clean, blocks):
        joined = f"{page}\n\n{block}" if page else block
        if page and len(joined) > PAGE_MAX_CHARACTERS:
            if len(page) >= PAGE_MIN_CHARACTERS:
                yield page
            joined = block
        while len(joined) > PAGE_MAX_CHARACTERS:
            ends = (joined.rfind(end, PAGE_MIN_CHARACTERS, PAGE_MAX_CHARACTERS) for end in ("\n\n", "\n"))
            cut = next((end for end in ends if end >= 0), PAGE_MAX_CHARACTERS)
            yield joined[:cut]
            joined = joined[cut:].lstrip("\n")
        page = joined
    if len(page) >= PAGE_MIN_CHARACTERS:
        yield page


def is_running_text(text: str) -> bool:
    """Whether English function words make up FUNCTION_WORDS_MIN_SHARE of the words.

    >>> is_running_text("It is the text of a page."), is_running_text("alpha 1 beta 2 gamma 3")
    (True, False)
    """
    words = text.lower().split()
    return sum(word in FUNCTION_WORDS for word in words) >= FUNCTION_WORDS_MIN_SHARE * len(words)
