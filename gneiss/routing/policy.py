"""The frozen policy of a router: a plain value, written as JSON, by which every run routes alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from gneiss.arrays import Float64Array
from gneiss.errors import ModelError, first_line
from gneiss.routing.http_judge import HttpJudge
from gneiss.routing.interval import Share
from gneiss.routing.judge import Answer, Failure, Verdict

#: No unknown keys, and no numbers that JSON does not have.
_STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}
#: What the predictor sees of a document, and has a weight for.
FEATURES = 6
#: Of a document that is kept.
_LEAST_MARGIN = np.finfo(np.float64).tiny
#: What happens to a document that the judge has no answer for: the run stops, or the last tier's decision stands.
OnFailure: TypeAlias = Literal["stop", "tier"]


@dataclass(frozen=True)
class Scorer:
    """A score with a threshold: an annotation of the recipe, or of an annotator that is run where it is needed only.

    column: the annotation; annotator: name → parameters of what computes it, None where the recipe does; threshold and
    keeps: scores above it decide for a document, or those below.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    column: str
    threshold: float
    keeps: Literal["above", "below"] = "above"
    annotator: Mapping[str, Mapping[str, Any]] | None = None

    def verdicts(self, scores: Float64Array) -> list[Answer]:
        """What it says as a judge; nothing where a score is missing, NaN."""
        keep = scores > self.threshold if self.keeps == "above" else scores < self.threshold
        return [
            Failure("no score") if is_missing else Verdict(kept)
            for kept, is_missing in zip(keep.tolist(), np.isnan(scores).tolist(), strict=True)
        ]


@dataclass(frozen=True)
class TierEntry:
    """A tier as a person names it: see `Scorer`. Without threshold, the one that agrees most often is taken.

    cost: of one document; by default nothing for an annotation of the recipe, and else CPU seconds, measured.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    column: str
    threshold: float | None = None
    keeps: Literal["above", "below"] = "above"
    annotator: Mapping[str, Mapping[str, Any]] | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Tier:
    """A scorer whose scores have margins. scores rise (of those that keep below, their negatives), and margins
    are interpolated between them.

    cost: of one document, in the policy's unit.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    scorer: Scorer
    scores: tuple[float, ...]
    margins: tuple[float, ...]
    cost: float

    def __post_init__(self) -> None:
        if len(self.scores) != len(self.margins) or len(self.scores) < 2 or (np.diff(self.scores) <= 0).any():
            raise ModelError(f"policy: tier {self.scorer.column}: expected rising scores, and a margin for each")

    def margins_of(self, scores: Float64Array) -> Float64Array:
        """Margins, above 0 for documents to keep; 0 where a score is missing, NaN, which decides against it."""
        sign = 1.0 if self.scorer.keeps == "above" else -1.0
        found = np.nan_to_num(np.interp(sign * scores, self.scores, self.margins), nan=0.0)
        # next to the threshold an interpolated margin may be rounded to the other side
        keeps = sign * scores > sign * self.scorer.threshold
        margins: Float64Array = np.where(keeps, np.maximum(found, _LEAST_MARGIN), np.minimum(found, 0.0))
        return margins


@dataclass(frozen=True)
class JudgeEntry:
    """Which judge; exactly one of: an HTTP endpoint, a Python function by import path, a scorer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    http: HttpJudge | None = None
    function: str | None = None
    scorer: Scorer | None = None

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.http, self.function, self.scorer)) != 1:
            raise ModelError("judge: expected one of http, function and scorer")


@dataclass(frozen=True)
class Calibration:
    """What a pilot measured on documents that neither taught the router nor chose its debt.

    agreed, of: would-be decisions that agree with the judge, and all; cost: a document's mean, without audits.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    agreed: int
    of: int
    cost: float

    @property
    def agreement(self) -> Share:
        """The agreement with its interval."""
        return Share(self.agreed, self.of)


@dataclass(frozen=True)
class Terms:
    """What a policy is made for.

    sla: α, the share of decisions that should agree with the judge's; thrift: V, what a cost weighs while the router
    learns; audit_share: of documents on which the judge is asked whatever the router says; seed: of the draws of the
    sample, and of audits; on_failure: see `OnFailure`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    sla: float
    thrift: float = 0.1
    audit_share: float = 0.01
    seed: int = 0
    on_failure: OnFailure = "stop"


@dataclass(frozen=True)
class Policy:
    """A router as a pilot has left it: nothing of it changes in a run.

    tiers: in order of cost; judge_cost, cost_unit: as the tiers' costs; debt: Q; weights: of the predictor,
    [k][m][feature].
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    tiers: tuple[Tier, ...]
    judge: JudgeEntry
    judge_cost: float
    cost_unit: str
    terms: Terms
    debt: float
    weights: tuple[tuple[tuple[float, ...], ...], ...]
    calibration: Calibration

    def __post_init__(self) -> None:
        size = len(self.tiers)
        shapes = {(len(of_tier), len(weights)) for of_tier in self.weights for weights in of_tier}
        if not self.tiers or len(self.weights) != size or shapes != {(size, FEATURES)}:
            raise ModelError(f"policy: weights: expected {size} × {size} × {FEATURES} numbers, for at least one tier")
        terms = self.terms
        if not (0 <= terms.audit_share <= 1 and 0 < terms.sla <= 1 and self.debt >= 0 and self.judge_cost > 0):
            raise ModelError(
                "policy: expected shares from 0 to 1, a debt of 0 or more, and a cost of the judge above 0"
            )

    @classmethod
    def of_json(cls, content: bytes, name: str) -> Policy:
        """Read a policy. Raises ModelError for what is none; `name`: what messages call the file."""
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_json(content, strict=True)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(str(step) for step in fault["loc"]) or "the file"
            raise ModelError(
                f"{name}: no policy: {where}: {fault['msg']}; make one with `gneiss route calibrate`"
            ) from error
        except ModelError as error:
            raise ModelError(f"{name}: {first_line(error)}") from error

    def to_json(self) -> bytes:
        """The same as JSON, every key in its order."""
        from pydantic import TypeAdapter

        return TypeAdapter(Policy).dump_json(self, indent=1) + b"\n"

    @property
    def costs(self) -> Float64Array:
        """Of each tier and of the judge, (tiers + 1,)."""
        return np.array([*(tier.cost for tier in self.tiers), self.judge_cost])

    @property
    def audits_cost(self) -> float:
        """What audits add to the cost of a document, on average."""
        return self.terms.audit_share * self.judge_cost

    @property
    def reads(self) -> tuple[str, ...]:
        """The annotations of the recipe that it reads."""
        scorers = [*(tier.scorer for tier in self.tiers), *filter(None, [self.judge.scorer])]
        return tuple(dict.fromkeys(scorer.column for scorer in scorers if scorer.annotator is None))
