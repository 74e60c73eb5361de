"""The image cannot be built here; what can be held is that it installs what the Makefile installs, and how."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined, comments gone."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines() if line.strip()]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.processes
def test_it_installs_by_the_makefiles_own_commands() -> None:
    made = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", "PYTHON=python3", ".venv/.installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line for line in made.stdout.splitlines() if not line.startswith("touch ")]
    assert any("--requirements requirements.lock" in command for command in commands)
    runs = [rest for word, rest in instructions() if word == "RUN"]
    assert runs[1:] == commands


def test_its_python_is_one_that_gneiss_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ((_, image),) = [entry for entry in instructions() if entry[0] == "FROM"]
    found = re.fullmatch(r"python:(\d+\.\d+)-slim(-\w+)?", image)
    assert found, "expected a slim image of the interpreter"
    assert f"{found[1]}.0" in SpecifierSet(project["requires-python"])


def test_jobs_do_not_run_as_root() -> None:
    words = [word for word, _ in instructions()]
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users == ["gneiss"]
    assert words.index("USER") < words.index("CMD")
    assert "ENTRYPOINT" not in words, "gneiss and ray are both commands of the image"


def test_what_it_copies_is_let_in_and_enough_to_build_the_package() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {
        name
        for word, rest in instructions()
        if word == "COPY"
        for name in rest.split()[:-1]
        if not name.startswith("--")
    }
    assert copied <= let_in
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert copied == {"gneiss", "pyproject.toml", "requirements.lock", project["readme"], *project["license-files"]}
    assert all((ROOT / name).exists() for name in copied)
