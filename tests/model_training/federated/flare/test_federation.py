"""A federation of real processes on this machine, by NVIDIA FLARE with TLS: a site, another, and a region of two.

Whatever is killed, the model has the bytes of a training in one process. `make test-train` installs what this needs.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("nvflare", reason="NVIDIA FLARE is not installed: make test-train does")

from gneiss.errors import GneissError
from gneiss.filters.fasttext import fasttext_scores
from gneiss.model_training.federated.coordinator import train
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.flare.agreement import Agreement
from gneiss.model_training.federated.flare.engine import CLASSES, Session, session, write_job
from gneiss.model_training.federated.flare.kit import SiteSettings
from gneiss.model_training.federated.flare.provision import provision
from gneiss.model_training.federated.message import most_bytes_of
from gneiss.model_training.federated.model import write_model
from gneiss.model_training.federated.region import RegionFiles, site_of
from gneiss.model_training.federated.site_documents import SiteFiles
from gneiss.pipelines.run import run
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import WORDS, documents
from tests.runs import InThisProcess

pytestmark = [pytest.mark.processes, pytest.mark.slow]

SITES = ("ann", "bob", "region")
ROUNDS = 6
WAIT_SECONDS = 120.0


@dataclass
class Parties:
    """Processes of a federation, by name."""

    folder: Path
    agreement: Agreement
    kits: dict[str, Path]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, party: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of gneiss; its log is in the folder."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
        with (self.folder / f"{party}.log").open("ab") as log:
            self.running[party] = subprocess.Popen(
                [sys.executable, "-m", "gneiss", "federated", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
            )
        return self.running[party]

    def site(self, name: str) -> None:
        """Start a site."""
        silos = ["--sites-by", "silo"] if name == "region" else []
        labels = str(self.folder / f"{name}.parquet")
        self.start(name, "site", str(self.kits[name]), "--labels", labels, "--min-documents", "2", *silos)

    def server(self) -> None:
        """Start the server."""
        self.start("server", "serve", str(self.kits["server"]))

    def kill(self, party: str) -> None:
        """End a party at once, with its jobs, as if its machine had gone off."""
        process = self.running.pop(party)
        of_party = psutil.Process(process.pid)
        for one in (of_party, *of_party.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()

    def close(self) -> None:
        """End all."""
        for party in [*self.running]:
            self.kill(party)

    def said(self, party: str) -> str:
        """The log of a party."""
        path = self.folder / f"{party}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
        """Wait, and say what the parties say where it takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {party}\n{self.said(party)[-1500:]}" for party in ("train", "server", *SITES))
                pytest.fail(f"{what}: not within {seconds:g} s\n{logs}")
            time.sleep(0.2)


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def write_labels(folder: Path) -> None:
    """Of each site; the region's are those of two silos."""
    for site in ("ann", "bob"):
        pq.write_table(documents(site), folder / f"{site}.parquet")
    silos = [documents(silo, seed=1) for silo in ("cee", "dan")]
    named = [
        table.append_column("silo", pa.array([silo] * len(table)))
        for silo, table in zip(("cee", "dan"), silos, strict=True)
    ]
    pq.write_table(pa.concat_tables(named), folder / "region.parquet")


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parties]:
    """All of them, connected."""
    folder = tmp_path_factory.mktemp("federation")
    agreement = Agreement(
        "localhost", SITES, free_port(), WORDS, buckets=64, strategy="mtgc", rounds=ROUNDS, steps=3, min_answers=3,
        region_rounds=2,
    )  # fmt: skip
    agreement.write(folder)
    write_labels(folder)
    found = Parties(folder, agreement, provision(folder / "federation.toml", folder / "kits"))
    try:
        found.server()
        for site in SITES:
            found.site(site)
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def admin(parties: Parties) -> Iterator[Session]:
    """A session, once all sites are connected."""
    parties.wait("server", lambda: "Server started" in parties.said("server"))
    with session(parties.kits["admin"], timeout_s=WAIT_SECONDS) as found:
        parties.wait("sites", lambda: found.connected().keys() == set(SITES))
        yield found


def ended(parties: Parties, admin: Session, job: str) -> str:
    """The status of a job that has ended, and what was said of its deployment."""
    parties.wait("job", lambda: admin.status(job)[0].startswith("FINISHED"))
    return ": ".join(admin.status(job))


def test_a_job_with_code_is_refused(parties: Parties, admin: Session, tmp_path: Path) -> None:
    job = tmp_path / "job"
    write_job(job, "evil", parties.agreement.training, 5.0, 3)
    (job / "app" / "custom").mkdir()
    (job / "app" / "custom" / "evil.py").write_text(f"open({str(tmp_path / 'read')!r}, 'w')\n")
    found = ended(parties, admin, str(admin._api.submit_job(str(job))))
    assert found.startswith("FINISHED:FAILED_TO_RUN")
    assert "BYOC" in found
    assert not (tmp_path / "read").exists()


def test_a_job_of_other_classes_is_refused(parties: Parties, admin: Session, tmp_path: Path) -> None:
    job = tmp_path / "job"
    write_job(job, "other", parties.agreement.training, 5.0, 3)
    config = job / "app" / "config" / "config_fed_client.json"
    config.write_text(config.read_text().replace(CLASSES[1], "nvflare.app_common.np.np_trainer.NPTrainer"))
    found = ended(parties, admin, str(admin._api.submit_job(str(job))))
    assert "COMPLETED" not in found
    parties.wait("refusal", lambda: any("NPTrainer' at config path" in log_of_jobs(parties, site) for site in SITES))


def log_of_jobs(parties: Parties, site: str) -> str:
    """What the jobs of a site have logged."""
    return "\n".join(path.read_text(errors="replace") for path in parties.kits[site].glob("*/log.txt"))


def test_certificates_of_another_authority_are_refused(parties: Parties, admin: Session, tmp_path: Path) -> None:
    """Though all names are right: the server's own host and port, a site and an admin that there are."""
    replace(parties.agreement).write(tmp_path)
    foreign = provision(tmp_path / "federation.toml", tmp_path / "kits")
    before = admin.connected()["bob"]
    parties.kits["foreign"] = foreign["bob"]
    labels = str(parties.folder / "bob.parquet")
    parties.start("foreign", "site", str(foreign["bob"]), "--labels", labels, "--min-documents", "2")
    try:
        with pytest.raises(GneissError), session(foreign["admin"], timeout_s=5.0):
            pass
        parties.wait("refusal", lambda: "CERTIFICATE_VERIFY_FAILED" in parties.said("foreign"))
        assert "Successfully registered" not in parties.said("foreign")
    finally:
        parties.kill("foreign")
    assert admin.connected().keys() == set(SITES)
    assert admin.connected()["bob"] >= before


def expected_model(parties: Parties, folder: Path) -> bytes:
    """That of a training in this process."""
    agreement = parties.agreement
    clients = {}
    for name in SITES:
        own = SiteSettings(
            str(parties.folder / f"{name}.parquet"), min_documents=2, sites_by="silo" if name == "region" else None
        )
        files = own.files(name, agreement, folder / name)
        clients[name] = site_of(RegionFiles(name, (files,)) if isinstance(files, SiteFiles) else files)
    (folder / "out").mkdir()
    engine = InProcess(clients, most_bytes_of(agreement.space.size))
    found = train(agreement.federation("mtgc"), engine, place_of(folder / "out"))
    write_model(agreement.space, found.weights, ("cc", "hq"), folder / "quality.bin")
    return (folder / "quality.bin").read_bytes()


def scores(output: Path, folder: Path) -> list[float]:
    """What a run of the recipe on the model's card gives to the texts of a site that took no part."""
    phase = (output / "MODEL.md").read_text().split("```yaml\n")[1].split("```")[0].replace("\n", "\n    ")
    (output / "recipe.yaml").write_text(f"name: federated\nphases:\n  - name: only\n    {phase}")
    (folder / "input").mkdir()
    pq.write_table(documents("eve").select(["text"]), folder / "input" / "a.parquet")
    run(output / "recipe.yaml", folder / "input", folder / "run", backend=InThisProcess())
    found: list[float] = pq.read_table(folder / "run" / "annotations" / "base" / "a.parquet")["quality"].to_pylist()
    return found


def test_a_model_has_the_same_bytes_whatever_is_killed(parties: Parties, admin: Session, tmp_path: Path) -> None:
    output = tmp_path / "FED"
    training = parties.start(
        "train", "train", str(parties.kits["admin"]), "--output", str(output), "--silence-seconds", "5"
    )

    def reached(number: int) -> Callable[[], bool]:
        return lambda: f"round {number}:" in parties.said("train") or training.poll() is not None

    parties.wait("the first round", reached(1))
    parties.kill("bob")
    parties.site("bob")
    parties.wait("a new job", lambda: "goes on in a new job" in parties.said("train"))
    parties.wait("the third round", reached(3))
    parties.kill("server")
    parties.server()
    parties.wait("the end", lambda: training.poll() is not None, 2 * WAIT_SECONDS)
    assert training.returncode == 0, parties.said("train")
    del parties.running["train"]
    assert (output / "quality.bin").read_bytes() == expected_model(parties, tmp_path)
    assert scores(output, tmp_path) == pytest.approx(
        fasttext_scores(documents("eve")["text"].to_pylist(), output / "quality.bin", "hq").to_pylist(), abs=4e-7
    )
    told = [line for line in parties.said("train").splitlines() if line.startswith("round ")]
    assert [int(line.split()[1].rstrip(":")) for line in told] == [*range(1, ROUNDS + 1)]
