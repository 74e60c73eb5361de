"""Names, ids and texts that would act on a terminal or in a page: no output of a run obeys them."""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.cli.main import main
from gneiss.errors import printable
from gneiss.output.finished_run import open_run
from gneiss.output.markdown import code, plain
from gneiss.report.markup import table

ESCAPE = "\x1b[31mred\x1b[0m\x1b]0;title\x07"
HOSTILE = [
    ESCAPE,
    "a\rover",
    "new\nline: forged",
    "\x9b31m",
    "right\u202eleft",
    "[bold]rich[/bold]",
    "*b*`c`<img src=x>|d",
]
TEXT = "One passage that is long enough to be found again in other documents of this file. "
RECIPE = """
name: hostile
description: "<b>bold</b> \\e[31m"
phases:
  - name: only
    dedup: {{min_length: 30}}
    annotate: [named:Named]
    rules: {{odd: "name <> '{name}'", long: text_chars > 20, odd_or_not: "odd_name <> '[bold]' OR true"}}
    keep: odd AND long AND coalesce(odd_or_not, odd, '`|' = '<i>')
"""
MODULE = """
from dataclasses import dataclass
import pyarrow as pa
from gneiss.annotation import Annotator, Column

@dataclass(frozen=True)
class Named(Annotator):
    columns = (Column("name", "string", "a hostile name"), Column("odd_name", "string", "another"))

    def compute(self, batch):
        names = batch.texts()
        if "fail" in names[0]:
            raise ValueError("\\x1b[31m" + names[0])
        return {"name": pa.array([t[-40:] for t in names]), "odd_name": pa.array([t[-40:] for t in names])}
"""


def write(path: Path, text: str, n: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = [f"{n}:{hostile}" for hostile in HOSTILE]
    texts = [TEXT + hostile for hostile in HOSTILE]
    pq.write_table(pa.table({"id": [*ids, "last"], "text": [*texts, text]}), path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "named.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "r.yaml").write_text(RECIPE.format(name="\\e]0;t\\a"))
    for number, name in enumerate(HOSTILE):
        write(
            tmp_path / "in" / f"{number} {name.replace('/', '-')}.parquet", f"fail {ESCAPE}" if number == 1 else "short"
        )
    (tmp_path / "in" / f"broken {ESCAPE}.parquet").write_bytes(b"no Parquet file")
    (tmp_path / "in" / "broken\nforged.parquet").write_bytes(b"no Parquet file")
    return tmp_path


def is_harmless(text: str) -> bool:
    return all(c in "\n\u200c\u200d" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in text)


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit):
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.processes
def test_no_output_of_a_run_obeys_a_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    files = sorted((folder / "in").iterdir())
    options = ("--input", folder / "in", "--output", out, "--workers", 1, "--backend", "local")
    printed = {
        "run": told(capsys, "run", folder / "r.yaml", *options),
        "resumed": told(capsys, "--verbose", "run", folder / "r.yaml", *options),
        "explain": told(capsys, "explain", folder / "r.yaml"),
        "weights": told(capsys, "weights", out),
        **{f"dry {file}": told(capsys, "dry-run", folder / "r.yaml", "--input", file) for file in files},
        **{f"json {file}": told(capsys, "dry-run", folder / "r.yaml", "--input", file, "--json") for file in files},
        **{f"repeats {file}": told(capsys, "repeats", "--input", file, "--min-length", 30) for file in files[:3]},
        "wrong recipe": told(capsys, "run", folder / f"no {ESCAPE}.yaml", *options),
        "card": (out / "README.md").read_text(),
        **{str(path): path.read_text() for path in out.rglob("_gneiss/logs/*") if path.suffix != ".jsonl"},
    }
    assert [name for name, text in printed.items() if not is_harmless(text)] == []
    lines = [line for text in printed.values() for line in text.splitlines()]
    assert [line for line in lines if line.startswith(("line: forged", "forged"))] == []
    assert "\\u001b[31mred" in printed["run"]
    assert "is quarantined" in printed["run"]
    json.loads(next(text for name, text in printed.items() if name.startswith("json") and text.startswith("{")))


@pytest.mark.processes
def test_a_card_shows_markup_as_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--output", folder / "out", "--workers", 1, "--backend", "local")
    (folder / "in" / f"broken {ESCAPE}.parquet").rename(folder / "in" / "broken <script>`*b*.parquet")
    told(capsys, "run", folder / "r.yaml", "--input", folder / "in", *options)
    card = (folder / "out/README.md").read_text()
    assert "\\<b\\>bold\\</b\\> \\\\u001b" in card
    assert "- ``broken <script>`*b*``: expected a Parquet file" in card
    table = [line for line in card.splitlines() if line.startswith("| odd")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [5, 5]


def test_a_table_shows_markup_as_text() -> None:
    for hostile in HOSTILE:
        shown = table(pa.table({"id": [hostile], hostile: [3]}))
        assert is_harmless(shown)
        assert html.escape(printable(hostile)) in shown
        assert "<img" not in shown


@pytest.mark.parametrize("shown", [code, plain, printable])
def test_escapes_are_escaped_everywhere(shown: Callable[[Any], str]) -> None:
    for hostile in (*HOSTILE, "\ud800", "\U000e0041", "\u2028", "\x00", "\x7f"):
        assert is_harmless(shown(hostile))
        assert "\n" not in shown(hostile)
    assert printable("é نمی‌شود 👩‍👧 日本") == "é نمی‌شود 👩‍👧 日本"


@pytest.mark.processes
def test_a_finished_run_is_opened_by_its_hostile_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--output", folder / "out", "--workers", 1, "--backend", "local")
    told(capsys, "run", folder / "r.yaml", "--input", folder / "in", *options)
    ids = open_run(folder / "out").annotations(columns=["id"])["id"].to_pylist()
    assert {f"3:{hostile}" for hostile in HOSTILE} <= set(ids)  # stored as they are
