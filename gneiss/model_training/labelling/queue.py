"""A queue of documents to have labelled, as files.

`label_queue.parquet` has the coreset and the audit, `margin-001.parquet` and so on a round of margin each;
`coverage.json` says what was asked for and what the choice covers, and is written when `label_queue.parquet` is whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from gneiss.errors import InputError, OutputError, first_line
from gneiss.output import layout
from gneiss.output.finished_run import FinishedRun
from gneiss.output.json_text import indented
from gneiss.output.parquet import read_footer, read_table, write_bytes, write_parquet
from gneiss.output.sources import Sources
from gneiss.store.place import Place

QUEUE_FILE, COVERAGE_FILE = "label_queue.parquet", "coverage.json"
#: What is chosen. weight: how many documents it stands for, itself included, 0 in a round of margin; radius: how far
#: the farthest of these is, null in a round of margin.
CHOSEN = pa.schema(
    [
        ("shard", pa.string()), ("row", pa.int64()), ("weight", pa.int64()), ("why", pa.string()),
        ("radius", pa.float64()),
    ]
)  # fmt: skip
#: The columns of a file of the queue.
COLUMNS = pa.schema(
    [CHOSEN.field("shard"), CHOSEN.field("row"), ("id", pa.string()), ("text", pa.large_string()), *list(CHOSEN)[2:]]
)
#: Rounds of margin that what the coreset leaves of a budget is meant for.
MARGIN_ROUNDS = 4
#: From this share of the distance of two documents at random on, one is hardly nearer than any.
_HARDLY_NEARER = 0.9
_NEARLY_ALL = 0.99
_ROUND = re.compile(r"margin-[0-9]+\.parquet")
_KEY = "gneiss.labels"


@dataclass(frozen=True)
class Request:
    """What a queue is asked for: the digest of the run, which `documents` of it (kept or all), and see `choose`."""

    run: str
    documents: str
    budget: int
    coreset_share: float
    audit_share: float
    seed: int


@dataclass(frozen=True)
class Quantiles:
    """Distances that 50, 90, 99 and 100 % of documents do not exceed."""

    p50: float
    p90: float
    p99: float
    p100: float


@dataclass(frozen=True)
class Coverage:
    """What coverage.json says: what was asked for, what documents are compared by, and how well a coreset covers them.

    gneiss: its version; projections, annotations: what features are made of; collected: documents of the coreset, of
    which each stands for at most `capacity`; radius: within it `covered_share` of documents are of the one that stands
    for them; reach: quantiles of how far they are; variance_ratio: 1, as features are not forecast; distance_at_random:
    of two documents. Distances are Euclidean, of standardised features.
    """

    asked: Request
    gneiss: str
    projections: int
    annotations: tuple[str, ...]
    documents: int
    shards: int
    audit: int
    collected: int
    collected_share: float
    left_for_margin: int
    margin_rounds: int
    capacity: int
    window: int
    radius: float
    covered_share: float
    reach: Quantiles
    variance_ratio: float
    distance_at_random: float

    @property
    def meaning(self) -> str:
        """What the distances say of labels to come."""
        if self.reach.p50 > _HARDLY_NEARER * self.distance_at_random:
            return "half of all documents resemble none that is chosen: labels will be a sample, no cover"
        if self.covered_share < _NEARLY_ALL:
            return "the budget is too small for some documents, which resemble none that is chosen"
        return "all documents resemble one that is chosen, as far as these features tell"


@dataclass(frozen=True)
class Round:
    """A round of margin: the name of its file, what was asked for, and how many documents it has."""

    file: str
    asked: Mapping[str, Any]
    documents: int


@dataclass(frozen=True)
class Queue:
    """A queue that is whole: its folder, and what coverage.json says of it."""

    folder: Place
    coverage: Coverage

    @property
    def asked(self) -> Request:
        """What it was asked for."""
        return self.coverage.asked

    def rounds(self) -> list[Round]:
        """The rounds of margin, in order. Raises InputError."""
        names = sorted((file.name for file in self.folder.files() if _ROUND.fullmatch(file.name)), key=_number)
        return [_round(self.folder, name) for name in names]

    def documents(self) -> pa.Table:
        """The shard and row of each document that is queued, in any round. Raises InputError."""
        names = [QUEUE_FILE, *(round_.file for round_ in self.rounds())]
        return pa.concat_tables(_read(self.folder / name) for name in names)


def open_queue(folder: Place, run: FinishedRun) -> Queue:
    """The queue in a folder. Raises InputError where there is none, and where it is of another run."""
    queue = _found(folder)
    if queue is None:
        raise InputError(f"{folder}: no whole queue here; choose what to have labelled first (`gneiss label choose`)")
    if queue.asked.run != run.digest:
        raise InputError(
            f"{folder}: it was chosen from another run than {run.folder}, or the run has changed since; name the run"
            " that it is of, or choose again into another folder"
        )
    return queue


def existing_queue(folder: Place, request: Request) -> Queue | None:
    """The queue that a request would make, if it is there. Raises OutputError where something else is."""
    if queue := _found(folder):
        asked, found = asdict(request), asdict(queue.asked)
        if differing := [name for name, value in asked.items() if found[name] != value]:
            shown = ", ".join(f"{name} {found[name]} there, {asked[name]} now" for name in differing if name != "run")
            raise OutputError(
                f"{folder}: there is a queue already, "
                + (f"asked for otherwise ({shown})" if shown else "of another run, or of this one before it changed")
                + "; labels of it may have been made: choose another output"
            )
        return queue
    own = {QUEUE_FILE, COVERAGE_FILE}
    foreign = (file.name for file in folder.files() if not file.name.startswith(f"{layout.OWN}/"))
    if name := next((name for name in foreign if name not in own), None):
        raise OutputError(f"{folder}: expected an empty folder or a queue, found {name!r}; choose another output")
    return None


def write_queue(folder: Place, of: Sources, chosen: pa.Table, coverage: Coverage) -> Queue:
    """Write what was chosen, `CHOSEN` in the order of shards and rows, and what it covers. Raises OutputError."""
    noted = {_KEY: json.dumps(asdict(coverage.asked), sort_keys=True)}
    write_parquet(_with_texts(of, chosen), COLUMNS, folder, QUEUE_FILE, noted)
    write_bytes(f"{indented(asdict(coverage))}\n".encode(), folder, COVERAGE_FILE)
    return Queue(folder, coverage)


def write_round(queue: Queue, asked: Mapping[str, Any], of: Sources, chosen: pa.Table) -> Round:
    """Write a round of margin, `CHOSEN` in the order of shards and rows. Raises OutputError."""
    number = max((_number(round_.file) for round_ in queue.rounds()), default=0) + 1
    name = f"margin-{number:03d}.parquet"
    noted = {_KEY: json.dumps(asked, sort_keys=True)}
    write_parquet(_with_texts(of, chosen), COLUMNS, queue.folder, name, noted)
    return Round(name, asked, chosen.num_rows)


def _number(name: str) -> int:
    return int("".join(filter(str.isdigit, name)))


def _found(folder: Place) -> Queue | None:
    place = folder / COVERAGE_FILE
    try:
        if place.find() is None or (folder / QUEUE_FILE).find() is None:
            return None
        return Queue(folder, TypeAdapter(Coverage).validate_json(place.read()))
    except (OSError, ValueError) as error:  # of which pydantic's are
        raise InputError(f"{place}: cannot read: {first_line(error)}; choose into another folder") from error


def _round(folder: Place, name: str) -> Round:
    try:
        footer = read_footer(folder / name)
        return Round(name, json.loads((footer.metadata or {})[_KEY.encode()]), footer.num_rows)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InputError(f"{folder / name}: no round of a queue ({first_line(error)}); move it elsewhere") from error


def _read(place: Place) -> pa.Table:
    try:
        return read_table(place, ["shard", "row"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{place}: cannot read: {first_line(error)}; choose again into another folder") from error


def _with_texts(of: Sources, chosen: pa.Table) -> Iterator[pa.Table]:
    """What was chosen with ids and texts, a table a shard."""
    rows: dict[str, list[int]] = {}
    for shard, row in zip(chosen["shard"].to_pylist(), chosen["row"].to_pylist(), strict=True):
        rows.setdefault(shard, []).append(row)
    shards, first = {shard.id: shard for shard in of.run.shards}, 0
    for id_, found in groupby(of.values(of.run.text, rows), key=lambda value: value[0]):
        texts = pa.array([text.as_py() for _, _, text in found], pa.large_string())
        own = chosen.slice(first, len(texts))
        first += len(texts)
        annotations = pa.concat_tables(table for _, table in of.run.batches(shards[id_], []))
        ids = annotations["id"].take(pc.index_in(own["row"], annotations["row"]))
        columns = {**{name: own[name] for name in CHOSEN.names}, "id": ids, "text": texts}
        yield pa.table({name: columns[name] for name in COLUMNS.names}, COLUMNS)
