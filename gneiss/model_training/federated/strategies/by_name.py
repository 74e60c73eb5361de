"""Every strategy by its name: those of rounds, of rounds in regions, and by arrival, and how far each goes by default.

| names | where |
| --- | --- |
| `fedavg`, `scaffold`, `fedadam`, `local_adam`, `fadam_et`, `fadam_gt` | `strategy` |
| `mtgc`, and its ablations `mtgc_sites`, `mtgc_regions`, `hfedavg` | `hierarchy` |
| `fedasync`, `fedbuff`, `fadas`, `fadas_da` | `buffered` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from gneiss.errors import InputError, did_you_mean, printable
from gneiss.model_training.federated.strategies.buffered import MIXING, Buffered
from gneiss.model_training.federated.strategies.hierarchy import Hierarchy
from gneiss.model_training.federated.strategies.steps import AMSGrad, Descent
from gneiss.model_training.federated.strategies.strategy import Strategy


@dataclass(frozen=True)
class Rates:
    """How far strategies go. steps: of a site for each task; rate: of these; server_rate: of the server, if it has one.

    buffer_size: answers that make an update of a strategy by arrival; region_rounds: in a region for each global one.
    """

    steps: int = 10
    rate: float = 0.01
    server_rate: float = 1.0
    buffer_size: int = 1
    region_rounds: int = 1


#: A strategy whose server waits for answers.
Rounds: TypeAlias = Strategy | Hierarchy

#: Strategies of rounds.
ROUNDS: Mapping[str, Callable[[Rates], Strategy]] = {
    "fedavg": lambda r: Strategy(_plain(r)),
    "scaffold": lambda r: Strategy(_plain(r), "gradient"),
    "fedadam": lambda r: Strategy(_plain(r), None, r.server_rate, AMSGrad()),
    "local_adam": lambda r: Strategy(_adam(r)),
    "fadam_et": lambda r: Strategy(_adam(r), "direction"),
    "fadam_gt": lambda r: Strategy(_adam(r), "gradient"),
}
#: Strategies of rounds in regions: with both corrections, one, or none.
REGIONAL: Mapping[str, Callable[[Rates], Hierarchy]] = {
    "mtgc": lambda r: Hierarchy(r.region_rounds, r.steps, r.rate),
    "mtgc_sites": lambda r: Hierarchy(r.region_rounds, r.steps, r.rate, corrects_regions=False),
    "mtgc_regions": lambda r: Hierarchy(r.region_rounds, r.steps, r.rate, corrects_sites=False),
    "hfedavg": lambda r: Hierarchy(r.region_rounds, r.steps, r.rate, corrects_sites=False, corrects_regions=False),
}
#: Strategies by arrival. Their sites step as those of FedAvg do.
ARRIVALS: Mapping[str, Callable[[Rates], Buffered]] = {
    "fedasync": lambda r: Buffered(MIXING * r.server_rate, 1),
    "fedbuff": lambda r: Buffered(r.server_rate, r.buffer_size),
    "fadas": lambda r: Buffered(r.server_rate, r.buffer_size, AMSGrad()),
    "fadas_da": lambda r: Buffered(r.server_rate, r.buffer_size, AMSGrad(), longest_delay=1),
}
#: Strategies whose server can leave out the largest and the smallest answer: sites can do no more than answer wrongly.
_TRIMMED = ("fedavg", "fedadam")
#: Names → the rate of sites, and that of the server, where nothing else is said.
DEFAULT_RATES: Mapping[str, tuple[float, float]] = {
    "fedavg": (1.0, 1.0),
    "scaffold": (3.0, 1.0),
    "fedadam": (1.0, 0.03),
    "local_adam": (0.03, 1.0),
    "fadam_et": (0.03, 1.0),
    "fadam_gt": (0.03, 1.0),
    "mtgc": (1.0, 1.0),
    "mtgc_sites": (1.0, 1.0),
    "mtgc_regions": (1.0, 1.0),
    "hfedavg": (1.0, 1.0),
    "fedasync": (1.0, 1.0),
    "fedbuff": (1.0, 1.0),
    "fadas": (1.0, 0.03),
    "fadas_da": (1.0, 0.03),
}


def default_rates(strategy: str, steps: int, buffer_size: int = 1, region_rounds: int = 1) -> Rates:
    """Rates of a strategy by its name, where nothing else is said. Raises InputError for an unknown name."""
    if strategy not in DEFAULT_RATES:
        raise InputError(f"strategy '{printable(strategy)}' is not known{did_you_mean(strategy, DEFAULT_RATES)}")
    rate, server_rate = DEFAULT_RATES[strategy]
    return Rates(steps, rate, server_rate, buffer_size, region_rounds)


def of_rounds(name: str, rates: Rates, *, is_trimmed: bool = False) -> Rounds:
    """The strategy of rounds of that name, in regions or not. Raises KeyError for one by arrival.

    is_trimmed: see Strategy. Raises InputError for a strategy that has no trimmed mean.
    """
    if name in REGIONAL and not is_trimmed:
        return REGIONAL[name](rates)
    if is_trimmed and name not in _TRIMMED:
        raise InputError(f"strategy {name}: no trimmed mean; expected {' or '.join(_TRIMMED)}")
    return replace(ROUNDS[name](rates), is_trimmed=is_trimmed)


def _plain(rates: Rates) -> Descent:
    return Descent(rates.steps, rates.rate)


def _adam(rates: Rates) -> Descent:
    return Descent(rates.steps, rates.rate, AMSGrad())
