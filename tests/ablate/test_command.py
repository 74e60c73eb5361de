"""`gneiss ablate`: from folders to sentences, figures and a picture."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from tests.ablate.test_ablation import CLEAN, HELD_OUT, JUNK
from tests.cli.test_layers import said

SMALL = ("--budget-tokens", "8192", "--size", "tiny", "--length", "32", "--batch", "8", "--seeds", "2")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two corpora, and held-out text."""
    for name, texts in (("junk", JUNK), ("clean", CLEAN)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"text": texts}), tmp_path / name / "a.parquet")
    (tmp_path / "held").mkdir()
    for domain, texts in HELD_OUT.texts.items():
        (tmp_path / "held" / f"{domain}.txt").write_text("\n".join(texts))
    return [tmp_path / name for name in ("junk", "clean", "held")]


@pytest.mark.slow
def test_folders_are_compared(folders: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch: pip install 'gneiss-curation[train]'")
    junk, clean, held = folders
    options = ("--held-out", held, "--output", tmp_path / "out", "--tokenizer", "bytes", "--held-out-bytes", "500")
    printed = said("ablate", f"raw={junk}", clean, *options, *SMALL)
    assert "raw, seed 0: " in printed
    assert "raw and clean" in printed or "than raw" in printed
    assert "This holds for models of this size and budget" in printed
    content = json.loads((tmp_path / "out/ablation.json").read_text())
    assert list(content["corpora"]) == ["clean", "raw"]
    if find_spec("altair") and find_spec("vl_convert"):
        assert (tmp_path / "out/ablation.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--size", "3m"), "expected one of tiny, 1m"),
        (("--budget-tokens", "300"), "cannot meet it within 1 %"),
        (("--trainer", "train {seed}"), r"expected \{corpus\} in the command"),
        (("--shared-words", "3"), "expected 8 to 100"),
    ],
)
def test_options_that_cannot_be_are_refused(
    folders: list[Path], tmp_path: Path, option: tuple[str, str], message: str
) -> None:
    junk, clean, held = folders
    with pytest.raises(InputError, match=message):
        said("ablate", junk, clean, "--held-out", held, "--output", tmp_path / "out", *SMALL, *option)
