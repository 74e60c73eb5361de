"""Routing in a recipe: the decision of the cheapest tier that will do, or of a judge, by a frozen policy."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from gneiss.annotation import Annotate, Annotator, Column, Demand
from gneiss.arrays import Float64Array, Int64Array
from gneiss.errors import MachineError, ModelError, RecipeError
from gneiss.filters.encoder import Encoder
from gneiss.filters.page import Page
from gneiss.filters.scoring import annotator_of
from gneiss.routing.answers import KeptAnswers
from gneiss.routing.callable_judge import CallableJudge
from gneiss.routing.http_judge import HttpJudge
from gneiss.routing.interval import Share
from gneiss.routing.judge import Answer, Failure
from gneiss.routing.policy import Calibration, JudgeEntry, Policy, Scorer

if TYPE_CHECKING:
    from gneiss.batch import TextBatch

#: The policy in its folder.
POLICY_FILE = "policy.json"
#: What the folder of kept answers is called among the annotator's files.
_ANSWERS = "answers"
#: (batch, positions of documents) → a score or an answer for each.
_Scores: TypeAlias = "Callable[[TextBatch, Int64Array], Float64Array]"
_Asks: TypeAlias = "Callable[[TextBatch, Int64Array], list[Answer]]"
_log = logging.getLogger(__name__)

PAGES = (
    Page(
        code="RT01",
        name="route",
        summary="Keeps what an expensive judge would keep, and rarely asks it.",
        why=(
            "A language model or a large classifier judges best and costs most. Cheap annotators agree with "
            "it on most documents, and their margins indicate on which. Tiers run one after another until "
            "one is expected to agree often enough. The judge is asked if none is, and on audited documents, "
            "which measure the agreement. Agreement is measured, not guaranteed: see docs/routing.md."
        ),
        formula=(
            "at tier k go on to argmin over m >= k of V * (costs from k to m) - Q * P(tier m agrees with the "
            "judge), with Q and the predictors of agreement frozen by calibration (gneiss route calibrate); "
            "a document is audited if the xxh3-64 of its text is below the audit share"
        ),
        source="MESS+ (arXiv 2411.00889, 2505.19947), made sequential, with audits, and frozen; thresholds: "
        "from the calibration",
        cost="a microsecond per document and tier, in addition to the tiers and the judge",
        example_kept="a document that the first tier is sure of, or that the judge keeps",
        example_dropped="a document that the judge, or a tier expected to agree with it, does not keep",
        rules={"routed": "route_decision"},
    ),
)


@dataclass(frozen=True)
class Route(Annotator):
    """The decision about each document by a policy that `gneiss route calibrate` has made.

    policy: its folder, a local path that ends in a slash. What else there is, the policy says: annotations, those that
    it reads; sla, the agreement asked for; calibration, what the pilot measured; judge_function, `module:name` of a
    judge that is a function; modules, those outside gneiss that its own annotators call. A judge's answers are kept in
    the cache (GNEISS_CACHE), and no text is asked about twice. The same text gets the same decision, as far as the
    judge's answers are the same.
    """

    key = "route"

    policy: str
    annotations: tuple[str, ...] | None = None
    sla: float | None = None
    calibration: Calibration | None = None
    judge_function: str | None = None
    modules: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.policy.endswith("/"):
            raise RecipeError(f"route: policy: expected a folder, with a slash at the end: {self.policy}/")

    @property
    def reads_annotations(self) -> tuple[str, ...]:
        """The annotations of its tiers."""
        return self.annotations or ()

    @property
    def columns(self) -> tuple[Column, ...]:
        """The annotations it computes, in order."""
        return (
            Column("route_tier", "int64", "the tier that decided, from 0; the number of tiers for the judge"),
            Column("route_decision", "bool", "whether to keep it; of audited documents by the judge"),
            Column("route_margin", "float64", "margin of the last tier that was run, above 0 for keeping"),
            Column("route_expected", "float64", "probability, as predicted, that the decision is the judge's"),
            Column("route_audited", "bool", "whether it was drawn for an audit, by a hash of its text"),
            Column("route_agrees", "bool", "of audited documents: the decision without the audit is the judge's"),
            Column("route_asked", "bool", "the judge was asked"),
            Column("route_failed", "bool", "the judge was asked and had no answer: the last tier's decision stands"),
            Column("route_cost", "float64", "what was run and asked, at the policy's costs"),
        )

    @property
    def model_files(self) -> tuple[str, ...]:
        """The folder of the policy."""
        return (self.policy,)

    @property
    def calls(self) -> tuple[str, ...]:
        """The module of a judge that is a function, and those that annotators in the policy call."""
        of_judge = (self.judge_function.partition(":")[0],) if self.judge_function else ()
        return (*of_judge, *(self.modules or ()))

    def completed(self, files: Mapping[str, Path]) -> Route:
        """With what the policy says. Raises ModelError."""
        policy = read_policy(files[self.policy])
        return replace(
            self,
            annotations=policy.reads,
            sla=policy.terms.sla,
            calibration=policy.calibration,
            judge_function=policy.judge.function,
            modules=_called(policy),
        )

    def report(self, counts: Mapping[str, Mapping[str, int]]) -> str:
        """Agreement with the judge, for the card of an output: what was measured, and what was asked for."""
        agrees = counts.get("route_agrees", {})
        share = Share(agrees.get("True", 0), agrees.get("True", 0) + agrees.get("False", 0))
        said = f"Routed decisions agree with the judge's on {share}, by audits; {self.sla or 0:g} was asked for"
        if self.calibration is None:
            return f"{said}."
        expected = self.calibration.agreement
        return f"{said}, and the pilot measured {expected}." + (
            " That is below the interval of the pilot: calibrate again on such text."
            if share.high < expected.low
            else ""
        )

    def demand(self, source: str, path: Path, size_bytes: int) -> Demand:
        """See Annotator: that of the annotators in the policy."""
        memory_bytes, gpu = size_bytes, False
        for annotator in _annotators(read_policy(path)):
            for file in annotator.model_files:
                if (path / file).is_file():
                    file_bytes = (path / file).stat().st_size
                    found = annotator.demand(file, path / file, file_bytes)
                    memory_bytes, gpu = memory_bytes + found.memory_bytes - file_bytes, gpu or found.gpu
        return Demand(memory_bytes, gpu)

    def prepare(self, files: Mapping[str, Path], folder: Path) -> Mapping[str, Path]:
        """Make the folder of kept answers, in the cache; one for each judge. Raises ModelError and MachineError."""
        answers = answers_folder(folder, read_policy(files[self.policy]).judge)
        if answers is None:
            return files
        try:
            answers.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"{answers}: cannot be made: {error.strerror}; set GNEISS_CACHE to a folder") from error
        return {**files, _ANSWERS: answers}

    def load(self, files: Mapping[str, Path]) -> Annotate:
        """Open policy and models. Raises ModelError, and later MachineError where the judge does not answer."""
        folder = files[self.policy]
        policy = read_policy(folder)
        tiers = [scores_of(tier.scorer, folder) for tier in policy.tiers]
        asks = _asks(policy.judge, folder, files.get(_ANSWERS))

        def compute(batch: TextBatch) -> Mapping[str, Sequence[object]]:
            def margins(tier: int, positions: Int64Array) -> Float64Array:
                return policy.tiers[tier].margins_of(tiers[tier](batch, positions))

            return _routed(policy, batch, margins, asks)

        return compute


def _called(policy: Policy) -> tuple[str, ...]:
    """What annotators in a policy call. Raises ModelError where that is not installed."""
    found = _annotators(policy)
    for annotator in found:
        if isinstance(annotator, Encoder):
            annotator.completed({})
    return tuple(sorted({module for annotator in found for module in annotator.calls}))


def _annotators(policy: Policy) -> list[Annotator]:
    """Those that a policy brings along."""
    scorers = [*(tier.scorer for tier in policy.tiers), *filter(None, [policy.judge.scorer])]
    return [annotator for scorer in scorers if (annotator := annotator_of(scorer)) is not None]


def read_policy(folder: Path) -> Policy:
    """The policy in a folder. Raises ModelError."""
    path = folder / POLICY_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the policy: {error.strerror}; see `gneiss route calibrate`") from error
    return Policy.of_json(content, str(path))


def scores_of(scorer: Scorer, folder: Path) -> _Scores:
    """What computes a scorer's scores, NaN where there is none; its model files are in `folder`. Raises ModelError."""
    annotator = annotator_of(scorer)
    if annotator is None:
        return lambda batch, positions: _floats(batch.annotations[scorer.column])[positions]
    for file in annotator.model_files:
        if not (folder / file).is_file():
            raise ModelError(f"{folder / file}: the policy names this model, and it is not there")
    compute = annotator.load({file: folder / file for file in annotator.model_files})
    return lambda batch, positions: _floats(compute(batch.taken(positions))[scorer.column])


def answers_folder(cache: Path, entry: JudgeEntry) -> Path | None:
    """Where answers of a judge are kept, by what shapes them; None for a scorer, whose answers cost little."""
    if entry.scorer is not None:
        return None
    asked = judge_of(entry).identity
    return cache / _ANSWERS / hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).hexdigest()


def _asks(entry: JudgeEntry, folder: Path, answers: Path | None) -> _Asks:
    if entry.scorer is not None:
        scorer, scores = entry.scorer, scores_of(entry.scorer, folder)
        return lambda batch, positions: scorer.verdicts(scores(batch, positions))
    judge = KeptAnswers(judge_of(entry), answers)

    def ask(batch: TextBatch, positions: Int64Array) -> list[Answer]:
        return judge.ask([batch.text(position) for position in positions.tolist()])

    return ask


def judge_of(entry: JudgeEntry) -> CallableJudge | HttpJudge:
    """The judge of an entry that is no scorer."""
    if entry.http is not None:
        return entry.http
    assert entry.function is not None
    return CallableJudge(entry.function)


def _floats(values: object) -> Float64Array:
    """Values of an annotation as numbers, NaN where there is none."""
    import pyarrow as pa

    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    floats: Float64Array = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats


def _routed(
    policy: Policy, batch: TextBatch, margins: Callable[[int, Int64Array], Float64Array], asks: _Asks
) -> dict[str, Sequence[object]]:
    """The columns of a batch. Raises MachineError where the judge has no answer and the policy says to stop."""
    from gneiss.routing.audit import draw
    from gneiss.routing.serve import route

    judge, terms = len(policy.tiers), policy.terms
    routed = route(policy, len(batch), margins)
    audited = np.array([draw(terms.seed, text) < terms.audit_share for text in _contents(batch)], np.bool_)
    is_asked = audited | (routed.tier == judge)
    asked = np.flatnonzero(is_asked)
    answers = asks(batch, asked) if len(asked) else []
    _check(policy, answers)
    tier, decision, failed = routed.tier.copy(), routed.margin > 0, np.zeros(len(batch), np.bool_)
    agrees: list[bool | None] = [None] * len(batch)
    for position, answer in zip(asked.tolist(), answers, strict=True):
        if isinstance(answer, Failure):
            failed[position], tier[position] = True, routed.last[position]
            continue
        if audited[position]:
            agrees[position] = bool(routed.tier[position] == judge or decision[position] == answer.keep)
        decision[position] = answer.keep
    cost = np.cumsum(policy.costs[:-1])[routed.last]
    cost[asked] += policy.judge_cost
    return {
        "route_tier": tier.tolist(),
        "route_decision": decision.tolist(),
        "route_margin": routed.margin.tolist(),
        "route_expected": routed.expected.tolist(),
        "route_audited": audited.tolist(),
        "route_agrees": agrees,
        "route_asked": is_asked.tolist(),
        "route_failed": failed.tolist(),
        "route_cost": cost.tolist(),
    }


def _check(policy: Policy, answers: Sequence[Answer]) -> None:
    """Stop where the judge has no answer, if the policy says so; else say it in the log."""
    reasons = [answer.reason for answer in answers if isinstance(answer, Failure)]
    if reasons and policy.terms.on_failure == "stop":
        raise MachineError(
            f"the judge has no answer for {len(reasons)} of {len(answers)} documents: {reasons[0]}; the same command"
            " resumes when it answers, without repeating requests (or make the policy with on_failure: tier)"
        )
    if reasons:
        _log.warning("the judge has no answer for %d of %d documents: %s", len(reasons), len(answers), reasons[0])


def _contents(batch: TextBatch) -> list[bytes]:
    data = batch.data.tobytes()
    return [data[start:end] for start, end in pairwise(batch.offsets.tolist())]
