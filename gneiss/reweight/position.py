"""The effect of a token's position in its document on the loss: early tokens have little context.

Without a correction, short documents and those that start in a sequence look hard. A document's loss minus the mean
loss at its positions is comparable between documents.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Positions 0, 1, 2-3, 4-7, … up to 2^38: one bucket for each power of two.
BUCKETS = 40


def position_bucket(positions: Tensor) -> Tensor:
    """The bucket of a position in a document: 0 for 0, then 1 + ⌊log2⌋.

    Parameters: `positions`: integers below 2^38, any shape. Returns int64 of that shape.

    >>> position_bucket(torch.tensor([0, 1, 2, 3, 4, 1023, 1024])).tolist()
    [0, 1, 2, 2, 3, 10, 11]
    """
    return torch.frexp(positions.to(torch.float64)).exponent.to(torch.int64)


class PositionBaseline:
    """The mean token loss by position in the document, over a moving window of tokens.

    `decay`: per `update`. Before any token is seen at a position, the loss expected there is the mean over all
    positions seen.

    >>> baseline = PositionBaseline()
    >>> losses, positions = torch.tensor([[6.0, 4.0, 2.0, 2.0]]), torch.tensor([[0, 1, 2, 3]])
    >>> baseline.update(losses, positions, torch.ones(1, 4, dtype=torch.bool))
    >>> baseline.expected(torch.tensor([[0, 3, 500]])).tolist()
    [[6.0, 2.0, 3.5]]
    """

    def __init__(self, decay: float = 0.99, device: torch.device | str = "cpu") -> None:
        self.decay = decay
        self.sums = torch.zeros(2, BUCKETS, device=device)  # of losses, of tokens

    def update(self, losses: Tensor, positions: Tensor, mask: Tensor) -> None:
        """Add the token losses of a step; all (samples, tokens); non-finite ones are ignored."""
        losses = losses.detach().float()
        use = mask & losses.isfinite()
        values = torch.stack([losses.where(use, 0).flatten(), use.flatten().float()])
        sums = torch.zeros_like(self.sums).index_add_(1, position_bucket(positions).flatten(), values)
        self.sums = self.decay * self.sums + sums

    def expected(self, positions: Tensor) -> Tensor:
        """The mean loss at positions, float32 of their shape; NaN before the first update."""
        losses, tokens = self.sums
        mean: Tensor = (losses / tokens).where(tokens > 0, losses.sum() / tokens.sum())
        return mean.take(position_bucket(positions))

    def state_dict(self) -> dict[str, list[list[float]]]:
        """The state as plain numbers."""
        return {"sums": self.sums.tolist()}

    def load_state_dict(self, state: dict[str, list[list[float]]]) -> None:
        """Restore a state."""
        self.sums = torch.tensor(state["sums"], device=self.sums.device)
