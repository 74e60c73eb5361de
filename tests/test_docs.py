"""The documentation holds: its code runs, its output is what comes out, its tables name everything there is.

Conventions of fenced blocks in README.md, CONTRIBUTING.md and docs/, run in order in a folder that holds `demo/`:
`python`: executed, the blocks of a page share their names; `sh`: a script, every command must succeed; `console`:
commands after `$ ` with what they print, where a number stands for any number and `…` for anything, alone in a line for
any lines. A command must succeed unless `$ echo $?` follows. The word `no-run` marks a block that cannot run here,
`needs=MODULE` one that runs where that module is installed.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

import gneiss
from gneiss.corpus_steps import STEPS, Dedup, ExactDuplicates, NearDuplicates
from gneiss.dedup.minhash.criteria import Verification
from gneiss.filters.catalogue import ANNOTATORS, EDITORS, PAGES
from gneiss.recipe.columns import BASE_COLUMNS, RESERVED
from gneiss.recipe.recipe import Recipe, recipe_names
from tests.warm_commands import commands
from tests.warm_processes import WarmProcesses

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Modules that only an extra brings, so that what imports them cannot be imported everywhere.
OF_EXTRAS = ("megatron", "nvflare", "torch", "lm_eval", "transformers", "streaming", "torchdata")
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d(?:[\d.,]*\d)?")
_END = "-- end of command --"


@dataclass(frozen=True)
class Block:
    """A fenced block: language, words after it, content, and the line where it starts."""

    language: str
    words: tuple[str, ...]
    content: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [Block(m[1], tuple(m[2].split()), m[3], text.count("\n", 0, m.start()) + 1) for m in _BLOCK.finditer(text)]


@pytest.fixture(scope="module")
def warm_gneiss(warm: WarmProcesses) -> Iterator[Path]:
    """A folder with the command line as forks of a process that has loaded everything."""
    with commands(warm) as folder:
        yield folder


#: Pages whose code takes long, as it trains models or makes processes die.
LONG = ("federated.md", "labelling.md", "operations.md", "training-models.md", "training.md")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.exhaustive) if page.name in LONG else page for page in GUIDES],
    ids=lambda page: page.name,
)
def test_the_code_of_a_page_runs(
    page: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest, warm_gneiss: Path,
) -> None:  # fmt: skip
    """Those of the README start Python for each command, as a person does; the others are spared what that costs."""
    if page.name == "stores.md":
        request.getfixturevalue("s3_folder")  # a server, and an environment that says where
    (tmp_path / "demo").symlink_to(demo)
    (tmp_path / "gneiss").symlink_to(ROOT / "gneiss")
    monkeypatch.chdir(tmp_path)
    # the command line that belongs to this interpreter, as a person with the environment activated has it
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    if page.name != "README.md":
        folders.insert(0, str(warm_gneiss))
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    monkeypatch.setenv("COLUMNS", "140")
    names: dict[str, object] = {"__name__": "documentation"}
    missing: list[str] = []
    for block in blocks_of(page):
        where = f"{page.name}, line {block.line}"
        needed = [word.removeprefix("needs=") for word in block.words if word.startswith("needs=")]
        absent = [name for name in needed if find_spec(name) is None]
        missing += absent
        if "no-run" in block.words or absent:
            continue
        if block.language == "python":
            exec(compile(block.content, where, "exec", dont_inherit=True), names)  # noqa: S102 - our own documentation
        elif block.language == "sh":
            assert shell(f"set -e\n{block.content}").returncode == 0, where
        elif block.language == "console":
            check_console(block, where)
        else:
            assert block.language in {"yaml", "sql", "text", "toml"}, (
                f"{where}: a block of {block.language} is not checked"
            )
    capsys.readouterr()
    if missing:
        pytest.skip(f"{len(missing)} blocks need {missing[0]}; the others ran")


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_recipe_on_a_page_is_one(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "yaml" and "no-run" not in block.words:
            Recipe.parse(block.content, f"{page.name}, line {block.line}")


def shell(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def check_console(block: Block, where: str) -> None:
    commands: list[tuple[str, list[str]]] = []
    for line in block.content.splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    script = "\n".join(f"{command}\n_code=$?; printf '\\n{_END}%s\\n' $_code; (exit $_code)" for command, _ in commands)
    *answers, _ = re.split(rf"\n{_END}(\d+)\n", shell(script).stdout)
    printed, codes = answers[::2], answers[1::2]
    assert len(printed) == len(commands), f"{where}: a command ended the shell"
    for i, (command, expected) in enumerate(commands):
        shows_code = i + 1 < len(commands) and commands[i + 1][0] == "echo $?"
        assert codes[i] == "0" or shows_code, f"{where}: {command}: exit code {codes[i]}\n{printed[i]}"
        is_as_told = expected == [printed[i].strip()] if command == "echo $?" else matches(expected, printed[i])
        assert is_as_told, f"{where}: {command}: printed\n{printed[i]}"


def matches(expected: list[str], printed: str) -> bool:
    """Whether the lines of a console block describe what was printed."""
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*?"
        elif line.strip():
            parts = re.split(r"(…|─+|\s+|" + _NUMBER.pattern + ")", line.strip())
            pattern += r"\s*" + "".join(map(_loosened, parts)) + r"[^\S\n]*\n"
    lines = [line for line in printed.splitlines() if line.strip()]
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def _loosened(part: str) -> str:
    if part == "…":
        return ".*"
    if part.startswith("─"):
        return "─+"
    if part and part.isspace():
        return r"[^\S\n]+"
    return r"\d(?:[\d.,]*\d)?" if _NUMBER.fullmatch(part) else re.escape(part)


def test_console_output_is_compared() -> None:
    assert matches(["3 shards, 1.5 MB"], "12 shards,   0.25 MB\n")
    assert matches(["a …", "…", "z"], "a b\nc\nd\n\nz\n")
    assert not matches(["3 shards"], "3 files\n")
    assert not matches(["3 shards"], "3 shards\nand more\n")


@pytest.mark.parametrize("page", [*GUIDES, *sorted((ROOT / "docs/filters").glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8")):
        linked = page.parent / target if target else page
        if linked.suffix == ".md" and "://" not in target:
            assert anchor in anchors_of(linked), f"{page.name}: {target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_folders_and_files_of_the_package_exist(page: Path) -> None:
    named = re.findall(r"`(gneiss/[\w./-]+)`", page.read_text("utf-8"))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_index_lists_every_guide() -> None:
    index = (ROOT / "docs/README.md").read_text("utf-8")
    for page in GUIDES[1:]:
        link = os.path.relpath(page, ROOT / "docs")
        assert page.name == "README.md" or f"({link})" in index


def test_filter_pages_are_up_to_date() -> None:
    script = ast.parse((ROOT / "scripts/write_docs.py").read_text("utf-8"))
    names: dict[str, object] = {"__file__": str(ROOT / "scripts/write_docs.py"), "__name__": "write_docs"}
    exec(compile(script, "write_docs.py", "exec"), names)  # noqa: S102
    written = names["pages"]()  # type: ignore[operator]
    found = {path.name: path.read_text("utf-8") for path in (ROOT / "docs/filters").iterdir()}
    assert found == written, "run scripts/write_docs.py"
    assert set(found) == {"README.md", *(f"{page.code}.md" for page in PAGES)}


def _modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(gneiss.__path__, "gneiss."):
        if module.name != "gneiss.__main__":
            yield module.name


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.processes] * (name == "gneiss.extraction.sandbox")) for name in _modules()],
)
def test_docstring_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in OF_EXTRAS:
            raise
        pytest.skip(f"{error.name} is not installed")
    assert doctest.testmod(module).failed == 0


def _keys(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from _keys(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _keys(part)


def test_every_recipe_key_is_documented() -> None:
    told = (ROOT / "docs/recipes.md").read_text("utf-8")
    keys = {*_keys(Recipe.model_json_schema()), *(step.key for step in STEPS)} - {"corpus_steps", "shares"}
    for kind in (*ANNOTATORS.values(), *EDITORS.values(), *STEPS):
        keys |= set(_keys(TypeAdapter(kind).json_schema()))
    missing = sorted(key for key in {*keys, *ANNOTATORS, *EDITORS, *recipe_names()} if f"`{key}`" not in told)
    assert not missing


def test_every_annotation_is_documented(demo: Path) -> None:
    concepts = (ROOT / "docs/concepts.md").read_text("utf-8")
    names = {*RESERVED, *(column.name for column in BASE_COLUMNS)}
    names |= {field.name for step in STEPS for field in step.evidence}
    near = (NearDuplicates(verify=Verification()), NearDuplicates(against=("others",)))
    steps = (*near, ExactDuplicates(against=("others",)), Dedup())
    names |= {column.name for step in steps for column in step.columns}
    assert not [name for name in sorted(names) if f"| `{name}` |" not in concepts]
    recipe = Recipe.load(demo / "demo.yaml")
    shard = next((demo / "curated/annotations/base").glob("*.parquet"))
    found = set(pq.read_schema(shard).names)
    evidence = {field.name for phase in recipe.phases for field in phase.evidence}
    assert found == {*RESERVED, *evidence, *(column.name for column in recipe.columns)}


def test_every_dependency_has_its_reason() -> None:
    told = (ROOT / "docs/dependencies.md").read_text("utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    required = [
        *project["project"]["dependencies"],
        *(r for extra in project["project"]["optional-dependencies"].values() for r in extra),
        *project["dependency-groups"]["test"],
    ]
    names = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in required}
    assert not [name for name in sorted(names) if f"| `{name}" not in told]


def test_the_messages_of_the_pages_are_the_codes_own() -> None:
    said = {skeleton for path in (ROOT / "gneiss").rglob("*.py") for skeleton in _strings(path)}
    pages = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("run.md", "messages.md"))
    told = re.findall(r"^\| `([^`]+)` \|", pages, re.MULTILINE)
    assert len(told) > 20
    for message in told:
        parts = message.replace("\\|", "|").split("…")
        assert any(_holds(skeleton.replace("\n", " "), parts) for skeleton in said), f"gneiss never says: {message}"


def _holds(text: str, parts: Sequence[str]) -> bool:
    """Whether a text has these parts, one after another."""
    at = 0
    for part in parts:
        if (found := text.find(part, at)) < 0:
            return False
        at = found + len(part)
    return True


def _strings(path: Path) -> Iterator[str]:
    """Every string of a module; what is filled in shows as `…`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%\.?\d*[sdf]", "…", node.value)
