"""What went wrong in a run: tasks that failed, and the tracebacks of defects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gneiss.errors import InputError, first_line
from gneiss.output import layout, ledger
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.store.place import Address, place_of


@dataclass(frozen=True)
class RunLogs:
    """receipts: of tasks that failed, or all of one shard, in order; tracebacks: file → what it says."""

    receipts: tuple[Receipt, ...]
    tracebacks: Mapping[str, str]


def run_logs(folder: Address, shard: str | None = None) -> RunLogs:
    """What went wrong in the run of an output; shard: all that is known of one shard or task. Raises InputError."""
    output = place_of(folder)
    try:
        if (output / layout.RUN_FILE).find() is None:
            raise InputError(f"{output}: no run here: expected {layout.RUN_FILE}; name the output of `gneiss run`")
        receipts = [
            entry for entry in ledger.entries(output) if "seconds" in entry.cost and entry.stage != ledger.ENDED
        ]
        names = sorted(file.name for file in (output / layout.LOGS).files())
        texts = {name: (output / layout.LOGS / name).read().decode(errors="replace") for name in names}
    except OSError as error:
        raise InputError(f"{output}: cannot read: {first_line(error)}") from error
    if shard is None:
        return RunLogs(tuple(receipt for receipt in receipts if receipt.state != COMMITTED), texts)
    own = {f"shard: {shard}", f"task: {shard}"}
    return RunLogs(
        tuple(receipt for receipt in receipts if receipt.task == shard),
        {name: text for name, text in texts.items() if own & set(text.partition("\n\n")[0].splitlines())},
    )
