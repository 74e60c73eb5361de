"""How what a stage hands on is merged: a grid of tiles over its tasks and their receivers.

Each of `tasks` files has a batch for each of `receivers`. Where batches are small, reading them one by one costs a
request each, tasks x receivers. A tile holds the batches of consecutive tasks for consecutive receivers, those of one
receiver together: it is made with one read of each of its tasks' files, and a receiver reads one stretch of each tile
in its column. A tile that is as long as it is wide makes both kinds of reads equally large.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

#: What a merge holds in memory: a tile, compressed.
TILE_BYTES = 256_000_000
#: Reads of this size need not be larger.
READ_BYTES = 256_000
#: How many reads a merge must save, at least: a worker waits for them for about an hour.
WORTH_READS = 100_000


@dataclass(frozen=True)
class Grid:
    """The tiles of a stage, numbered from the first tasks on, those of one stripe of tasks after another.

    task_stripes, receiver_stripes: into how many equal parts tasks and receivers are divided.
    """

    tasks: int
    receivers: int
    task_stripes: int
    receiver_stripes: int

    @property
    def tiles(self) -> int:
        """Their number."""
        return self.task_stripes * self.receiver_stripes

    @property
    def merge_reads(self) -> int:
        """How many reads of files of tasks make all tiles."""
        return self.tasks * self.receiver_stripes

    @property
    def reads(self) -> int:
        """How many reads of tiles give all receivers their batches."""
        return self.task_stripes * self.receivers

    def tasks_of(self, tile: int) -> range:
        """The tasks whose batches a tile holds."""
        return _part(self.tasks, self.task_stripes, tile // self.receiver_stripes)

    def receivers_of(self, tile: int) -> range:
        """The receivers that its batches are for."""
        return _part(self.receivers, self.receiver_stripes, tile % self.receiver_stripes)

    def column(self, receiver: int) -> range:
        """The tiles that hold the batches for a receiver, in the order of tasks."""
        # the last stripe that begins at the receiver or before
        stripe = ((receiver + 1) * self.receiver_stripes - 1) // self.receivers
        return range(stripe, self.tiles, self.receiver_stripes)

    def to_json(self) -> str:
        """As a file of the exchange."""
        return json.dumps(asdict(self)) + "\n"


def grid_for(tasks: int, receivers: int, size_bytes: int) -> Grid | None:
    """How files of `tasks` of this size in all are merged for `receivers`; None where reading them as they are will do.

    >>> grid_for(40_000, 25_500, 800 * 10**9)
    Grid(tasks=40000, receivers=25500, task_stripes=71, receiver_stripes=45)
    >>> grid_for(10, 10, 10**6)
    """
    batches = tasks * receivers
    if batches == 0 or size_bytes >= READ_BYTES * batches:
        return None
    in_a_tile = max(1, TILE_BYTES * batches // max(size_bytes, 1))
    side = max(1, math.isqrt(in_a_tile))
    if tasks <= side:
        long, wide = tasks, in_a_tile // tasks
    elif receivers <= side:
        long, wide = in_a_tile // receivers, receivers
    else:
        long = wide = side
    grid = Grid(tasks, receivers, -(-tasks // long), -(-receivers // min(wide, receivers)))
    return grid if batches - grid.merge_reads - grid.reads >= WORTH_READS else None


def reads(tasks: int, receivers: int, size_bytes: int, times: int = 1) -> int:
    """How many reads it takes until all receivers have their batches `times` times, those that merge files included.

    A read of an object store is a request for the end of a file, where the index is, and one for the batches.

    >>> reads(40_000, 25_500, 800 * 10**9), reads(10, 10, 10**6)
    (3610500, 100)
    """
    grid = grid_for(tasks, receivers, size_bytes)
    return tasks * receivers * times if grid is None else grid.merge_reads + grid.reads * times


def _part(count: int, parts: int, number: int) -> range:
    return range(number * count // parts, (number + 1) * count // parts)
