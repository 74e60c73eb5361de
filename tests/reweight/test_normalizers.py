"""Normalizers against plain definitions, and what one outlier does to each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from gneiss.reweight.normalizers import minmax, quantile, standardized  # noqa: E402
from gneiss.reweight.running import Running  # noqa: E402

losses_lists = st.lists(st.floats(0, 20), min_size=1, max_size=40)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def all_of(values: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(values), dtype=torch.bool)


@given(losses_lists)
def test_minmax_is_its_definition(losses: list[float]) -> None:
    x = tensor(losses)
    low, high = min(losses), max(losses)
    expected = [2 * (loss - low) / max(high - low, 1e-6) - 1 for loss in losses]
    assert minmax(x, all_of(x)).tolist() == pytest.approx(expected)


@given(losses_lists, st.floats(0.01, 0.4))
def test_quantile_is_its_definition(losses: list[float], share: float) -> None:
    x = tensor(losses)
    low = np.quantile(losses, share, method="higher")
    high = np.quantile(losses, 1 - share, method="lower")
    expected = np.clip(2 * (np.array(losses) - low) / max(high - low, 1e-6) - 1, -1, 1)
    assert quantile(x, all_of(x), share).tolist() == pytest.approx(expected.tolist(), abs=1e-9)


@given(losses_lists, st.data())
def test_what_is_not_valid_changes_nothing(losses: list[float], data: st.DataObject) -> None:
    x = tensor(losses)
    where = data.draw(st.integers(0, len(losses)))
    extra = tensor([*losses[:where], data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e30])), *losses[where:]])
    valid = all_of(extra)
    valid[where] = False
    mean, deviation = torch.tensor(3.0), torch.tensor(2.0)
    for normalize in (minmax, quantile, lambda x, v: standardized(x, v, mean, deviation)):
        assert torch.equal(normalize(extra, valid)[valid], normalize(x, all_of(x)))
        assert normalize(extra, valid)[where] == 0


@pytest.mark.parametrize("samples", [4, 8, 16, 64])
def test_one_outlier_flattens_minmax_but_not_quantiles(samples: int) -> None:
    x = torch.linspace(1, 5, samples, dtype=torch.float64)
    spoilt = x.clone()
    spoilt[-1] = 1e6
    spread = {f: float(f(spoilt, all_of(x))[:-1].std()) for f in (minmax, quantile)}
    assert spread[minmax] < 1e-4
    assert spread[quantile] > 0.4
    assert torch.equal(quantile(x, all_of(x))[:-1], quantile(spoilt, all_of(x))[:-1])


def test_one_outlier_moves_running_moments_little() -> None:
    generator = torch.Generator().manual_seed(0)
    running = Running.on(torch.device("cpu"))
    for step in range(300):
        losses = 3 + 0.5 * torch.randn(16, generator=generator, dtype=torch.float64)
        if step == 200:
            before = (running.mean.item(), running.deviation.item())
            losses[3] = 1e6
        running.observe(losses, all_of(losses))
        running.fold(decay=0.99)
        if step == 200:
            assert (running.mean.item(), running.deviation.item()) == pytest.approx(before, rel=0.05)
    assert (running.mean.item(), running.deviation.item()) == pytest.approx((3, 0.5), rel=0.1)


@given(st.lists(st.lists(st.floats(0, 20), min_size=0, max_size=5), min_size=1, max_size=6))
def test_running_moments_are_plain_means_at_first(steps: list[list[float]]) -> None:
    running = Running.on(torch.device("cpu"))
    mean = second = 0.0
    folded = 0
    for losses in steps:
        x = tensor(losses)
        reach = 4 * (second - mean * mean) ** 0.5 if folded and second > mean * mean else 0.0
        running.observe(x, all_of(x))
        running.fold(decay=0.9)
        if not losses:
            continue
        kept = np.clip(losses, mean - reach, mean + reach) if folded else np.array(losses)
        mean += (kept.mean() - mean) / (folded + 1)
        second += ((kept**2).mean() - second) / (folded + 1)
        folded += 1
        assert running.mean.item() == pytest.approx(mean, abs=1e-4)
        assert running.variance.item() == pytest.approx(second - mean * mean, abs=1e-4)
    assert running.updates.item() == folded
