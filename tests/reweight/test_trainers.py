"""A plain loop: weights of one leave it bit for bit as it was, others follow the formula, bad samples add nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from gneiss.reweight.reweighter import SampleReweighter  # noqa: E402
from gneiss.reweight.tokens import Samples, samples_of, token_losses  # noqa: E402
from gneiss.reweight.trainers import reweighted_loss, two_pass_weights, weighted_sum  # noqa: E402

VOCABULARY = 29
torch.set_num_threads(1)  # models are so small that threads wait for each other


class Model(nn.Module):
    """A small language model with dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, 16)
        self.mixer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.mixer(self.embedding(ids), mask, is_causal=True))


def batches(steps: int = 6) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels, (8, 11); some tokens have no label."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (steps, 8, 12), generator=generator)
    ids[:, ::2, 1::2] = 3  # half of the samples are easy
    masked = torch.rand(steps, 8, 11, generator=generator) < 0.1
    return [(x[:, :-1], x[:, 1:].masked_fill(m, -100)) for x, m in zip(ids, masked, strict=True)]


def train(loss_of: Any, after_step: Any = lambda: None) -> tuple[list[torch.Tensor], list[float]]:
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    logged = []
    for ids, labels in batches():
        optimizer.zero_grad()
        loss, log = loss_of(model, ids, labels)
        loss.backward()
        optimizer.step()
        after_step()
        logged.append(float(log))
    return [parameter.detach().clone() for parameter in model.parameters()], logged


def unweighted(model: Model, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The trainer as it was: the mean over unmasked tokens."""
    losses = F.cross_entropy(model(ids).flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
    mask = labels != -100
    loss = (losses * mask).sum() / mask.sum()
    return loss, loss.detach()


@pytest.fixture(scope="module")
def plain() -> tuple[list[torch.Tensor], list[float]]:
    """The parameters that the trainer as it was ends with, and its log."""
    return train(unweighted)


def by_hand(reweighter: SampleReweighter) -> Any:
    """The trainer as it was, with one factor more, as the documentation has it."""

    def loss_of(model: Model, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        losses = F.cross_entropy(model(ids).flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape)
        mask = labels != -100
        weights = reweighter.weights((losses.detach() * mask).sum(1) / mask.sum(1), tokens=mask.sum(1))
        return (losses * weights[:, None] * mask).sum() / mask.sum(), losses.detach().sum() / mask.sum()

    return loss_of


def by_adapter(reweighter: SampleReweighter) -> Any:
    def loss_of(model: Model, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = reweighted_loss(reweighter, *token_losses(model(ids), labels, shift=False))
        return found.loss, found.unweighted

    return loss_of


def by_two_passes(reweighter: SampleReweighter) -> Any:
    def loss_of(model: Model, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def samples(rows: slice) -> Samples:
            return samples_of(*token_losses(model(ids[rows]), labels[rows], shift=False))

        (weights,) = two_pass_weights(reweighter, samples, [slice(None)])
        found = reweighted_loss(reweighter, *token_losses(model(ids), labels, shift=False), weights=weights)
        return found.loss, found.unweighted

    return loss_of


@pytest.mark.parametrize("options", [{"strategy": "uniform"}, {"r": math.inf}, {"burn_in_steps": 100}])
@pytest.mark.parametrize(
    ("loop", "scope"),
    [(by_hand, "micro-step"), (by_adapter, "micro-step"), (by_adapter, "step-ema"), (by_two_passes, "step-two-pass")],
)
def test_uniform_weights_leave_a_run_as_it_was_bit_for_bit(plain: Any, loop: Any, scope: Any, options: Any) -> None:
    reweighter = SampleReweighter(scope=scope, normalizer="ema" if scope == "step-ema" else "minmax", **options)
    expected, expected_log = plain
    found, log = train(loop(reweighter), reweighter.step)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert log == expected_log if loop is not by_hand else log == pytest.approx(expected_log)


def test_other_weights_do_not(plain: Any) -> None:
    expected, _ = plain
    reweighter = SampleReweighter("linupper", r=0.4)
    found, _ = train(by_adapter(reweighter), reweighter.step)
    assert not torch.equal(found[0], expected[0])


def test_the_adapter_is_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = (3 * torch.rand(6, 9, generator=generator)).requires_grad_()
    mask = torch.rand(6, 9, generator=generator) < 0.8
    found = reweighted_loss(SampleReweighter("linear", r=0.4), losses, mask)
    means = torch.stack([row[kept].mean() for row, kept in zip(losses.detach(), mask, strict=True)])
    assert found.samples.losses.tolist() == pytest.approx(means.tolist())
    assert found.samples.tokens.tolist() == mask.sum(1).tolist()
    weights = SampleReweighter("linear", r=0.4).weights(means, tokens=mask.sum(1))
    assert found.weights.tolist() == pytest.approx(weights.tolist(), rel=1e-5)
    assert found.loss.item() == pytest.approx(((losses * weights[:, None])[mask].sum() / mask.sum()).item())
    assert found.unweighted.item() == pytest.approx(losses[mask].mean().item())
    assert not found.unweighted.requires_grad
    found.loss.backward()
    assert torch.allclose(losses.grad, weights[:, None] * mask / mask.sum())


def test_a_nan_of_weight_zero_adds_nothing_to_loss_and_gradient() -> None:
    losses = torch.tensor([[1.0, 2.0], [math.nan, 2.0], [3.0, 5.0]], requires_grad=True)
    mask = torch.ones(3, 2, dtype=torch.bool)
    found = reweighted_loss(SampleReweighter("uniform"), losses, mask)
    assert found.weights.tolist() == [1, 0, 1]
    assert found.loss.item() == pytest.approx(11 / 6)
    found.loss.backward()
    assert torch.allclose(losses.grad, torch.tensor([[1 / 6] * 2, [0, 0], [1 / 6] * 2]))
    assert found.unweighted.isnan()  # the log does not hide it


def test_a_micro_batch_without_tokens_has_a_loss_of_zero() -> None:
    for shape in ((0, 4), (2, 4)):
        losses = torch.zeros(shape, requires_grad=True)
        found = reweighted_loss(SampleReweighter(), losses, torch.zeros(shape, dtype=torch.bool))
        assert (found.loss.item(), found.unweighted.item()) == (0, 0)
        found.loss.backward()
        assert losses.grad.isfinite().all()


def test_bfloat16_token_losses_are_summed_in_float32() -> None:
    losses = torch.full((2, 4000), 1.0, dtype=torch.bfloat16)
    total = weighted_sum(losses, torch.ones(2, 4000, dtype=torch.bool), torch.tensor([1.5, 0.5]))
    assert (total.dtype, total.item()) == (torch.float32, 8000)


def test_two_passes_ask_for_their_scope() -> None:
    with pytest.raises(ValueError, match="need scope 'step-two-pass', found 'micro-step'"):
        two_pass_weights(SampleReweighter(), lambda batch: batch, [])
