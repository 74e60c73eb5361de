"""What a coordinator keeps from round to round: the state of the server, and a line on every round.

`rounds/000007.safetensors` is the state after seven rounds, a message in form; a round is finished when it is there.
`rounds/000007.json` is the line on the seventh, in which only the seconds differ from run to run. It is written first,
so that it is there for each round that is finished; that of one that is not is written again. No file is added to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gneiss.arrays import Float32Array
from gneiss.errors import InputError, OutputError, first_line
from gneiss.model_training.federated.message import Message, packed, unpacked
from gneiss.model_training.federated.strategies.buffered import BufferedState
from gneiss.model_training.federated.strategies.steps import Moments
from gneiss.model_training.federated.strategies.strategy import ServerState
from gneiss.output.parquet import write_new
from gneiss.store.at_once import at_once
from gneiss.store.place import Place

ROUNDS_FOLDER = "rounds"
_STATE, _LINE = ".safetensors", ".json"
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
    number = len(records)
    write_line(output, number, records[-1])
    write_new(packed(Message({"key": key}, arrays)), output, _file(number, _STATE))
    if not _is_kept(number - _NEWEST, number):
        (output / _file(number - _NEWEST, _STATE)).delete()


def write_line(output: Place, number: int, record: Record) -> None:
    """Write the line on a round, from 1. Raises OutputError."""
    write_new(f"{json.dumps(record, sort_keys=True)}\n".encode(), output, _file(number, _LINE))


def read_checkpoint(output: Place, key: str) -> Checkpoint | None:
    """The newest one, None where no round is finished; what a killed coordinator did not delete is deleted.

    Raises OutputError for files that are damaged or of another training.
    """
    numbers = _numbers(output, _STATE)
    if not numbers:
        return None
    newest = numbers[-1]
    place = output / _file(newest, _STATE)
    try:
        content = place.read()
        message = unpacked(content, len(content), largest=math.inf)
        if message.meta["key"] != key:
            raise ValueError("it is of another training")
        records = read_log(output)[:newest]
        if [record["round"] for record in records] != list(range(newest)):
            raise ValueError("there is not a line for each round before it")
    except (OSError, InputError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{place}: damaged: {first_line(error)}; delete it, or choose another output") from error
    for number in numbers:
        if not _is_kept(number, newest):
            (output / _file(number, _STATE)).delete()
    return Checkpoint(newest, message.arrays, tuple(records))


def read_log(output: Place) -> list[Record]:
    """The lines on rounds, in order. Raises OSError and ValueError."""
    places = [output / _file(number, _LINE) for number in _numbers(output, _LINE)]
    return [json.loads(line) for line in at_once(Place.read, places)]


def _file(number: int, suffix: str) -> str:
    return f"{ROUNDS_FOLDER}/{number:06}{suffix}"


def _numbers(output: Place, suffix: str) -> list[int]:
    try:
        names = [file.name for file in (output / ROUNDS_FOLDER).files()]
    except FileNotFoundError:
        return []
    found = [name.removesuffix(suffix) for name in names if name.endswith(suffix)]
    return sorted(int(name) for name in found if name.isdecimal())


def _is_kept(number: int, newest: int) -> bool:
    return number > newest - _NEWEST or number % _EVERY == 0


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
