"""Classes that a recipe names: packaged ones by key, those of installed packages by entry point, any by `module:Class`.

A module is imported as Python imports any: from what is installed, from PYTHONPATH, from the current directory of the
command line. Naming one in a recipe runs its code.
"""

from __future__ import annotations

import difflib
import hashlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, distribution, entry_points, packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from gneiss.errors import RecipeError, did_you_mean, first_line

#: The entry points by which an installed package gives its annotators and editors short names.
GROUP = "gneiss.filters"
_PATH = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")
Kind = TypeVar("Kind")


def resolve(kind: type[Kind], name: str, packaged: Mapping[str, type[Kind]], noun: str = "") -> type[Kind]:
    """The class of a kind (Annotator, Editor, …) that a recipe calls `name`.

    Parameters: `packaged`: key → class; `noun`: what messages call it, by default after the kind.
    Raises RecipeError: nothing has this name, two things have it, or what has it is no frozen dataclass of the kind.
    """
    if ":" in name:
        return _usable(kind, name, _imported(name))
    short_names = _short_names(tuple(sys.path))
    installed = short_names.get(name, [])
    homes = [f"{import_path(packaged[name])} of gneiss"] if name in packaged else []
    homes += [f"{entry.value} of {entry.dist.name if entry.dist else 'no distribution'}" for entry in installed]
    if len(homes) > 1:
        raise RecipeError(f"{name!r} is {' and '.join(homes)}; name one of them by its import path, module:Class")
    if name in packaged:
        return packaged[name]
    if installed:
        return _usable(kind, installed[0].value, _imported(installed[0].value))
    raise RecipeError(f"no {noun or _noun(kind)} {name!r}{did_you_mean(name, [*packaged, *short_names])}")


def name_of(cls: type[Any], packaged: Mapping[str, type[Any]]) -> str:
    """What the canonical recipe calls a class: its key if it is packaged, else its import path.

    Raises RecipeError for a class that no other process could import.
    """
    if packaged.get(getattr(cls, "key", "")) is cls:
        return str(cls.key)
    if cls.__module__ == "__main__" or "." in cls.__qualname__:
        raise RecipeError(
            f"{cls.__module__}.{cls.__qualname__}: workers cannot import it; define it at the top level of a module"
        )
    return import_path(cls)


def import_path(cls: type[Any]) -> str:
    """`module:Class`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def versions(modules: Iterable[str]) -> dict[str, str]:
    """What the code of modules outside gneiss is: distribution → version; of code in none, its files' sha256.

    An editable installation counts as code in none: its version stays while its files change. Raises RecipeError for a
    module that cannot be imported.
    """
    return dict(_version(module) for module in _foreign(modules))


def version_names(modules: Iterable[str]) -> list[str]:
    """What `versions` has versions of."""
    return [(_installed_as(module) or (module.split(".")[0],))[0] for module in _foreign(modules)]


def _foreign(modules: Iterable[str]) -> list[str]:
    return sorted({module for module in modules if module.split(".")[0] != "gneiss"})


def _imported(path: str) -> Any:
    parts = _PATH.fullmatch(path)
    if parts is None:
        raise RecipeError(f"{path!r}: expected an import path, module:Class")
    module_name, name = parts["module"], parts["name"]
    module = _module(module_name, path)
    if not hasattr(module, name):
        known = [found for found, value in vars(module).items() if isinstance(value, type)]
        raise RecipeError(f"{path}: {module_name} has no {name!r}{did_you_mean(name, known)}")
    return getattr(module, name)


def _module(module_name: str, path: str) -> ModuleType:
    """A module, imported; `path`: what messages call what names it."""
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise RecipeError(f"{path}: {module_name} cannot be imported: {first_line(error)}") from error
        known = [found.name for found in pkgutil.iter_modules()]
        near = difflib.get_close_matches(module_name.split(".")[0], known, 1)
        hint = f"did you mean {near[0]!r}?" if near and near[0] != module_name.split(".")[0] else "is it misspelt?"
        raise RecipeError(
            f"{path}: no module {error.name!r}; {hint} It is looked for among installed packages, on PYTHONPATH, and"
            f" by the command line in the current directory ({Path.cwd()})"
        ) from error
    except Exception as error:
        raise RecipeError(
            f"{path}: {module_name} cannot be imported: {type(error).__name__}: {first_line(error)}"
        ) from error


def _usable(kind: type[Kind], path: str, found: Any) -> type[Kind]:
    expected = f"expected a subclass of {kind.__module__}.{kind.__name__}"
    if not isinstance(found, type):
        raise RecipeError(f"{path} is no {_noun(kind)}: {expected}, found {type(found).__name__}")
    if not issubclass(found, kind):
        bases = ", ".join(base.__name__ for base in found.__bases__)
        raise RecipeError(f"{path} is no {_noun(kind)}: {expected}, found a subclass of {bases}")
    if not getattr(getattr(found, "__dataclass_params__", None), "frozen", False):
        raise RecipeError(f"{path}: expected a frozen dataclass; decorate {found.__name__} by @dataclass(frozen=True)")
    return found


def _noun(kind: type[Any]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()


@cache
def _short_names(path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """Short name → the entry points that give it; of the packages on `path`, which is `sys.path`."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        found.setdefault(entry.name, []).append(entry)
    return found


def _installed_as(module: str) -> tuple[str, str] | None:
    file = Path(_module(module, module).__file__ or "").resolve()
    return _installed(module.split(".")[0], file, tuple(sys.path))


@cache
def _installed(top: str, file: Path, path: tuple[str, ...]) -> tuple[str, str] | None:
    """The distribution and version that a file of a module is of; of the packages on `path`, which is `sys.path`."""
    for name in packages_distributions().get(top, ()):
        installed = distribution(name)
        if any(Path(str(installed.locate_file(part))).resolve() == file for part in installed.files or ()):
            return installed.name, installed.version
    return None


def _version(module: str) -> tuple[str, str]:
    """The distribution and version of a module; or what its top level is called, and the sha256 of its files."""
    if installed := _installed_as(module):
        return installed
    top = module.split(".")[0]
    file = Path(sys.modules[module].__file__ or "").resolve()
    folders = [Path(folder) for folder in getattr(sys.modules[top], "__path__", ())]
    files = sorted(path for folder in folders for path in folder.rglob("*.py")) if folders else [file]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return top, f"sha256 {digest.hexdigest()}"
