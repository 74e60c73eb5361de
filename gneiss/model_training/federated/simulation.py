"""A training across sites on one machine, from labels that say which site each document is at; beside central training.

Sites answer messages, and the coordinator sees nothing else, as it would be across organisations. Only the division
into sites, their common words, and central training look at all documents.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import InputError, OutputError, did_you_mean, printable
from gneiss.input.files import can_name
from gneiss.model_training.federated.asking import times_asked
from gneiss.model_training.federated.checkpoint import Record
from gneiss.model_training.federated.coordinator import Trained, count_labels, train
from gneiss.model_training.federated.divided import LABELS_FILE, regions_of, rows_of_sites, write_sites
from gneiss.model_training.federated.engines import Engine
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.engines.local import local_engine
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.label_mixes import AUTO, LabelMixes
from gneiss.model_training.federated.linear import Sampling, pooled
from gneiss.model_training.federated.message import most_bytes_of
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.region import RegionFiles, site_of
from gneiss.model_training.federated.rounds import asked_number, rounds
from gneiss.model_training.federated.simulation_card import Outcome, Simulation, simulation_card
from gneiss.model_training.federated.site import figures
from gneiss.model_training.federated.site_documents import SiteFiles, checksums_of, site_examples
from gneiss.model_training.federated.strategies.by_name import (
    ARRIVALS,
    DEFAULT_RATES,
    REGIONAL,
    ROUNDS,
    Rates,
    default_rates,
    of_rounds,
)
from gneiss.model_training.federated.strategies.steps import FEWEST_TRIMMED
from gneiss.model_training.federated.tasks import MOST_REGION_ROUNDS
from gneiss.model_training.federated.vocabulary import shared_words
from gneiss.model_training.labels import NEGATIVE, QUALITY, Rule, labelled_documents, require_two_labels, rule_of
from gneiss.model_training.source import CARD
from gneiss.output.claim import claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, Place, place_of
from gneiss.version import __version__

#: In place of a strategy's name: every one of them.
ALL = "all"
MODEL_FILE, VOCABULARY_FILE = "quality.bin", "vocabulary.txt"
#: How much less accurate than central training a strategy is that is taken to have arrived.
BEHIND = 0.03
#: Of AMSGrad in one place.
CENTRAL_RATE = 0.01


@dataclass(frozen=True)
class SimulationSettings:
    """Settings of a simulation.

    rounds, and steps of a site in each; region_rounds: within a region in each; share: of the sites that are asked in a
    round; batch: documents of a step; seed: of whom to ask and of batches; word_ngrams, buckets: see FeatureSpace;
    most_words: of the vocabulary; min_documents, held_out_share: see SiteFiles; rate, server_rate: of a strategy that
    is named, None for its default; is_trimmed: see Federation; clip_norm, noise_std: see Protection, None for none; its
    noise is drawn from the seed. Raises InputError for values out of bounds.
    """

    rounds: int = 25
    steps: int = 10
    region_rounds: int = 5
    share: float = 1.0
    batch: int = 16
    seed: int = 0
    word_ngrams: int = 2
    buckets: int = 262_144
    most_words: int = 100_000
    min_documents: int = 5
    held_out_share: float = 0.2
    rate: float | None = None
    server_rate: float | None = None
    is_trimmed: bool = False
    clip_norm: float | None = None
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if self.clip_norm is None and self.noise_std:
            raise InputError("noise_std: expected a clip_norm, too: what is guaranteed is of noise beside a norm")
        _ = self.protection
        bounds: Mapping[str, tuple[float, float]] = {
            "region_rounds": (1, MOST_REGION_ROUNDS), "share": (1e-6, 1), "most_words": (0, 10**6),
            "min_documents": (1, 10**6), "held_out_share": (0.05, 0.5),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"{name}: expected {low:g} to {high:g}, found {value:g}")

    @property
    def protection(self) -> Protection | None:
        """Of each vector of an answer."""
        return None if self.clip_norm is None else Protection(self.clip_norm, self.noise_std)

    def secret(self, site: str) -> bytes:
        """What a site draws noise from: of the seed, so that a simulation can be done again. No site would do so."""
        return hashlib.sha256(f"simulated {self.seed} {site}".encode()).digest()


def simulate(
    labels: Address,
    output: Address,
    *,
    sites_by: str,
    regions_by: str | None = None,
    strategy: str = AUTO,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: SimulationSettings = SimulationSettings(),
    replay: Address | None = None,
    workers: int | None = None,
    backend: BackendName = "auto",
) -> Simulation:
    """Train a quality model across the sites of some labels, and write quality.bin and MODEL.md; or go on with that.

    Parameters: `labels`: Parquet; `output`: a folder, in which each strategy has one of its own; `sites_by`: the column
    that says where a document is; `regions_by`: that of the region in which the site is, if there are regions;
    `strategy`: a name, `all` to compare every one, or `auto` for what suits the sites' label mixes, which is the model
    that is written with `all` too; `text`, `label`, `positive`, `score_threshold`: see `train_quality`; `replay`: the
    output of a simulation whose arrivals are done again, of a strategy by arrival; `workers`: that have the sites, None
    for this process.
    Raises InputError for labels or settings that cannot be used, OutputError for another simulation's output.
    """
    place, rule = place_of(output, "output"), rule_of(label, positive, score_threshold, QUALITY)
    if strategy not in {ALL, AUTO, *DEFAULT_RATES}:
        raise InputError(
            f"strategy '{printable(strategy)}' is not known{did_you_mean(strategy, [ALL, AUTO, *DEFAULT_RATES])}"
        )
    if strategy in REGIONAL and regions_by is None:
        raise InputError(f"strategy {strategy}: it is of regions; give regions_by=COLUMN")
    if strategy in (ALL, AUTO) and (settings.rate, settings.server_rate) != (None, None):
        raise InputError("rate: expected a strategy that is named; rates of one are not those of another")
    if replay is not None and strategy not in ARRIVALS:
        raise InputError(f"replay: expected the strategy of the log ({', '.join(ARRIVALS)}), found {strategy}")
    if can_name(labels, place):
        raise OutputError(f"{place}: the output and the labels {labels} overlap; choose another output")
    # Before the output is claimed, so that a mistake leaves nothing there.
    rows = rows_of_sites(labels, sites_by, (text, rule.column))
    require_two_labels(chain.from_iterable(rows.values()), rule, labels)
    regions = {} if regions_by is None else regions_of(labels, sites_by, regions_by, text)
    with claim(place, _identity(labels, sites_by, regions_by, text, rule, settings)):
        homes = write_sites(rows, place / "sites")
        del rows  # all the texts
        space = _space(homes, text, rule, settings)
        write_bytes("".join(f"{word}\n" for word in space.words[1:]).encode(), place, VOCABULARY_FILE)
        files = [
            SiteFiles(
                site,
                home / LABELS_FILE,
                home,
                space,
                rule,
                text,
                settings.held_out_share,
                settings.min_documents,
                settings.protection,
                settings.secret(site),
            )
            for site, home in homes.items()
        ]
        silos = _Silos(files, regions, settings)
        with silos.engines(workers, backend) as engine:
            counts = count_labels(silos.federation("fedavg"), engine())
            mixes = LabelMixes.of(counts)
            chosen = strategy if strategy in DEFAULT_RATES else mixes.strategy(bool(regions))
            central = silos.central()
            compared = [name for name in DEFAULT_RATES if regions or name not in REGIONAL]
            federations = {name: silos.federation(name) for name in (compared if strategy == ALL else (chosen,))}
            trained = {
                name: train(
                    federation,
                    engine(),
                    place / name,
                    replay=None if replay is None else place_of(replay, "replay") / name,
                )
                for name, federation in federations.items()
            }
        made = Simulation(
            strategy=chosen,
            reason="as asked" if chosen == strategy else mixes.reason,
            sites=counts,
            regions=regions,
            held_out=trained[chosen].held_out,
            central=central,
            behind=BEHIND,
            outcomes=tuple(_outcome(name, found, central, space.size) for name, found in trained.items()),
            federation=federations[chosen],
            min_documents=settings.min_documents,
            protection=settings.protection,
            vectors=_vectors_of_a_site(trained[chosen], federations[chosen]),
            model_sha256=_write_model(space, trained[chosen], place),
        )
        write_bytes(simulation_card(made, MODEL_FILE).encode(), place, CARD)
    return made


def _identity(
    labels: Address, sites_by: str, regions_by: str | None, text: str, rule: Rule, settings: SimulationSettings
) -> dict[str, object]:
    """What a simulation depends on, but for the strategy."""
    said = {"sites_by": sites_by, "regions_by": regions_by, "text": text, "rule": str(rule)}
    return {"gneiss": __version__, "labels": checksums_of(labels), **said, "settings": asdict(settings)}


def _space(homes: Mapping[str, Place], text: str, rule: Rule, settings: SimulationSettings) -> FeatureSpace:
    """Features of the words that sites have in common, and of n-grams."""
    lines = [
        [document.line for document in labelled_documents(home / LABELS_FILE, text, rule).documents]
        for home in homes.values()
    ]
    words = shared_words(lines, settings.min_documents, settings.most_words)
    return FeatureSpace.of(words, settings.word_ngrams, settings.buckets)


@dataclass(frozen=True)
class _Silos:
    """Sites, the regions they are in, if any, and how they train."""

    files: Sequence[SiteFiles]
    regions: Mapping[str, tuple[str, ...]]
    settings: SimulationSettings

    def federation(self, name: str) -> Federation:
        """The training of a strategy. By arrival as many tasks are done as in rounds."""
        settings, space = self.settings, self.files[0].space
        asked = self._asked_of(name)
        buffer_size = 1 if name == "fedasync" else max(1, asked // 2)
        return Federation(
            strategy=name,
            sites=tuple(self.regions) if name in REGIONAL else tuple(one.site for one in self.files),
            features=space.sha256,
            words=len(space.words),
            word_ngrams=space.word_ngrams,
            buckets=space.buckets,
            labels=(NEGATIVE, QUALITY),
            rounds=-(-settings.rounds * asked // buffer_size) if name in ARRIVALS else settings.rounds,
            rates=self._rates(name, buffer_size),
            share=settings.share,
            concurrency=asked,
            min_answers=min(asked, max(-(-asked // 2), FEWEST_TRIMMED if settings.is_trimmed else 1)),
            is_trimmed=settings.is_trimmed,
            batch=settings.batch,
            seed=settings.seed,
        )

    def _rates(self, name: str, buffer_size: int) -> Rates:
        settings = self.settings
        own = default_rates(name, settings.steps, buffer_size, settings.region_rounds if name in REGIONAL else 1)
        rate = own.rate if settings.rate is None else settings.rate
        server_rate = own.server_rate if settings.server_rate is None else settings.server_rate
        return replace(own, rate=rate, server_rate=server_rate)

    def _asked_of(self, name: str) -> int:
        """How many sites, or regions, are asked in a round."""
        return asked_number(self.settings.share, len(self.regions if name in REGIONAL else self.files))

    @contextmanager
    def engines(self, workers: int | None, backend: BackendName) -> Iterator[Callable[[], Engine]]:
        """Gives the engine of a training: workers, or this process with a clock that restarts each time."""
        space = self.files[0].space
        by_site = {one.site: one for one in self.files}
        regions = [RegionFiles(name, tuple(by_site[site] for site in own)) for name, own in self.regions.items()]
        clients: list[SiteFiles | RegionFiles] = [*self.files, *regions]
        most_bytes = most_bytes_of(space.size)
        if workers is None:
            places = {site: at / len(by_site) for at, site in enumerate(by_site)}

            def seconds(site: str, draw: np.random.Generator) -> float:
                return float(draw.uniform(*_seconds_at(places.get(site, 0.0))))

            yield lambda: InProcess(
                {one.site: site_of(one) for one in clients}, most_bytes, seconds, self.settings.seed
            )
            return
        resources = worker_resources(task_bytes=64 * space.size)
        local = [str(one.folder) for one in self.files]
        chosen = choose_workers(backend, workers, len(self.files), resources, False, local)
        with local_engine(clients, chosen, most_bytes) as engine:
            yield lambda: engine

    def central(self) -> float:
        """The accuracy of Local Adam in one place, with the mini-batches of all sites together, and as many steps."""
        settings = self.settings
        examples = [site_examples(one) for one in self.files]
        sampling = Sampling(settings.batch * self._asked_of("local_adam"), min_documents=1)
        together = pooled([own.trained for own in examples])
        steps = settings.steps * (settings.region_rounds if self.regions else 1)
        optimizer = ROUNDS["local_adam"](Rates(steps, CENTRAL_RATE))
        begin = np.zeros((self.files[0].space.size, 1), np.float32)
        states = rounds(optimizer, begin, {"all": lambda draw: sampling.gradient(together, draw)}, seed=settings.seed)
        *_, last = islice(states, settings.rounds)
        return _accuracy({"all": figures(last.x, pooled([own.held_out for own in examples]))})


def _seconds_at(place: float) -> tuple[float, float]:
    """How long tasks take, from and to: half of the sites are fast, and the last fifth shares its machines."""
    return (1, 2) if place < 0.5 else (3, 5) if place < 0.8 else (50, 80)


def _outcome(name: str, trained: Trained, central: float, size: int) -> Outcome:
    records, final = trained.records, _accuracy(trained.held_out)
    arrived = next((at for at, accuracy in enumerate(_curve(trained)) if accuracy >= central - BEHIND), None)
    return Outcome(
        strategy=name,
        by_arrival=name in ARRIVALS,
        accuracy=final,
        rounds=len(records),
        rounds_to_target=arrived,
        vectors_to_target=None if arrived is None else sum(map(_floats, records[:arrived])) / size,
        bytes_moved=sum(record["bytes_down"] + record["bytes_up"] for record in records),
    )


def _vectors_of_a_site(trained: Trained, federation: Federation) -> int:
    """The most vectors that any site answered: those of a region are of each of its inner rounds."""
    asked = times_asked(trained.records)
    if federation.strategy in ARRIVALS:
        return max(asked.values())
    rule = of_rounds(federation.strategy, federation.rates, is_trimmed=federation.is_trimmed)
    return max(asked.values()) * len(rule.answered) * federation.rates.region_rounds


def _curve(trained: Trained) -> Iterator[float]:
    """The accuracy after so many rounds, by the last figures of every site; 0 while some have none."""
    known: dict[str, Mapping[str, Any]] = {}
    for record in trained.records:
        known |= record["held_out"]
        yield _accuracy(known) if known.keys() >= trained.held_out.keys() else 0.0
    yield _accuracy(trained.held_out)


def _floats(record: Record) -> int:
    return int(record["floats_down"] + record["floats_up"])


def _accuracy(held_out: Mapping[str, Mapping[str, Any]]) -> float:
    """Over the documents of all sites; 0 where there are none."""
    documents, correct = (sum(int(found[name]) for found in held_out.values()) for name in ("documents", "correct"))
    return correct / max(1, documents)


def _write_model(space: FeatureSpace, trained: Trained, output: Place) -> str:
    """Write the model; returns the sha256 of its file."""
    with tempfile.TemporaryDirectory(prefix="gneiss-model-") as folder:
        path = Path(folder) / MODEL_FILE
        write_model(space, trained.weights, (NEGATIVE, QUALITY), path)
        (output / MODEL_FILE).put(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
