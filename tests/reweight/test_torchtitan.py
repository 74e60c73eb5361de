"""torchtitan's loss: a sum over tokens, divided by the tokens of all ranks and micro-steps; weights of one keep it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="reweighting needs torch: pip install 'gneiss-curation[train]'")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

from gneiss.reweight.reweighter import SampleReweighter  # noqa: E402
from gneiss.reweight.torchtitan import torchtitan_loss  # noqa: E402

VOCABULARY, LENGTH, SAMPLES = 23, 12, 4
torch.set_num_threads(1)


def batches(steps: int = 5, micro_steps: int = 2) -> list[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Steps of micro-batches of flat ids and labels, (samples * length,); some tokens have no label."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (steps, micro_steps, SAMPLES, LENGTH + 1), generator=generator)
    ids[..., ::2, 1::2] = 3  # half of the samples are easy
    masked = torch.rand(steps, micro_steps, SAMPLES, LENGTH, generator=generator) < 0.2
    return [
        [(x[:, :-1].flatten(), x[:, 1:].masked_fill(m, -100).flatten()) for x, m in zip(*pairs, strict=True)]
        for pairs in zip(ids, masked, strict=True)
    ]


def their_loss(
    pred: Any, labels: Any, global_valid_tokens: Any = None, **_: Any
) -> tuple[torch.Tensor, dict[Any, Any]]:
    """What torchtitan does."""
    loss = F.cross_entropy(pred.float(), labels, reduction="sum", ignore_index=-100)
    return (loss if global_valid_tokens is None else loss / global_valid_tokens), {}


def token_by_token(pred: Any, labels: Any, global_valid_tokens: Any) -> tuple[torch.Tensor, dict[Any, Any]]:
    """The same, summed from losses of tokens, without weights."""
    losses = F.cross_entropy(pred.float(), labels, reduction="none", ignore_index=-100)
    return losses.view(-1, LENGTH).where(labels.view(-1, LENGTH) != -100, 0).sum() / global_valid_tokens, {}


def train(loss_fn: Any, after_step: Any = lambda: None) -> tuple[list[torch.Tensor], list[float]]:
    """torchtitan's loop: tokens counted over the whole step first, then micro-steps that add up."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(VOCABULARY, 16), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, VOCABULARY))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    logged = []
    for micro_batches in batches():
        optimizer.zero_grad()
        global_valid_tokens = torch.stack([(labels != -100).sum() for _, labels in micro_batches]).sum()
        total = torch.zeros(())
        for ids, labels in micro_batches:
            loss, _ = loss_fn(model(ids), labels, global_valid_tokens)
            loss.backward()
            total += loss.detach()
        optimizer.step()
        after_step()
        logged.append(total.item())
    return [parameter.detach().clone() for parameter in model.parameters()], logged


def adapted(reweighter: SampleReweighter) -> Any:
    return partial(torchtitan_loss, reweighter, sequence_length=LENGTH)


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "uniform"},
        {"r": math.inf},
        {"burn_in_steps": 100},
        {"strategy": "uniform", "scope": "step-ema", "normalizer": "ema"},
    ],
)
def test_uniform_weights_leave_a_run_as_it_was_bit_for_bit(options: dict[str, Any]) -> None:
    reweighter = SampleReweighter(**options)
    found, log = train(adapted(reweighter), reweighter.step)
    same_code, same_log = train(token_by_token)
    theirs, their_log = train(their_loss)
    assert log == same_log
    assert log == pytest.approx(their_log, rel=1e-6)  # PyTorch's own sum may round otherwise
    for parameters in (same_code, theirs):
        assert all(torch.equal(a, b) for a, b in zip(found, parameters, strict=True))


def test_other_weights_do_not() -> None:
    reweighter = SampleReweighter("linupper", r=0.4)
    found, log = train(adapted(reweighter), reweighter.step)
    theirs, their_log = train(their_loss)
    assert not torch.equal(found[0], theirs[0])
    assert log[0] == pytest.approx(their_log[0])  # the log is of the unweighted loss
    assert reweighter.steps == 5


def test_the_gradient_is_that_of_the_weighted_sum_over_the_tokens_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    pred = (3 * torch.randn(3 * LENGTH, VOCABULARY, generator=generator)).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (3 * LENGTH,), generator=generator)
    labels[5:9] = -100
    log_prior = torch.tensor([0.0, 0.5, -0.5])
    loss, metrics = torchtitan_loss(
        SampleReweighter("linear", r=0.4), pred, labels, 100, sequence_length=LENGTH, log_prior=log_prior, positions=1
    )
    assert metrics == {}
    loss.backward()
    rows, mask = labels.view(3, LENGTH), labels.view(3, LENGTH) != -100
    samples = zip(pred.detach().view(3, LENGTH, -1), rows, strict=True)
    losses = torch.stack([F.cross_entropy(sample, row, reduction="none") for sample, row in samples])
    means = torch.stack([row[kept].mean() for row, kept in zip(losses, mask, strict=True)])
    weights = SampleReweighter("linear", r=0.4).weights(means, tokens=mask.sum(1), log_prior=log_prior)
    assert (weights * mask.sum(1)).sum() / mask.sum() == pytest.approx(1, rel=1e-5)
    assert loss.item() == pytest.approx(losses[mask].sum().item() / 100, rel=1e-5)
    again = pred.detach().clone().requires_grad_()
    flat = F.cross_entropy(again, labels, reduction="none") * weights.repeat_interleave(LENGTH)
    (flat.sum() / 100).backward()
    assert torch.allclose(pred.grad, again.grad, atol=1e-7)


def test_batches_with_a_dimension_of_their_own_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    pred = torch.randn(3, LENGTH, VOCABULARY, generator=generator, requires_grad=True)
    labels = torch.randint(0, VOCABULARY, (3, LENGTH), generator=generator)
    found, _ = torchtitan_loss(SampleReweighter(), pred, labels)
    flat, _ = torchtitan_loss(SampleReweighter(), pred.flatten(0, 1), labels.flatten(), sequence_length=LENGTH)
    assert found.item() == flat.item() == pytest.approx(their_loss(pred.flatten(0, 1), labels.flatten())[0].item())


def test_validation_is_not_weighted_and_not_counted() -> None:
    reweighter = SampleReweighter("linear", scope="step-ema", normalizer="ema")
    pred, labels = torch.randn(2 * LENGTH, VOCABULARY), torch.zeros(2 * LENGTH, dtype=torch.int64)
    with torch.no_grad():
        loss, _ = torchtitan_loss(reweighter, pred, labels, 24, sequence_length=LENGTH)
    assert loss.item() == pytest.approx(their_loss(pred, labels, 24)[0].item())
    assert reweighter.state_dict()["calls"] == 0


def test_a_loss_that_is_not_finite_still_shows() -> None:
    pred = torch.zeros(2 * LENGTH, VOCABULARY)
    pred[0] = math.nan
    loss, _ = torchtitan_loss(
        SampleReweighter(), pred.requires_grad_(), torch.ones(2 * LENGTH, dtype=torch.int64), sequence_length=LENGTH
    )
    assert loss.isnan()  # torchtitan stops there, before the optimizer


@pytest.mark.parametrize(
    ("pred", "labels", "length", "message"),
    [
        ((24, 5), (12,), 12, r"labels of shape \(12,\), found \(24, 5\)"),
        ((24, 5), (24,), None, "sequence_length: pred and labels are flat"),
        ((24, 5), (24,), 7, "7 does not divide the 24 tokens of labels; every sample must be whole"),
        ((24, 5), (24,), 0, "0 does not divide"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(pred: Any, labels: Any, length: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torchtitan_loss(
            SampleReweighter(), torch.zeros(pred), torch.zeros(labels, dtype=torch.int64), sequence_length=length
        )
