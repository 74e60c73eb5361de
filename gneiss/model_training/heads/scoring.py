"""Scores of several heads for the documents of a finished run, as a layer; each head has a worker of its own.

A head that is lost is waited for, or, where there is a coded head, only if its scores cannot be told from the others.
What workers find lies in files, one for each head and shard, so that the same call goes on after any kill. The layer
has the scores of the heads themselves, to the last bit, whoever was lost meanwhile.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Thread

import numpy as np
import pyarrow as pa

from gneiss.arrays import Float64Array
from gneiss.backends import Backend, Workers
from gneiss.backends.choice import BackendName, choose_workers
from gneiss.backends.resources import worker_resources
from gneiss.batch import TextBatch
from gneiss.errors import DefectError, GneissError, InputError, MachineError, ModelError, OutputError
from gneiss.model_training.coding.guard import CELLS, ScoreSource
from gneiss.model_training.encoder.source import EncoderSource
from gneiss.model_training.heads.board import CODED, Board, Overdue, Waiting
from gneiss.model_training.heads.encoder_space import EncoderSpace
from gneiss.model_training.heads.head import Head, read_head
from gneiss.model_training.heads.shard_scores import ANSWERS, Decoder, HeadScores, exact_scores, no_scores, read_answers
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.claim import held
from gneiss.output.finished_run import FinishedRun, FinishedShard, open_run
from gneiss.output.layers import Layer, WrittenLayer, column, existing_layer, write_layer
from gneiss.output.layout import answers_folder, answers_path
from gneiss.output.parquet import WrittenFile, read_footer, write_parquet
from gneiss.output.sources import Sources
from gneiss.store.place import Address, Place, local_paths

#: What a worker takes beside its weights, for a batch of texts and their features.
BATCH_BYTES = 200_000_000
#: Documents of which a worker has the features at once: an encoder gives as many for a short text as for a long one.
BATCH_DOCUMENTS = 4096
_ANSWERS_KEY = "gneiss.head"
#: How long the driver waits for news, and at the end for a head that is no longer needed.
_LOOK_SECONDS, _END_SECONDS = 1.0, 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeadStep:
    """See Step: a head's answers for the kept documents of shard after shard, each a file.

    name: of the head; layer: that its answers are for; key: what the file's footer has.
    """

    run: FinishedRun
    head: Head
    name: str
    layer: str
    key: str

    def open(self) -> Callable[[FinishedShard], WrittenFile]:
        """See Step."""
        return self.work

    def lost(self, task: FinishedShard, reason: str) -> WrittenFile:
        """See Step. Raises MachineError."""
        raise MachineError(f"head {self.name}, shard {task.id}: {reason}. The same command resumes")

    def work(self, shard: FinishedShard) -> WrittenFile:
        """Score a shard."""
        path = answers_path(shard.id, self.layer, self.name)
        return write_parquet(self.tables(shard), ANSWERS, self.run.folder, path, {_ANSWERS_KEY: self.key})

    def tables(self, shard: FinishedShard) -> Iterator[pa.Table]:
        """Answers, batch by batch."""
        for _, table in Sources(self.run, None).tables(shard, [self.run.text]):
            for first in range(0, table.num_rows, BATCH_DOCUMENTS):
                texts = table.column(0).slice(first, BATCH_DOCUMENTS).cast(pa.large_string())
                found = self.head.answers(TextBatch.of(texts))
                yield pa.table([found.score, found.entries, found.mass], schema=ANSWERS)


@dataclass(frozen=True)
class Heads:
    """Heads by name, and the one that stands in for any of them, if there is one."""

    by_name: Mapping[str, Head]
    coded: Head | None = None

    def __post_init__(self) -> None:
        """Raises ModelError for a coded head of other heads, InputError for names that columns cannot have."""
        for name in self.by_name:
            if not name.isidentifier() or not name.islower() or name in {CODED, "row", "id"}:
                raise InputError(f"head {name!r}: expected a lower-case name of letters, digits and underscores")
        if any(head.code for head in self.by_name.values()):
            raise ModelError("heads: one of them is a coded head; give it as such")
        if self.coded is None:
            return
        if self.coded.code is None:
            raise ModelError("the coded head: expected one that `gneiss coding build` made, found an ordinary head")
        if sorted(self.coded.code.heads) != sorted(head.sha256 for head in self.by_name.values()):
            raise ModelError("the coded head stands in for other heads than these; build it again, of all of them")

    @property
    def lanes(self) -> dict[str, Head]:
        """All of them by name."""
        return {**self.by_name, **({CODED: self.coded} if self.coded else {})}

    @property
    def encoder_folders(self) -> list[str]:
        """The folders of this machine with encoders that they read."""
        spaces = [head.space for head in self.lanes.values() if isinstance(head.space, EncoderSpace)]
        return [space.source.model for space in spaces if space.source and space.source.is_local]

    @property
    def decoder(self) -> Decoder | None:
        """Decodes, where there is a coded head."""
        if self.coded is None or self.coded.code is None:
            return None
        names = {head.sha256: name for name, head in self.by_name.items()}
        in_order = {names[sha256]: self.by_name[names[sha256]] for sha256 in self.coded.code.heads}
        return Decoder(in_order, self.coded)


def score_heads(
    output: Address | FinishedRun,
    heads: Mapping[str, Head | Path],
    *,
    coded: Head | Path | None = None,
    encoder: EncoderSource | None = None,
    layer: str = "heads",
    provisional: str | None = None,
    backend: BackendName | Backend = "auto",
    shared_filesystem: bool = False,
    waiting: Waiting | None = None,
) -> WrittenLayer:
    """Score the kept documents of a finished run by several heads, each in a worker of its own, as a layer.

    Parameters: `heads`: column → a head or its file; `coded`: the coded head of these, or its file: one worker more,
    with which a lost head is not waited for; by default there is none; `encoder`: where that is which heads over an
    encoder read, and which each worker loads; `layer`: its name; `provisional`: the name of a
    layer for what is known where a head does not come back: a column `<name>_source` says of each score whether it is
    `exact`, `coded` or `pending`; `backend`, `shared_filesystem`: as for `run`; `waiting`: how long a head is waited
    for. The same call goes on after a kill. Bytes of the layer do not depend on `coded`, nor on who was lost.

    Raises InputError and ModelError; OutputError when another layer has the name; MachineError when a head does not
    come back whose scores cannot all be told from the others.

    >>> score_heads("curated", {"prose": Path("prose.bin"), "code": Path("code.bin")})  # doctest: +SKIP
    """
    run = output if isinstance(output, FinishedRun) else open_run(output)
    given = Heads(
        {name: _head(head, encoder) for name, head in heads.items()},
        _head(coded, encoder) if coded is not None else None,
    )
    made = Layer(
        layer, "heads", _parameters(given), pa.schema([_column(name, head) for name, head in given.by_name.items()])
    )
    with held(run.folder) as check:
        if there := existing_layer(run, made):
            return there
        steps = {
            name: HeadStep(run, head, name, layer, json.dumps([run.digest, head.sha256]))
            for name, head in given.lanes.items()
        }
        loaded = max(head.loaded_bytes for head in given.lanes.values())
        workers = choose_workers(
            backend, len(steps), len(steps), worker_resources(BATCH_BYTES + loaded), shared_filesystem,
            local_paths([run.folder, *given.encoder_folders]),
        )  # fmt: skip
        scoring = _Scoring(run, given, steps, waiting or Waiting())
        if (lost := scoring.run(replace(workers, count=1), check)) is not None:
            said = ""
            if provisional is not None:
                _write_provisional(run, made, provisional, scoring, check)
                said = f"; what is known is in the layer {provisional!r}"
            shards = len(scoring.board.unsettled())
            raise MachineError(f"{lost}. {shards} of {len(run.shards)} shards wait for this head{said}") from lost
        written = write_layer(run, made, [], _Values(scoring).of_table, {"documents": run.documents}, check)
        answers = run.folder / answers_folder(layer)
        for file in list(answers.files()):
            (answers / file.name).delete()
    return written


def _head(given: Head | Path, encoder: EncoderSource | None) -> Head:
    return (given if isinstance(given, Head) else read_head(given)).at(encoder)


def _parameters(heads: Heads) -> dict[str, object]:
    """What the values of the layer depend on: not who else was there to stand in for a head."""
    return {"heads": {name: head.sha256 for name, head in heads.by_name.items()}, "cells": CELLS}


def _column(name: str, head: Head) -> pa.Field:
    kind = "log-odds by the linear head" if head.is_linear else "probability by the network"
    return column(name, pa.float64(), f"{kind} {head.sha256[:12]}, to 1/{CELLS:.0f}; null for documents not kept")


class _Scoring:
    """The heads at work: a thread for each, which speaks to a worker of its own, and the board between them."""

    def __init__(self, run: FinishedRun, heads: Heads, steps: Mapping[str, HeadStep], waiting: Waiting) -> None:
        self._run, self._heads, self._steps = run, heads, steps
        self._decoder = heads.decoder
        self._numbers = {shard.id: number for number, shard in enumerate(run.shards)}
        documents = [shard.kept for shard in run.shards]
        self.board = Board(list(heads.by_name), heads.coded is not None, documents, waiting, time.monotonic)
        self._news = Condition()
        self._failed: GneissError | None = None
        self._lost: MachineError | None = None
        self._is_over = False

    def run(self, workers: Workers, check: Callable[[], None]) -> MachineError | None:
        """Work until all scores are known, or none can come any more: then why a head is lost. Raises GneissError."""
        workers.backend.room(workers.resources)  # connects to a cluster here, since several threads at once could not
        for lane, number in self._left():
            self.board.answered(lane, number)
        threads = [
            Thread(target=self._serve, args=(workers, lane), daemon=True, name=f"head {lane}")
            for lane in self.board.lanes
        ]
        for thread in threads:
            thread.start()
        try:
            self._watch(threads, check)
        finally:
            with self._news:
                self._is_over = True
            workers.backend.stop()
            end = time.monotonic() + _END_SECONDS
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))
        if self._failed is not None:
            raise self._failed
        return None if self.board.is_done else self._lost

    def _watch(self, threads: list[Thread], check: Callable[[], None]) -> None:
        """Decode what is overdue, until all is done, or nothing can come."""
        while True:
            with self._news:
                are_alive = any(thread.is_alive() for thread in threads)
                overdue = self.board.overdue()
                if self._failed is not None or self.board.is_done or not (overdue or are_alive):
                    return
                if not overdue:
                    self._news.wait(self.board.seconds_to_wait(_LOOK_SECONDS))
            check()
            for found in overdue:
                self._decode(found)

    def _decode(self, overdue: Overdue) -> None:
        """Settle a shard without a head, if all its scores are certain; else it waits for that head."""
        shard = self._run.shards[overdue.shard]
        scores = self.scores(shard)[overdue.head]
        waits = int((~scores.is_exact).sum())
        _log.warning(
            "shard %s: the head %s has not answered; of %d documents its scores are decoded, %d are as it gives them%s",
            shard.id, overdue.head, shard.kept, shard.kept - waits, f", {waits} wait for it" if waits else "",
        )  # fmt: skip
        if not waits:
            with self._news:
                self.board.settle(overdue.shard)

    def scores(self, shard: FinishedShard) -> dict[str, HeadScores]:
        """The scores of each head for a shard: its own, or decoded, or none yet. Raises InputError."""
        with self._news:
            there = self.board.lanes_of(self._numbers[shard.id])
        answers = {lane: read_answers(self._place(lane, shard)) for lane in there}
        lacking = [name for name in self._heads.by_name if name not in answers]
        found = {name: exact_scores(answers[name]) for name in self._heads.by_name if name in answers}
        for name in lacking:
            if len(lacking) == 1 and self._decoder is not None and CODED in answers:
                found[name] = self._decoder.scores(name, answers, answers[CODED])
            else:
                found[name] = no_scores(shard.kept)
        return found

    def _place(self, lane: str, shard: FinishedShard) -> Place:
        return self._run.folder / answers_path(shard.id, self._steps[lane].layer, lane)

    def _left(self) -> Iterator[tuple[str, int]]:
        """(head, number of a shard) of the answers that an earlier call left, by one listing, and the footers of these.

        They are of these heads and this run, and whole.
        """
        folders = {answers_folder(step.layer) for step in self._steps.values()}
        paths = {f"{folder}/{file.name}" for folder in folders for file in (self._run.folder / folder).files()}
        for lane, step in self._steps.items():
            for number, shard in enumerate(self._run.shards):
                if answers_path(shard.id, step.layer, lane) in paths and self._is_whole(lane, shard):
                    yield lane, number

    def _is_whole(self, lane: str, shard: FinishedShard) -> bool:
        """Whether a file holds the answers of a head for a shard of this run."""
        try:
            footer = read_footer(self._place(lane, shard))
        except (OSError, pa.ArrowException):
            return False
        key = (footer.metadata or {}).get(_ANSWERS_KEY.encode(), b"").decode()
        return bool(key == self._steps[lane].key and footer.num_rows == shard.kept)

    def _serve(self, workers: Workers, lane: str) -> None:
        """Let the worker of a head score shard after shard, until none is left for it."""
        try:
            with workers.kept() as kept:
                while (number := self._next(lane)) is not None:
                    for _ in kept.run(self._steps[lane], [self._run.shards[number]]):
                        with self._news:
                            self.board.answered(lane, number)
                            self._news.notify()
        except MachineError as error:
            with self._news:
                self._lost = error
                self.board.gone(lane)
            _log.warning("the head %s is lost: %s", lane, error)
        except GneissError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the driver is told, and keeps the traceback
            self._fail(DefectError.of(f"the head {lane} failed", error))
        with self._news:
            self._news.notify()

    def _next(self, lane: str) -> int | None:
        with self._news:
            return None if self._is_over or self._failed is not None else self.board.next_of(lane)

    def _fail(self, error: GneissError) -> None:
        with self._news:
            self._failed = error


class _Values:
    """The columns of a layer for one portion of a shard's annotations after the other."""

    def __init__(self, scoring: _Scoring) -> None:
        self._scoring = scoring
        self._scores: tuple[str, dict[str, HeadScores]] = ("", {})

    def of_shard(self, shard: FinishedShard) -> dict[str, HeadScores]:
        """Those of a shard, read once."""
        if self._scores[0] != shard.id:
            self._scores = (shard.id, self._scoring.scores(shard))
        return self._scores[1]

    def of_table(self, shard: FinishedShard, first: int, table: pa.Table) -> dict[str, pa.Array]:
        """See Compute. Raises DefectError for a score that is not exact."""
        found = self.of_shard(shard)
        if not all(own.is_exact.all() for own in found.values()):
            raise DefectError(f"shard {shard.id}: some scores are not those of a head; please report this defect")
        return {name: _at_kept(table, shard, first, own.score) for name, own in found.items()}

    def with_sources(self, shard: FinishedShard, first: int, table: pa.Table) -> dict[str, pa.Array]:
        """What is known, with where each score is from."""
        found = {}
        for name, own in self.of_shard(shard).items():
            found[name] = _at_kept(table, shard, first, own.score)
            codes = np.array([list(ScoreSource).index(source) for source in own.sources()], np.float64)
            numbers = _at_kept(table, shard, first, codes)
            found[f"{name}_source"] = pa.array([str(kind) for kind in ScoreSource]).take(numbers.cast(pa.int64()))
        return found


def _at_kept(table: pa.Table, shard: FinishedShard, first: int, values: Float64Array) -> pa.Array:
    """Values of kept documents at their rows; first: index of the first of them in the run; null where NaN or none."""
    kept = kept_mask(table)
    own = values[first - shard.first_document :][: int(kept.sum())]
    whole = np.full(len(kept), np.nan)
    whole[kept] = own
    return pa.array(whole, mask=np.isnan(whole))


def _write_provisional(
    run: FinishedRun, made: Layer, name: str, scoring: _Scoring, check: Callable[[], None]
) -> WrittenLayer:
    """A layer of what is known while a head is lost."""
    meaning = f"where the score is from: {', '.join(ScoreSource)}"
    fields = [[field, column(f"{field.name}_source", pa.string(), meaning)] for field in made.columns]
    layer = Layer(name, "heads, provisional", made.parameters, pa.schema([field for pair in fields for field in pair]))
    if existing_layer(run, layer):
        raise OutputError(f"the layer {name!r} is there already; give another name for what is known by now")
    return write_layer(run, layer, [], _Values(scoring).with_sources, {"documents": run.documents}, check)
