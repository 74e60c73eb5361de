"""A federated training as its file says it: what all its bytes depend on, beside the documents of sites."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from gneiss.errors import InputError, OutputError, printable
from gneiss.model_training.federated.rounds import asked_number
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, Rates, default_rates, of_rounds
from gneiss.model_training.federated.strategies.steps import FEWEST_TRIMMED
from gneiss.model_training.federated.tasks import MOST_BATCH, MOST_REGION_ROUNDS, MOST_STEPS
from gneiss.output.parquet import write_new
from gneiss.store.place import Place
from gneiss.version import __version__

FEDERATION_FILE = "federation.toml"
#: What a site may be called: it is part of paths, logs and cards.
_SITE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MOST_SITES = 1000


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

    sites: whom the coordinator asks, which are regions where the strategy is of regions (see `region`);
    features: sha256 of the feature space; words, word_ngrams, buckets: of that; labels: of low and of high scores;
    rounds: of the server, or updates by arrival; share: of the sites that are asked in a round; concurrency: tasks
    under way at a time, by arrival; min_answers: without which a round is not finished; is_trimmed: whether the server
    leaves out the largest and the smallest answer in each weight, against sites that answer wrongly; batch, l2: see
    Sampling. Raises InputError for values out of bounds.
    """

    strategy: str
    sites: tuple[str, ...]
    features: str
    words: int
    word_ngrams: int
    buckets: int
    labels: tuple[str, str]
    rounds: int
    rates: Rates = field(default_factory=Rates)
    share: float = 1.0
    concurrency: int = 1
    min_answers: int = 1
    is_trimmed: bool = False
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
            "region_rounds": (self.rates.region_rounds, 1, MOST_REGION_ROUNDS),
            "share": (self.share, 1e-6, 1),
            "concurrency": (self.concurrency, 1, len(self.sites)),
            "min_answers": (self.min_answers, 1, len(self.sites)),
            "batch": (self.batch, 1, MOST_BATCH),
            "l2": (self.l2, 0, 1),
            "seed": (self.seed, 0, 2**63),
        }
        require_within(bounds)
        if self.strategy not in ARRIVALS:
            of_rounds(self.strategy, self.rates, is_trimmed=self.is_trimmed)
        elif self.is_trimmed:
            raise InputError(f"strategy {self.strategy}: no trimmed mean: it takes answers one by one")
        if self.is_trimmed and min(self.asked, self.min_answers) < FEWEST_TRIMMED:
            raise InputError(
                f"trimmed mean: expected {FEWEST_TRIMMED} answers in each round or more, found {self.asked} sites asked"
                f" and min_answers {self.min_answers}"
            )

    @property
    def asked(self) -> int:
        """How many sites are asked in a round."""
        return asked_number(self.share, len(self.sites))

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
