"""A training across sites on one machine, from labels that say which site each document is at; beside central training.

Sites answer messages, and the coordinator sees nothing else, as it would be across organisations. Only the division
into sites, their common words, and central training look at all documents.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import InputError, OutputError, did_you_mean, printable
from gneiss.input.files import can_name, find_files
from gneiss.input.formats import input_names, is_input
from gneiss.model_training.classifier import NEGATIVE, QUALITY
from gneiss.model_training.federated.checkpoint import Record
from gneiss.model_training.federated.coordinator import Trained, count_labels, train
from gneiss.model_training.federated.divided import LABELS_FILE, divide
from gneiss.model_training.federated.engines import Engine
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.engines.local import local_engine
from gneiss.model_training.federated.features import FeatureSpace
from gneiss.model_training.federated.federation import (
    ARRIVALS,
    DEFAULT_RATES,
    ROUNDS,
    Federation,
    default_rates,
)
from gneiss.model_training.federated.label_mixes import LabelMixes
from gneiss.model_training.federated.linear import Sampling, pooled
from gneiss.model_training.federated.message import most_bytes_of
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.federated.rounds import rounds
from gneiss.model_training.federated.simulation_card import Outcome, Simulation, simulation_card
from gneiss.model_training.federated.site import figures, site_of
from gneiss.model_training.federated.site_documents import SiteFiles, site_examples
from gneiss.model_training.federated.strategy import local_adam
from gneiss.model_training.federated.vocabulary import shared_words
from gneiss.model_training.labels import Rule, labelled_documents, rule_of
from gneiss.model_training.source import CARD
from gneiss.output.claim import claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, Place, place_of
from gneiss.version import __version__

#: Choices of a strategy beside their names: every one of them, or what suits the label mixes of the sites.
ALL, AUTO = "all", "auto"
CORRECTED, UNCORRECTED = "fadam_gt", "local_adam"
MODEL_FILE, VOCABULARY_FILE = "quality.bin", "vocabulary.txt"
#: How much less accurate than central training a strategy is that is taken to have arrived.
BEHIND = 0.03
#: Of AMSGrad in one place.
CENTRAL_RATE = 0.01


@dataclass(frozen=True)
class SimulationSettings:
    """Settings of a simulation.

    rounds, and steps of a site in each; share: of the sites that are asked in a round; batch: documents of a step;
    seed: of whom to ask and of batches; word_ngrams, buckets: see FeatureSpace; most_words: of the vocabulary;
    min_documents, held_out_share: see SiteFiles. Raises InputError for values out of bounds.
    """

    rounds: int = 25
    steps: int = 10
    share: float = 1.0
    batch: int = 16
    seed: int = 0
    word_ngrams: int = 2
    buckets: int = 262_144
    most_words: int = 100_000
    min_documents: int = 5
    held_out_share: float = 0.2

    def __post_init__(self) -> None:
        bounds: Mapping[str, tuple[float, float]] = {
            "most_words": (0, 10**6), "min_documents": (1, 10**6), "held_out_share": (0.05, 0.5), "share": (1e-6, 1),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            if not low <= (value := getattr(self, name)) <= high:
                raise InputError(f"{name}: expected {low:g} to {high:g}, found {value:g}")


def simulate(
    labels: Address,
    output: Address,
    *,
    sites_by: str,
    strategy: str = AUTO,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: SimulationSettings = SimulationSettings(),
    workers: int | None = None,
    backend: BackendName = "auto",
) -> Simulation:
    """Train a quality model across the sites of some labels, and write quality.bin and MODEL.md; or go on with that.

    Parameters: `labels`: Parquet; `output`: a folder, in which each strategy has one of its own; `sites_by`: the column
    that says where a document is; `strategy`: a name, `all` to compare every one, or `auto` for what suits the sites'
    label mixes, which is the model that is written with `all` too; `text`, `label`, `positive`, `score_threshold`: see
    `train_quality`; `workers`: that have the sites, None for this process.
    Raises InputError for labels or settings that cannot be used, OutputError for another simulation's output.
    """
    place, rule = place_of(output, "output"), rule_of(label, positive, score_threshold, QUALITY)
    if strategy not in {ALL, AUTO, *DEFAULT_RATES}:
        raise InputError(
            f"strategy '{printable(strategy)}' is not known{did_you_mean(strategy, [ALL, AUTO, *DEFAULT_RATES])}"
        )
    if can_name(labels, place):
        raise OutputError(f"{place}: the output and the labels {labels} lie one in the other; choose another output")
    with claim(place, _identity(labels, sites_by, text, rule, settings)):
        homes = divide(labels, sites_by, (text, rule.column), place / "sites")
        space = _space(homes, text, rule, settings)
        write_bytes("".join(f"{word}\n" for word in space.words[1:]).encode(), place, VOCABULARY_FILE)
        files = [
            SiteFiles(
                site, home / LABELS_FILE, home, space, rule, text, settings.held_out_share, settings.min_documents
            )
            for site, home in homes.items()
        ]
        with _engines(files, settings, workers, backend) as engine:
            counts = count_labels(_federation(UNCORRECTED, files, settings), engine())
            mixes = LabelMixes.of(counts)
            chosen = strategy if strategy in DEFAULT_RATES else CORRECTED if mixes.differ else UNCORRECTED
            central = _central(files, settings)
            trained = {
                name: train(_federation(name, files, settings), engine(), place / name)
                for name in (DEFAULT_RATES if strategy == ALL else (chosen,))
            }
        made = Simulation(
            strategy=chosen,
            reason="as asked" if chosen == strategy else mixes.reason,
            sites=counts,
            held_out=trained[chosen].held_out,
            central=central,
            behind=BEHIND,
            outcomes=tuple(_outcome(name, found, central, space.size) for name, found in trained.items()),
            federation=_federation(chosen, files, settings),
            min_documents=settings.min_documents,
            model_sha256=_write_model(space, trained[chosen], place),
        )
        write_bytes(simulation_card(made, MODEL_FILE).encode(), place, CARD)
    return made


def _identity(labels: Address, sites_by: str, text: str, rule: Rule, settings: SimulationSettings) -> dict[str, object]:
    """What a simulation depends on, but for the strategy."""
    root, found = find_files(labels, is_input, input_names())
    try:
        checksums = {file.name: (root / file.name).checksum() for file in found}
    except OSError as error:
        raise InputError(f"{labels}: cannot read: {error.strerror or error}") from error
    said = {"sites_by": sites_by, "text": text, "rule": str(rule), "settings": asdict(settings)}
    return {"gneiss": __version__, "labels": checksums, **said}


def _space(homes: Mapping[str, Place], text: str, rule: Rule, settings: SimulationSettings) -> FeatureSpace:
    """Features of the words that sites have in common, and of n-grams."""
    lines = [
        [document.line for document in labelled_documents(home / LABELS_FILE, text, rule).documents]
        for home in homes.values()
    ]
    words = shared_words(lines, settings.min_documents, settings.most_words)
    return FeatureSpace.of(words, settings.word_ngrams, settings.buckets)


def _federation(name: str, files: Sequence[SiteFiles], settings: SimulationSettings) -> Federation:
    """The training of a strategy. By arrival as many tasks are done as in rounds."""
    space, asked = files[0].space, _asked(files, settings)
    buffer_size = 1 if name == "fedasync" else max(1, asked // 2)
    return Federation(
        strategy=name,
        sites=tuple(one.site for one in files),
        features=space.sha256,
        words=len(space.words),
        word_ngrams=space.word_ngrams,
        buckets=space.buckets,
        labels=(NEGATIVE, QUALITY),
        rounds=settings.rounds if name in ROUNDS else -(-settings.rounds * asked // buffer_size),
        rates=default_rates(name, settings.steps, buffer_size),
        share=settings.share,
        concurrency=asked,
        min_answers=-(-asked // 2),
        batch=settings.batch,
        seed=settings.seed,
    )


def _asked(files: Sequence[SiteFiles], settings: SimulationSettings) -> int:
    return max(1, round(settings.share * len(files)))


@contextmanager
def _engines(
    files: Sequence[SiteFiles], settings: SimulationSettings, workers: int | None, backend: BackendName
) -> Iterator[Callable[[], Engine]]:
    """Gives the engine of a training: workers, or this process with a clock that begins anew each time."""
    most_bytes = most_bytes_of(files[0].space.size)
    if workers is None:
        place_of_site = {one.site: at / len(files) for at, one in enumerate(files)}

        def seconds(site: str, draw: np.random.Generator) -> float:
            return float(draw.uniform(*_seconds_at(place_of_site[site])))

        yield lambda: InProcess({one.site: site_of(one) for one in files}, most_bytes, seconds, settings.seed)
        return
    resources = worker_resources(task_bytes=64 * files[0].space.size)
    local = [str(one.folder) for one in files]
    with local_engine(
        files, choose_workers(backend, workers, len(files), resources, False, local), most_bytes
    ) as engine:
        yield lambda: engine


def _seconds_at(place: float) -> tuple[float, float]:
    """How long tasks take, from and to: half of the sites are fast, and the last fifth shares its machines."""
    return (1, 2) if place < 0.5 else (3, 5) if place < 0.8 else (50, 80)


def _central(files: Sequence[SiteFiles], settings: SimulationSettings) -> float:
    """The accuracy of Local Adam where all documents are in one place, with the mini-batches of all sites together."""
    examples = [site_examples(one) for one in files]
    sampling = Sampling(settings.batch * _asked(files, settings), min_documents=1)
    together = pooled([own.trained for own in examples])
    optimizer = local_adam(settings.steps, CENTRAL_RATE)
    begin = np.zeros((files[0].space.size, 1), np.float32)
    states = rounds(optimizer, begin, {"all": lambda draw: sampling.gradient(together, draw)}, seed=settings.seed)
    *_, last = islice(states, settings.rounds)
    return _accuracy({"all": figures(last.x, pooled([own.held_out for own in examples]))})


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
