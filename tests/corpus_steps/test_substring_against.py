"""Passages of other outputs: what one run over all of them cuts, where those of the others come first."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from gneiss.errors import InputError, RecipeError
from gneiss.output.parquet import WrittenFile
from gneiss.pipelines.run import run
from gneiss.recipe.recipe import Recipe
from gneiss.stages.corpus import Corpus
from gneiss.stages.exchange import Exchange
from tests import runs

#: How much earlier the documents of a folder are, where a measure decides which comes first.
PART = {"a": 2, "b": 1, "own": 0}
BYTES = {"min_length": 12}
TOKENS = {"min_length": 5, "unit": "tokens", "tokenizer": "builtin:cl100k_base"}


def recipe(**dedup: Any) -> Recipe:
    """A phase that drops short texts, and one that cuts."""
    phases = [
        {
            "name": "long",
            "annotate": [{"input_column": {"name": "part", "type": "int64"}}],
            "rules": {"long": "text_bytes > 20"},
        },
        {"name": "cut", "dedup": {"scope": "corpus", **dedup}, "rules": {"fresh": "dedup_fraction < 0.9"}},
    ]
    return Recipe.model_validate({"name": "against", "budgets": {"documents": 1}, "phases": phases})


def write_inputs(folder: Path, seed: int) -> None:
    """Two other corpora and one to be compared with them, of two files each: passages, whole and in part."""
    draw = random.Random(seed)
    phrases = ["".join(random.Random(n).choices("abcdefgh ", k=random.Random(n).randint(8, 40))) for n in range(12)]
    phrases += ["xy" * 20, "-" * 30, "naïve €uro "]
    for name, part in PART.items():
        for file in range(2):
            texts: list[bytes | None] = [b"", None, b"a b", b"\xff"]
            for _ in range(draw.randint(0, 9)):
                pieces = [phrase[draw.randrange(4) :] for phrase in draw.choices(phrases, k=draw.randint(1, 7))]
                texts.append("".join(pieces).encode())
            draw.shuffle(texts)
            runs.write_corpus(folder / f"all/{name}/{file}.parquet", texts, part=[part] * len(texts))


def found(recipe: Recipe, source: Path, output: Path, partitions: int | None = None, **options: Any) -> pa.Table:
    with mock.patch("gneiss.pipelines.run.Corpus", partial(Corpus, partitions=partitions)):
        run(recipe, source, output, backend=runs.InThisProcess(), **options)
    return runs.annotations(output)


def cuts_of(table: pa.Table) -> list[list[tuple[int, int]] | None]:
    """What is cut from each document, in maximal stretches."""
    listed: list[list[tuple[int, int]] | None] = []
    for cuts in table["dedup_cuts"].to_pylist():
        stretches: list[tuple[int, int]] = []
        for cut in cuts or []:
            touches = stretches and stretches[-1][1] == cut["start"]
            start = stretches.pop()[0] if touches else cut["start"]
            stretches.append((start, cut["end"]))
        listed.append(None if cuts is None else stretches)
    return listed


@pytest.mark.parametrize(
    ("seed", "parameters", "first_by"),
    [
        (0, BYTES, None),
        (1, TOKENS, "text_chars"),
        *(
            pytest.param(
                seed,
                {**(BYTES, TOKENS)[seed % 2], "policy": ("protect", "union", "all")[seed % 3]},
                (None, "text_chars")[seed % 4 > 1],
                marks=pytest.mark.exhaustive,
            )
            for seed in range(2, 8)
        ),
    ],
)
@pytest.mark.slow
def test_it_cuts_as_one_run_over_all(tmp_path: Path, seed: int, parameters: Any, first_by: str | None) -> None:
    write_inputs(tmp_path, seed)
    measure = {"first_by": first_by} if first_by else {}
    for name, partitions in (("a", 1), ("b", 3)):
        measured = recipe(**parameters, **measure)
        found(measured, tmp_path / f"all/{name}", tmp_path / name, partitions, keep_index=True)
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    own = found(recipe(**parameters, **measure, against=both), tmp_path / "all/own", tmp_path / "own", 2)
    in_all = {"first_by": f"part * 1000 + {first_by}"} if first_by else {}
    whole = found(recipe(**parameters, **in_all), tmp_path / "all", tmp_path / "whole")
    whole = whole.slice(len(whole) - len(own))
    same = ["status", "failed", "dedup_bytes", "dedup_fraction", "dedup_repeated_bytes", "content_hash"]
    assert own.select(same).to_pylist() == whole.select(same).to_pylist()
    assert cuts_of(own) == cuts_of(whole)
    mine, theirs = own["dedup_cuts"].to_pylist(), whole["dedup_cuts"].to_pylist()
    for of_others, mine_here, theirs_here in zip(own["dedup_against_bytes"].to_pylist(), mine, theirs, strict=True):
        foreign = [cut for cut in theirs_here or [] if (cut["source_shard"] or "own")[:2] in ("a/", "b/")]
        assert (of_others or 0) == sum(cut["end"] - cut["start"] for cut in foreign)
        named = [cut for cut in mine_here or [] if cut["source_row"] is not None]
        ours = [cut for cut in theirs_here or [] if cut not in foreign]
        assert [cut["source_row"] for cut in named] == [cut["source_row"] for cut in ours]
    assert sum(cut or 0 for cut in own["dedup_against_bytes"].to_pylist()) > 20


@pytest.mark.slow
def test_an_index_is_the_same_after_a_kill_and_whatever_the_partitions(tmp_path: Path) -> None:
    write_inputs(tmp_path, 3)
    source = tmp_path / "all"
    found(recipe(**BYTES), source, tmp_path / "at once", 3, keep_index=True)
    expected = runs.promised(tmp_path / "at once")
    assert len([name for name in expected if "/dedup_passages/" in name]) == 6
    write = Exchange.write

    for task in (0, 4):

        def killed(self: Exchange, stage: str, index: int, *args: Any, task: int = task) -> WrittenFile:
            if (stage, index) == ("dedup_passages", task):
                raise KeyboardInterrupt
            return write(self, stage, index, *args)

        output = tmp_path / f"killed {task}"
        with mock.patch.object(Exchange, "write", killed), pytest.raises(KeyboardInterrupt):
            found(recipe(**BYTES), source, output, 2, keep_index=True)
        found(recipe(**BYTES), source, output, 2, keep_index=True)
        assert runs.promised(output) == expected


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path, 4)
    found(recipe(min_length=13), tmp_path / "all/a", tmp_path / "a", keep_index=True)
    other = [str(tmp_path / "a")]
    with pytest.raises(InputError, match="index of dedup was made with min_length 13, and is to be read with 12"):
        found(recipe(**BYTES, against=other), tmp_path / "all/own", tmp_path / "own")
    with pytest.raises(RecipeError, match="`against` goes with `scope: corpus`"):
        recipe(**BYTES, scope="shard", against=other)


def write_tokenizer(path: Path, first: int) -> str:
    """A byte-level tokenizer without merges, whose ids begin elsewhere in the alphabet."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet[first:] + alphabet[:first])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return str(path)


@pytest.mark.filterwarnings("ignore:tokenizer")
def test_a_tokenizer_is_known_by_its_bytes(tmp_path: Path) -> None:
    write_inputs(tmp_path, 5)
    tokens = {"min_length": 12, "unit": "tokens"}
    one = recipe(**tokens, tokenizer=write_tokenizer(tmp_path / "one/tokenizer.json", 0))
    found(one, tmp_path / "all/a", tmp_path / "a", keep_index=True)
    against = partial(recipe, **tokens, against=[str(tmp_path / "a")])
    same = against(tokenizer=write_tokenizer(tmp_path / "elsewhere/tokenizer.json", 0))
    found(same, tmp_path / "all/own", tmp_path / "own")
    other = write_tokenizer(tmp_path / "one/tokenizer.json", 1)
    with pytest.raises(InputError, match=r"index of dedup was made with another file than .*: expected the checksum"):
        found(against(tokenizer=other), tmp_path / "all/own", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(InputError, match=r"made with tokenizer 'a tokenizer\.json', and is to be read with 'builtin:"):
        found(against(tokenizer=TOKENS["tokenizer"]), tmp_path / "all/own", tmp_path / "other")
