"""An ablation end to end: junk is found, a null is a null, what was trained is not trained again."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.ablate import Corpus, HeldOut, OwnTrainer, Plan, Size, Training, ablate
from gneiss.ablate.ablation import ablate_pools
from gneiss.ablate.corpora import pool_of_texts
from gneiss.errors import InputError, ModelError
from gneiss.store.place import place_of

TRAINING = Training(80 * 8 * 32, Size(32, 1, 2, 5e-3), length=32, batch=8, evaluations=2)
PLAN = Plan(TRAINING, seeds=2, tokenizer="bytes", held_out_bytes=1500)


def texts_of(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    words = [f"{a}{b}{a}"[: 2 + (a < b)] for a in "bdnp" for b in "aeio"]
    return [" ".join(rng.choices(words, k=40)) for _ in range(count)]


def shuffled(text: str) -> str:
    letters = list(text)
    random.Random(text).shuffle(letters)
    return "".join(letters)


CLEAN = texts_of(0, 80)
JUNK = [*CLEAN[:20], *(shuffled(text) for text in CLEAN[20:])]
HELD_OUT = HeldOut({"one": tuple(texts_of(1, 8)), "two": tuple(texts_of(2, 8))})


def folders(tmp_path: Path) -> list[Corpus]:
    found = []
    for name, texts in (("junk", JUNK), ("clean", CLEAN)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"text": texts}), tmp_path / name / "a.parquet")
        found.append(Corpus(name, tmp_path / name))
    return found


@pytest.fixture
def _torch() -> None:
    torch = pytest.importorskip("torch", reason="training needs torch: pip install 'gneiss-curation[train]'")
    torch.set_num_threads(1)


@pytest.mark.slow
@pytest.mark.usefixtures("_torch")
def test_the_better_corpus_is_found_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    corpora, output = folders(tmp_path), tmp_path / "out"
    plan = replace(PLAN, linupper=0.4, null_pair=True, seeds=3)
    said: list[str] = []
    found = ablate(corpora, HELD_OUT, output, plan, said=said.append)
    junk_clean, junk_linupper, clean_linupper, halves = found.comparisons
    assert (junk_clean.a, junk_clean.b) == ("junk", "clean")
    assert junk_clean.mean.is_found
    assert junk_clean.mean.better == 3
    assert junk_linupper.b == "junk + LinUpper"
    assert clean_linupper.mean.better == 3
    assert (halves.a, halves.b) == ("junk, half 1", "junk, half 2")
    assert junk_clean.mean.confidence == pytest.approx(1 - 0.05 / 4)
    assert {model.tokens for model in found.trained} == {TRAINING.budget_tokens}
    content = json.loads((output / "ablation.json").read_text())
    assert content["comparisons"][0]["sentence"] == junk_clean.sentence
    models = {file: file.stat().st_mtime_ns for file in (output / "models").iterdir()}
    assert len(models) == 6 * 3
    assert ablate(corpora, HELD_OUT, output, plan) == found
    assert {file: file.stat().st_mtime_ns for file in (output / "models").iterdir()} == models
    with pytest.raises(InputError, match="other corpora or settings; choose another output"):
        ablate(corpora, HELD_OUT, output, replace(plan, linupper=0.5))


@pytest.mark.slow
@pytest.mark.usefixtures("_torch")
def test_annealing_starts_from_one_base(tmp_path: Path) -> None:
    found = ablate(folders(tmp_path), HELD_OUT, tmp_path / "out", replace(PLAN, anneal=0.25))
    assert {model.tokens for model in found.trained} == {TRAINING.budget_tokens // 4}
    assert found.comparisons[0].mean.better == 2


@pytest.mark.processes
def test_a_trainer_of_ones_own(tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text(
        "import json, sys, pathlib, pyarrow.parquet as pq\n"
        "corpus, held_out, seed, budget = sys.argv[1:]\n"
        "letters = len(set(''.join(pq.read_table(corpus)['text'].to_pylist()[:1])))\n"
        "names = [path.stem for path in pathlib.Path(held_out).iterdir()]\n"
        "print('hello')\n"
        "print(json.dumps({'bits_per_byte': {name: letters + int(seed) / 10 for name in names}}))\n"
    )
    own = OwnTrainer(f"{sys.executable} '{script}' {{corpus}} {{held_out}} {{seed}} {{budget_tokens}}")
    pools = [pool_of_texts("few", ["aaa"]), pool_of_texts("many", ["abcd"])]
    found = ablate_pools(pools, HELD_OUT, place_of(tmp_path / "out"), replace(PLAN, own_trainer=own))
    assert found.comparisons[0].mean.pairs == pytest.approx((3.0, 3.0))
    assert found.bits_per_byte("few") == pytest.approx(1.05)


@pytest.mark.parametrize("domain", ["../out", "a/../../b", "/etc/x", "a\n", ".hidden", ""])
def test_a_domain_that_is_no_file_name_is_refused(domain: str, tmp_path: Path) -> None:
    plan = replace(PLAN, own_trainer=OwnTrainer("true {corpus} {seed}"))
    pools = [pool_of_texts("a", ["a"]), pool_of_texts("b", ["b"])]
    with pytest.raises(InputError, match="finds it by this name"):
        ablate_pools(pools, HeldOut({domain: ("text",)}), place_of(tmp_path / "in" / "out"), plan)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.processes
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("false {corpus} {seed}", "returned non-zero exit status 1"),
        ("echo no json {corpus} {seed}", "Expecting value"),
        ("no-such-program {corpus} {seed}", "No such file"),
        ("""echo '{"bits_per_byte": {"one": 1}}' {corpus}{seed}""", "Extra data"),
        (
            """python -c 'print("{\\"bits_per_byte\\": {\\"one\\": NaN, \\"two\\": 1}}")' {corpus} {seed}""",
            "expected a",
        ),
    ],
)
def test_a_trainer_that_answers_otherwise_is_named(command: str, message: str, tmp_path: Path) -> None:
    own = OwnTrainer(command.replace("python", sys.executable))
    with pytest.raises(ModelError, match=message):
        own.bits_per_byte({"corpus": tmp_path, "seed": 0}, ["one", "two"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "expected 2 or more"),
        ({"anneal": 1.0}, "between 0 and 1"),
        ({"held_out_bytes": 0}, "expected 1 or more"),
        ({"own_trainer": OwnTrainer("x {corpus} {seed}"), "null_pair": True}, "your own trainer"),
    ],
)
def test_a_plan_that_is_none_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(PLAN, **change)


def test_a_budget_is_met_within_a_hundredth_or_refused() -> None:
    assert Training(1_000_000, length=64, batch=16).steps * 1024 == pytest.approx(1_000_000, rel=0.01)
    for budget in (1, 1500, 5200):
        with pytest.raises(InputError, match="cannot meet it within 1 %"):
            Training(budget, length=64, batch=16)
    with pytest.raises(InputError, match="batch: expected 1 or more"):
        Training(1000, batch=0)


def test_corpora_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two corpora are called 'x'"):
        ablate([Corpus("x", tmp_path / "a"), Corpus("x", tmp_path / "b")], HELD_OUT, tmp_path / "o", PLAN)
    with pytest.raises(InputError, match="found one corpus"):
        ablate_pools([pool_of_texts("x", CLEAN)], HELD_OUT, place_of(tmp_path / "o"), PLAN)
    with pytest.raises(InputError, match=r"expected \{seed\} in the command"):
        OwnTrainer("train {corpus}")
