"""Sizes of proxy models, and how they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gneiss.errors import InputError


@dataclass(frozen=True)
class Size:
    """Of a transformer; learning_rate: the highest, for AdamW.

    >>> Size(128, 4, 4, 4e-3).parameters(vocabulary=2048, length=256)
    1086208
    """

    width: int
    layers: int
    heads: int
    learning_rate: float

    def parameters(self, vocabulary: int, length: int) -> int:
        """The number of parameters with a vocabulary and a length of sequences."""
        block = 12 * self.width**2 + 9 * self.width
        return (vocabulary + length) * self.width + self.layers * block + 2 * self.width


#: By about how many parameters they have.
SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(64, 2, 2, 4e-3),
        "1m": Size(128, 4, 4, 4e-3),
        "10m": Size(320, 8, 5, 2e-3),
        "30m": Size(512, 9, 8, 1.2e-3),
        "100m": Size(768, 13, 12, 8e-4),
    }
)


@dataclass(frozen=True)
class Training:
    """How each model is trained: AdamW with a warm-up, then a rate that falls to 0 in a line.

    budget_tokens: predicted in all, met within 1 %; length: tokens of a sequence; batch: sequences of a step;
    learning_rate: None: that of the size; evaluations: points of a learning curve, evenly; device: as torch names it.
    Raises InputError.
    """

    budget_tokens: int
    size: Size = SIZES["1m"]
    length: int = 256
    batch: int = 32
    learning_rate: float | None = None
    warm_up_share: float = 0.05
    weight_decay: float = 0.1
    evaluations: int = 8
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("length", "batch", "evaluations"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected 1 or more, found {getattr(self, name)}")
        if abs(self.steps * self.step_tokens - self.budget_tokens) > 0.01 * self.budget_tokens or not self.steps:
            raise InputError(
                f"budget_tokens {self.budget_tokens:,}: steps of {self.step_tokens:,} tokens cannot meet it within 1 %;"
                " take a larger one, or a smaller batch or length"
            )

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return self.batch * self.length

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return round(self.budget_tokens / self.step_tokens)

    @property
    def highest_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.size.learning_rate if self.learning_rate is None else self.learning_rate
