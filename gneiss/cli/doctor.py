"""`gneiss doctor`: what this machine has and lacks, with the command that fixes it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import typer
from rich.markup import escape

from gneiss.cli.terminal import console


@dataclass(frozen=True)
class Check:
    """One check: its subject, what was found, whether that is fine, and the command that fixes it."""

    what: str
    found: str
    is_well: bool
    fix: str = ""
    is_needed: bool = True


_LIBRARIES = {
    "pyarrow": "pyarrow", "numba": "numba", "duckdb": "duckdb", "fasttext-community": "fasttext",
    "pydivsufsort": "pydivsufsort", "tokenizers": "tokenizers", "splintr-rs": "splintr", "xxhash": "xxhash",
    "huggingface-hub": "huggingface_hub", "ray": "ray",
}  # fmt: skip


def doctor() -> None:
    """Check this machine and print the command that installs whatever is missing.

    Example: gneiss doctor
    """
    checks = check_machine()
    _print_checks(checks)
    raise typer.Exit(0 if all(check.is_well or not check.is_needed for check in checks) else 1)


def _print_checks(checks: Sequence[Check]) -> None:
    """A line for each check, with what fixes it."""
    out = console()
    for check in checks:
        mark = "ok     " if check.is_well else "missing" if check.is_needed else "absent "
        out.print(f"{mark} {escape(check.what)}: {escape(check.found)}")
        if not check.is_well:
            out.print(f"        {escape(check.fix)}")


def check_machine() -> list[Check]:
    """Check everything that a run needs, and what some tasks need."""
    return [
        _python(),
        *(_library(distribution, module) for distribution, module in _LIBRARIES.items()),
        _memory(),
        _shared_memory(),
        _disk(),
        _kernel_cache(),
        _model_cache(),
        _ray_address(),
        _kenlm_programs(),
    ]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check(
        "Python 3.11 to 3.13",
        found,
        (3, 11) <= sys.version_info[:2] <= (3, 13),
        "python3.12 -m venv .venv && .venv/bin/pip install .",
    )


def _library(distribution: str, module: str) -> Check:
    from importlib.metadata import version

    fix = f"{sys.executable} -m pip install --upgrade {distribution}"
    try:
        import_module(module)
        return Check(distribution, version(distribution), True)
    except ImportError as error:
        return Check(distribution, f"does not import: {error}", False, fix)


def _memory() -> Check:
    from gneiss.backends.memory import machine_memory

    free = machine_memory().free_bytes
    return Check(
        "memory for one worker (4 GB)",
        f"{free / 1e9:.1f} GB available",
        free >= 4e9,
        "use smaller shards: shard_max_bytes: 64000000 in the recipe",
    )


def _shared_memory() -> Check:
    if not Path("/dev/shm").is_dir():
        return Check("shared memory for Ray", "no /dev/shm", False, "docker run --shm-size=4g …", is_needed=False)
    free = shutil.disk_usage("/dev/shm").free
    return Check(
        "shared memory for Ray",
        f"{free / 1e9:.1f} GB in /dev/shm",
        free >= 1e9,
        "docker run --shm-size=4g …",
        is_needed=False,
    )


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return Check(
        "disk space here", f"{free / 1e9:.1f} GB free", free >= 5e9, "df -h . ; choose an --output on a larger disk"
    )


def _kernel_cache() -> Check:
    import gneiss

    folder = Path(gneiss.__file__).parent / "__pycache__"
    writable = os.access(folder if folder.exists() else folder.parent, os.W_OK) or "NUMBA_CACHE_DIR" in os.environ
    return Check(
        "cache of compiled kernels",
        "writable" if writable else "not writable: kernels are compiled at every start",
        writable,
        "export NUMBA_CACHE_DIR=$HOME/.cache/gneiss-kernels",
    )


def _model_cache() -> Check:
    from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE

    cache = Path(HF_HUB_CACHE)
    held = sum(1 for _ in cache.glob("models--*")) if cache.is_dir() else 0
    offline = "; HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else ""
    fix = "hf download ibm-granite/GneissWeb.Quality_annotator fasttext_gneissweb_quality_annotator.bin"
    return Check(
        "published models in the hub's cache",
        f"{held} repositories in {cache}{offline}",
        held > 0,
        fix,
        is_needed=False,
    )


def _ray_address() -> Check:
    address = os.environ.get("RAY_ADDRESS")
    found = f"RAY_ADDRESS={address}" if address else "RAY_ADDRESS is not set: runs are local"
    return Check(
        "Ray cluster", found, address is not None, "export RAY_ADDRESS=HEAD:6379, or ray job submit", is_needed=False
    )


def _kenlm_programs() -> Check:
    from gneiss.model_training.kenlm_programs import INSTALL, PROGRAMS

    places = {program: shutil.which(program) for program in PROGRAMS}
    found = ", ".join(f"{program}: {place or 'not on PATH'}" for program, place in places.items())
    return Check("KenLM's programs, for gneiss train perplexity", found, all(places.values()), INSTALL, is_needed=False)
