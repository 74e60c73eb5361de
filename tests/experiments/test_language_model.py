"""The language model at tiny size: what its arms share, how curves are read, and the whole script."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the experiments need torch: pip install 'gneiss-curation[train]'")

import run  # noqa: E402
import toy_regression  # noqa: E402
from language_model import ARMS, Arm, Curve, Decoder, Setup, Trained, steps_shares, train  # noqa: E402
from planted_corpus import Packed  # noqa: E402

TINY = Setup(steps=8, batch=4, length=8, vocabulary=32, width=16, warm_up_steps=2, burn_in_steps=2, judged_every=4)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """As in the script: more threads only wait for each other at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def packed() -> Packed:
    rng = np.random.default_rng(0)
    clean = rng.random(64) < 0.5
    tokens = np.where(clean[:, None], rng.integers(0, 32, (64, 9)), np.arange(9))
    return Packed(tokens.astype(np.int64), np.where(clean, 0.5, -0.5).astype(np.float32), clean)


def test_the_model_sees_no_token_before_its_time() -> None:
    model = Decoder(TINY)
    tokens = torch.arange(8)[None]
    changed = tokens.clone()
    changed[0, 5] = 31
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_a_run_repeats_and_burn_in_is_uniform(packed: Packed) -> None:
    uniform, linupper = (
        train(TINY, packed, packed.tokens, arm, 0.01, seed=1) for arm in (ARMS["raw"], ARMS["raw_linupper"])
    )
    assert train(TINY, packed, packed.tokens, ARMS["raw"], 0.01, seed=1) == uniform
    assert linupper != uniform
    burning = replace(TINY, burn_in_steps=8)
    assert train(burning, packed, packed.tokens, ARMS["raw_linupper"], 0.01, seed=1) == uniform


def test_weights_go_where_they_should(packed: Packed) -> None:
    longer = replace(TINY, steps=80)
    shares = {name: train(longer, packed, packed.tokens, arm, 0.02, seed=0).clean_share for name, arm in ARMS.items()}
    assert shares["raw"] == pytest.approx(packed.clean.mean(), abs=0.06)
    assert shares["raw_priors"] > shares["raw"] + 0.1
    assert shares["raw_linupper"] > shares["raw"] + 0.1


def test_steps_to_a_loss() -> None:
    curve = Curve((10, 20, 30), (3.0, 2.0, 1.0), 0.0)
    assert [curve.steps_to(loss) for loss in (5.0, 3.0, 2.5, 1.0, 0.9)] == [10, 10, 15, 30, math.inf]


def test_shares_are_of_the_steps_to_the_same_loss() -> None:
    raw = Curve((10, 20, 30), (3.0, 2.0, 2.0), 0.0)  # there after 20 of its 30 steps
    other = Curve((10, 20, 30), (2.0, 1.0, 1.0), 0.0)
    arms = {"raw": Trained(0.1, (raw, raw)), "other": Trained(0.1, (other, raw))}
    assert steps_shares(arms, "other") == (0.5, 1.0)


def test_arms_are_those_that_were_asked_for() -> None:
    assert ARMS["raw"] == Arm("raw")
    assert [name for name, arm in ARMS.items() if arm.corpus == "raw"] == ["raw", "raw_linupper", "raw_priors"]
    assert [name for name, arm in ARMS.items() if arm.linupper] == ["raw_linupper", "curated_linupper"]


@pytest.mark.processes
def test_the_script_writes_its_figures(
    words_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--quick --only lm --seeds 1 --steps 10 --json figures.json --corpus"
    monkeypatch.setattr(run, "LEARNING_RATES", (0.02, 0.05))
    monkeypatch.setattr("sys.argv", ["run.py", *options.split(), str(words_corpus)])
    run.main()
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    figures = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert set(figures["lm_clean_loss"]) == set(figures["lm_steps_share_by_arm"]) == set(ARMS)
    assert all(loss > 0 for loss in figures["lm_clean_loss"].values())
    assert figures["lm_steps_share_by_arm"]["raw"] == 1
    assert figures["lm_steps_share"] == figures["lm_steps_share_by_arm"]["raw_linupper"]
    assert {"lm_clean_loss", "lm_steps_share"} <= set(figures["counted"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ARMS)


@pytest.mark.slow
def test_the_toys_have_their_figures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(toy_regression, "PAPER_GRID", (0.6, 0.8))
    monkeypatch.setattr(toy_regression, "REDUNDANT_GRID", (0.04, 0.07, 0.1))
    monkeypatch.setattr(toy_regression, "final_risks", partial(toy_regression.final_risks, steps=40))
    figures = run.toys([0], [run.TUNING_SEED])
    assert list(figures["toy_steps"]) == ["linupper", "quadratic", "linear", "uniform", "extremes"]
    assert figures["redundant_steps_saved"] == figures["redundant_steps_saved_by_strategy"]["linupper"] >= 0.2
    assert abs(figures["null_difference"]) < 1
    assert figures["bound"]["holds"] == figures["bound"]["runs"]
    assert {"toy_steps", "redundant_steps_saved", "null_difference"} <= set(run.COUNTED)
    assert "honest null" in capsys.readouterr().out


def test_what_never_happens_is_null_in_json() -> None:
    assert run.finite({"a": [math.inf, 1.0], "b": {"c": math.nan}}) == {"a": [None, 1.0], "b": {"c": None}}
    assert run.spread((math.inf, 2.0)) == "never for 1 of 2"
    assert run.spread((1.0, 3.0)) == "2 ± 1"
