"""What contributors are given fits the tree: the annotated folders, the files to change, the hooks, the forms."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml

from gneiss import open_run, run
from gneiss.annotation import Annotator
from gneiss.curate import measure
from gneiss.filters import catalogue
from tests.runs import InThisProcess, Material
from tests.support import recipe_of

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def test_the_annotated_tree_names_every_folder_of_the_package() -> None:
    (tree,) = re.findall(r"^gneiss/\n((?:  .*\n)+)", GUIDE, re.MULTILINE)
    named = set(re.findall(r"(\w+)/", "\n".join(line.split("   ")[0].strip() for line in tree.splitlines())))
    folders = {path.parent.name for path in (ROOT / "gneiss").glob("*/__init__.py")}
    assert named == folders


def test_the_files_to_change_exist() -> None:
    rows = re.findall(r"^\| .* \| (.*) \| (.*) \|$", GUIDE, re.MULTILINE)
    assert len(rows) > 5
    named = [name for _, where in rows for name in re.findall(r"`((?:gneiss|docs)/[^`]+)`", where) if "<" not in name]
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_links_to_headings_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", GUIDE, re.M)
    }
    assert not [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", GUIDE) if anchor not in headings]


@pytest.mark.processes
def test_the_hooks_run_what_make_lint_runs() -> None:
    made = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "lint"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    linted = {line.removesuffix(" .") for line in made.stdout.splitlines() if re.match(r"\.venv/bin/(ruff|mypy)", line)}
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert local["repo"] == "local", "a hook from elsewhere needs a network"
    assert {hook["entry"].removesuffix(" --force-exclude") for hook in local["hooks"]} == linted


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.stem)
def test_an_issue_form_is_one(form: Path) -> None:
    """The keys that GitHub requires of a form; ids and labels must not repeat."""
    loaded: dict[str, Any] = yaml.safe_load(form.read_text("utf-8"))
    assert loaded.keys() == {"name", "description", "labels", "body"}
    fields = loaded["body"]
    assert all(field["type"] in {"input", "textarea"} and field["attributes"]["label"] for field in fields)
    assert (
        len({field["id"] for field in fields}) == len({field["attributes"]["label"] for field in fields}) == len(fields)
    )
    assert any(field["validations"]["required"] for field in fields if "validations" in field)


def test_the_smallest_filter_of_ones_own_is_ten_lines_at_most() -> None:
    page = (ROOT / "docs/recipes.md").read_text("utf-8")
    (module,) = re.findall(r"^cat > marks\.py << 'END'\n(.*?)^END$", page, re.MULTILINE | re.DOTALL)
    assert len([line for line in module.splitlines() if line.strip()]) <= 10


# Lines of "What to change for what" that have no test elsewhere


def test_an_option_of_run_is_in_two_files() -> None:
    from gneiss.cli.run import run as command
    from gneiss.pipelines.run import RunOptions, run

    options = {option.name for option in fields(RunOptions)}
    keywords = {name: given for name, given in signature(run).parameters.items() if given.kind is given.KEYWORD_ONLY}
    assert keywords.keys() == options
    assert {name: given.default for name, given in keywords.items()} == vars(
        RunOptions(progress=keywords["progress"].default)
    )
    only_of_the_command = {"recipe", "input", "output", "changes", "task", "of", "estimate"}
    assert signature(command).parameters.keys() - only_of_the_command == options - {"progress", "predicted"}


def test_a_packaged_filter_is_a_file_and_its_line_in_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Mark(Annotator):
        key: ClassVar[str] = "mark"

    monkeypatch.setattr(catalogue, "MODULES", (*catalogue.MODULES, SimpleNamespace(Mark=Mark)))
    assert catalogue._of_kind(Annotator) == {**catalogue.ANNOTATORS, "mark": Mark}


def test_a_statistic_is_a_count_where_a_shard_is_counted(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = measure._step_counts
    monkeypatch.setattr(measure, "_step_counts", lambda *given: {**counted(*given), "shards_counted": 1})
    recipe = recipe_of("  - {name: only, rules: {enough: text_bytes > 9}}", budgets={"documents": 0.5})
    finished = run(recipe, material.input, tmp_path / "out", backend=InThisProcess())
    assert finished.counts["shards_counted"] == len(finished.shards) > 1
    assert open_run(tmp_path / "out").counts == finished.counts
