"""What a run takes: time, CPU time, memory and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Cost:
    """What a run took, or is predicted to take.

    seconds: of wall time; cpu_seconds: of its driver and workers; peak_bytes: of memory, of one worker; written_bytes:
    of all files, those of the exchange with them.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: float
    written_bytes: float

    def noted(self) -> dict[str, float]:
        """As the cost of a receipt."""
        return asdict(self)

    @classmethod
    def of(cls, cost: Mapping[str, float]) -> Cost:
        """The inverse."""
        return cls(*(cost.get(name, 0.0) for name in cls.__dataclass_fields__))
