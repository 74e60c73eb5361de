"""Losses of tokens, of samples and of the documents in them, and what the position in a document explains.

A sequence packed from several documents comes with document ids: for every token loss, the document of its target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

#: Document id of tokens without a document, and label of tokens without a loss (PyTorch's ignore_index).
NO_DOCUMENT, NO_LABEL = -1, -100


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of a micro-batch; all (samples,), on one device, without gradient.

    `losses`: float32 mean losses over unmasked tokens, NaN without any; `tokens`: int64 unmasked tokens;
    `log_prior`: natural logarithms, or None; `domain`: integers, or None.
    """

    losses: Tensor
    tokens: Tensor
    log_prior: Tensor | None = None
    domain: Tensor | None = None

    def __len__(self) -> int:
        return len(self.losses)


@dataclass(frozen=True, eq=False)
class DocumentLosses:
    """Losses of the spans of documents in a micro-batch, by sample, then in order; all (spans,), without gradient.

    `sample`, `document`: int64, where the span is, the document by its id in the sample; `loss_sum`: float32 sum of its
    token losses; `tokens`: int64; `expected_sum`: float32, what the loss sum of average documents is at its positions,
    or None.
    """

    sample: Tensor
    document: Tensor
    loss_sum: Tensor
    tokens: Tensor
    expected_sum: Tensor | None = None


def token_losses(logits: Tensor, labels: Tensor, *, shift: bool = True) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every token, computed in float32, and which tokens have one.

    Parameters: `logits`: (samples, tokens, vocabulary), any float dtype; `labels`: (samples, tokens) integers, -100 for
    no loss; `shift`: the target of position t is label t + 1 (as in Hugging Face), not label t.
    Returns losses (samples, tokens) float32 with gradient, 0 where masked, and the mask (samples, tokens) bool.

    >>> losses, mask = token_losses(torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]]))
    >>> losses.tolist(), mask.tolist()
    ([[1.3862943649291992, 0.0, 0.0]], [[True, False, False]])
    """
    if shift:
        labels = F.pad(labels[:, 1:], (0, 1), value=NO_LABEL)
    flat = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL, reduction="none")
    return flat.view(labels.shape), labels != NO_LABEL


def samples_of(
    losses: Tensor, mask: Tensor, *, log_prior: Tensor | None = None, domain: Tensor | None = None
) -> Samples:
    """The mean loss of every sample, detached, summed in float32 also where token losses are bfloat16.

    Parameters: `losses`: (samples, tokens) floats; `mask`: (samples, tokens) bool; the others as in Samples.

    >>> samples = samples_of(torch.tensor([[1.0, 3.0], [5.0, 0.0]]), torch.tensor([[True, True], [True, False]]))
    >>> samples.losses.tolist(), samples.tokens.tolist()
    ([2.0, 5.0], [2, 1])
    """
    tokens = mask.sum(1)
    sums = losses.detach().where(mask, 0).sum(1, dtype=torch.float32)
    return Samples(sums / tokens, tokens, log_prior, domain)


def document_ids(lengths: Sequence[Sequence[int]], tokens: int) -> Tensor:
    """Document ids from the lengths of the documents in every sequence: 0, 0, 0, 1, 1, …, and -1 after the last.

    Parameters: `lengths`: tokens of each document's span, for every sample, in order; `tokens`: of a sequence.
    Returns (samples, tokens) int64. Raises ValueError where the lengths exceed the sequence. For losses of shifted
    labels it is `document_ids(...)[:, 1:]`: the document of the target counts.

    >>> document_ids([[2, 1], [4]], 4).tolist()
    [[0, 0, 1, -1], [0, 0, 0, 0]]
    """
    ids = torch.full((len(lengths), tokens), NO_DOCUMENT)
    for row, spans in zip(ids, lengths, strict=True):
        if sum(spans) > tokens:
            raise ValueError(f"lengths: documents of {sum(spans)} tokens in a sequence of {tokens}")
        row[: sum(spans)] = torch.arange(len(spans)).repeat_interleave(torch.tensor(spans, dtype=torch.int64))
    return ids


def positions_of(ids: Tensor) -> Tensor:
    """The position of every token in its document's span, from 0; (samples, tokens) int64.

    Parameters: `ids`: (samples, tokens) integers, equal over each document's consecutive tokens.

    >>> positions_of(torch.tensor([[0, 0, 0, 1, 1, -1]])).tolist()
    [[0, 1, 2, 0, 1, 0]]
    """
    index = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    starts = torch.ones_like(ids, dtype=torch.bool)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    return index - index.where(starts, 0).cummax(1).values


def document_losses(losses: Tensor, mask: Tensor, ids: Tensor, expected: Tensor | None = None) -> DocumentLosses:
    """The loss of every document's span in a micro-batch; a document that comes twice in a sequence is two spans.

    Parameters: `losses`: (samples, tokens) floats; `mask`: (samples, tokens) bool; `ids`: (samples, tokens)
    integers, negative for no document; `expected`: (samples, tokens), from PositionBaseline. Spans without an unmasked
    token are left out. On a GPU this waits for it.

    >>> found = document_losses(torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3) > 0, torch.tensor([[0, 0, 1]]))
    >>> found.document.tolist(), found.loss_sum.tolist(), found.tokens.tolist()
    ([0, 1], [3.0, 4.0], [2, 1])
    """
    mask = mask & (ids >= 0)
    first = positions_of(ids) == 0
    span = first.flatten().cumsum(0) - 1  # a sequence starts a span, so none reaches into the next
    size = int(first.sum())
    tokens = torch.zeros(size, dtype=torch.int64, device=losses.device).index_add_(0, span, mask.flatten().long())

    def total(values: Tensor) -> Tensor:
        sums = torch.zeros(size, dtype=torch.float32, device=values.device)
        return sums.index_add_(0, span, values.detach().float().where(mask, 0).flatten())[tokens > 0]

    sample, column = first.nonzero(as_tuple=True)
    return DocumentLosses(
        sample=sample[tokens > 0],
        document=ids[sample, column][tokens > 0],
        loss_sum=total(losses),
        tokens=tokens[tokens > 0],
        expected_sum=None if expected is None else total(expected),
    )
