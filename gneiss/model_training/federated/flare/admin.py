"""What an admin does: have the server train, watch, go on after losses, and write the model that comes of it.

A training is done in jobs. One ends when too few sites answer, when its coordinator dies, or when a site that it has
lost is back; the next goes on with the round that was under way, and asks for the same answers. So the model has the
same bytes as without any loss.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gneiss.errors import GneissError, InputError, MachineError, ModelError, OutputError, printable
from gneiss.model_training.federated.checkpoint import Record, write_line
from gneiss.model_training.federated.engines import ABSENT, SILENT
from gneiss.model_training.federated.federation import claim_federation, require_site_name
from gneiss.model_training.federated.flare.agreement import Agreement, agreement_of
from gneiss.model_training.federated.flare.card import Made, card
from gneiss.model_training.federated.flare.kit import OUTCOME_FILE, RECORDS_FILE, RESULT_FILE, agreement_of_kit
from gneiss.model_training.federated.message import unpacked
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.source import CARD
from gneiss.output.claim import claim
from gneiss.output.parquet import write_bytes
from gneiss.store.place import Address, Place, place_of
from gneiss.version import __version__

MODEL_FILE = "quality.bin"
COMPLETED = "FINISHED:COMPLETED"
_ENDED = "FINISHED:"
#: Jobs in a row without a round, after which it is not tried again.
_MOST_JOBS = 5
#: Sites that the server has heard of so many seconds later than of others are away.
_FRESH_SECONDS = 25.0
_SECONDS_BETWEEN_QUESTIONS = 1.0
_log = logging.getLogger(__name__)


class Server(Protocol):
    """The server as an admin sees it. All methods raise MachineError where it cannot be reached."""

    def connected(self) -> Mapping[str, float]:
        """Site → when the server last heard of it, by the server's clock."""

    def jobs(self, training: str) -> list[str]:
        """The jobs of a training that have not ended."""

    def submit(self, training: str, choices: Mapping[str, Any], least_sites: int) -> str:
        """Submit a job; its id."""

    def status(self, job: str) -> tuple[str, str]:
        """(status, what the parties said of its deployment)."""

    def records(self, job: str, first: int) -> list[Record]:
        """Lines on rounds from this number on, some at a time; none where the job does not run."""

    def end(self, job: str) -> None:
        """Have a job end before its next round."""

    def fetch(self, job: str, folder: Path) -> Path:
        """Fetch what a job has left, into a folder."""


Connect: TypeAlias = "Callable[[], AbstractContextManager[Server]]"


@dataclass(frozen=True)
class Patience:
    """How long to wait: for all sites, and for a server that is away, seconds."""

    sites_seconds: float = 600.0
    server_seconds: float = 600.0


def train_across(
    kit: Path,
    output: Address,
    connect: Connect,
    *,
    choices: Mapping[str, Any] | None = None,
    patience: Patience = Patience(),
    tell: Callable[[str], None] = lambda _: None,
) -> Made:
    """Have the server train, and write quality.bin and MODEL.md; the same call goes on with what was begun.

    Parameters: `kit`: of the admin; `output`: a folder, whose name is that of the training at the server; `connect`:
    opens a session; `choices`: in place of what the agreement says, see `Agreement.training`; `tell`: is told of
    rounds and losses, a line at a time.
    Raises InputError for choices that are none, OutputError for another training's output, MachineError where server or
    sites are away for too long, ModelError for a training that fails.
    """
    place = place_of(output, "output")
    own = agreement_of_kit(kit)
    agreement = agreement_of({**own.values, **(choices or {})}, "choices")
    training = str(place).rstrip("/").rpartition("/")[2]
    require_site_name(training)
    with claim(place, {"gneiss": __version__, "training": training, "agreement": asdict(agreement)}):
        job = _Training(training, agreement, connect, patience, tell)
        with tempfile.TemporaryDirectory(prefix="gneiss-federated-") as folder:
            return _written(agreement, job.run(Path(folder)), place)


@dataclass
class _Training:
    """One at the server, until it has come to an end. told: of so many rounds."""

    name: str
    agreement: Agreement
    connect: Connect
    patience: Patience
    tell: Callable[[str], None]
    told: int = 0

    def run(self, folder: Path) -> Path:
        """What the last job has left."""
        fruitless, away_since = 0, None
        while True:
            before = self.told
            try:
                with self.connect() as server:
                    job = self._job(server)
                    status, said = self._watched(server, job)
                    left = server.fetch(job, folder / job) if status == COMPLETED or _has_run(said) else None
            except MachineError as error:
                now = time.monotonic()
                away_since = now if away_since is None or self.told > before else away_since
                if now - away_since > self.patience.server_seconds:
                    raise
                self.tell(f"waiting: {error}")
                time.sleep(_SECONDS_BETWEEN_QUESTIONS)
                continue
            if status == COMPLETED and left is not None:
                self._tell_of(_records(left)[self.told :])
                return left
            fruitless = 0 if self.told > before else fruitless + 1
            failure = _failure(left, status, said)
            if not isinstance(failure, MachineError) or fruitless >= _MOST_JOBS:
                raise failure
            self.tell(f"goes on in a new job: {failure}")

    def _job(self, server: Server) -> str:
        """One that runs already, or a new one when all sites are there."""
        if running := server.jobs(self.name):
            return running[0]
        deadline, told = time.monotonic() + self.patience.sites_seconds, None
        least = self.agreement.federation(self.agreement.usual_strategy).min_answers
        while missing := sorted(set(self.agreement.sites) - _fresh(server.connected())):
            here = len(self.agreement.sites) - len(missing)
            if time.monotonic() > deadline:
                if here >= least:
                    break
                raise InputError(
                    f"site {missing[0]}: not connected for {self.patience.sites_seconds:g} s; {here} of"
                    f" {len(self.agreement.sites)} are, expected {least} at least; start it, and run again"
                )
            if missing != told:
                self.tell(f"waiting for {', '.join(missing)}")
                told = missing
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        return server.submit(self.name, self.agreement.training, least)

    def _watched(self, server: Server, job: str) -> tuple[str, str]:
        """(status, deployment) of a job that has ended."""
        asked_to_end = False
        while not (found := server.status(job))[0].startswith(_ENDED):
            records = server.records(job, self.told)
            self._tell_of(records)
            if records and not asked_to_end and _may_be_had_back(records[-1]) & _fresh(server.connected()):
                server.end(job)
                asked_to_end = True
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        return found

    def _tell_of(self, records: list[Record]) -> None:
        for record in records:
            self.told += 1
            self.tell(line_of(record))


def line_of(record: Record) -> str:
    """A round in a line: sites, bytes, accuracy at each site."""
    asked = len(record["asked"]) if "asked" in record else len(record["held_out"]) + len(record["lost"])
    answered = f"{asked - len(record['lost'])} of {asked} sites"
    figures = ", ".join(
        f"{site} {found['correct'] / found['documents']:.1%}"
        for site, found in record["held_out"].items()
        if found["documents"]
    )
    lost = "".join(f"; lost {site}: {reason}" for site, reason in record["lost"].items())
    moved = (record["bytes_down"] + record["bytes_up"]) / 1e6
    return f"round {record['round'] + 1}: {answered}, {moved:.1f} MB; {figures}{lost}"


def _may_be_had_back(record: Record) -> set[str]:
    return {site for site, reason in record["lost"].items() if reason.startswith((SILENT, ABSENT))}


def _fresh(connected: Mapping[str, float]) -> set[str]:
    """Sites of which the server has heard about as lately as of any."""
    newest = max(connected.values(), default=0.0)
    return {site for site, heard in connected.items() if heard >= newest - _FRESH_SECONDS}


def _has_run(said: str) -> bool:
    return "server: OK" in said


def _records(left: Path) -> list[Record]:
    found: list[Record] = json.loads((left / RECORDS_FILE).read_text())
    return found


def _failure(left: Path | None, status: str, said: str) -> GneissError:
    """Why a job that has ended did not complete."""
    outcome = None if left is None else left / OUTCOME_FILE
    if outcome is None or not outcome.is_file():
        return MachineError(f"the job ended as {printable(status)} ({printable(said[:500]) or 'nothing more is said'})")
    found = json.loads(outcome.read_text())
    kinds = {kind.__name__: kind for kind in (InputError, MachineError, OutputError)}
    return kinds.get(found["error"], ModelError)(f"server: {printable(found['message'])}")


def _written(agreement: Agreement, left: Path, output: Place) -> Made:
    """Write what has come of a training."""
    content = (left / RESULT_FILE).read_bytes()
    result = unpacked(content, len(content))
    federation = agreement.federation(str(result.meta["strategy"]))
    records = _records(left)
    claim_federation(output, federation)
    with tempfile.TemporaryDirectory(prefix="gneiss-model-") as folder:
        path = Path(folder) / MODEL_FILE
        write_model(agreement.space, result.arrays["x"], federation.labels, path)
        (output / MODEL_FILE).put(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    for number, record in enumerate(records, 1):
        write_line(output, number, record)
    made = Made(
        federation,
        str(result.meta["reason"]),
        {site: (low, high) for site, (low, high) in sorted(result.meta["sites"].items())},
        result.meta["held_out"],
        tuple(records),
        sha256,
    )
    write_bytes(card(made, MODEL_FILE).encode(), output, CARD)
    return made
