"""Token, sample and document losses against loops over tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from gneiss.reweight.position import PositionBaseline, position_bucket  # noqa: E402
from gneiss.reweight.tokens import (  # noqa: E402
    document_ids,
    document_losses,
    positions_of,
    samples_of,
    token_losses,
)

TOKENS = 9
lengths_of_spans = st.lists(st.integers(1, 5), max_size=4).filter(lambda lengths: sum(lengths) <= TOKENS)
packings = st.lists(lengths_of_spans, min_size=1, max_size=4)


@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_token_losses_are_minus_log_probabilities(shift: bool, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 5, 7, generator=generator)).to(dtype)
    labels = torch.tensor([[1, 2, -100, 4, 5], [6, 0, 1, -100, -100]])
    losses, mask = token_losses(logits, labels, shift=shift)
    assert losses.dtype == torch.float32
    for row in range(2):
        for t in range(5):
            target = t + 1 if shift else t
            label = int(labels[row, target]) if target < 5 else -100
            assert bool(mask[row, t]) == (label != -100)
            chance = logits[row, t].double().softmax(0)
            expected = -math.log(chance[label]) if label != -100 else 0.0
            assert losses[row, t].item() == pytest.approx(expected, rel=1e-5)


def test_sample_losses_are_float32_means_without_gradient() -> None:
    losses = torch.full((2, 3000), 1.003, dtype=torch.bfloat16).requires_grad_()
    mask = torch.ones(2, 3000, dtype=torch.bool)
    mask[1] = False
    samples = samples_of(losses, mask)
    assert samples.losses.dtype == torch.float32
    assert not samples.losses.requires_grad
    assert samples.losses[0].item() == pytest.approx(losses[0, 0].item(), rel=1e-5)  # a bfloat16 sum would be far off
    assert samples.losses[1].isnan()
    assert samples.tokens.tolist() == [3000, 0]


def test_a_masked_nan_is_nobodys() -> None:
    losses = torch.tensor([[1.0, math.nan, 3.0]])
    assert samples_of(losses, torch.tensor([[True, False, True]])).losses.tolist() == [2.0]


@given(packings, st.data())
def test_documents_against_a_loop(lengths: list[list[int]], data: st.DataObject) -> None:
    ids = document_ids(lengths, TOKENS)
    values = st.lists(st.integers(0, 50), min_size=TOKENS, max_size=TOKENS)
    losses = torch.tensor([data.draw(values) for _ in lengths], dtype=torch.float32)
    mask = torch.tensor([data.draw(values) for _ in lengths]) > 10
    found = document_losses(losses, mask, ids, expected=2 * losses)
    expected = []
    positions = torch.zeros_like(ids)
    for sample, lengths_of_sample in enumerate(lengths):
        start = 0
        for document, length in enumerate(lengths_of_sample):
            span = range(start, start + length)
            for t in span:
                assert ids[sample, t] == document
                positions[sample, t] = t - start
            kept = [losses[sample, t].item() for t in span if mask[sample, t]]
            if kept:
                expected.append((sample, document, sum(kept), len(kept), 2 * sum(kept)))
            start += length
        assert (ids[sample, start:] == -1).all()
        positions[sample, start:] = torch.arange(TOKENS - start)
    columns = (found.sample, found.document, found.loss_sum, found.tokens, found.expected_sum)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    assert torch.equal(positions_of(ids), positions)


def test_lengths_that_exceed_the_sequence_are_refused() -> None:
    with pytest.raises(ValueError, match="documents of 10 tokens in a sequence of 9"):
        document_ids([[4, 6]], 9)


@given(st.lists(st.integers(0, 2**37), min_size=1))
def test_buckets_of_positions(positions: list[int]) -> None:
    assert position_bucket(torch.tensor(positions)).tolist() == [position.bit_length() for position in positions]


def test_the_baseline_takes_away_what_position_explains() -> None:
    # losses are 8 / (1 + bucket), whatever the document: short ones look hard until that is taken away
    lengths = [[100], [4] * 25]
    ids = document_ids(lengths, 100)
    positions = positions_of(ids)
    losses = 8.0 / (1 + position_bucket(positions))
    mask = torch.ones_like(ids, dtype=torch.bool)
    baseline = PositionBaseline()
    for _ in range(3):
        baseline.update(losses, positions, mask)
    found = document_losses(losses, mask, ids, baseline.expected(positions))
    means = found.loss_sum / found.tokens
    assert means[1] > 2 * means[0]
    assert torch.allclose(found.loss_sum, found.expected_sum)
    again = PositionBaseline()
    again.load_state_dict(baseline.state_dict())
    assert torch.equal(again.expected(positions), baseline.expected(positions))
