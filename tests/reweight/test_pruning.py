"""Unbiased pruning: draws belong to ids, the expected weight is one, and the last epochs leave nothing out."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.reweight.pruning import pruning_weights

Loss = st.one_of(st.floats(0, 20), st.sampled_from([math.nan, math.inf]))


def slow(ids: list[int], losses: list[float], share: float, **rest: Any) -> list[float]:
    """The definition, one sample at a time; whether an easy one is left out is asked of it alone."""
    known = [loss for loss in losses if math.isfinite(loss)]
    mean = math.fsum(known) / len(known) if known else 0.0
    found = []
    for id_, loss in zip(ids, losses, strict=True):
        if not math.isfinite(loss) or loss >= mean:
            found.append(1.0)
        else:  # beside a sample of high loss, so that it is easy there, too
            alone = pruning_weights([id_, id_ + 1], [0, 2], share=share, **rest)[0]
            assert alone in (0, np.float32(1 / (1 - share)))
            found.append(float(alone))
    return found


@given(st.dictionaries(st.integers(0, 2**40), Loss, max_size=12), st.floats(0, 0.9), st.integers(0, 6), st.integers())
def test_against_the_definition(samples: dict[int, float], share: float, epoch: int, seed: int) -> None:
    ids, losses = list(samples), list(samples.values())
    rest = {"epoch": epoch, "epochs": 8, "seed": seed}
    assert pruning_weights(ids, losses, share=share, **rest).tolist() == slow(ids, losses, share, **rest)


@given(st.permutations(range(20)), st.integers(0, 20))
def test_a_sample_has_the_same_weight_on_whatever_rank_and_in_whatever_order(order: list[int], cut: int) -> None:
    losses = np.sin(np.arange(20.0))
    options: dict[str, Any] = {"epoch": 2, "epochs": 8, "seed": 5}
    whole = pruning_weights(range(20), losses, **options)
    assert set(whole.tolist()) == {0, 1, 2}
    assert pruning_weights(order, losses[order], **options).tolist() == whole[order].tolist()
    mean = math.fsum(losses.tolist()) / 20
    parts = [pruning_weights(part, losses[part], mean_loss=mean, **options) for part in (order[:cut], order[cut:])]
    assert np.concatenate(parts).tolist() == whole[order].tolist()


def test_over_all_outcomes_the_expected_gradient_is_the_unweighted_one() -> None:
    """Every pattern of easy samples comes as often as its probability says; their mean gradient is the sum of all."""
    losses = np.array([0.1, 0.4, 0.2, 3.0, 2.5, math.nan])
    gradients = np.random.default_rng(0).normal(size=(6, 4))
    share, draws = 0.25, 8000
    patterns = Counter(
        tuple(pruning_weights(range(6), losses, epoch=0, epochs=1, share=share, seed=seed).tolist())
        for seed in range(draws)
    )
    kept = float(np.float32(1 / (1 - share)))
    exact = np.zeros(4)
    chi_square = 0.0
    for easy in itertools.product((0.0, kept), repeat=3):
        probability = math.prod(share if weight == 0 else 1 - share for weight in easy)
        pattern = (*easy, 1.0, 1.0, 1.0)
        exact += probability * (np.array(pattern) @ gradients)
        chi_square += (patterns[pattern] - draws * probability) ** 2 / (draws * probability)
        del patterns[pattern]
    assert not patterns  # no other pattern came
    assert exact == pytest.approx(gradients.sum(0), rel=1e-6)
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in a thousand, and the seeds are fixed


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_over_many_samples_and_epochs_the_mean_weight_is_one(share: float) -> None:
    ids = np.arange(20_000)
    losses = np.where(ids % 3, 1.0, 9.0)
    weights = [pruning_weights(ids, losses, epoch=epoch, epochs=10, share=share) for epoch in range(8)]
    easy = np.stack(weights)[:, ids % 3 > 0]
    left_out = (easy == 0).mean()
    deviation = math.sqrt(share * (1 - share) / easy.size)
    assert left_out == pytest.approx(share, abs=4 * deviation)
    assert easy.mean() == pytest.approx(1, abs=4 * deviation / (1 - share))
    # epochs are independent: both leave a sample out share² of the time
    both = ((easy[0] == 0) & (easy[1] == 0)).mean()
    assert both == pytest.approx(share**2, abs=5 * math.sqrt(share**2 / easy.shape[1]))
    assert all((row[ids % 3 == 0] == 1).all() for row in weights)


def test_the_last_epochs_and_the_first_have_all_samples() -> None:
    def left_out(epoch: int, losses: Any, **options: Any) -> int:
        return int((pruning_weights(range(200), losses, epoch=epoch, epochs=8, **options) == 0).sum())

    losses = np.arange(200.0)
    assert [left_out(epoch, losses) > 0 for epoch in range(8)] == [True] * 7 + [False]
    assert [left_out(epoch, losses, anneal_from=0.5) > 0 for epoch in range(8)] == [True] * 4 + [False] * 4
    assert left_out(7, losses, anneal_from=1.0) > 0
    assert left_out(0, losses, anneal_from=0.0) == left_out(0, losses, share=0.0) == 0
    assert left_out(0, np.full(200, math.nan)) == 0  # nothing has been seen
    assert left_out(0, np.full(200, 3.0)) == 0  # none is below the mean


def test_other_seeds_leave_out_others_and_nothing_global_is_drawn() -> None:
    state = np.random.get_state()[1].tolist()
    losses = np.arange(500.0)
    found = [pruning_weights(range(500), losses, epoch=0, epochs=2, seed=seed).tolist() for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.0}, "share: expected 0 or more and less than 1"),
        ({"share": math.nan}, "share: expected"),
        ({"anneal_from": 1.5}, "anneal_from: expected a part"),
        ({"epoch": 4}, "epoch: expected a number from 0, smaller than 4"),
        ({"ids": [0, 1]}, r"the same shape \(samples,\), found \(2,\) and \(3,\)"),
        ({"ids": [0, 1, -1]}, "ids: expected integers from 0"),
        ({"ids": [0.5, 1, 2]}, "ids: expected integers from 0"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"ids": [0, 1, 2], "losses": [1.0, 2.0, 3.0], "epoch": 0, "epochs": 4, **given}
    with pytest.raises(ValueError, match=message):
        pruning_weights(options.pop("ids"), options.pop("losses"), **options)


def test_no_samples() -> None:
    assert pruning_weights([], [], epoch=0, epochs=1).shape == (0,)
