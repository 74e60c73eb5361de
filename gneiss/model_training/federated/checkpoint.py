"""What a coordinator keeps from round to round: the state of the server, and a line on every round.

`rounds/000007.safetensors` is the state after seven rounds, a message in form; a round is finished when it is there.
`rounds.jsonl` has a line a round, in which the seconds alone differ from run to run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gneiss.arrays import Float32Array
from gneiss.errors import InputError, OutputError, first_line
from gneiss.model_training.federated.buffered import BufferedState
from gneiss.model_training.federated.message import Message, packed, unpacked
from gneiss.model_training.federated.steps import Moments
from gneiss.model_training.federated.strategy import ServerState
from gneiss.output.parquet import write_bytes, write_new
from gneiss.store.place import Place

ROUNDS_FOLDER, LOG_FILE = "rounds", "rounds.jsonl"
_SUFFIX = ".safetensors"
#: The newest, and every so many, are kept.
_NEWEST, _EVERY = 2, 10
_TRACKED, _MOMENTS = "tracked.", "moments."

#: A line on a round.
Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state after so many rounds, as arrays; records: of all rounds so far."""

    rounds: int
    arrays: Mapping[str, Float32Array]
    records: tuple[Record, ...]


def write_checkpoint(output: Place, key: str, arrays: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Finish the round that the last record is of. key: of the training. Raises OutputError."""
    said = {"key": key, "record": {name: value for name, value in records[-1].items() if name != "seconds"}}
    write_new(packed(Message(said, arrays)), output, _file(len(records)))
    _write_log(output, records)
    _prune(output)


def read_checkpoint(output: Place, key: str) -> Checkpoint | None:
    """The newest one, None where no round is finished; what a killed coordinator left undone is done.

    Raises OutputError for files that are damaged or of another training.
    """
    numbers = _numbers(output)
    if not numbers:
        return None
    place = output / _file(numbers[-1])
    try:
        content = place.read()
        message = unpacked(content, len(content), largest=math.inf)
        if message.meta["key"] != key:
            raise ValueError("it is of another training")
        logged = read_log(output)[: numbers[-1]]
        records = [*logged[: numbers[-1] - 1], message.meta["record"]]
        if [record["round"] for record in records] != list(range(numbers[-1])):
            raise ValueError(f"{LOG_FILE} has not a line for each round before it")
    except (OSError, InputError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{place}: damaged: {first_line(error)}; delete it, or choose another output") from error
    if len(logged) == len(records):
        records[-1] = logged[-1]  # with its seconds
    _write_log(output, records)
    _prune(output)
    return Checkpoint(numbers[-1], message.arrays, tuple(records))


def read_log(output: Place) -> list[Record]:
    """The lines on rounds. Raises OSError and ValueError."""
    try:
        content = (output / LOG_FILE).read()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in content.splitlines()]


def _write_log(output: Place, records: Sequence[Record]) -> None:
    write_bytes("".join(f"{json.dumps(record, sort_keys=True)}\n" for record in records).encode(), output, LOG_FILE)


def _file(number: int) -> str:
    return f"{ROUNDS_FOLDER}/{number:06}{_SUFFIX}"


def _numbers(output: Place) -> list[int]:
    try:
        names = [file.name for file in (output / ROUNDS_FOLDER).files()]
    except FileNotFoundError:
        return []
    return sorted(int(name.removesuffix(_SUFFIX)) for name in names if name.removesuffix(_SUFFIX).isdecimal())


def _prune(output: Place) -> None:
    for number in _numbers(output)[:-_NEWEST]:
        if number % _EVERY:
            (output / _file(number)).delete()


def arrays_of(state: ServerState) -> dict[str, Any]:
    """A state as arrays by name; see `state_of`."""
    arrays: dict[str, Any] = {"x": state.x, **_moments(state.moments)}
    if state.tracked_mean is not None:
        arrays["tracked_mean"] = state.tracked_mean
    return arrays | {f"{_TRACKED}{site}": array for site, array in state.tracked.items()}


def state_of(arrays: Mapping[str, Any]) -> ServerState:
    """The state that arrays are; see `arrays_of`."""
    tracked = {name[len(_TRACKED) :]: array for name, array in arrays.items() if name.startswith(_TRACKED)}
    return ServerState(arrays["x"], tracked, arrays.get("tracked_mean"), _moments_of(arrays))


def buffered_arrays(state: BufferedState) -> dict[str, Any]:
    """A state between two updates as arrays by name: its buffer is empty."""
    return {"x": state.x, **_moments(state.moments)}


def buffered_state(arrays: Mapping[str, Any], updates: int) -> BufferedState:
    """The state that arrays are, after so many updates; see `buffered_arrays`."""
    return BufferedState(arrays["x"], updates, (), _moments_of(arrays))


def _moments(moments: Moments | None) -> dict[str, Any]:
    return {} if moments is None else {f"{_MOMENTS}{name}": array for name, array in moments._asdict().items()}


def _moments_of(arrays: Mapping[str, Any]) -> Moments | None:
    found = {name[len(_MOMENTS) :]: array for name, array in arrays.items() if name.startswith(_MOMENTS)}
    return Moments(**found) if found else None
