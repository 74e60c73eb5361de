"""What the tests of whole runs need: a small corpus with every kind of trouble, a model, a recipe, and comparisons."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gneiss.backends.here import InThisProcess as InThisProcess

PLAIN = tuple("the river runs south and a cat sat by old walls while rain fell on our small town all day long".split())  # noqa: SIM905
NOISE = tuple("login cart checkout 50% click subscribe cookie banner promo casino ticket download keygen seo".split())  # noqa: SIM905
RECIPE = """
name: runs
input: {text: text, id: id, derived_from_text: {token_count: tokens}}
shard_max_bytes: 24000
budgets: {documents: 0.5, shards: 0}
phases:
  - name: only
    dedup: {min_length: 80, unit: bytes, policy: protect, scope: shard}
    annotate:
      - fasttext: {models: {prose: {source: tiny.bin, label: hq}}}
      - readability
      - tokens: {tokenizer: "builtin:cl100k_base"}
    rules:
      good: prose > 0.5
      readable: eflaw < 30
      tokens_normal: tokens_per_char BETWEEN 0.1 AND 0.4
    keep: good AND (readable OR tokens_normal)
"""

WITHOUT_MODEL = """
name: without-model
shard_max_bytes: 24000
phases:
  - name: only
    dedup: {min_length: 80}
    annotate: [readability]
    rules: {readable: eflaw < 30}
"""


@dataclass(frozen=True)
class Material:
    """A folder with a recipe, its model, and an input of 5 shards in 3 files, 180 rows, 4 of them unusable."""

    folder: Path
    recipe: Path
    input: Path

    def changed(self, folder: Path, old: str, new: str) -> Path:
        """A recipe with a change, in another folder with the same model."""
        text = self.recipe.read_text()
        assert old in text
        path = folder / "other.yaml"
        path.write_text(text.replace(old, new))
        shutil.copy(self.folder / "tiny.bin", folder)
        return path


def make_material(folder: Path) -> Material:
    """Train the model and write the corpus."""
    recipe, corpus = folder / "runs.yaml", folder / "input"
    recipe.write_text(RECIPE)
    train(folder / "tiny.bin")
    for number, name in enumerate(("a", "deep/b", "c")):
        write_corpus(corpus / f"{name}.parquet", documents(60, seed=number), row_group_size=(60, 20, 30)[number])
    return Material(folder, recipe, corpus)


def train(path: Path, labels: Sequence[str] = ("hq", "cc")) -> None:
    """A fastText model that tells PLAIN (the first label) from NOISE (the second)."""
    import fasttext

    draw = random.Random(0)
    lines = path.with_suffix(".txt")
    with lines.open("w") as file:
        for _ in range(200):
            for label, words in zip(labels, (PLAIN, NOISE), strict=True):
                file.write(f"__label__{label} {' '.join(draw.choices(words, k=12))}\n")
    settings = {"dim": 4, "bucket": 1000, "wordNgrams": 2, "minCount": 1, "epoch": 3, "thread": 1, "seed": 1}
    fasttext.train_supervised(str(lines), verbose=0, **settings).save_model(str(path))


def documents(count: int, seed: int) -> list[bytes | None]:
    """Prose, noise, shared passages, exact copies, other scripts, an empty text; two that cannot be used."""
    draw = random.Random(seed)

    def sentence(words: Sequence[str]) -> str:
        return " ".join(draw.choices(words, k=draw.randint(4, 16))).capitalize() + draw.choice(".!?") + " "

    passages = ["".join(sentence(PLAIN) for _ in range(4)) for _ in range(3)]
    texts: list[bytes | None] = []
    for number in range(count):
        words = NOISE if number % 4 == 3 else PLAIN
        parts = [sentence(words) for _ in range(draw.randint(2, 12))]
        if number % 3 == 0:
            parts.insert(draw.randrange(len(parts)), draw.choice(passages))
        if number % 7 == 0:
            parts.append("Größe wächst, 日本語のテキスト。 Ещё одна строка\n")
        texts.append("".join(parts).encode())
    texts[5], texts[10] = texts[4], b""
    if seed != 2:
        texts[20], texts[21] = None, b"not \xff\xfe UTF-8"
    return texts


def write_corpus(path: Path, texts: Sequence[bytes | None], row_group_size: int = 20, **columns: object) -> Path:
    """A Parquet file of texts as they are, valid or not, with id, url and token_count."""
    raw = pa.array(texts, pa.binary())
    text = pa.StringArray.from_buffers(len(raw), *raw.buffers()[1:3], raw.buffers()[0])
    names = [f"{path.stem}-{i}" for i in range(len(texts))]
    table = {"id": names, "text": text, "url": [f"https://x/{n}" for n in names], "token_count": [7] * len(names)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**table, **columns}), path, row_group_size=max(row_group_size, 1))
    return path


def gneiss(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return python("-m", "gneiss", *arguments, env=env, cwd=cwd)


def python(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run this interpreter in a process of its own."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **(env or {})}, cwd=cwd, capture_output=True, text=True, timeout=600
    )


def command(*arguments: str | Path) -> int:
    """The exit code of a command line, run in this process."""
    from gneiss.cli import main as cli

    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def annotations(output: os.PathLike[str]) -> pa.Table:
    """The base annotations of an output, all shards."""
    return pa.concat_tables(
        pq.read_table(path) for path in sorted((Path(output) / "annotations/base").rglob("*.parquet"))
    )


def data(output: os.PathLike[str]) -> pa.Table:
    """The kept documents of an output, all shards."""
    return _tables(Path(output) / "data")


def _tables(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.rglob("*.parquet")))


def promised(output: os.PathLike[str]) -> dict[str, str]:
    """Hash of every file whose bytes are the same for the same plan: all but the ledger, the run file and the card."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files(output).items()
        if not name.startswith(("_gneiss/ledger/", "_gneiss/run.json", "_gneiss/lock", "_gneiss/logs/", "README.md"))
    }


def touched(output: os.PathLike[str]) -> dict[str, tuple[int, int]]:
    """Inode and modification time of every file: what is written again gets others."""
    return {name: (path.stat().st_ino, path.stat().st_mtime_ns) for name, path in files(output).items()}


def files(output: os.PathLike[str]) -> dict[str, Path]:
    """Every file of an output, by relative path, in order."""
    return {p.relative_to(output).as_posix(): p for p in sorted(Path(output).rglob("*")) if p.is_file()}
