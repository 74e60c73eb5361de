"""Clipped and noisy answers, and what noise guarantees.

The guarantee is differential privacy of a site as a whole: from what leaves it, with noise, it can hardly be told
whether its answer or zeros were sent. Changing one document can move a clipped answer by twice as much as that. It is
of the vectors of answers: counts and sums over documents leave as they are.

Noise is drawn by SHAKE-256 from a secret of the site, the task and the answer that it covers. So an answer that is
asked for again has the same noise, from which nothing more can be learned, and one from other documents has another.

Sources: B. Balle, Y.-X. Wang, Improving the Gaussian Mechanism for Differential Privacy (ICML 2018), theorem 8; M. Bun,
T. Steinke, Concentrated Differential Privacy (TCC 2016), propositions 1.3 and 1.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import shake_256
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from gneiss.arrays import Float64Array
from gneiss.errors import InputError, printable
from gneiss.model_training.federated.strategies.steps import Weights, shortened
from gneiss.model_training.federated.strategies.strategy import Answer

#: The δ of the guarantee that a card states.
DELTA = 1e-5
_MOST_EPSILON = 1e6
_LARGEST = 1e5  # far below what a coordinator takes
_BISECTIONS = 100


@dataclass(frozen=True)
class Protection:
    """What a site does to each vector of an answer before it leaves.

    clip_norm: to which a vector is shortened; noise_std: deviation of the Gaussian noise that each weight then gets, 0
    for none. Raises InputError for what is no such number.
    """

    clip_norm: float
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.clip_norm <= _LARGEST:
            raise InputError(f"clip_norm: expected a number above 0, at most {_LARGEST:g}, found {self.clip_norm}")
        if not 0 <= self.noise_std <= _LARGEST:
            raise InputError(f"noise_std: expected a number from 0 to {_LARGEST:g}, found {self.noise_std}")

    @property
    def meta(self) -> dict[str, float]:
        """What a message says of it; see `protection_of`."""
        return {"clip_norm": self.clip_norm, "noise_std": self.noise_std}

    def apply(self, answer: Answer, secret: bytes, task: bytes) -> Answer:
        """The answer that leaves.

        Parameters: `secret`: what only the site knows, or the noise can be taken off; `task`: what was asked.
        """
        return Answer(**{name: self._protected(own, (secret, task, name)) for name, own in answer.arrays.items()})

    def _protected(self, vector: Weights, of: tuple[bytes, bytes, str]) -> Weights:
        clipped = shortened(vector, self.clip_norm)
        if not self.noise_std:
            return clipped
        secret, task, name = of
        noise = normals(vector.size, secret, task, name.encode(), clipped.tobytes()).reshape(vector.shape)
        return (clipped + self.noise_std * noise).astype(vector.dtype)

    def epsilon(self, delta: float) -> float:
        """The ε of one vector at a δ, exactly: the least for which Gaussian noise is (ε, δ)-differentially private.

        >>> round(Protection(1.0, noise_std=4.0).epsilon(1e-5), 2)
        0.93
        """
        _check_delta(delta)
        if not self.noise_std:
            return math.inf
        shift = self.clip_norm / self.noise_std
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
        rho = vectors * (self.clip_norm / self.noise_std) ** 2 / 2
        return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def protection_of(meta: Mapping[str, Any]) -> Protection | None:
    """What a message says of the protection of its vectors. Raises InputError for what none is."""
    found = meta.get("protection")
    if found is None:
        return None
    if isinstance(found, dict) and found.keys() == {"clip_norm", "noise_std"}:
        values = list(found.values())
        if all(type(value) in {int, float} for value in values):
            return Protection(**found)
    raise InputError(f"message: protection: expected clip_norm and noise_std, found {printable(repr(found)[:80])}")


def normals(count: int, *of: bytes) -> Float64Array:
    """Numbers of a standard normal distribution, (count,): the same for the same bytes, unpredictable without them.

    Box and Muller's transform of uniform numbers of 53 bits: none is more than 8.6 from 0. Rounded to float64, as all
    noise is: attacks on the last bits (Mironov, CCS 2012) are not warded off.

    >>> normals(3, b"secret").round(3)
    array([-0.386, -1.097,  0.344])
    """
    digest = shake_256()
    for part in of:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    pairs = -(-count // 2)
    return _normals(np.frombuffer(digest.digest(16 * pairs), "<u8").reshape(pairs, 2)).ravel()[:count]


@njit(cache=True, nogil=True)
def _normals(words: npt.NDArray[np.uint64]) -> Float64Array:
    found = np.empty(words.shape)
    for pair in range(len(words)):
        length = math.sqrt(-2.0 * math.log(((words[pair, 0] >> np.uint64(11)) + 1.0) * 2.0**-53))
        angle = 2.0 * math.pi * (words[pair, 1] >> np.uint64(11)) * 2.0**-53
        found[pair, 0] = length * math.cos(angle)
        found[pair, 1] = length * math.sin(angle)
    return found


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
