"""A small GPT: a decoder-only transformer with learned positions, as plain as it goes. Needs torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from gneiss.ablate.sizes import Size


@dataclass(frozen=True)
class Shape:
    """What a model is built for: its size, ids of the vocabulary, tokens of a sequence."""

    size: Size
    vocabulary: int
    length: int


class GPT(nn.Module):  # type: ignore[misc]
    """Tokens int64 (sequences, length) → logits (sequences, length, vocabulary). The head is the embedding.

    Source: Radford et al., Language models are unsupervised multitask learners (2019).
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.size.width
        self.tokens = nn.Embedding(shape.vocabulary, width)
        self.positions = nn.Embedding(shape.length, width)
        self.blocks = nn.ModuleList(Block(width, shape.size.heads) for _ in range(shape.size.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of the token after each."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.norm(x) @ self.tokens.weight.T
        return logits


class Block(nn.Module):  # type: ignore[misc]
    """Causal attention, then a perceptron, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.attended = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(sequences, length, width) → the same shape."""
        sequences, length, width = x.shape
        heads = self.attend(self.norm_attention(x)).view(sequences, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        seen = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attended(seen.transpose(1, 2).reshape(sequences, length, width))
        changed: Tensor = x + self.down(gelu(self.up(self.norm_perceptron(x))))
        return changed


def new_model(shape: Shape, seed: int, device: str = "cpu") -> GPT:
    """A model with normal parameters of a seed, the same on every device; no global random state is touched.

    >>> from gneiss.ablate.sizes import SIZES
    >>> model = new_model(Shape(SIZES["1m"], vocabulary=300, length=16), seed=0)
    >>> model(torch.zeros(2, 16, dtype=torch.int64)).shape
    torch.Size([2, 16, 300])
    """
    with torch.device("meta"):  # whose parameters are not drawn from the global generator
        model = GPT(shape)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    deviation = 0.5 / math.sqrt(shape.size.width)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".norm" in name or name.startswith("norm") or name.endswith("bias"):
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
            else:  # GPT-2's: what is added to a layer's input is the smaller the more layers add
                is_added = name.endswith(("attended.weight", "down.weight"))
                scale = deviation / math.sqrt(2 * shape.size.layers) if is_added else deviation
                parameter.normal_(0.0, scale, generator=generator)
    model.to(device)  # in place; its parameters move
    return model
