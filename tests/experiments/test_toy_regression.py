"""The toy regressions: their own arithmetic against slow oracles, and the ordering that should come again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

import pytest

torch = pytest.importorskip("torch", reason="the experiments need torch: pip install 'gneiss-curation[train]'")

import convergence_bound  # noqa: E402
import toy_regression as toy  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """As in the script: more threads only wait for each other at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_papers_ordering_comes_again() -> None:
    steps = toy.fixed_steps(toy.paper_regression(), toy.PAPER, 0.05, seeds=(0, 1))
    means = {name: fmean(step.by_seed) for name, step in steps.items()}
    assert sorted(means, key=means.__getitem__) == ["linupper", "quadratic", "linear", "uniform", "extremes"]
    assert means["linupper"] < 0.8 * means["uniform"]


def test_linupper_saves_steps_where_samples_are_redundant() -> None:
    steps = toy.fixed_steps(toy.redundant_regression(), {"uniform": toy.Weighting("uniform")}, 0.095, seeds=(0, 1))
    steps |= toy.fixed_steps(toy.redundant_regression(), {"linupper": toy.Weighting("linupper")}, 0.067, seeds=(0, 1))
    assert min(toy.saved(steps, "linupper")) >= 0.2


def test_outliers_harm_linupper_and_trimming_repairs_it() -> None:
    regression = toy.paper_regression(outlier_share=0.05, outlier_scale=5.0)
    risks = toy.final_risks(regression, toy.OUTLIERS, 0.05, seeds=(0,), steps=400)
    assert risks["linupper"][0] > 1.5 * risks["uniform"][0] > 1.5 * risks["linupper_trimmed"][0]


def test_excess_risk_is_the_mean_over_samples() -> None:
    regression = toy.redundant_regression(dimensions=6, subspace=2)
    target, batches = regression.batches(torch.Generator().manual_seed(0))
    error = torch.linspace(-1, 1, 6, dtype=torch.float64)
    found = [float(((x @ error) ** 2).mean()) for x, _ in (next(batches) for _ in range(1500))]
    assert regression.excess_risk(error) == pytest.approx(fmean(found), rel=0.03)
    assert float(target.norm()) == pytest.approx(1)


def test_the_samples_are_as_redundant_as_told() -> None:
    _, batches = toy.redundant_regression().batches(torch.Generator().manual_seed(0))
    x = torch.cat([next(batches)[0] for _ in range(200)])
    inside = (x[:, 5:] == 0).all(1)
    assert float(inside.double().mean()) == pytest.approx(0.9, abs=0.01)
    assert float(x[inside, :5].std()) == pytest.approx(3, rel=0.02)
    assert float(x[~inside].std()) == pytest.approx(1, rel=0.02)


def test_uniform_is_plain_gradient_descent() -> None:
    regression = toy.paper_regression(batch=16)
    target, batches = regression.batches(torch.Generator().manual_seed(3))
    parameters = torch.zeros_like(target)
    expected = []
    for _ in range(5):
        x, y = next(batches)
        parameters = parameters - 0.05 * 2 * (x.T @ (x @ parameters - y)) / 16
        expected.append(regression.excess_risk(parameters - target))
    found = toy.risks(regression, toy.Weighting("uniform"), 0.05, seed=3)
    assert [next(found) for _ in range(5)] == pytest.approx(expected, rel=1e-12)


def test_tuning_finds_what_trying_all_finds() -> None:
    regression, weighting, grid, seeds = (
        toy.redundant_regression(8, 2),
        toy.Weighting("linupper"),
        (0.03, 0.05, 0.2),
        (0, 1),
    )
    sums = {g: sum(toy.steps_to_target(regression, weighting, g, seed, limit=200) for seed in seeds) for g in grid}
    best = min(sums, key=sums.__getitem__)
    assert math.isfinite(sums[best])
    assert toy.tuned_step_size(regression, weighting, grid, seeds, 200) == pytest.approx(0.9 * best)
    with pytest.raises(ValueError, match="no step size from 5 to 9"):
        toy.tuned_step_size(regression, weighting, (5, 9), seeds, 200)


def test_a_step_size_that_is_too_large_never_gets_there() -> None:
    assert toy.steps_to_target(toy.paper_regression(), toy.Weighting("uniform"), 50.0, 0) == math.inf
    assert toy.steps_to_target(toy.paper_regression(), toy.Weighting("uniform"), 0.05, 0, limit=3) == math.inf


def test_trimming_leaves_out_the_highest_tenth() -> None:
    scores = toy.linupper_trimmed(torch.linspace(-1, 1, 20))
    assert scores[18:].tolist() == [-math.inf] * 2
    assert scores[0] == 0
    assert scores[17] == 1


def test_the_bound_holds_with_its_gain() -> None:
    checked = convergence_bound.all_terms(seeds=(0,))
    assert all(found.holds for found in checked)
    assert all(found.gain >= 0 for found in checked if found.gain_is_due)
    assert {found.gain for found in checked if found.weighting.strategy == "uniform"} == {0.0}
    assert all(found.gain < 0 for found in checked if found.weighting.strategy == "extremes")


def test_the_terms_of_the_bound_against_a_slow_oracle() -> None:
    generator = torch.Generator().manual_seed(7)
    n, d, steps = 4, 3, 6
    scales = [1 / math.sqrt(j) for j in range(1, d + 1)]
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64).tolist()
    x = [[value * scale for value, scale in zip(row, scales, strict=True)] for row in rows]
    target = torch.randn(d, generator=generator, dtype=torch.float64).tolist()
    smoothness = max(sum(v * v for v in row) for row in x)
    step_size, theta, gaps, gains = 0.5 / smoothness, [0.0] * d, [], []
    for _ in range(steps):
        residuals = [sum(v * (t - s) for v, t, s in zip(row, theta, target, strict=True)) for row in x]
        losses = [residual**2 / 2 for residual in residuals]
        low, high = min(losses), max(losses)
        tilted = [math.exp(min(2 * (loss - low) / (high - low), 1.0)) for loss in losses]
        weights = [value / sum(tilted) for value in tilted]
        gaps.append(fmean(losses))
        gains.append(sum((w - 1 / n) * loss for w, loss in zip(weights, losses, strict=True)))
        for j in range(d):
            theta[j] -= step_size * sum(w * r * row[j] for w, r, row in zip(weights, residuals, x, strict=True))
    found = convergence_bound.terms("squared", toy.Weighting("linupper"), 7, samples=n, d=d, steps=steps)
    assert found.mean_gap == pytest.approx(fmean(gaps), rel=1e-5)
    assert found.gain == pytest.approx(fmean(gains), rel=1e-5)
    assert found.descent == pytest.approx(sum(t * t for t in target) / (step_size * steps))
    assert found.bound == found.descent - found.gain


@pytest.mark.parametrize("loss", convergence_bound.LOSSES)
def test_slopes_are_derivatives(loss: str) -> None:
    residuals = torch.linspace(-3, 3, 7, dtype=torch.float64, requires_grad=True)
    losses, slopes = convergence_bound._losses(loss, residuals)
    (expected,) = torch.autograd.grad(losses.sum(), residuals)
    assert slopes.tolist() == pytest.approx(expected.tolist())
