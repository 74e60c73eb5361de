"""Merging what the tasks of a stage left, as work for a backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gneiss.errors import MachineError
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.stages.exchange import Exchange
from gneiss.stages.grid import Grid


@dataclass(frozen=True)
class MergeWork:
    """Number of a tile in, its file and a receipt out. stage: what is merged."""

    exchange: Exchange
    stage: str
    grid: Grid

    @property
    def name(self) -> str:
        """What progress and the ledger call it."""
        return f"merge_{self.stage}"

    def open(self) -> Callable[[int], Receipt]:
        """Nothing to load."""

        def work(tile: int) -> Receipt:
            file = self.exchange.write_tile(self.stage, self.grid, tile)
            return Receipt(f"{tile}", COMMITTED, "", None, files=(file,), stage=self.name)

        return work

    def lost(self, task: int, reason: str) -> Receipt:
        """A tile cannot be left out: the run stops. Raises MachineError."""
        raise MachineError(
            f"{self.name}, task {task}: {reason.rstrip('.')}. Finished tasks are kept: the same command resumes"
        )
