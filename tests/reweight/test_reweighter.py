"""SampleReweighter in one process: its invariances, its accounts of bad samples, its scopes, and resuming."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from gneiss.reweight.reweighter import CALLS_PER_STEP, SampleReweighter  # noqa: E402
from gneiss.reweight.schedules import Anneal  # noqa: E402
from gneiss.reweight.strategies import STRATEGIES  # noqa: E402

NORMALIZERS = ("minmax", "quantile", "ema")
losses_lists = st.lists(st.floats(0.5, 12), min_size=1, max_size=40)


def losses_of_step(step: int, samples: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(step)
    return 3 + torch.randn(samples, generator=generator)


def advanced(steps: int = 5, **options: Any) -> SampleReweighter:
    """A reweighter that has seen some steps, so that its running moments are known."""
    reweighter = SampleReweighter(**options)
    for step in range(steps):
        reweighter.weights(losses_of_step(step))
        reweighter.step()
    return reweighter


@given(losses_lists)
def test_the_default_is_the_papers_formula(losses: list[float]) -> None:
    low, high = min(losses), max(losses)
    h = [2 * (loss - low) / max(high - low, 1e-6) - 1 for loss in losses]
    e = [math.exp(min(x + 1, 1) / 0.4) for x in h]
    expected = [x * len(e) / sum(e) for x in e]
    weights = SampleReweighter("linupper", r=0.4).weights(torch.tensor(losses, dtype=torch.float64))
    assert weights.dtype == torch.float32
    if high - low > 1e-3 or high == low:  # below that, float32 losses are not those losses
        assert weights.tolist() == pytest.approx(expected, rel=1e-2)
    assert weights.mean().item() == pytest.approx(1, rel=1e-5)


@given(
    losses_lists, st.sampled_from([0.25, 2.0, 8.0]), st.sampled_from([0.0, -16.0, 64.0]), st.sampled_from(NORMALIZERS)
)
def test_an_affine_map_of_losses_changes_nothing(losses: list[float], a: float, b: float, normalizer: str) -> None:
    # multiples of 1 / 8, so that the map is exact in float32
    x = (torch.tensor(losses) * 8).round() / 8
    pair = [SampleReweighter("linear", r=0.3, normalizer=normalizer) for _ in range(2)]
    for _ in range(2):  # in the second step, ema knows the first
        found = [reweighter.weights(values) for reweighter, values in zip(pair, (x, a * x + b), strict=True)]
        assert found[1].tolist() == pytest.approx(found[0].tolist(), rel=1e-5)
        for reweighter in pair:
            reweighter.step()


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("scope", ["micro-step", "step-two-pass", "step-ema"])
@pytest.mark.parametrize("options", [{"strategy": "uniform", "r": 0.4}, {"r": math.inf}, {"burn_in_steps": 99}])
def test_uniform_infinite_and_burn_in_weights_are_exactly_one(normalizer: str, scope: str, options: Any) -> None:
    if scope == "step-ema":
        normalizer = "ema"
    reweighter = SampleReweighter(normalizer=normalizer, scope=scope, **options)
    for step in range(40):
        tokens = torch.randint(1, 900, (13,), generator=torch.Generator().manual_seed(step))
        assert torch.equal(reweighter.weights(losses_of_step(step, 13), tokens=tokens), torch.ones(13))
        reweighter.step()


def test_burn_in_ends_after_so_many_optimizer_steps() -> None:
    reweighter = SampleReweighter(burn_in_steps=2)
    uniform = []
    for step in range(4):
        for micro_step in range(3):
            uniform.append(torch.equal(reweighter.weights(losses_of_step(step + micro_step)), torch.ones(16)))
        reweighter.step()
    assert uniform == 6 * [True] + 6 * [False]
    assert reweighter.steps == 4


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("estimand", ["token", "sequence"])
def test_bad_samples_weigh_nothing_are_counted_and_disturb_nobody(normalizer: str, estimand: str) -> None:
    options = {"strategy": "linear", "normalizer": normalizer, "estimand": estimand}
    clean, soiled = advanced(0, **options), advanced(0, **options)
    for step in range(3):
        losses, tokens = losses_of_step(step, 6), torch.tensor([5, 9, 3, 7, 8, 8])
        expected = clean.weights(losses, tokens=tokens)
        found = soiled.weights(
            torch.cat([torch.tensor([math.nan, math.inf]), losses, torch.tensor([math.nan, -math.inf, 2.0])]),
            tokens=torch.cat([torch.tensor([4, 4]), tokens, torch.tensor([0, 3, 4])]),
            log_prior=torch.tensor([0.0] * 10 + [math.nan]),
        )
        assert found[2:8].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
        assert found[[0, 1, 8, 9, 10]].tolist() == [0] * 5
        clean.step()
        soiled.step()
        assert (soiled.empty_samples, soiled.nonfinite_samples) == (step + 1, 4 * (step + 1))
    assert (clean.empty_samples, clean.nonfinite_samples) == (0, 0)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("losses", [[], [math.nan, math.nan], [2.5], [2.5, 2.5, 2.5], [1.0, 1.0, 4.0, 4.0]])
def test_batches_without_anything_to_tell_apart(normalizer: str, losses: list[float]) -> None:
    reweighter = advanced(normalizer=normalizer)
    weights = reweighter.weights(torch.tensor(losses))
    if not losses or math.isnan(losses[0]):
        assert weights.tolist() == [0.0] * len(losses)
    elif len(set(losses)) == 1:
        assert weights.tolist() == [1.0] * len(losses)
    else:
        assert weights[0] == weights[1] < weights[2] == weights[3]


def test_weights_have_no_gradient_and_are_float32_from_bfloat16() -> None:
    losses = losses_of_step(0).to(torch.bfloat16).requires_grad_()
    weights = SampleReweighter().weights(losses)
    assert weights.dtype == torch.float32
    assert not weights.requires_grad
    assert torch.equal(weights, SampleReweighter().weights(losses.detach().float()))


@given(losses_lists, st.data())
def test_estimands(losses: list[float], data: st.DataObject) -> None:
    tokens = torch.tensor(data.draw(st.lists(st.integers(1, 500), min_size=len(losses), max_size=len(losses))))
    x = torch.tensor(losses)
    token = SampleReweighter("linear").weights(x, tokens=tokens)
    assert ((token * tokens).sum() / tokens.sum()).item() == pytest.approx(1, rel=1e-5)
    sequence = SampleReweighter("linear", estimand="sequence").weights(x, tokens=tokens)
    # what a trainer that means over tokens makes of them is the paper's sum of weights times mean losses
    found = (sequence * tokens * x).sum() / tokens.sum()
    paper = (SampleReweighter("linear").weights(x) * x).mean()
    assert found.item() == pytest.approx(paper.item(), rel=1e-4)
    uniform = SampleReweighter("uniform", estimand="sequence").weights(x, tokens=tokens)
    assert ((uniform * tokens * x).sum() / tokens.sum()).item() == pytest.approx(x.mean().item(), rel=1e-4)


def test_domains_keep_their_mass_or_not() -> None:
    losses = torch.tensor([1.0, 1.2, 1.4, 1.6, 4.0, 4.5, 5.0, 6.0])
    domain = torch.tensor([7, 7, 7, 7, -1, -1, -1, -1])
    free = SampleReweighter("linear", r=0.3).weights(losses, domain=domain)
    kept = SampleReweighter("linear", r=0.3, domain_mode="preserve").weights(losses, domain=domain)
    assert free[domain == 7].sum() < 2
    assert kept[domain == 7].sum().item() == pytest.approx(4)
    assert (kept.diff()[:3] > 0).all()
    with pytest.raises(ValueError, match="domain_mode 'preserve' needs"):
        SampleReweighter(domain_mode="preserve").weights(losses)


def test_a_prior_multiplies_and_is_all_there_is_during_burn_in() -> None:
    losses, log_prior = losses_of_step(0), torch.linspace(-1, 1, 16)
    plain = SampleReweighter().weights(losses)
    weights = SampleReweighter().weights(losses, log_prior=log_prior)
    ratio = weights / (plain * log_prior.exp())
    assert ratio.tolist() == pytest.approx([ratio[0].item()] * 16, rel=1e-5)
    assert weights.mean().item() == pytest.approx(1)
    burn_in = SampleReweighter(burn_in_steps=1).weights(losses, log_prior=log_prior)
    assert burn_in.tolist() == pytest.approx((log_prior.exp() / log_prior.exp().mean()).tolist(), rel=1e-5)


def test_one_step_in_micro_steps_is_the_step_at_once() -> None:
    # two passes: the losses of all micro-steps together; ema: nothing of this step matters
    losses = losses_of_step(9, 24)
    for options in ({"scope": "step-two-pass"}, {"scope": "step-ema", "normalizer": "ema"}):
        reweighter = advanced(**options)
        state = reweighter.state_dict()
        whole = reweighter.weights(losses)
        reweighter.step()
        again = SampleReweighter(**options)
        again.load_state_dict(state)
        if options["scope"] == "step-two-pass":
            parts = again.weights(torch.cat(losses.split(6)))
        else:
            parts = torch.cat([again.weights(part) for part in losses.split([6, 0, 10, 8])])
        again.step()
        assert torch.equal(whole, parts)
        assert not torch.equal(whole, torch.ones(24))
        after = reweighter.weights(losses_of_step(1)), again.weights(losses_of_step(1))
        assert after[1].tolist() == pytest.approx(after[0].tolist(), rel=1e-6)


def test_two_pass_weights_are_asked_for_once_a_step() -> None:
    reweighter = SampleReweighter(scope="step-two-pass")
    reweighter.weights(losses_of_step(0))
    with pytest.raises(RuntimeError, match="called twice in a step"):
        reweighter.weights(losses_of_step(1))
    reweighter.step()
    reweighter.weights(losses_of_step(1))


@pytest.mark.parametrize("cap", [math.inf, 1.2])
@pytest.mark.parametrize("burn_in_steps", [0, 50])
def test_ema_weights_have_mean_one_over_steps(cap: float, burn_in_steps: int) -> None:
    reweighter = SampleReweighter(
        "linear", r=0.3, scope="step-ema", normalizer="ema", cap=cap, burn_in_steps=burn_in_steps
    )
    found = []
    for step in range(400):
        found.append(reweighter.weights(losses_of_step(step), log_prior=torch.linspace(-1, 1, 16)))
        reweighter.step()
    weights = torch.cat(found[max(100, burn_in_steps) :])
    assert weights.mean().item() == pytest.approx(1, rel=0.02)
    assert weights.max() <= cap
    assert weights.std() > 0.1


@pytest.mark.parametrize("cap", [1.0, 1.5, 3.0])
def test_a_cap_bounds_weights_and_keeps_their_mean(cap: float) -> None:
    weights = SampleReweighter("linear", r=0.2, cap=cap).weights(losses_of_step(3, 64))
    assert weights.max() <= cap * (1 + 1e-6)
    assert weights.mean().item() == pytest.approx(1)


@pytest.mark.parametrize(
    "options",
    [
        {"normalizer": "minmax"},
        {"normalizer": "ema", "burn_in_steps": 7},
        {"normalizer": "ema", "scope": "step-ema", "cap": 2.0},
        {"scope": "step-two-pass", "strategy": "quadratic"},
        {"strategy": torch.sigmoid, "r": Anneal(start=math.inf, end=0.3, steps=22)},
    ],
)
def test_a_resumed_reweighter_goes_on_the_same(options: Any) -> None:
    reweighter = advanced(**options)
    reweighter.weights(torch.tensor([1.0, math.nan]), tokens=torch.tensor([3, 3]))  # in the middle of a step
    state = json.loads(json.dumps(reweighter.state_dict()))
    resumed = SampleReweighter(**options)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == reweighter.state_dict()
    reweighter.step()
    resumed.step()
    for step in range(20, 26):
        assert torch.equal(reweighter.weights(losses_of_step(step)), resumed.weights(losses_of_step(step)))
        reweighter.step()
        resumed.step()
    assert resumed.nonfinite_samples == reweighter.nonfinite_samples == 1


def test_the_state_of_another_configuration_is_refused() -> None:
    state = advanced(r=0.4).state_dict()
    with pytest.raises(ValueError, match=r"r '0.4', here '1.0'"):
        SampleReweighter(r=1.0).load_state_dict(state)
    SampleReweighter(r=2.0).load_state_dict(SampleReweighter(r=2).state_dict())


def test_a_strategy_of_ones_own() -> None:
    weights = SampleReweighter(lambda h: -h).weights(torch.tensor([1.0, 2.0, 3.0]))
    assert weights[0] > weights[1] > weights[2]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_schedule_may_start_at_infinity(name: str) -> None:
    reweighter = SampleReweighter(name, r=lambda step: math.inf if step == 0 else 0.5)
    assert torch.equal(reweighter.weights(losses_of_step(0)), torch.ones(16))
    reweighter.step()
    assert torch.equal(reweighter.weights(losses_of_step(0)), torch.ones(16)) is (name == "uniform")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "upper"}, "published code has it for both"),
        ({"r": 0.0}, "above 0"),
        ({"r": math.nan}, "above 0"),
        ({"cap": 0.9}, "1 or more"),
        ({"decay": 1.0}, "less than 1"),
        ({"burn_in_steps": -1}, "0 or more"),
        ({"normalizer": "max"}, "expected one of minmax, quantile, ema"),
        ({"scope": "step"}, "expected one of micro-step"),
        ({"scope": "step-ema"}, "needs normalizer='ema'"),
        ({"scope": "step-ema", "normalizer": "ema", "domain_mode": "preserve"}, "need the whole step"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SampleReweighter(**options)


def test_arguments_that_do_not_fit_are_refused() -> None:
    reweighter = SampleReweighter()
    with pytest.raises(ValueError, match=r"tokens: expected shape \(16,\), found \(3,\)"):
        reweighter.weights(losses_of_step(0), tokens=torch.ones(3))
    with pytest.raises(ValueError, match="sample_losses: expected shape"):
        reweighter.weights(torch.ones(2, 2))
    with pytest.raises(ValueError, match="number of unmasked tokens"):
        SampleReweighter(estimand="sequence").weights(losses_of_step(0))


def test_a_loop_that_forgets_step_is_warned() -> None:
    reweighter = SampleReweighter()
    reweighter._calls = CALLS_PER_STEP - 1
    with pytest.warns(UserWarning, match="none of step"):
        reweighter.weights(losses_of_step(0))
