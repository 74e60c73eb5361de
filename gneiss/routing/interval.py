"""The Wilson interval of a share: where the true share may be, given that so many of so many were counted."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The 97.5 % quantile of the normal distribution, for an interval of 95 %.
Z_95 = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A counted share and its 95 % interval; of nothing, the interval is 0 to 1.

    >>> share = Share(95, 100)
    >>> f"{share}, from {share.low:.4f}"
    '95.0 % (88.8 to 97.8 %, of 100), from 0.8882'
    """

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share; NaN of nothing."""
        return self.hits / self.of if self.of else math.nan

    @property
    def low(self) -> float:
        """The lower end of the interval (Wilson, 1927, without continuity correction)."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        if not self.of:
            return 0.0, 1.0
        z2 = Z_95 * Z_95
        middle = self.hits + z2 / 2
        half = Z_95 * math.sqrt(self.hits * (self.of - self.hits) / self.of + z2 / 4)
        low, high = (middle - half) / (self.of + z2), (middle + half) / (self.of + z2)
        return low if self.hits else 0.0, high if self.hits < self.of else 1.0  # without what rounding leaves

    def __str__(self) -> str:
        if not self.of:
            return "unknown (of 0)"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f} %, of {self.of:,})"
