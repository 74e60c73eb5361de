"""Clipped and noisy answers, and what noise guarantees.

The guarantee is differential privacy of a site as a whole: from what leaves it, with noise, it can hardly be told
whether its answer or zeros were sent. Changing one document can move a clipped answer by twice as much as that.

Sources: B. Balle, Y.-X. Wang, Improving the Gaussian Mechanism for Differential Privacy (ICML 2018), theorem 8; M. Bun,
T. Steinke, Concentrated Differential Privacy (TCC 2016), propositions 1.3 and 1.6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from gneiss.errors import InputError
from gneiss.model_training.federated.steps import Weights, shortened
from gneiss.model_training.federated.strategy import Answer

_MOST_EPSILON = 1e6
_BISECTIONS = 100


@dataclass(frozen=True)
class Protection:
    """What a site does to each vector of an answer before it leaves.

    largest_norm: to which a vector is shortened; noise_std: deviation of the Gaussian noise that each weight then gets,
    0 for none. Raises InputError for what is no such number.
    """

    largest_norm: float
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.largest_norm) and self.largest_norm > 0):
            raise InputError(f"largest_norm: expected a number above 0, found {self.largest_norm}")
        if not (math.isfinite(self.noise_std) and self.noise_std >= 0):
            raise InputError(f"noise_std: expected 0 or a number above, found {self.noise_std}")

    def apply(self, answer: Answer, draw: np.random.Generator) -> Answer:
        """The answer that leaves. draw: of a seed that the site alone knows, or the noise can be taken off."""
        tracked = None if answer.tracked is None else self._protected(answer.tracked, draw)
        return replace(answer, difference=self._protected(answer.difference, draw), tracked=tracked)

    def _protected(self, vector: Weights, draw: np.random.Generator) -> Weights:
        clipped = shortened(vector, self.largest_norm)
        if not self.noise_std:
            return clipped
        return (clipped + draw.normal(0.0, self.noise_std, vector.shape)).astype(vector.dtype)

    def epsilon(self, delta: float) -> float:
        """The ε of one vector at a δ, exactly: the least for which Gaussian noise is (ε, δ)-differentially private.

        >>> round(Protection(1.0, noise_std=4.0).epsilon(1e-5), 2)
        0.93
        """
        _check_delta(delta)
        if not self.noise_std:
            return math.inf
        shift = self.largest_norm / self.noise_std
        low, high = 0.0, _MOST_EPSILON
        if _delta_of(shift, high) > delta:
            return math.inf
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if _delta_of(shift, middle) > delta else (low, middle)
        return high

    def epsilon_of_all(self, delta: float, vectors: int) -> float:
        """The ε of so many vectors together, of all rounds, by zero-concentrated differential privacy.

        vectors: one for each answer, or two where a strategy corrects. ρ of each is norm² / (2 std²), and they add up.

        >>> round(Protection(1.0, noise_std=4.0).epsilon_of_all(1e-5, 50), 1)
        10.0
        """
        _check_delta(delta)
        if not self.noise_std:
            return math.inf
        rho = vectors * (self.largest_norm / self.noise_std) ** 2 / 2
        return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def _delta_of(shift: float, epsilon: float) -> float:
    """δ of Gaussian noise of deviation 1 around two values that lie `shift` apart."""
    first = _normal(shift / 2 - epsilon / shift)
    tail = _normal(-shift / 2 - epsilon / shift)
    return first - (math.exp(epsilon + math.log(tail)) if tail > 0 else 0.0)


def _normal(x: float) -> float:
    """Φ: the share of a standard normal distribution below x."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta: expected a number between 0 and 1, found {delta}")
