"""The trainer learns, is the same again, and its budget is what was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install 'gneiss-curation[train]'")

from gneiss.ablate import SIZES, Size, Training  # noqa: E402
from gneiss.ablate.corpora import pool_of_texts  # noqa: E402
from gneiss.ablate.model import Shape, new_model  # noqa: E402
from gneiss.ablate.tokens import Encoded, judged, tokenizer_of  # noqa: E402
from gneiss.ablate.trainer import annealing, constant, falling, judge, train  # noqa: E402
from gneiss.reweight.reweighter import SampleReweighter  # noqa: E402

torch.set_num_threads(1)
SMALL = Size(32, 1, 2, 1e-2)
TRAINING = Training(budget_tokens=60 * 8 * 16, size=SMALL, length=16, batch=8, evaluations=3)
BYTES = tokenizer_of("bytes", [], 0)
SEQUENCES = Encoded.of(pool_of_texts("x", ["abcdefgh" * 9]), BYTES).sequences([0], 60 * 8, 16)
DOMAINS = judged({"same": ["abcdefgh" * 4], "other": ["hgfedcba" * 4]}, BYTES, 16)


def test_a_model_learns_what_it_reads_and_only_that() -> None:
    model = new_model(Shape(SMALL, BYTES.vocabulary, 16), seed=0)
    before = judge(model, DOMAINS)
    assert before["same"] == pytest.approx(8, abs=1)  # log2 of 257 ids, each a byte
    points = train(model, SEQUENCES, DOMAINS, TRAINING, schedule=falling(TRAINING), seed=0)
    assert [point.tokens for point in points] == [20 * 128, 40 * 128, 60 * 128]
    assert points[-1].bits_per_byte["same"] < 1 < points[-1].bits_per_byte["other"]
    assert judge(model, DOMAINS) == points[-1].bits_per_byte


@pytest.mark.parametrize("linupper", [None, 0.4])
def test_a_seed_gives_the_same_curve_again(linupper: float | None) -> None:
    curves = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(curves))  # nothing takes the global state
        model = new_model(Shape(SMALL, BYTES.vocabulary, 16), seed)
        reweighter = None if linupper is None else SampleReweighter("linupper", r=linupper)
        schedule = falling(TRAINING)
        curves.append(train(model, SEQUENCES, DOMAINS, TRAINING, schedule=schedule, seed=seed, reweighter=reweighter))
    assert curves[0] == curves[1] != curves[2]


def test_bits_per_byte_are_the_mean_log_probability() -> None:
    model = new_model(Shape(SMALL, BYTES.vocabulary, 16), seed=0)
    text = "abc"
    inputs = torch.tensor([[BYTES.end, *text.encode()[:-1]]])
    chances = torch.log_softmax(model(inputs)[0], -1)[range(3), list(text.encode())]
    wanted = -float(chances.detach().sum()) / math.log(2) / 3
    assert judge(model, judged({"d": [text]}, BYTES, 16))["d"] == pytest.approx(wanted, rel=1e-5)


def test_a_token_sees_none_after_it() -> None:
    model = new_model(Shape(SMALL, 50, 8), seed=0)
    tokens = torch.randint(0, 50, (2, 8), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 5:] = 0
    assert torch.equal(model(tokens)[:, :5], model(changed)[:, :5])


@pytest.mark.parametrize("name", SIZES)
def test_the_number_of_parameters_is_what_is_said(name: str) -> None:
    from gneiss.ablate.model import GPT

    with torch.device("meta"):
        model = GPT(Shape(SIZES[name], 2048, 256))
    assert sum(p.numel() for p in model.parameters()) == SIZES[name].parameters(2048, 256)


def test_schedules_begin_and_end_where_they_should() -> None:
    steps = range(TRAINING.steps)
    for schedule in (falling, constant, annealing):
        rates = [schedule(TRAINING)(step) for step in steps]
        assert all(0 < rate <= 1 for rate in rates)
        assert max(rates) == 1
    assert np.argmax([falling(TRAINING)(step) for step in steps]) == 2
    assert falling(TRAINING)(TRAINING.steps - 1) < 0.02
    assert constant(TRAINING)(TRAINING.steps - 1) == 1
    assert annealing(TRAINING)(0) == 1
