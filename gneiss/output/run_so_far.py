"""A run as far as it is: its finished shards, whether or not others are still to come."""

from __future__ import annotations

import json
from collections.abc import Iterable

from gneiss.curate.examples import Examples, merge_examples
from gneiss.curate.statistics import Statistics
from gneiss.errors import InputError, first_line
from gneiss.output import layout, ledger
from gneiss.output.finished_run import FinishedRun, open_run
from gneiss.output.ledger import COMMITTED
from gneiss.store.at_once import at_once
from gneiss.store.place import Address, Place, place_of


def open_run_so_far(folder: Address) -> FinishedRun:
    """Open the output of a run that is finished, or still going on, or was stopped: with the shards finished by now.

    Raises InputError where there is no run, where none of its shards is finished, and when a file cannot be read.
    """
    output = place_of(folder)
    try:
        return open_run(output)
    except InputError as error:
        if (output / layout.RUN_FILE).find() is None:
            raise
        whole = error
    within = output / layout.CURATED
    for place in (output, within):
        if shards := tuple(layout.ids_in(place, layout.BASE)):
            return _of_shards(place, shards)
    raise InputError(f"{output}: no shard of this run is finished yet; `gneiss status` says how it goes") from whole


def _of_shards(output: Place, shards: tuple[str, ...]) -> FinishedRun:
    try:
        statistics, examples = added_up(output, map(layout.statistics_path, shards))
        lost = {
            id_: receipt
            for id_, receipt in ledger.read(output).items()
            if receipt.state != COMMITTED and id_ not in shards
        }
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{output}: cannot read what is finished of the run: {first_line(error)}") from error
    reasons = {id_: receipt.reason or "unknown" for id_, receipt in lost.items()}
    run = FinishedRun(output, statistics, examples, reasons, [id_ for id_ in lost if lost[id_].is_defect], only=shards)
    _ = run.shards  # footers are read, and counted
    return run


def added_up(output: Place, paths: Iterable[str]) -> tuple[Statistics, Examples]:
    """The sum of statistics that lie at paths, and their examples. Raises OSError."""
    total, examples = Statistics(), Examples()
    for content in at_once(lambda path: (output / path).read(), paths):
        found = json.loads(content)
        total += Statistics.from_json(found["statistics"])
        examples = merge_examples(examples, found["samples"])
    return total, examples
