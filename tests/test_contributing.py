"""What contributors are given fits the tree: the annotated folders, the files to change, the hooks, the forms."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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
