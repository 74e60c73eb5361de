"""What is built from this repository installs, imports and runs on its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from gneiss.version import __version__

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it must end well."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it. Hatchling is this environment's: no index is asked."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.mark.processes
def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"gneiss_curation-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"gneiss", f"gneiss_curation-{__version__}.dist-info"}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gneiss").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert {name for name in names if not name.split("/")[0].endswith(".dist-info")} == package
    assert "gneiss/py.typed" in package
    assert "gneiss/pipelines/gneissweb-bytes.yaml" in package
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.processes
def test_the_sdist_holds_what_is_needed_to_build_and_no_links(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {member.name.split("/", 1)[1]: member for member in archive.getmembers()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO", "gneiss/version.py"} <= set(members)
    assert not any(member.issym() for member in members.values())
    assert not any(name.startswith(("filters", "dedup", "pipelines", "tests", ".venv")) for name in members)


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["*.whl", pytest.param("*.tar.gz", marks=pytest.mark.exhaustive)])
def test_it_installs_and_runs_in_a_fresh_environment(kind: str, built: Path, tmp_path: Path) -> None:
    """The dependencies are borrowed from this environment, without its own gneiss (a path in a .pth reads no .pth)."""
    (package,) = built.glob(kind)
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", package, cwd=tmp_path)
    where = run(python, "-c", "import gneiss; print(gneiss.__file__); gneiss.Recipe, gneiss.run", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert "gneissweb-bytes" in run(tmp_path / "venv/bin/gneiss", "explain", cwd=tmp_path)
    for link in ("filters", "dedup", "pipelines"):
        code = f"import importlib.util; print(importlib.util.find_spec({link!r}))"
        assert run(python, "-c", code, cwd=tmp_path).strip() == "None"


@pytest.mark.processes
@pytest.mark.parametrize(
    "line",
    ["import filters", "from dedup import find_spans", "import pipelines.run", "from filters.tokens import Tokens"],
)
def test_ruff_refuses_the_links_at_the_top_as_packages(line: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(f"{line}\n")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", ROOT / "pyproject.toml", "--select"]
    ended = subprocess.run([*command, "TID251", "module.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "TID251" in ended.stdout
    assert f"import gneiss.{line.split()[1].split('.')[0]}" in ended.stdout


def test_the_links_at_the_top_lead_into_the_package() -> None:
    for name in ("filters", "dedup", "pipelines"):
        assert (ROOT / name).readlink() == Path("gneiss") / name
