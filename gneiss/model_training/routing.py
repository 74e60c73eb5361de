"""`gneiss route calibrate`: a pilot over documents of a finished run, and the policy that comes of it."""

from __future__ import annotations

import heapq
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from gneiss.arrays import BoolArray, Float64Array
from gneiss.batch import TextBatch
from gneiss.errors import GneissError, InputError, MachineError, RecipeError, first_line
from gneiss.filters.route import POLICY_FILE, answers_folder, judge_of, scores_of
from gneiss.filters.scoring import annotator_of
from gneiss.input.model_files import cache_folder, locate
from gneiss.model_training.route_card import route_card
from gneiss.model_training.source import CARD, claim
from gneiss.output.annotation_tables import kept_mask
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.parquet import write_bytes
from gneiss.output.sources import sources
from gneiss.recipe.yaml_text import read_yaml
from gneiss.routing.answers import KeptAnswers
from gneiss.routing.audit import draw
from gneiss.routing.judge import Answer, Verdict
from gneiss.routing.pilot import MIN_DOCUMENTS, Pilot, pilot
from gneiss.routing.policy import JudgeEntry, OnFailure, Scorer, Terms, TierEntry
from gneiss.store.place import Address, place_of

_MODELS = "models"
_CPU = "CPU seconds"
#: Texts that a judge is asked about at a time; what it has answered is kept after each time.
_ASKED_AT_ONCE = 64
_STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}


@dataclass(frozen=True)
class JudgeFile:
    """What is in the file that `--judge` names: the judge, and the tiers from the cheapest to the most expensive.

    judge_cost: of one document; by default what its tokens cost at its prices, or CPU seconds, measured.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    judge: JudgeEntry
    tiers: tuple[TierEntry, ...]
    judge_cost: float | None = None
    on_failure: OnFailure = "stop"


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A policy's folder; asked, failed: how many texts the judge was asked about now, and those without answer."""

    folder: Path
    pilot: Pilot
    asked: int
    failed: int


@dataclass(frozen=True, eq=False)
class _Sample:
    """Documents in random order: annotations by name, float64 (documents,), and texts."""

    annotations: Mapping[str, Float64Array]
    texts: Sequence[str]

    @property
    def batch(self) -> TextBatch:
        return TextBatch.of(self.texts).annotated({name: pa.array(values) for name, values in self.annotations.items()})

    def where(self, stay: BoolArray) -> _Sample:
        texts = [text for text, is_there in zip(self.texts, stay.tolist(), strict=True) if is_there]
        return _Sample({name: values[stay] for name, values in self.annotations.items()}, texts)


def calibrate(
    run: Address,
    judge_file: Path,
    output: Path,
    *,
    sla: float,
    sample: int = 3000,
    thrift: float = 0.1,
    audit_share: float = 0.01,
    seed: int = 0,
) -> Calibrated:
    """Ask the judge about a sample of a run's kept documents, and write policy.json and MODEL.md.

    Parameters: `run`: a finished run; `judge_file`: a `JudgeFile` in YAML, model files relative to it; `output`: the
    policy's own folder, into which model files are copied; `sample`: documents; others: see `Terms`. Raises InputError,
    ModelError, OutputError, and MachineError where the judge does not answer and `on_failure` is `stop`; the same call
    then goes on without asking twice.
    """
    if not 0 < sla < 1:
        raise InputError(f"sla: expected a share between 0 and 1, found {sla:g}")
    if sample < MIN_DOCUMENTS:
        raise InputError(f"sample: expected at least {MIN_DOCUMENTS} documents, found {sample}")
    wanted = read_judge_file(judge_file)
    opened = open_run(run)
    claim(output, POLICY_FILE, _MODELS)
    entry, tiers = _copied(wanted, judge_file.parent, output)
    found = _sampled(opened, sample, seed, _columns(entry, tiers))
    answered = _answers(entry, found, output)
    failed = [answer.reason for answer in answered.answers if not isinstance(answer, Verdict)]
    if failed and wanted.on_failure == "stop":
        raise MachineError(
            f"the judge has no answer for {len(failed):,} of {len(answered.answers):,} documents: {failed[0]}; the same"
            " command resumes, without repeating requests (on_failure: tier in the judge's file omits such documents)"
        )
    found = found.where(np.array([isinstance(answer, Verdict) for answer in answered.answers]))
    verdicts = np.array([answer.keep for answer in answered.answers if isinstance(answer, Verdict)], np.bool_)
    if len(verdicts) < MIN_DOCUMENTS:
        raise InputError(f"{run}: expected at least {MIN_DOCUMENTS} documents with a verdict, found {len(verdicts)}")
    if verdicts.all() or not verdicts.any():
        raise InputError(f"{judge_file}: the judge answers all {len(verdicts)} documents alike: nothing to learn from")
    measured = [_measured(tier, found, output) for tier in tiers]
    judge_cost = answered.cost if wanted.judge_cost is None else wanted.judge_cost
    scores = np.stack([of_tier for _, of_tier in measured], axis=1)
    unit = _unit(judge_file, wanted, answered)
    terms = Terms(sla, thrift, audit_share, seed, wanted.on_failure)
    fitted = pilot([tier for tier, _ in measured], scores, verdicts, entry, judge_cost, unit, terms)
    write_bytes(fitted.policy.to_json(), place_of(output), POLICY_FILE)
    write_bytes(route_card(fitted, output.name, len(failed)).encode(), place_of(output), CARD)
    return Calibrated(output, fitted, answered.asked, len(failed))


def read_judge_file(path: Path) -> JudgeFile:
    """Read what `--judge` names. Raises InputError."""
    try:
        given = read_yaml(path.read_text("utf-8"))
        found = TypeAdapter(JudgeFile).validate_python(given)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {fault['msg']}; docs/routing.md describes this file") from error
    except GneissError as error:
        raise (RecipeError if isinstance(error, RecipeError) else InputError)(f"{path}: {error}") from error
    if not found.tiers:
        raise InputError(f"{path}: tiers: expected at least one")
    for tier in found.tiers:
        if tier.threshold is None and tier.keeps == "below":
            raise InputError(f"{path}: tier {tier.column}: keeps is for a threshold; without one both are found")
        if tier.cost is not None and tier.cost < 0:
            raise InputError(f"{path}: tier {tier.column}: cost: expected 0 or more, found {tier.cost:g}")
    if found.judge_cost is not None and found.judge_cost <= 0:
        raise InputError(f"{path}: judge_cost: expected more than 0, found {found.judge_cost:g}")
    return found


def _copied(wanted: JudgeFile, folder: Path, output: Path) -> tuple[JudgeEntry, tuple[TierEntry, ...]]:
    """Judge and tiers with their model files in the policy's folder, where they are copied to."""

    def copied(scorer: Scorer) -> Scorer:
        if (annotator := annotator_of(scorer)) is None:
            return scorer
        own: dict[str, str] = {}
        for source in annotator.model_files:
            path = locate(source, folder)
            within = next((name for name in _folders(scorer.annotator) if source.startswith(name)), "")
            if within:  # a model of several files, of which the recipe names the folder
                own[within] = f"{_MODELS}/{within.rstrip('/').rpartition('/')[2]}/"
            own[source] = own[within] + source.removeprefix(within) if within else f"{_MODELS}/{path.name}"
            (output / own[source]).parent.mkdir(parents=True, exist_ok=True)
            if (output / own[source]).exists() and not _same(path, output / own[source]):
                raise InputError(f"{path}: another model in {output} has this name; rename one")
            shutil.copyfile(path, output / own[source])
        return replace(scorer, annotator=_renamed(scorer.annotator, own))

    tiers = []
    for tier in wanted.tiers:
        scorer = copied(Scorer(tier.column, 0.0, "above", tier.annotator))
        tiers.append(replace(tier, annotator=scorer.annotator))
    entry = wanted.judge if wanted.judge.scorer is None else replace(wanted.judge, scorer=copied(wanted.judge.scorer))
    return entry, tuple(tiers)


def _columns(entry: JudgeEntry, tiers: Sequence[TierEntry]) -> list[str]:
    """The annotations of the run that are read."""
    scorers: list[TierEntry | Scorer] = [*tiers, *filter(None, [entry.scorer])]
    return list(dict.fromkeys(scorer.column for scorer in scorers if scorer.annotator is None))


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def _folders(value: Any) -> Iterator[str]:
    """The strings in a value of YAML that name a folder, with a slash at the end."""
    if isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _folders(inner)
    elif isinstance(value, str) and value.endswith("/"):
        yield value


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """A value of YAML in which some strings, the sources of models, are others."""
    if isinstance(value, Mapping):
        return {key: _renamed(inner, names) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def _sampled(run: FinishedRun, documents: int, seed: int, columns: Sequence[str]) -> _Sample:
    """A sample of the kept documents, drawn by hash of shard and row, in the order of these hashes."""
    chosen = heapq.nsmallest(documents, _drawn(run, seed, columns), key=lambda row: row[:3])
    if len(chosen) < MIN_DOCUMENTS:
        raise InputError(f"{run.folder}: expected at least {MIN_DOCUMENTS} kept documents, found {len(chosen)}")
    rows: dict[str, set[int]] = {}
    for _, shard, row, _ in chosen:
        rows.setdefault(shard, set()).add(row)
    texts = {(shard, row): text.as_py() for shard, row, text in sources(run).values(run.text, rows)}
    values = np.array([values for *_, values in chosen], np.float64).reshape(len(chosen), len(columns))
    annotations = {name: values[:, at] for at, name in enumerate(columns)}
    return _Sample(annotations, [texts[shard, row] for _, shard, row, _ in chosen])


def _drawn(run: FinishedRun, seed: int, columns: Sequence[str]) -> Iterator[tuple[float, str, int, list[float]]]:
    for shard in run.shards:
        for _, table in run.batches(shard, columns):
            kept = table.filter(pa.array(kept_mask(table)))
            values = np.stack([_numbers(run, kept, name) for name in columns], axis=1) if columns else None
            for at, row in enumerate(kept["row"].to_pylist()):
                own = [] if values is None else values[at].tolist()
                yield draw(seed, f"{shard.id}\0{row}".encode()), shard.id, row, own


def _numbers(run: FinishedRun, table: pa.Table, name: str) -> Float64Array:
    type_ = table.schema.field(name).type
    if not (pa.types.is_floating(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_)):
        raise InputError(f"{run.folder}: annotation {name!r}: expected numbers for a tier, found {type_}")
    numbers: Float64Array = table[name].cast(pa.float64()).to_numpy()
    return numbers


@dataclass(frozen=True, eq=False)
class _Answered:
    """The judge's answers; asked: about how many texts now; cost: the mean of an answer, in its unit; 0 if unknown."""

    answers: list[Answer]
    asked: int
    cost: float
    unit: str


def _answers(entry: JudgeEntry, sample: _Sample, folder: Path) -> _Answered:
    begin = time.process_time()
    if entry.scorer is not None:
        positions = np.arange(len(sample.texts))
        verdicts = entry.scorer.verdicts(scores_of(entry.scorer, folder)(sample.batch, positions))
        is_measured = entry.scorer.annotator is not None
        cost = (time.process_time() - begin) / len(verdicts) if is_measured else 0.0
        return _Answered(verdicts, len(verdicts), cost, _CPU)
    judge = KeptAnswers(judge_of(entry), answers_folder(cache_folder(), entry))
    answers: list[Answer] = []
    for start in range(0, len(sample.texts), _ASKED_AT_ONCE):
        answers += judge.ask(sample.texts[start : start + _ASKED_AT_ONCE])
    if entry.http is not None:
        prices = [answer.cost for answer in answers if isinstance(answer, Verdict)]
        return _Answered(answers, judge.asked, float(np.mean(prices or [0.0])), "the judge's prices")
    return _Answered(answers, judge.asked, (time.process_time() - begin) / judge.asked if judge.asked else 0.0, _CPU)


def _measured(tier: TierEntry, sample: _Sample, folder: Path) -> tuple[TierEntry, Float64Array]:
    """A tier with its cost, and its scores of a sample."""
    compute = scores_of(Scorer(tier.column, 0.0, "above", tier.annotator), folder)
    begin = time.process_time()
    scores = compute(sample.batch, np.arange(len(sample.texts)))
    seconds = (time.process_time() - begin) / len(sample.texts) if tier.annotator is not None else 0.0
    return (replace(tier, cost=seconds) if tier.cost is None else tier), scores


def _unit(path: Path, wanted: JudgeFile, answered: _Answered) -> str:
    """The one unit of all costs. Raises InputError."""
    if wanted.judge_cost is None and not answered.cost:
        raise InputError(f"{path}: judge_cost: nothing says what an answer costs; state it, or give prices of tokens")
    units = [answered.unit if wanted.judge_cost is None else "the unit of judge_cost"]
    for tier in wanted.tiers:
        if tier.cost is None and tier.annotator is not None:
            units.append(_CPU)
        elif tier.cost:
            units.append("the unit of judge_cost" if wanted.judge_cost is not None else "a unit of its own")
    if len(set(units)) > 1:
        raise InputError(
            f"{path}: costs in {' and in '.join(sorted(set(units)))} cannot be compared: give judge_cost and the cost"
            " of each tier that is not free in one unit, or measure them all"
        )
    return units[0]
