"""A federated training as its file says it: what all its bytes depend on, beside the documents of sites."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeAlias

from gneiss.errors import InputError, OutputError, did_you_mean, printable
from gneiss.model_training.federated.buffered import Buffered, fadas, fadas_da, fedasync, fedbuff
from gneiss.model_training.federated.site import MOST_BATCH, MOST_STEPS
from gneiss.model_training.federated.strategy import (
    Strategy,
    fadam_et,
    fadam_gt,
    fedadam,
    fedavg,
    local_adam,
    scaffold,
)
from gneiss.output.parquet import write_new
from gneiss.store.place import Place
from gneiss.version import __version__

FEDERATION_FILE = "federation.toml"
#: What a site may be called: it is part of paths, logs and cards.
_SITE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MOST_SITES = 1000


@dataclass(frozen=True)
class Rates:
    """How far strategies go. steps: of a site for each task; rate: of these; server_rate: of the server, if it has one.

    buffer_size: answers that make an update of a strategy by arrival.
    """

    steps: int = 10
    rate: float = 0.01
    server_rate: float = 1.0
    buffer_size: int = 1


Rounds: TypeAlias = Callable[[Rates], Strategy]
Arrivals: TypeAlias = Callable[[Rates], Buffered]

#: Strategies of rounds, by name.
ROUNDS: Mapping[str, Rounds] = {
    "fedavg": lambda r: fedavg(r.steps, r.rate),
    "scaffold": lambda r: scaffold(r.steps, r.rate),
    "fedadam": lambda r: fedadam(r.steps, r.rate, r.server_rate),
    "local_adam": lambda r: local_adam(r.steps, r.rate),
    "fadam_et": lambda r: fadam_et(r.steps, r.rate),
    "fadam_gt": lambda r: fadam_gt(r.steps, r.rate),
}
#: Strategies by arrival, by name. Their sites step as those of FedAvg do.
ARRIVALS: Mapping[str, Arrivals] = {
    "fedasync": lambda r: fedasync(r.server_rate),
    "fedbuff": lambda r: fedbuff(r.server_rate, r.buffer_size),
    "fadas": lambda r: fadas(r.server_rate, r.buffer_size),
    "fadas_da": lambda r: fadas_da(r.server_rate, r.buffer_size),
}
#: Names → the rate of sites, and that of the server, where nothing else is said.
DEFAULT_RATES: Mapping[str, tuple[float, float]] = {
    "fedavg": (1.0, 1.0),
    "scaffold": (3.0, 1.0),
    "fedadam": (1.0, 0.03),
    "local_adam": (0.03, 1.0),
    "fadam_et": (0.03, 1.0),
    "fadam_gt": (0.03, 1.0),
    "fedasync": (1.0, 1.0),
    "fedbuff": (1.0, 1.0),
    "fadas": (1.0, 0.03),
    "fadas_da": (1.0, 0.03),
}


def default_rates(strategy: str, steps: int, buffer_size: int = 1) -> Rates:
    """Rates of a strategy by its name, where nothing else is said. Raises InputError for an unknown name."""
    if strategy not in DEFAULT_RATES:
        raise InputError(f"strategy '{printable(strategy)}' is not known{did_you_mean(strategy, DEFAULT_RATES)}")
    rate, server_rate = DEFAULT_RATES[strategy]
    return Rates(steps, rate, server_rate, buffer_size)


class Described(Protocol):
    """What every training across sites says of itself; see Federation."""

    @property
    def sites(self) -> tuple[str, ...]: ...
    @property
    def features(self) -> str: ...
    @property
    def rounds(self) -> int: ...
    @property
    def share(self) -> float: ...
    @property
    def min_answers(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def key(self) -> str: ...
    def toml(self) -> str:
        """Its file."""


@dataclass(frozen=True)
class Federation:
    """A training across sites.

    features: sha256 of the feature space; words, word_ngrams, buckets: of that; labels: of low and of high scores;
    rounds: of the server, or updates by arrival; share: of the sites that are asked in a round; concurrency: tasks
    under way at a time, by arrival; min_answers: without which a round is not finished; batch, l2: see Sampling.
    Raises InputError for values out of bounds.
    """

    strategy: str
    sites: tuple[str, ...]
    features: str
    words: int
    word_ngrams: int
    buckets: int
    labels: tuple[str, str]
    rounds: int
    rates: Rates = Rates()
    share: float = 1.0
    concurrency: int = 1
    min_answers: int = 1
    batch: int = 16
    l2: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        default_rates(self.strategy, self.rates.steps)
        require_site_names(self.sites)
        bounds: Mapping[str, tuple[float, float, float]] = {
            "rounds": (self.rounds, 1, 10**6),
            "steps": (self.rates.steps, 1, MOST_STEPS),
            "rate": (self.rates.rate, 1e-9, 1000),
            "server_rate": (self.rates.server_rate, 1e-9, 1000),
            "buffer_size": (self.rates.buffer_size, 1, 10**6),
            "share": (self.share, 1e-6, 1),
            "concurrency": (self.concurrency, 1, len(self.sites)),
            "min_answers": (self.min_answers, 1, len(self.sites)),
            "batch": (self.batch, 1, MOST_BATCH),
            "l2": (self.l2, 0, 1),
            "seed": (self.seed, 0, 2**63),
        }
        require_within(bounds)

    @property
    def shape(self) -> tuple[int, int]:
        """That of the weights: features, and an output."""
        return self.words + self.buckets, 1

    def toml(self) -> str:
        """Its file."""
        values = asdict(self)
        values |= values.pop("rates")
        return toml_of(values)

    @property
    def key(self) -> str:
        """What tells it from others: sha256 of its file."""
        return hashlib.sha256(self.toml().encode()).hexdigest()


def toml_of(values: Mapping[str, Any]) -> str:
    """The file of a training that these values describe: strings, numbers, and lists of them."""
    said = {"gneiss": __version__, **values}
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in said.items())


def require_within(bounds: Mapping[str, tuple[float, float, float]]) -> None:
    """Raise InputError for a value out of bounds; name → (value, least, most)."""
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise InputError(f"{name}: expected {low:g} to {high:g}, found {value:g}")


def require_site_names(sites: Sequence[str]) -> None:
    """Raise InputError for sites that are too many, out of order, or cannot be called so."""
    if not 1 <= len(sites) <= _MOST_SITES or list(sites) != sorted(set(sites)):
        raise InputError(f"sites: expected 1 to {_MOST_SITES:,}, sorted and each once, found {len(sites):,}")
    for site in sites:
        require_site_name(site)


def require_site_name(site: str) -> None:
    """Raise InputError for what a site cannot be called."""
    if not _SITE.fullmatch(site):
        raise InputError(
            f"site '{printable(site[:80])}': expected at most 64 letters, digits, and _.- (the first no point or dash),"
            " as its name is part of paths"
        )


def claim_federation(output: Place, federation: Described) -> None:
    """Write the file of a training, or see that the one that is there is its own. Raises OutputError."""
    place, said = output / FEDERATION_FILE, federation.toml()
    try:
        found = place.read().decode()
    except FileNotFoundError:
        write_new(said.encode(), output, FEDERATION_FILE)
        return
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"{place}: cannot read: {error}") from error
    if found != said:
        what = ", ".join(_differing(found, said)) or "its form"
        raise OutputError(
            f"{output}: it belongs to another training (what differs: {what}); choose another output, or delete this"
            " one"
        )


def _differing(found: str, said: str) -> list[str]:
    try:
        there: dict[str, Any] = tomllib.loads(found)
    except (tomllib.TOMLDecodeError, RecursionError):
        return []
    return [name for name, value in tomllib.loads(said).items() if there.get(name) != value]
