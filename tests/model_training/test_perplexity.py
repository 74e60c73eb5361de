"""Training a language model: with stand-ins for KenLM's programs, and with the real ones where they are."""

from __future__ import annotations

import random
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.cli.doctor import check_machine
from gneiss.errors import InputError, MachineError
from gneiss.filters.perplexity import perplexity
from gneiss.model_training import train_perplexity
from gneiss.model_training.source import Skipped
from tests.runs import NOISE, PLAIN, python


def write(path: Path, texts: Sequence[str | None]) -> Path:
    pq.write_table(pa.table({"text": pa.array(texts, pa.string())}), path)
    return path


LMPLZ = r"""#!{python}
import sys
arguments = [a for a in sys.argv[1:] if a not in ("--skip_symbols", "--discount_fallback")]
given = dict(zip(arguments[::2], arguments[1::2]))
words = sorted({{word for line in open(given["--text"], encoding="utf-8") for word in line.split()}})
with open(given["--arpa"], "w", encoding="utf-8") as arpa:
    arpa.write(f"\\data\\\nngram 1={{len(words) + 3}}\nngram 2=1\n\n")
    arpa.write("\\1-grams:\n-3\t<unk>\t0\n0\t<s>\t0\n-2\t</s>\t0\n")
    arpa.writelines(f"-2\t{{word}}\t0\n" for word in words)
    arpa.write(f"\n\\2-grams:\n-1\t<s> {{words[0]}}\n\n\\end\\\n")
print("Substituting fallback discounts for order 1", file=sys.stderr)
"""
BUILD_BINARY = """#!{python}
import shutil, sys
assert sys.argv[3] in ("probing", "trie")
shutil.copyfile(sys.argv[4], sys.argv[5])
"""


def program(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins: every word of the text costs 2, every other 3; it is all there is on PATH."""
    program(tmp_path / "bin/lmplz", LMPLZ)
    program(tmp_path / "bin/build_binary", BUILD_BINARY)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    draw = random.Random(4)
    texts = [f"{' '.join(draw.choices(PLAIN, k=12))}\nno. {number}" for number in range(300)]
    return write(
        tmp_path / "prose.parquet", ["The river runs south.\n\n<s> It is Ünïcode 1999.", *texts, texts[0], None, ""]
    )


@pytest.mark.processes
def test_a_language_model_by_stand_ins(programs: Path, prose: Path, tmp_path: Path) -> None:
    model = train_perplexity(prose, tmp_path / "lm", order=2, held_out_share=0.1)
    assert model.path == tmp_path / "lm/perplexity.kenlm"
    assert (model.rows, model.skipped) == (304, Skipped(null=1, repeated=1))
    assert model.trained + model.held_out in (302, 301)  # the empty text is in neither if it would be held out
    assert 15 < model.held_out < 50
    assert model.has_fallback_discounts
    assert model.quantiles[0.5] == pytest.approx(100)
    assert perplexity(["unknown words"], str(model.path), "ccnet")[0].as_py() == pytest.approx(10 ** (8 / 3))
    words = model.path.read_text("utf-8")
    assert "-2\tunicode\t" in words  # CCNet's normalization
    assert "-2\tno.\t" in words
    card = (tmp_path / "lm/MODEL.md").read_text()
    assert model.model_sha256 in card
    assert "put fixed ones" in card
    assert str(tmp_path) not in card
    assert {path.name for path in (tmp_path / "lm").iterdir()} == {"perplexity.kenlm", "MODEL.md"}
    plain = train_perplexity(
        prose, tmp_path / "plain", order=2, held_out_share=0.1, normalization="none", structure="trie"
    )
    assert "-2\tÜnïcode\t" in plain.path.read_text("utf-8")
    assert plain.content_sha256 != model.content_sha256


@pytest.mark.processes
def test_missing_programs_are_named_with_the_commands(
    prose: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MachineError, match=r"^lmplz, a program of KenLM, is not on PATH; .*libboost-program-options-dev"
    ):
        train_perplexity(prose, tmp_path / "lm")
    (check,) = (check for check in check_machine() if "KenLM" in check.what)
    assert not check.is_well
    assert not check.is_needed
    assert "make -C kenlm-build lmplz build_binary" in check.fix
    lmplz = program(tmp_path / "bin/lmplz", LMPLZ)
    with pytest.raises(MachineError, match="bin/build_binary, a program of KenLM, is not there"):
        train_perplexity(prose, tmp_path / "lm", lmplz=lmplz)
    program(tmp_path / "bin/build_binary", BUILD_BINARY)
    done = python(
        "-m", "gneiss", "train", "perplexity", "--input", prose, "--output", tmp_path / "lm", "--order", "2",
        "--held-out-share", "0.1", "--lmplz", lmplz,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "# perplexity" in done.stdout


@pytest.mark.processes
def test_programs_that_fail(programs: Path, prose: Path, tmp_path: Path) -> None:
    program(programs / "lmplz", "#!{python}\nimport sys\nsys.exit('lmplz: no memory')\n")
    with pytest.raises(MachineError, match="failed with code 1: lmplz: no memory"):
        train_perplexity(prose, tmp_path / "lm", held_out_share=0.1)
    program(programs / "lmplz", "#!{python}\nimport os\nos.abort()\n")
    with pytest.raises(MachineError, match="failed with code -6"):
        train_perplexity(prose, tmp_path / "lm", held_out_share=0.1)
    assert not list((tmp_path / "lm").iterdir())


def test_texts_that_cannot_be_used(programs: Path, prose: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few documents: 3 to train on and 0 held out"):
        train_perplexity(write(tmp_path / "few.parquet", ["a", "b", "c"]), tmp_path / "lm", held_out_share=0.01)
    with pytest.raises(InputError, match="column 'body' is not there"):
        train_perplexity(prose, tmp_path / "lm", text="body")
    errors: list[Mapping[str, float]] = [{"order": 1}, {"order": 7}, {"held_out_share": 0.0}]
    for arguments in errors:
        with pytest.raises(InputError, match=next(iter(arguments))):
            train_perplexity(prose, tmp_path / "lm", **arguments)  # type: ignore[arg-type]


@pytest.mark.skipif(
    shutil.which("lmplz") is None, reason="KenLM's lmplz is not on PATH; gneiss doctor says how to get it"
)
def test_a_language_model_by_kenlm(prose: Path, tmp_path: Path) -> None:
    models = [
        train_perplexity(prose, tmp_path / name, order=3, held_out_share=0.1, memory_mb=200, structure="trie")
        for name in ("one", "two")
    ]
    assert models[0].model_sha256 == models[1].model_sha256
    found = perplexity([" ".join(PLAIN), " ".join(NOISE)], str(models[0].path), "ccnet").to_pylist()
    assert found[0] < found[1] / 2
