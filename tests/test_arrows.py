"""The arrows of the house: which room imports which, read from every import statement, wherever it stands."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import gneiss

ROOT = Path(gneiss.__file__).parent
NOUNS = {"annotation", "arrays", "batch", "edit", "errors", "version"}
#: Room → the rooms that it may import. A room is a folder or file of gneiss/; what is not named may import nothing.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "arrays": set(),
    "batch": {"arrays", "errors"},
    "annotation": {"arrays", "batch", "errors"},
    "edit": {"annotation", "arrays", "batch", "errors"},
    "quantiles": {"arrays"},
    "routing": NOUNS,
    "filters": {*NOUNS, "routing"},
    "dedup": NOUNS,
    "corpus_steps": {*NOUNS, "dedup", "filters"},
    "store": {"errors"},
    "backends": {"errors"},
    "recipe": {*NOUNS, "corpus_steps", "filters", "quantiles"},
    "input": {*NOUNS, "recipe", "store"},
    "curate": {*NOUNS, "corpus_steps", "filters", "input", "recipe"},
    "output": {*NOUNS, "curate", "input", "recipe", "store"},
    "jobs": {*NOUNS, "backends", "input", "output", "store"},
    "stages": {*NOUNS, "backends", "corpus_steps", "curate", "input", "output", "quantiles", "recipe", "store"},
    "loader": {*NOUNS, "filters", "input", "output", "recipe", "store"},
    "layers": {*NOUNS, "input", "loader", "output", "recipe", "store"},
    "export": {*NOUNS, "filters", "loader", "output", "store"},
    "reweight": {*NOUNS, "layers", "loader"},
    "model_training": {*NOUNS, "backends", "filters", "input", "output", "recipe", "routing", "store"},
    "report": {*NOUNS, "curate", "filters", "input", "output", "recipe", "routing", "store"},
    "mixture": {
        *NOUNS,
        "backends",
        "curate",
        "filters",
        "input",
        "jobs",
        "layers",
        "loader",
        "output",
        "quantiles",
        "recipe",
        "report",
        "stages",
        "store",
    },
    "ablate": {*NOUNS, "filters", "loader", "output", "report", "reweight", "store"},
    "extraction": {*NOUNS, "backends", "input", "jobs", "output", "store"},
    "pipelines": {
        *NOUNS,
        "backends",
        "curate",
        "dedup",
        "input",
        "jobs",
        "loader",
        "output",
        "recipe",
        "stages",
        "store",
    },
    "__init__": {*NOUNS, "dedup", "extraction", "jobs", "output", "pipelines", "recipe"},
    "demo": {
        *NOUNS,
        "curate",
        "filters",
        "input",
        "jobs",
        "model_training",
        "output",
        "pipelines",
        "recipe",
        "report",
        "routing",
        "store",
    },
    "__main__": {"cli"},
}
MAY_IMPORT["cli"] = set(MAY_IMPORT) - {"__main__", "reweight"}
#: What a package has by itself: nothing stands in them that a newcomer looks for.
DOORS = {"__init__", "__main__", "version"}
#: What does not hold yet; this list only gets shorter.
NOT_YET: set[tuple[str, str]] = set()
NOT_YET_CIRCLES = 0


def modules() -> dict[str, Path]:
    """Dotted name → file, without `gneiss.` and `.__init__`."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


@cache
def statements() -> dict[str, list[ast.Import | ast.ImportFrom]]:
    """Module → its import statements, also within functions and for types only."""
    trees = {name: ast.parse(path.read_text("utf-8")) for name, path in modules().items()}
    return {
        name: [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        for name, tree in trees.items()
    }


def imports(module: str, known: Collection[str]) -> Iterator[str]:
    """The modules of gneiss that a module imports."""
    for node in statements()[module]:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gneiss":
            base = (node.module or "").removeprefix("gneiss").removeprefix(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(".")
                yield inner if inner in known else base or "__init__"
        elif isinstance(node, ast.Import):
            yield from (
                alias.name.removeprefix("gneiss").removeprefix(".") or "__init__"
                for alias in node.names
                if alias.name.split(".")[0] == "gneiss"
            )


def graph() -> dict[str, set[str]]:
    """Module → the modules that it imports."""
    known = modules()
    return {name: set(imports(name, known)) - {name} for name in known}


def room(module: str) -> str:
    """The room that a module is in."""
    return module.split(".")[0]


def test_rooms_import_only_what_lies_below_them() -> None:
    arrows = {
        (room(a), room(b)): f"{a} -> {b}" for a, imported in graph().items() for b in imported if room(a) != room(b)
    }
    wrong = {arrow: shown for arrow, shown in arrows.items() if arrow[1] not in MAY_IMPORT.get(arrow[0], set())}
    assert wrong.keys() == NOT_YET, "\n".join(sorted(wrong.values()))


PURE_OF_FEDERATED = ("strategies.", "encoder.ranks", "encoder.adapters", "encoder.lowrank")
#: Strategies: arrays in, arrays out. Whatever else they need is not theirs to fetch.
PURE = (
    "model_training.coding.",
    "model_training.labelling.strategies.",
    "model_training.networks",
    *(f"model_training.federated.{name}" for name in PURE_OF_FEDERATED),
)


def test_strategies_import_nouns_and_each_other() -> None:
    wrong = [
        f"{module} -> {other}"
        for module, others in graph().items()
        for other in others
        if module.startswith(PURE) and room(other) not in NOUNS and not other.startswith(PURE)
    ]
    assert not wrong


def circles(arrows: Mapping[str, set[str]]) -> list[set[str]]:
    """The strongly connected parts with more than one member."""
    reach = {start: _reached(arrows, start) for start in arrows}
    found: list[set[str]] = []
    for start in sorted(arrows):
        circle = {other for other in reach[start] if start in reach.get(other, set())}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def _reached(arrows: Mapping[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for other in arrows.get(waiting.pop(), set()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def test_no_circle_between_modules_and_none_between_rooms() -> None:
    between_modules = graph()
    between_rooms: dict[str, set[str]] = {}
    for module, others in between_modules.items():
        between_rooms.setdefault(room(module), set()).update({room(other) for other in others} - {room(module)})
    found = circles(between_modules) + circles(between_rooms)
    assert len(found) == NOT_YET_CIRCLES, found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_every_room_is_named_and_there_are_few() -> None:
    rooms = {room(name) for name in modules()}
    assert rooms <= MAY_IMPORT.keys(), rooms - MAY_IMPORT.keys()
    assert len(rooms - DOORS) <= 30


@pytest.mark.parametrize(
    ("package", "only_in"),
    [
        ("ray", "backends.ray_actors"),
        ("nvflare", "model_training.federated.flare.engine"),
        ("typer", "cli"),
        ("rich", "cli"),
    ],
)
def test_only_one_place_imports_it(package: str, only_in: str) -> None:
    found = set()
    for name, nodes in statements().items():
        for node in nodes:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(imported.split(".")[0] == package for imported in names) and not name.startswith(only_in):
                found.add(name)
    assert not found


#: What runs code that data brings along.
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "unsafe_load", "full_load"}


def unsafe_in(source: str) -> list[str]:
    """What in a module would run code that data brings along."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [name for name in names if name.split(".")[0] in UNSAFE_MODULES]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            is_torch = called == "torch.load" and "weights_only=True" not in ast.unparse(node)
            if called in UNSAFE_CALLS or called.rpartition(".")[2] in UNSAFE_CALLS - {"compile"} or is_torch:
                found.append(called)
            found += [
                keyword.arg
                for keyword in node.keywords
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
            ]
    return found


def test_nothing_runs_code_that_data_brings_along() -> None:
    found = {name: unsafe for name, path in modules().items() if (unsafe := unsafe_in(path.read_text("utf-8")))}
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "np.load(file, allow_pickle=True)",
        "torch.load(file)",
        "yaml.unsafe_load(text)",
        "exec(text)",
    ],
)
def test_code_that_data_brings_along_is_found(source: str) -> None:
    assert unsafe_in(source)
    assert not unsafe_in("np.load(file, allow_pickle=False); torch.load(file, weights_only=True); re.compile(text)")
