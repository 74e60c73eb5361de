"""An admin's training: the same model whatever is lost on the way, and an end where nothing can come of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gneiss.errors import GneissError, InputError, MachineError, ModelError, OutputError
from gneiss.model_training.federated.checkpoint import Record, read_log
from gneiss.model_training.federated.coordinator import count_labels, train
from gneiss.model_training.federated.engines import SILENT, Lost
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.flare import admin
from gneiss.model_training.federated.flare.admin import Made, Patience, train_across
from gneiss.model_training.federated.flare.agreement import Agreement, agreement_of
from gneiss.model_training.federated.flare.kit import OUTCOME_FILE, RECORDS_FILE, RESULT_FILE, training_place
from gneiss.model_training.federated.message import Message, packed
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.federated.privacy import Protection
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import MIXES, MOST_BYTES, SPACE, WORDS, sites_of

AGREED = Agreement(
    "localhost", tuple(MIXES), words=WORDS, buckets=64, strategy="fadam_gt", rounds=4, steps=3, min_answers=2
)


class Failing(InProcess):
    """Sites of which one is lost from some answer on, or whose coordinator ends at it."""

    def __init__(self, folder: Path, ends_at: int | None, lost: str | None, protection: Protection | None) -> None:
        sites = sites_of(folder / "sites", min_documents=2, protection=protection)
        super().__init__(dict(sites), MOST_BYTES)
        self.ends_at, self.lost, self.answers = ends_at, lost, 0

    def answer(self, timeout_s: float) -> tuple[str, Message] | Lost | None:
        """See Engine."""
        self.answers += 1
        if self.answers == self.ends_at:
            raise MachineError("the power went off")
        found = super().answer(timeout_s)
        is_late = isinstance(found, tuple) and found[0] == self.lost
        return Lost(found[0], f"{SILENT} for 9 s") if is_late and isinstance(found, tuple) else found


@dataclass
class OneServer:
    """See admin.Server: one in this process, whose jobs run while they are submitted."""

    folder: Path
    fails: list[tuple[int | None, str | None]] = field(default_factory=list)
    raises: GneissError | None = None
    submitted: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    heard: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MIXES, 100.0))
    found: dict[str, str] = field(default_factory=dict)
    questions: int = 0
    protection: Protection | None = None

    def connected(self) -> Mapping[str, float]:
        return self.heard

    def jobs(self, training: str) -> list[str]:
        return []

    def submit(self, training: str, choices: Mapping[str, Any], least_sites: int) -> str:
        job = f"job-{len(self.submitted)}"
        self.submitted.append(job)
        left = self.folder / "left" / job
        left.mkdir(parents=True)
        agreement = agreement_of({**AGREED.values, **choices}, "job")
        ends_at, lost = self.fails.pop(0) if self.fails else (None, None)
        self.place = training_place(self.folder / "server", training)
        try:
            if self.raises:
                raise self.raises
            federation = agreement.federation(agreement.strategy)
            counts = count_labels(federation, Failing(self.folder, None, None, None))
            trained = train(federation, Failing(self.folder, ends_at, lost, self.protection), self.place)
        except GneissError as error:
            (left / OUTCOME_FILE).write_text(json.dumps({"error": type(error).__name__, "message": str(error)}))
            self.found[job] = "FINISHED:EXECUTION_EXCEPTION"
            return job
        said = {"strategy": federation.strategy, "reason": "as asked", "sites": counts, "held_out": trained.held_out}
        (left / RECORDS_FILE).write_text(json.dumps(trained.records))
        (left / RESULT_FILE).write_bytes(packed(Message(said, {"x": trained.weights})))
        self.found[job] = admin.COMPLETED
        return job

    def status(self, job: str) -> tuple[str, str]:
        self.questions += 1
        return ("RUNNING" if self.questions % 2 else self.found[job]), "server: OK"

    def records(self, job: str, first: int) -> list[Record]:
        return read_log(self.place)[first:]

    def end(self, job: str) -> None:
        self.ended.append(job)

    def fetch(self, job: str, folder: Path) -> Path:
        return self.folder / "left" / job


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_SECONDS_BETWEEN_QUESTIONS", 0.0)


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """That of the admin."""
    (tmp_path / "kit" / "local").mkdir(parents=True)
    AGREED.write(tmp_path / "kit" / "local")
    return tmp_path / "kit"


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    """The model of a training in which nothing is lost."""
    (tmp_path / "plain").mkdir()
    sites = dict(sites_of(tmp_path / "sites", min_documents=2))
    found = train(AGREED.federation("fadam_gt"), InProcess(sites, MOST_BYTES), place_of(tmp_path / "plain"))
    write_model(SPACE, found.weights, ("cc", "hq"), tmp_path / "plain.bin")
    return (tmp_path / "plain.bin").read_bytes()


def trained(kit: Path, server: OneServer, **others: Any) -> tuple[Made, list[str]]:
    """(what has come of it, lines that were told)."""
    lines: list[str] = []
    made = train_across(kit, server.folder / "FED", always(server), tell=lines.append, **others)
    return made, lines


def always(server: OneServer, away: int = 0) -> Callable[[], Any]:
    """Sessions, of which the first ones do not come about."""
    attempts = iter(range(away))

    @contextmanager
    def connect() -> Iterator[OneServer]:
        if next(attempts, None) is not None:
            raise MachineError("the server cannot be reached")
        yield server

    return connect


def test_what_comes_of_it_is_written(tmp_path: Path, kit: Path, expected: bytes) -> None:
    server = OneServer(tmp_path)
    made, lines = trained(kit, server)
    output = tmp_path / "FED"
    assert (output / "quality.bin").read_bytes() == expected
    assert [line.partition(":")[0] for line in lines] == ["round 1", "round 2", "round 3", "round 4"]
    assert made.sites.keys() == made.held_out.keys() == MIXES.keys()
    assert len(read_log(place_of(output))) == 4
    card = (output / "MODEL.md").read_text()
    assert all(site in card for site in MIXES)
    assert made.model_sha256 in card
    again, lines = trained(kit, server)  # all rounds are there: nothing is trained anew
    assert again.model_sha256 == made.model_sha256


@pytest.mark.parametrize("ends_at", [1, 4, 9, 15])
def test_a_coordinator_that_ends_anywhere_changes_no_byte(
    tmp_path: Path, kit: Path, expected: bytes, ends_at: int
) -> None:
    server = OneServer(tmp_path, fails=[(ends_at, None), (2, None)])
    made, lines = trained(kit, server)
    assert len(server.submitted) >= 2
    assert (tmp_path / "FED" / "quality.bin").read_bytes() == expected
    told = [line.partition(":")[0] for line in lines if line.startswith("round")]
    assert told == [f"round {number}" for number in range(1, 5)]
    assert any("goes on in a new job: server: the power went off" in line for line in lines)
    assert made.bytes_moved > 0


def test_a_site_that_is_back_is_had_in_a_new_job(tmp_path: Path, kit: Path) -> None:
    server = OneServer(tmp_path, fails=[(None, "ann")])
    _, lines = trained(kit, server)
    assert server.ended == ["job-0"]
    assert any("; lost ann: no sign of life for 9 s" in line for line in lines)


def test_a_site_that_is_away_is_not_waited_for_in_a_job(tmp_path: Path, kit: Path) -> None:
    server = OneServer(tmp_path, fails=[(None, "ann")])
    server.heard["ann"] = 10.0
    made, lines = trained(kit, server, patience=Patience(0.0, 1.0))
    assert server.ended == []
    assert lines[0].startswith("round 1: 2 of 3 sites") or "waiting for ann" in lines[0]
    assert sum(len(record["lost"]) for record in made.records) == 4


def test_too_few_sites_are_said(tmp_path: Path, kit: Path) -> None:
    server = OneServer(tmp_path)
    server.heard = {"ann": 100.0}
    with pytest.raises(InputError, match="site bob: not connected for 0 s; 1 of 3 are, expected 2 at least"):
        trained(kit, server, patience=Patience(0.0, 1.0))


def test_a_server_that_is_away_is_waited_for(tmp_path: Path, kit: Path, expected: bytes) -> None:
    lines: list[str] = []
    server = OneServer(tmp_path)
    train_across(kit, tmp_path / "FED", always(server, away=3), tell=lines.append)
    assert lines[:3] == ["waiting: the server cannot be reached"] * 3
    assert (tmp_path / "FED" / "quality.bin").read_bytes() == expected
    with pytest.raises(MachineError, match="cannot be reached"):
        train_across(kit, tmp_path / "GED", always(server, away=99), patience=Patience(1.0, 0.0))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ModelError("a weight is 1e9"), ModelError),
        (InputError("bad"), InputError),
        (OutputError("of another"), OutputError),
    ],
)
def test_what_no_new_job_would_mend_is_raised(
    tmp_path: Path, kit: Path, error: GneissError, kind: type[GneissError]
) -> None:
    server = OneServer(tmp_path, raises=error)
    with pytest.raises(kind, match=re.escape(f"server: {error}")):
        trained(kit, server)
    assert len(server.submitted) == 1


def test_jobs_without_a_round_are_not_tried_for_ever(tmp_path: Path, kit: Path) -> None:
    server = OneServer(tmp_path, raises=MachineError("no disk"))
    with pytest.raises(MachineError, match="server: no disk"):
        trained(kit, server)
    assert len(server.submitted) == 5


def test_the_card_says_what_sites_guarantee(tmp_path: Path, kit: Path) -> None:
    server = OneServer(tmp_path)
    server.protection = Protection(1.0, 4.0)
    trained(kit, server)
    card = (tmp_path / "FED" / "MODEL.md").read_text()
    sent = 2 * AGREED.rounds  # corrections are sent, too
    expected = f"{server.protection.epsilon_of_all(1e-5, sent):.3g}"
    rows = [re.split(r" *\| *", line)[1:-1] for line in card.splitlines() if line.startswith("|")]
    assert ["ann", "1.0", "4.0", str(sent), "0.926", expected] in rows


def test_another_training_is_refused_in_its_place(tmp_path: Path, kit: Path) -> None:
    trained(kit, OneServer(tmp_path))
    with pytest.raises(OutputError, match="agreement"):
        trained(kit, OneServer(tmp_path), choices={"rounds": 5})
    with pytest.raises(InputError, match="choices: rounds: expected 1 to"):
        trained(kit, OneServer(tmp_path), choices={"rounds": 0})
