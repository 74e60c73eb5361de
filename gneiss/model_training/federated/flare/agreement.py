"""What the parties of a federation agree on, in a file that a person writes: who takes part, what features are, how to
train. Every kit holds it, so that no party takes another's word for it.

A site answers tasks for these features only; see `site`.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from gneiss.errors import InputError, did_you_mean, first_line, printable
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.federation import (
    FEDERATION_FILE,
    Federation,
    require_site_name,
)
from gneiss.model_training.federated.label_mixes import AUTO, SUITABLE, SUITABLE_IN_REGIONS
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, DEFAULT_RATES, REGIONAL, default_rates
from gneiss.model_training.labels import NEGATIVE, QUALITY

VOCABULARY_FILE = "vocabulary.txt"
#: Host names and addresses, as certificates have them.
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_REGION_ROUNDS = 5
#: What the server, the admin and the folder of the authority are called beside the sites.
RESERVED = frozenset({"server", "admin", "authority"})


@dataclass(frozen=True)
class Agreement:
    """A federation across organisations.

    server, port: where sites and the admin reach the server; sites: their names; words, word_ngrams, buckets: see
    FeatureSpace; strategy: a name, or `auto` for what suits the sites' label mixes; rounds, steps, share, batch, seed,
    is_trimmed, min_answers: see Federation and Rates, min_answers None for half of those that are asked; rate,
    server_rate: None for those that a strategy has by default; region_rounds: of a site among the silos that it may
    have, for each round of all, None for strategies without them. Raises InputError for values out of bounds.

    >>> Agreement("models.example.org", ("clinic", "library")).federation("fedavg").min_answers
    1
    """

    server: str
    sites: tuple[str, ...]
    port: int = 8002
    words: tuple[str, ...] = ()
    word_ngrams: int = 2
    buckets: int = 262_144
    strategy: str = AUTO
    rounds: int = 25
    steps: int = 10
    share: float = 1.0
    min_answers: int | None = None
    batch: int = 16
    seed: int = 0
    rate: float | None = None
    server_rate: float | None = None
    region_rounds: int | None = None
    is_trimmed: bool = False

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.server):
            raise InputError(f"server: expected the name of a host, found '{printable(self.server[:80])}'")
        if not 1 <= self.port <= 65535:
            raise InputError(f"port: expected 1 to 65535, found {self.port}")
        for site in self.sites:
            require_site_name(site)
            if "." in site or site in RESERVED:
                raise InputError(
                    f"site '{site}': expected no point in it, and another name than {', '.join(sorted(RESERVED))}"
                )
        if self.strategy not in {AUTO, *DEFAULT_RATES}:
            near = did_you_mean(self.strategy, [AUTO, *DEFAULT_RATES])
            raise InputError(f"strategy '{printable(self.strategy)}' is not known{near}")
        self.federation(self.usual_strategy)

    @property
    def has_regions(self) -> bool:
        """Whether sites do rounds among silos of their own."""
        return self.strategy in REGIONAL or (self.strategy == AUTO and self.region_rounds is not None)

    @property
    def usual_strategy(self) -> str:
        """The strategy, or where that is open, one by which sites can be asked before."""
        return (SUITABLE_IN_REGIONS if self.has_regions else SUITABLE)[1] if self.strategy == AUTO else self.strategy

    @property
    def space(self) -> FeatureSpace:
        """The features that all mean."""
        return FeatureSpace.of(self.words, self.word_ngrams, self.buckets)

    def federation(self, strategy: str) -> Federation:
        """The training of a strategy by its name. By arrival as many tasks are done as in rounds."""
        asked = max(1, round(self.share * len(self.sites)))
        buffer_size = 1 if strategy == "fedasync" else max(1, asked // 2)
        region_rounds = (self.region_rounds or _REGION_ROUNDS) if strategy in REGIONAL else 1
        rates = default_rates(strategy, self.steps, buffer_size, region_rounds)
        if self.rate is not None:
            rates = replace(rates, rate=self.rate)
        if self.server_rate is not None:
            rates = replace(rates, server_rate=self.server_rate)
        space = self.space
        return Federation(
            strategy=strategy,
            sites=tuple(sorted(self.sites)),
            features=space.sha256,
            words=len(space.words),
            word_ngrams=space.word_ngrams,
            buckets=space.buckets,
            labels=(NEGATIVE, QUALITY),
            rounds=-(-self.rounds * asked // buffer_size) if strategy in ARRIVALS else self.rounds,
            rates=rates,
            share=self.share,
            concurrency=asked,
            min_answers=-(-asked // 2) if self.min_answers is None else self.min_answers,
            batch=self.batch,
            seed=self.seed,
            is_trimmed=self.is_trimmed,
        )

    @property
    def values(self) -> dict[str, Any]:
        """Its settings by name; see `agreement_of`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def training(self) -> dict[str, Any]:
        """What an admin may choose again for a training: everything but who takes part, and what features are."""
        fixed = {"server", "port", "sites", "words", "word_ngrams", "buckets"}
        return {name: value for name, value in self.values.items() if name not in fixed}

    def toml(self) -> str:
        """Its file, beside which the words are in `vocabulary.txt`."""
        lines = {"vocabulary": VOCABULARY_FILE, **self.values}
        del lines["words"]
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items() if value is not None)

    def write(self, folder: Path) -> None:
        """Write its file, and that of its words. Raises OSError."""
        (folder / FEDERATION_FILE).write_text(self.toml())
        (folder / VOCABULARY_FILE).write_text("".join(f"{word}\n" for word in self.words))


def read_agreement(path: Path) -> Agreement:
    """The agreement of a file. Raises InputError for what cannot be read, and for settings that are none."""
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot read: {printable(first_line(error))}") from error
    vocabulary = found.pop("vocabulary", None)
    if vocabulary is not None:
        if not isinstance(vocabulary, str):
            raise InputError(f"{path}: vocabulary: expected the name of a file with a word a line")
        found["words"] = _words(path.parent / vocabulary)
    return agreement_of(found, str(path))


def agreement_of(values: Mapping[str, Any], where: str) -> Agreement:
    """The agreement that values by name are. Raises InputError for others; where: they come from."""
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(Agreement)]
    if unknown := [name for name in values if name not in known]:
        raise InputError(f"{where}: {printable(unknown[0])}: no such setting{did_you_mean(unknown[0], known)}")
    try:
        return TypeAdapter(Agreement).validate_python({**values})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}: {printable(name)}: {printable(first['msg'])}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _words(path: Path) -> tuple[str, ...]:
    try:
        content = path.read_text()
    except OSError as error:
        raise InputError(f"{path}: cannot read the vocabulary: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot read the vocabulary: it is not UTF-8: {error.reason}") from error
    return tuple(line for line in content.split("\n") if line)
