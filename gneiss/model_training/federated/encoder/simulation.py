"""A training of adapters across sites on one machine; see `federated.simulation`. Needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np

from gneiss.arrays import BoolArray
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.errors import InputError, OutputError, did_you_mean, printable
from gneiss.input.files import can_name
from gneiss.model_training.federated.checkpoint import Record
from gneiss.model_training.federated.coordinator import count_labels, train_in_rounds
from gneiss.model_training.federated.divided import LABELS_FILE, rows_of_sites, write_sites
from gneiss.model_training.federated.encoder.adapted import Hidden
from gneiss.model_training.federated.encoder.documents import (
    EncoderSettings,
    EncoderSiteFiles,
    encoder_site_of,
    loaded_encoder,
)
from gneiss.model_training.federated.encoder.lowrank import AdapterState
from gneiss.model_training.federated.encoder.model import write_encoder
from gneiss.model_training.federated.encoder.space import adapter_space
from gneiss.model_training.federated.encoder.training import (
    ENCODER_STRATEGIES,
    FEDLORA,
    FFA_LORA,
    EncoderFederation,
    EncoderTraining,
)
from gneiss.model_training.federated.engines import Engine
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.engines.local import local_engine
from gneiss.model_training.federated.linear import draw_of
from gneiss.model_training.federated.message import most_bytes_of
from gneiss.model_training.federated.site_documents import checksums_of
from gneiss.model_training.labels import NEGATIVE, QUALITY, require_two_labels, rule_of
from gneiss.model_training.source import CARD, markdown_table
from gneiss.output.claim import claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, place_of
from gneiss.version import __version__

ALL, AUTO = "all", "auto"
#: Peak of a worker: torch, an encoder and the states of documents at its sites.
_WORKER_BYTES = 2_000_000_000


@dataclass(frozen=True)
class EncoderSimulationSettings:
    """Settings of a simulation.

    rounds, steps, share, batch, seed, held_out_share: see SimulationSettings; rate: of AdamW at sites; rank,
    ranks_left: see EncoderFederation; tokens, layers: see EncoderSettings.
    """

    rounds: int = 25
    steps: int = 10
    share: float = 1.0
    batch: int = 16
    seed: int = 0
    rate: float = 2e-3
    rank: int = 8
    ranks_left: int = 3
    tokens: int = 128
    layers: int = 1
    held_out_share: float = 0.2


@dataclass(frozen=True)
class EncoderOutcome:
    """What a strategy came to.

    accuracy: on documents held out at sites; floats_moved, bytes_moved: of all messages; ranks: live ones of each
    adapted matrix in the end; seconds: of a round in the mean of the first and of the last third.
    """

    strategy: str
    accuracy: float
    floats_moved: int
    bytes_moved: int
    ranks: tuple[int, ...]
    seconds: tuple[float, float]


@dataclass(frozen=True)
class EncoderSimulation:
    """A simulation, and the model that it wrote; see Simulation. sha256: of its files."""

    strategy: str
    sites: Mapping[str, tuple[int, int]]
    held_out: Mapping[str, Mapping[str, Any]]
    central: float
    outcomes: tuple[EncoderOutcome, ...]
    federation: EncoderFederation
    tokens: int
    sha256: Mapping[str, str]


def simulate_encoder(
    labels: Address,
    output: Address,
    encoder: str,
    *,
    sites_by: str,
    strategy: str = AUTO,
    text: str = "text",
    label: str = "label",
    positive: str | Sequence[str] | None = None,
    score_threshold: float | None = None,
    settings: EncoderSimulationSettings = EncoderSimulationSettings(),
    workers: int | None = None,
    backend: BackendName = "auto",
) -> EncoderSimulation:
    """Train adapters and a head of an encoder across the sites of some labels, and write both; or go on with that.

    Parameters: `encoder`: the folder of a BERT, with a slash at the end, as in a recipe; `strategy`: a name, `all` to
    compare every one, or `auto` for FFA-LoRA, whose model is written with `all` too; others as in `simulate`.
    Raises InputError for labels or settings that cannot be used, ModelError for an encoder that is none, OutputError
    for another simulation's output.
    """
    place, rule = place_of(output, "output"), rule_of(label, positive, score_threshold, QUALITY)
    if strategy not in (known := [ALL, AUTO, *ENCODER_STRATEGIES]):
        raise InputError(f"strategy '{printable(strategy)}' is not known{did_you_mean(strategy, known)}")
    if can_name(labels, place):
        raise OutputError(f"{place}: the output and the labels {labels} overlap; choose another output")
    of_encoder = EncoderSettings(encoder, settings.tokens, settings.layers)
    identity = {
        "gneiss": __version__, "labels": checksums_of(labels), "encoder": of_encoder.sha256, "sites_by": sites_by,
        "text": text, "rule": str(rule), "settings": asdict(settings),
    }  # fmt: skip
    # Before the output is claimed, so that a mistake leaves nothing there.
    rows = rows_of_sites(labels, sites_by, (text, rule.column))
    require_two_labels(chain.from_iterable(rows.values()), rule, labels)
    with claim(place, identity):
        homes = write_sites(rows, place / "sites")
        del rows  # all the texts
        files = [
            EncoderSiteFiles(site, home / LABELS_FILE, home, of_encoder, rule, text, settings.held_out_share)
            for site, home in homes.items()
        ]
        chosen = strategy if strategy in ENCODER_STRATEGIES else FFA_LORA
        names = ENCODER_STRATEGIES if strategy == ALL else (chosen,)
        federations = {name: _federation(name, files, settings) for name in {*names, chosen, FEDLORA}}
        with _engines(files, federations[FEDLORA], workers, backend) as engine:
            counts = count_labels(federations[chosen], engine())
            found = {
                name: train_in_rounds(EncoderTraining(federations[name]), engine(), place / name) for name in names
            }
        state, _, held_out = found[chosen]
        space = federations[chosen].lowrank.space
        made = EncoderSimulation(
            strategy=chosen,
            sites=counts,
            held_out=held_out,
            central=_central(files, federations[FEDLORA], settings),
            outcomes=tuple(_outcome(federations[name], *each) for name, each in found.items()),
            federation=federations[chosen],
            tokens=settings.tokens,
            sha256=write_encoder(
                of_encoder.files, settings.tokens, space, state.x, state.alive, (NEGATIVE, QUALITY), place
            ),
        )
        write_bytes(encoder_card(made).encode(), place, CARD)
    return made


def _federation(name: str, files: Sequence[EncoderSiteFiles], settings: EncoderSimulationSettings) -> EncoderFederation:
    of_encoder = files[0].encoder
    config = loaded_encoder(of_encoder).config
    space = adapter_space(config, settings.layers, 2, "svd", settings.rank, settings.seed)
    return EncoderFederation(
        strategy=name,
        sites=tuple(one.site for one in files),
        features=of_encoder.sha256,
        matrices=tuple((matrix.name, matrix.outputs, matrix.inputs) for matrix in space.matrices),
        width=config.width,
        labels=(NEGATIVE, QUALITY),
        rounds=settings.rounds,
        rank=settings.rank,
        ranks_left=min(settings.ranks_left, settings.rank),
        steps=settings.steps,
        rate=settings.rate,
        share=settings.share,
        min_answers=-(-_asked(files, settings) // 2),
        batch=settings.batch,
        seed=settings.seed,
    )


def _asked(files: Sequence[EncoderSiteFiles], settings: EncoderSimulationSettings) -> int:
    return max(1, round(settings.share * len(files)))


@contextmanager
def _engines(
    files: Sequence[EncoderSiteFiles], federation: EncoderFederation, workers: int | None, backend: BackendName
) -> Iterator[Callable[[], Engine]]:
    """Gives the engine of a training: workers, or this process."""
    most_bytes = most_bytes_of(federation.space.size(np.ones(federation.space.ranks, np.bool_)))
    if workers is None:
        yield lambda: InProcess({one.site: encoder_site_of(one) for one in files}, most_bytes)
        return
    chosen = choose_workers(
        backend,
        workers,
        len(files),
        worker_resources(task_bytes=_WORKER_BYTES),
        False,
        [str(files[0].encoder.files.weights), *(str(one.folder) for one in files)],
    )
    with local_engine(files, chosen, most_bytes, encoder_site_of) as engine:
        yield lambda: engine


def _central(
    files: Sequence[EncoderSiteFiles], federation: EncoderFederation, settings: EncoderSimulationSettings
) -> float:
    """The accuracy of the same adapters where all documents are in one place, by as many steps of larger batches."""
    sites = [encoder_site_of(one) for one in files]
    trained, held_out = (_pooled([getattr(site, part) for site in sites]) for part in ("trained", "held_out"))
    strategy, encoder = federation.lowrank, sites[0].encoder
    alive: BoolArray = np.ones(strategy.space.ranks, np.bool_)
    gradient = encoder.gradient(
        strategy.space, alive, trained, draw_of(settings.seed, 0, "all"), settings.batch * _asked(files, settings)
    )
    steps = settings.steps * settings.rounds
    weights, _ = strategy.optimizer.run(strategy.space.begin(), gradient, steps)
    return _accuracy({"all": encoder.figures(strategy.space, alive, weights, held_out)})


def _pooled(parts: Sequence[Hidden]) -> Hidden:
    """Documents of several sites as those of one."""
    columns = ("states", "lengths", "labels")
    return Hidden(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


def _outcome(
    federation: EncoderFederation,
    state: AdapterState,
    records: tuple[Record, ...],
    held_out: Mapping[str, Mapping[str, Any]],
) -> EncoderOutcome:
    seconds = [float(record.get("seconds", 0.0)) for record in records]
    third = max(1, len(seconds) // 3)
    return EncoderOutcome(
        strategy=federation.strategy,
        accuracy=_accuracy(held_out),
        floats_moved=sum(record["floats_down"] + record["floats_up"] for record in records),
        bytes_moved=sum(record["bytes_down"] + record["bytes_up"] for record in records),
        ranks=tuple(federation.space.live(state.alive)),
        seconds=(sum(seconds[:third]) / third, sum(seconds[-third:]) / third),
    )


def _accuracy(held_out: Mapping[str, Mapping[str, Any]]) -> float:
    documents, correct = (sum(int(found[name]) for found in held_out.values()) for name in ("documents", "correct"))
    return correct / max(1, documents)


def encoder_card(made: EncoderSimulation) -> str:
    """The card of the model, as Markdown."""
    federation = made.federation
    negative, positive = federation.labels
    figures = {site: found for site, found in made.held_out.items() if found["documents"]}
    return "\n".join(
        [
            "# encoder",
            "",
            f"An encoder with adapted layers, and a head with the labels `{positive}` and `{negative}` over its first",
            f"token, trained by gneiss {__version__} across {len(made.sites)} sites, simulated on one machine.",
            "",
            f"Strategy: {made.strategy}.",
            "",
            *markdown_table(
                ("site", positive, negative, "held out", "accuracy"),
                *(
                    (site, *counts[::-1], *((figures[site]["documents"], f"{_accuracy({site: figures[site]}):.1%}")
                                            if site in figures else ("", "")))
                    for site, counts in made.sites.items()
                ),
            ),
            "",
            "## Compared with one place",
            "",
            *markdown_table(*encoder_outcome_rows(made)),
            "",
            "Central training is as many steps on all documents at once. Where one machine may read all documents,",
            "train there.",
            "",
            "## What leaves a site",
            "",
            "Differences of weights, numbers of documents, sums over them, and votes on ranks; no text, id or address.",
            "That is no guarantee of privacy.",
            "",
            "## In a recipe",
            "",
            "```yaml",
            "annotate:",
            f"  - encoder: {{model: encoder/, pooling: cls, windows: 1, window_tokens: {made.tokens},",
            f"      heads: {{quality: {{source: head.safetensors, label: {positive}}}}}}}",
            "rules: {is_quality: quality > 0.5}",
            "```",
            "",
            "## Reproduction",
            "",
            "```toml",
            federation.toml().rstrip("\n"),
            "```",
            "",
            *(f"- sha256 of `{name}`: `{sha256}`" for name, sha256 in made.sha256.items()),
            "- the same labels, settings and versions give the same files on one kind of processor",
            "",
        ]
    )  # fmt: skip


def encoder_outcome_rows(made: EncoderSimulation) -> list[tuple[object, ...]]:
    """A table of strategies, central training first."""
    return [
        ("strategy", "accuracy", "MB moved", "ranks left", "matrices left alone", "s a round, first and last third"),
        ("central training", f"{made.central:.1%}", "", "", "", ""),
        *(
            (
                one.strategy,
                f"{one.accuracy:.1%}",
                f"{one.bytes_moved / 1e6:,.1f}",
                sum(one.ranks),
                sum(not ranks for ranks in one.ranks),
                f"{one.seconds[0]:.2f}, {one.seconds[1]:.2f}",
            )
            for one in made.outcomes
        ),
    ]
