"""What a run takes: time, CPU time, memory and bytes; and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

#: As much as this share of a run counts what was predicted of its speed, beside what was seen of it.
_PRIOR = 0.02


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


@dataclass(frozen=True)
class Forecast:
    """What a run is predicted to take: in all, and what share of its work each stage is, by name.

    >>> forecast = Forecast(Cost(100.0, 90.0, 0.0, 0.0), {"keys": 0.25, "curate": 0.75})
    >>> forecast.seconds_left({}, 0.0), round(forecast.seconds_left({"keys": (1.0, 0.0)}, 50.0))
    (100.0, 144)
    """

    cost: Cost
    work: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, cost: Cost, cpu_seconds: Mapping[str, float]) -> Forecast:
        """From what each stage takes."""
        total = sum(cpu_seconds.values()) or 1.0
        return cls(cost, {name: seconds / total for name, seconds in cpu_seconds.items()})

    def seconds_left(self, shares: Mapping[str, tuple[float, float]], seconds: float) -> float:
        """What the rest takes, by the work that was done in so many seconds.

        shares: of the stages that have begun: what was left of each when this time began, and what is left now.
        """
        left = sum(work * shares.get(name, (1.0, 1.0))[1] for name, work in self.work.items())
        done = sum(self.work.get(name, 0.0) * (begin - now) for name, (begin, now) in shares.items())
        return left * (seconds + _PRIOR * self.cost.seconds) / (done + _PRIOR)
