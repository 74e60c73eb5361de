"""The linear model against plain arithmetic and finite differences; what mini-batches are drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.model_training.federated.features import SparseRows
from gneiss.model_training.federated.linear import Examples, Sampling, draw_of, logits, loss_and_gradient, predicted

FEATURES = 5
seeds = st.integers(0, 10_000)


def examples(seed: int, outputs: int, rows: int = 12) -> tuple[Examples, np.ndarray]:
    """Some, and their features as a dense matrix."""
    draw = np.random.default_rng(seed)
    dense = np.where(draw.random((rows, FEATURES)) < 0.5, draw.integers(1, 4, (rows, FEATURES)), 0) / 8
    row, column = np.nonzero(dense)
    starts = np.searchsorted(row, np.arange(rows + 1))
    sparse = SparseRows(starts, column.astype(np.int32), dense[row, column].astype(np.float32))
    return Examples(sparse, draw.integers(0, max(outputs, 2), rows)), dense


def loss(w: np.ndarray, dense: np.ndarray, labels: np.ndarray, l2: float) -> float:
    z = 16 * dense @ w
    if w.shape[1] == 1:
        z = np.concatenate([np.zeros_like(z), z], axis=1)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(labels)), labels].mean() + l2 / 2 * (w**2).sum())


@given(seeds, st.sampled_from([1, 2, 3, 7]))
def test_loss_and_gradient(seed: int, outputs: int) -> None:
    given_, dense = examples(seed, outputs)
    draw = np.random.default_rng(seed)
    w, chosen = draw.normal(size=(FEATURES, outputs)), draw.integers(0, len(given_), 9)
    found, gradient = loss_and_gradient(w, given_, chosen, 0.1)
    assert found == pytest.approx(loss(w, dense[chosen], given_.labels[chosen], 0.1), abs=1e-10)
    for at in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[at] = 1e-5
        ends = [loss(w + sign * step, dense[chosen], given_.labels[chosen], 0.1) for sign in (1, -1)]
        assert gradient[at] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


@given(seeds, st.sampled_from([1, 4]))
def test_logits_and_labels(seed: int, outputs: int) -> None:
    given_, dense = examples(seed, outputs)
    w = np.random.default_rng(seed).normal(size=(FEATURES, outputs))
    assert logits(w, given_.rows) == pytest.approx(16 * dense @ w, abs=1e-12)
    expected = (16 * dense @ w)[:, 0] >= 0 if outputs == 1 else (16 * dense @ w).argmax(axis=1)
    has_features = dense.any(axis=1)
    assert np.array_equal(predicted(w, given_.rows)[has_features], expected[has_features].astype(int))


def test_large_logits_are_no_trouble() -> None:
    given_, _ = examples(1, 1)
    for w in (np.full((FEATURES, 1), 1e9), np.full((FEATURES, 3), -1e9)):
        found, gradient = loss_and_gradient(w, given_, np.arange(12))
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()


def test_a_task_that_is_done_again_draws_the_same() -> None:
    given_, _ = examples(3, 1)
    w = np.ones((FEATURES, 1), np.float32)
    first, again, other = (
        Sampling(4, min_documents=1).gradient(given_, draw_of(1, 2, site)) for site in ("a", "a", "b")
    )
    drawn = [first(w) for _ in range(5)]
    assert all(np.array_equal(one, again(w)) for one in drawn)
    assert not all(np.array_equal(one, other(w)) for one in drawn)
    assert drawn[0].dtype == np.float32


@given(seeds, st.integers(2, 6))
def test_a_feature_of_few_documents_has_no_gradient(seed: int, min_documents: int) -> None:
    given_, dense = examples(seed, 1, rows=6)
    w = np.ones((FEATURES + 3, 1))  # three more that no document has
    draws = [np.random.default_rng(seed) for _ in range(2)]
    hidden = np.append((dense > 0).sum(axis=0) < min_documents, [True] * 3)
    all_of_it = Sampling(6, 0.1, 1).gradient(given_, draws[0])(w)
    found = Sampling(6, 0.1, min_documents).gradient(given_, draws[1])(w)
    assert not found[hidden].any()
    assert np.array_equal(found[~hidden], all_of_it[~hidden])
