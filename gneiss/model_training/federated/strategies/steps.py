"""How weights step: down a gradient, plainly or by AMSGrad; and means and norms, added up in one order.

Arrays of any shape, float32 or float64, one type throughout a training. Elementwise operations are exactly rounded and
sums have one order, so that equal inputs give equal bytes on any processor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from gneiss.arrays import Float
from gneiss.errors import InputError

#: Weights, or what is added to them: float32 or float64, of one shape in a training.
Weights: TypeAlias = npt.NDArray[np.floating[Any]]
#: Weights → the gradient of the loss there, with l2, on the next mini-batch.
Gradient: TypeAlias = "Callable[[Weights], Weights]"
#: What a correction is added to, and what is averaged to make it.
Corrected: TypeAlias = Literal["gradient", "direction"]
FEWEST_TRIMMED = 5


class Moments(NamedTuple):
    """What AMSGrad remembers, each of the shape of the weights."""

    mean: Weights
    square: Weights
    largest_square: Weights


@dataclass(frozen=True)
class AMSGrad:
    """Adam whose steps never grow again (Reddi et al., ICLR 2018), without bias correction, epsilon outside the root.

    decay, square_decay: β₁ and β₂, shares of the moments that are kept at each step.

    >>> optimizer = AMSGrad()
    >>> direction, moments = optimizer.step(optimizer.begin(np.zeros(1)), np.ones(1))
    >>> direction.round(3)
    array([0.99])
    """

    decay: float = 0.9
    square_decay: float = 0.99
    epsilon: float = 1e-3

    def begin(self, x: Weights) -> Moments:
        """Moments before the first step."""
        return Moments(np.zeros_like(x), np.zeros_like(x), np.zeros_like(x))

    def step(self, moments: Moments, gradient: Weights) -> tuple[Weights, Moments]:
        """(direction, moments): the direction m / (√v̂ + ε), to go down by, and the moments after this step."""
        mean = self.decay * moments.mean + (1 - self.decay) * gradient
        square = self.square_decay * moments.square + (1 - self.square_decay) * (gradient * gradient)
        largest = np.maximum(moments.largest_square, square)
        return mean / (np.sqrt(largest) + self.epsilon), Moments(mean, square, largest)


@dataclass(frozen=True)
class Descent:
    """What a site does with the weights it gets: so many steps at a rate.

    optimizer: AMSGrad from zero moments, or None for plain gradient descent; largest_norm: of the corrected gradient,
    which is shortened to it; None for any. (AMSGrad keeps no moments between tasks: they are no better, and state.)
    """

    steps: int
    rate: float
    optimizer: AMSGrad | None = None
    largest_norm: float | None = None

    def run(
        self,
        x: Weights,
        gradient: Gradient,
        correction: Weights | None = None,
        of: Corrected = "gradient",
        *,
        is_tracked: bool = False,
    ) -> tuple[Weights, Weights | None]:
        """(difference, tracked): how far it went from x, and, if asked for, the mean of what is corrected, as it came.

        correction: added to every gradient, or to every direction past the optimizer.
        """
        w = x
        moments = None if self.optimizer is None else self.optimizer.begin(x)
        total = np.zeros_like(x) if is_tracked else None
        for _ in range(self.steps):
            direction = gradient(w)
            if total is not None and of == "gradient":
                total += direction
            if correction is not None and of == "gradient":
                direction = direction + correction
            if self.largest_norm is not None:
                direction = shortened(direction, self.largest_norm)
            if self.optimizer is not None and moments is not None:
                direction, moments = self.optimizer.step(moments, direction)
            if total is not None and of == "direction":
                total += direction
            if correction is not None and of == "direction":
                direction = direction + correction
            w = w - self.rate * direction
        return w - x, None if total is None else total / self.steps


def mean(arrays: Sequence[Weights]) -> npt.NDArray[np.float64]:
    """Their mean, float64, added up in the order they have.

    >>> mean([np.array([1.0, 2.0]), np.array([3.0, 4.0])])
    array([2., 3.])
    """
    total = np.zeros(arrays[0].shape)
    for array in arrays:
        total += array
    return total / len(arrays)


def trimmed_mean(arrays: Sequence[Weights]) -> npt.NDArray[np.float64]:
    """The mean, element by element, without the largest and the smallest (Yin et al., ICML 2018).

    One array among five or more moves it no further than the others lie apart. Raises InputError for fewer.

    >>> trimmed_mean([np.array([value]) for value in (1.0, 2.0, 3.0, 4.0, 1e6)])
    array([3.])
    """
    if len(arrays) < FEWEST_TRIMMED:
        raise InputError(f"trimmed mean: expected {FEWEST_TRIMMED} answers or more, found {len(arrays)}")
    return mean(list(np.sort(np.stack(arrays), axis=0)[1:-1]))


def shortened(x: Weights, largest_norm: float) -> Weights:
    """x, of this norm if its own is larger.

    >>> shortened(np.array([3.0, 4.0]), 1.0)
    array([0.6, 0.8])
    """
    length = norm(x)
    return x if length <= largest_norm else x * (largest_norm / length)


def norm(x: Weights) -> float:
    """The length ‖x‖, added up in order.

    >>> norm(np.array([[3.0, 0.0], [0.0, 4.0]]))
    5.0
    """
    return float(np.sqrt(squared_norm(x.ravel())))


@njit(cache=True, nogil=True)
def squared_norm(x: Weights) -> Float:
    """‖x‖² of a flat array, float64, added up in order."""
    total = 0.0
    for value in x:
        total += np.float64(value) * np.float64(value)
    return total
