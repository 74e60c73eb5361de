"""What a task says beside its vectors: its kind, its round, and how to step; within bounds, whoever sent it.

| kind | vectors of the task | answer |
| --- | --- | --- |
| `count` | | documents of each label |
| `train` | x, and correction where there is one | difference, and tracked; how x does on documents held out |
| `evaluate` | x | how x does on documents held out |

A task to train is for a site, or, with `region_rounds`, for a region: see `region`.
"""

from __future__ import annotations

from typing import Any

from gneiss.errors import InputError, printable
from gneiss.model_training.federated.linear import Sampling
from gneiss.model_training.federated.message import Message, number, whole_number
from gneiss.model_training.federated.strategies.by_name import Rounds
from gneiss.model_training.federated.strategies.hierarchy import Hierarchy
from gneiss.model_training.federated.strategies.steps import AMSGrad, Descent
from gneiss.model_training.federated.strategies.strategy import Strategy

COUNT, TRAIN, EVALUATE = "count", "train", "evaluate"
#: What a site does for one task is bounded.
MOST_STEPS, MOST_BATCH, MOST_REGION_ROUNDS = 10_000, 65_536, 1_000
_MOST_ROUNDS = 10**9
MOST_SEED = 2**63
_MOST_RATE = _LARGEST_NORM = 1000.0


def round_of(task: Message) -> int:
    """The round that a task is of. Raises InputError."""
    return whole_number(task, "round", 0, _MOST_ROUNDS)


def sampling_of(task: Message, min_documents: int) -> tuple[Sampling, int]:
    """(sampling, seed) of a task to train. Raises InputError."""
    sampling = Sampling(whole_number(task, "batch", 1, MOST_BATCH), number(task, "l2", 0, 1), min_documents)
    return sampling, whole_number(task, "seed", 0, MOST_SEED)


def steps_meta(rule: Rounds) -> dict[str, Any]:
    """What a task says of how to step; see `rule_of_steps`."""
    if isinstance(rule, Hierarchy):
        return {
            "steps": rule.steps,
            "rate": rule.rate,
            "largest_norm": rule.largest_norm,
            "region_rounds": rule.region_rounds,
            "corrects_sites": rule.corrects_sites,
            "corrected": "gradient" if rule.corrects_regions else None,
        }
    return {
        "steps": rule.local.steps,
        "rate": rule.local.rate,
        "largest_norm": rule.local.largest_norm,
        "optimizer": "amsgrad" if rule.local.optimizer else None,
        "corrected": rule.corrected,
        "tracked": rule.is_tracked,
    }


def rule_of_steps(task: Message) -> Rounds:
    """How to step, as a task says: as much of a strategy as a site or a region has to know. Raises InputError."""
    steps, rate = whole_number(task, "steps", 1, MOST_STEPS), number(task, "rate", 0, _MOST_RATE)
    largest_norm = task.meta.get("largest_norm")
    if largest_norm is not None:
        largest_norm = number(task, "largest_norm", 0, _LARGEST_NORM)
    corrected = task.meta.get("corrected")
    if "region_rounds" in task.meta:
        if corrected not in (None, "gradient") or largest_norm is None:
            raise _unknown("corrected gradient or none, and a largest_norm", (corrected, largest_norm))
        return Hierarchy(
            whole_number(task, "region_rounds", 1, MOST_REGION_ROUNDS),
            steps,
            rate,
            _truth(task, "corrects_sites"),
            corrected is not None,
            largest_norm,
        )
    optimizer = task.meta.get("optimizer")
    if optimizer not in (None, "amsgrad") or corrected not in (None, "gradient", "direction"):
        expected = "the optimizer amsgrad or none, and corrected gradient, direction or none"
        raise _unknown(expected, (optimizer, corrected))
    local = Descent(steps, rate, AMSGrad() if optimizer else None, largest_norm)
    return Strategy(local, corrected, is_tracked=_truth(task, "tracked"))


def _truth(task: Message, name: str) -> bool:
    value = task.meta.get(name)
    if not isinstance(value, bool):
        raise InputError(f"message: {name}: expected true or false, found {printable(repr(value)[:80])}")
    return value


def _unknown(expected: str, found: tuple[object, ...]) -> InputError:
    return InputError(f"message: expected {expected}, found {printable(repr(found)[:80])}")
