"""Sites of several organisations, by NVIDIA FLARE: certificates, mutual TLS, and jobs that carry no code.

The two classes that a job can name are here: Coordinator at the server, Site at each site. What they say to each other
is the bytes of a message, as with every engine; the coordinator of rounds and the work of a site are those of all.
NVIDIA FLARE is the extra `federated`; nothing else imports it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeAlias

from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.fuel.flare_api.api_spec import (
    AuthenticationError,
    AuthorizationError,
    InternalError,
    JobNotFound,
    JobNotRunning,
    NoConnection,
    NoReply,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import new_secure_session

from gneiss.errors import GneissError, InputError, MachineError, first_line, printable
from gneiss.model_training.federated.checkpoint import Record, read_log
from gneiss.model_training.federated.coordinator import count_labels, train
from gneiss.model_training.federated.engines import ABSENT, SILENT, Lost, received
from gneiss.model_training.federated.flare.agreement import Agreement, agreement_of
from gneiss.model_training.federated.flare.kit import (
    ADMIN_ROLE,
    OUTCOME_FILE,
    RECORDS_FILE,
    RESULT_FILE,
    SITE,
    agreement_of_kit,
    read_site_settings,
    training_place,
)
from gneiss.model_training.federated.label_mixes import AUTO, LabelMixes
from gneiss.model_training.federated.message import Message, most_bytes_of, packed, unpacked
from gneiss.model_training.federated.region import RegionFiles, site_of
from gneiss.model_training.federated.site import note_sent
from gneiss.model_training.federated.site_documents import SiteFiles
from gneiss.output.parquet import write_new
from gneiss.store.place import Place, place_of

#: What the admin asks of a coordinator at work: the rounds so far, and to end, so that a new job goes on.
PROGRESS, END = "gneiss.progress", "gneiss.end"
#: Seconds without a sign of life after which a site is lost.
SILENCE_SECONDS = 60.0
#: In the folder of a training at the server: documents of sites by label.
COUNTS_FILE = "counts.json"
_HERE, _MESSAGE, _TASK = "gneiss.here", "message", "work"
_PAUSE_SECONDS = 0.5
_MOST_RECORDS = 20
#: The status of a job of a server that has been restarted.
FORGOTTEN = "FINISHED:FORGOTTEN"
_APPS = "nvflare.private.fed.app"
#: The name of the project in certificates, of its only organisation, and of the admin.
PROJECT, ADMIN = "gneiss", "admin@gneiss.invalid"
_SET = ("secure_train=true", "config_folder=config", f"org={PROJECT}")

_Answer: TypeAlias = "tuple[str, Message] | Lost"


class FlareEngine:
    """See Engine. The sites of a job, asked by its controller."""

    def __init__(
        self,
        controller: Controller,
        fl_ctx: FLContext,
        sites: Sequence[str],
        most_bytes: int,
        silence_seconds: float,
        aborted: Signal,
    ) -> None:
        self._controller, self._fl_ctx, self._aborted = controller, fl_ctx, aborted
        self._most_bytes, self._silence_seconds = most_bytes, silence_seconds
        self._answers: SimpleQueue[_Answer] = SimpleQueue()
        self._under_way: dict[str, Task] = {}
        self._sites = tuple(sorted(sites))
        self._heard = {client.name: time.monotonic() for client in fl_ctx.get_engine().get_clients()}
        self._ended = False

    def sites(self) -> tuple[str, ...]:
        """See Engine."""
        return self._sites

    def ask(self, site: str, task: Message) -> None:
        """See Engine."""
        if site not in self._heard:
            self._answers.put(Lost(site, ABSENT))
            return
        data = Shareable()
        data[_MESSAGE] = packed(task)
        sent = Task(name=_TASK, data=data, result_received_cb=self._received)
        self._under_way[site] = sent
        self._controller.send(sent, self._fl_ctx, targets=[site])

    def answer(self, timeout_s: float) -> tuple[str, Message] | Lost | None:
        """See Engine. Raises MachineError when the job is to end."""
        deadline = time.monotonic() + timeout_s
        while True:
            if self._ended or self._aborted.triggered:
                raise MachineError("the job has been ended; the same command resumes")
            for site, task in list(self._under_way.items()):  # answers come meanwhile, in another thread
                silent = time.monotonic() - self._heard[site]
                if silent > self._silence_seconds and self._under_way.pop(site, None) is not None:
                    self._controller.cancel_task(task)
                    return Lost(site, f"{SILENT} for {silent:.0f} s")
            try:
                return self._answers.get(timeout=max(0.0, min(_PAUSE_SECONDS, deadline - time.monotonic())))
            except Empty:
                if time.monotonic() >= deadline:
                    return None

    def heard(self, site: str) -> None:
        """A site has given a sign of life."""
        if site in self._heard:
            self._heard[site] = time.monotonic()

    def end(self) -> None:
        """No more answers."""
        self._ended = True

    def _received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        self.heard(site)
        self._under_way.pop(site, None)
        content = result.get(_MESSAGE)
        if result.get_return_code() != ReturnCode.OK or not isinstance(content, bytes):
            self._answers.put(Lost(site, "its task failed there; its log says why"))
        else:
            self._answers.put(received(site, content, self._most_bytes))


class Coordinator(Controller):  # type: ignore[misc]
    """Trains at the server, in a folder of its kit; leaves the weights, or why there are none, in the job's folder.

    Parameters: `training`: its name; `choices`: see `Agreement.training`; `silence_seconds`: without a sign of life of
    a site, after which it is lost.
    """

    def __init__(self, training: str, choices: dict[str, Any], silence_seconds: float = SILENCE_SECONDS) -> None:
        super().__init__()
        self._training, self._choices, self._silence_seconds = training, choices, silence_seconds
        self._engine: FlareEngine | None = None
        self._place: Place | None = None

    def start_controller(self, fl_ctx: FLContext) -> None:
        """See Controller."""
        engine = fl_ctx.get_engine()
        engine.register_aux_message_handler(topic=_HERE, message_handle_func=self._here)
        engine.register_app_command(PROGRESS, self._progress)
        engine.register_app_command(END, self._end)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """See Controller."""

    def process_result_of_unknown_task(self, *_: Any, **__: Any) -> None:
        """See Controller: an answer that comes too late."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """See Controller."""
        folder = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))
        try:
            self._train(abort_signal, fl_ctx, folder)
        except GneissError as error:
            outcome = {"error": type(error).__name__, "message": str(error)}
            (folder / OUTCOME_FILE).write_text(json.dumps(outcome))
            self.system_panic(str(error), fl_ctx)

    def _train(self, abort_signal: Signal, fl_ctx: FLContext, folder: Path) -> None:
        kit = _kit(fl_ctx)
        agreement = agreement_of({**agreement_of_kit(kit).values, **self._choices}, "job")
        place = self._place = training_place(kit, self._training)
        most_bytes = most_bytes_of(agreement.space.size)
        engine = self._engine = FlareEngine(
            self, fl_ctx, agreement.sites, most_bytes, self._silence_seconds, abort_signal
        )
        counts = _counts(agreement, engine, place)
        mixes = LabelMixes.of(counts)
        is_auto = agreement.strategy == AUTO
        federation = agreement.federation(mixes.strategy(agreement.has_regions) if is_auto else agreement.strategy)
        trained = train(federation, engine, place)
        said = {
            "strategy": federation.strategy,
            "reason": mixes.reason if is_auto else "as asked",
            "sites": counts,
            "held_out": trained.held_out,
        }
        (folder / RECORDS_FILE).write_text(json.dumps(trained.records))
        (folder / RESULT_FILE).write_bytes(packed(Message(said, {"x": trained.weights})))

    def _here(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        if self._engine is not None:
            self._engine.heard(fl_ctx.get_peer_context().get_identity_name())
        return make_reply(ReturnCode.OK)

    def _progress(self, topic: str, data: Mapping[str, Any] | None, fl_ctx: FLContext) -> dict[str, Any]:
        records = [] if self._place is None else read_log(self._place)
        first = int((data or {}).get("from", 0))
        return {"rounds": len(records), "records": records[first : first + _MOST_RECORDS]}

    def _end(self, topic: str, data: Any, fl_ctx: FLContext) -> dict[str, Any]:
        if self._engine is not None:
            self._engine.end()
        return {}


class Site(Executor):  # type: ignore[misc]
    """Answers tasks from the documents of a kit; what is asked of it cannot say which these are."""

    def __init__(self) -> None:
        super().__init__()
        self._files: SiteFiles | RegionFiles | None = None
        self._stopped = Event()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """See FLComponent."""
        if event_type == EventType.START_RUN:
            Thread(target=self._give_signs, args=(fl_ctx.get_engine(),), daemon=True).start()
        elif event_type == EventType.END_RUN:
            self._stopped.set()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """See Executor. Why a task failed is said in the log of the site, and nowhere else."""
        try:
            kit = _kit(fl_ctx)
            if self._files is None:
                self._files = read_site_settings(kit).files(fl_ctx.get_identity_name(), agreement_of_kit(kit), kit)
            content = shareable.get(_MESSAGE)
            answer = answer_of_files(self._files, content if isinstance(content, bytes) else b"", kit)
        except GneissError as error:
            self.log_error(fl_ctx, str(error))
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        reply = make_reply(ReturnCode.OK)
        reply[_MESSAGE] = answer
        return reply

    def _give_signs(self, engine: Any) -> None:
        while not self._stopped.wait(2.0):
            with engine.new_context() as fl_ctx:
                engine.send_aux_request(
                    targets=["server"], topic=_HERE, request=Shareable(), timeout=0.0, fl_ctx=fl_ctx, optional=True
                )


def answer_of_files(files: SiteFiles | RegionFiles, content: bytes, kit: Path) -> bytes:
    """What a site answers to the bytes of a task. Raises GneissError.

    A site without silos is a region of its own where the strategy is of regions. What leaves a region is noted in the
    kit; a site notes it itself.
    """
    one = files if isinstance(files, SiteFiles) else files.sites[0]
    task = unpacked(content, most_bytes_of(one.space.size))
    if isinstance(files, SiteFiles) and "region_rounds" in task.meta:
        files = RegionFiles(files.site, (files,))
    answer = site_of(files).work(task)
    if isinstance(files, RegionFiles):
        note_sent(place_of(kit / SITE, "kit"), task, answer, {})
    return packed(answer)


#: The only classes that a job can name.
CLASSES = tuple(f"{one.__module__}.{one.__qualname__}" for one in (Coordinator, Site))


def _kit(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_prop(FLContextKey.WORKSPACE_ROOT))


def _counts(agreement: Agreement, engine: FlareEngine, place: Place) -> Mapping[str, Sequence[int]]:
    """Site → documents of the low and of the high label, which all sites are asked for once in a training."""
    try:
        found: Mapping[str, Sequence[int]] = json.loads((place / COUNTS_FILE).read())
    except FileNotFoundError:
        found = count_labels(agreement.federation(agreement.usual_strategy), engine)
        write_new(json.dumps(found).encode(), place, COUNTS_FILE)
    return found


def server_command(kit: Path) -> list[str]:
    """The arguments of Python for the server's process."""
    return ["-u", "-m", f"{_APPS}.server.server_train", "-m", str(kit), "-s", "fed_server.json", "--set", *_SET]


def site_command(kit: Path, site: str) -> list[str]:
    """The arguments of Python for a site's process."""
    start = ["-u", "-m", f"{_APPS}.client.client_train", "-m", str(kit), "-s", "fed_client.json"]
    return [*start, "--set", f"uid={site}", *_SET]


def write_job(
    folder: Path, training: str, choices: Mapping[str, Any], silence_seconds: float, least_sites: int
) -> None:
    """Write a job: the names of two classes, and settings. Raises OSError."""
    meta = {
        "name": training, "resource_spec": {}, "min_clients": least_sites, "deploy_map": {"app": ["@ALL"]},
    }  # fmt: skip
    arguments = {"training": training, "choices": choices, "silence_seconds": silence_seconds}
    server = {
        "format_version": 2,
        "task_request_interval": _PAUSE_SECONDS,
        "workflows": [{"id": "coordinator", "path": CLASSES[0], "args": arguments}],
    }
    site = {"format_version": 2, "executors": [{"tasks": ["*"], "executor": {"path": CLASSES[1], "args": {}}}]}
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(meta))
    (config / "config_fed_server.json").write_text(json.dumps(server))
    (config / "config_fed_client.json").write_text(json.dumps(site))


class Session:
    """See `admin.Server`. Made by `session`."""

    def __init__(self, api: Any, silence_seconds: float) -> None:
        self._api, self._silence_seconds = api, silence_seconds

    def connected(self) -> Mapping[str, float]:
        """See Server."""
        with _reached():
            return {client.name: client.last_connect_time for client in self._api.get_connected_client_list()}

    def jobs(self, training: str) -> list[str]:
        """See Server."""
        with _reached():
            found = self._api.list_jobs(detailed=True, name_prefix=training)
        return [
            job["job_id"]
            for job in found
            if job.get("job_name", job.get("name")) == training and not job["status"].startswith("FINISHED")
        ]

    def submit(self, training: str, choices: Mapping[str, Any], least_sites: int) -> str:
        """See Server."""
        with tempfile.TemporaryDirectory(prefix="gneiss-job-") as folder, _reached():
            job = Path(folder) / training
            write_job(job, training, choices, self._silence_seconds, least_sites)
            return str(self._api.submit_job(str(job)))

    def status(self, job: str) -> tuple[str, str]:
        """See Server."""
        try:
            with _reached():
                found = self._api.get_job_meta(job)
        except JobNotFound:
            return FORGOTTEN, "the server has been restarted"
        return found["status"], "; ".join(map(str, found.get("job_deploy_detail") or ()))

    def records(self, job: str, first: int) -> list[Record]:
        """See Server."""
        try:
            found: list[Record] = self._api.do_app_command(job, PROGRESS, {"from": first})["records"]
        except _NOT_YET:
            return []
        return found

    def end(self, job: str) -> None:
        """See Server."""
        with suppress(*_NOT_YET):
            self._api.do_app_command(job, END, {})

    def fetch(self, job: str, folder: Path) -> Path:
        """See Server."""
        with _reached():
            return Path(self._api.download_job_result(job, str(folder))) / "workspace"


#: What a job says that is only about to run, or runs no more; others are said by the status that is asked for next.
_NOT_YET = (JobNotRunning, NoReply, InternalError, RuntimeError)


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (AuthenticationError, AuthorizationError) as error:
        raise InputError(f"the server refuses: {printable(first_line(error))}") from error
    except (NoConnection, SessionClosed, NoReply, InternalError, RuntimeError) as error:
        raise MachineError(f"the server cannot be reached: {printable(first_line(error))}") from error


@contextmanager
def session(kit: Path, silence_seconds: float = SILENCE_SECONDS, timeout_s: float = 20.0) -> Iterator[Session]:
    """What an admin speaks to the server by. Raises MachineError and InputError.

    silence_seconds: see Coordinator.
    """
    with _reached(), redirect_stdout(sys.stderr):  # it says that it connects, where figures go
        api = new_secure_session(ADMIN, str(kit.resolve()), timeout=timeout_s)
    try:
        yield Session(api, silence_seconds)
    finally:
        api.close()


def startup_folders(agreement: Agreement, authority: Path) -> dict[str, Path]:
    """Party → a folder with its certificate, its key, and where the server is; `server` and `admin` among them.

    authority: the folder of the authority that signs them, whose key stays there. It is made where there is none.
    """
    from nvflare.lighter.provision import prepare_builders, prepare_project
    from nvflare.lighter.provisioner import Provisioner

    own = {"org": PROJECT}
    described = {
        "api_version": 3,
        "name": PROJECT,
        "description": "",
        "participants": [
            {"name": agreement.server, "type": "server", "fed_learn_port": agreement.port, **own},
            *({"name": site, "type": "client", **own} for site in sorted(agreement.sites)),
            {"name": ADMIN, "type": "admin", "role": ADMIN_ROLE, **own},
        ],
        "builders": [
            {
                "path": "nvflare.lighter.impl.workspace.WorkspaceBuilder",
                "args": {"template_file": ["master_template.yml"]},
            },
            {
                "path": "nvflare.lighter.impl.static_file.StaticFileBuilder",
                "args": {"config_folder": "config", "scheme": "grpc"},
            },
            {"path": "nvflare.lighter.impl.cert.CertBuilder", "args": {}},
            {"path": "nvflare.lighter.impl.signature.SignatureBuilder", "args": {}},
        ],
    }
    Provisioner(str(authority), prepare_builders(described)).provision(prepare_project(described))
    made = max((authority / PROJECT).glob("prod_*"), key=lambda folder: int(folder.name.removeprefix("prod_")))
    named = {"server": agreement.server, "admin": ADMIN} | {site: site for site in agreement.sites}
    return {party: made / name for party, name in named.items()}
