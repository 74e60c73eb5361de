"""The last stage of a run of many shards: workers add up statistics and examples, so that a driver reads few files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import xxhash

from gneiss.errors import MachineError
from gneiss.output import layout
from gneiss.output.ledger import COMMITTED, Receipt
from gneiss.output.parquet import write_bytes
from gneiss.output.run_so_far import added_up
from gneiss.store.place import Place

SUM = "sum"
#: Shards whose statistics are added up by one task; no more than these are added up by the driver.
GROUP_SHARDS = 256


@dataclass(frozen=True)
class Group:
    """Some shards, by id."""

    number: int
    shards: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number}"

    @property
    def name(self) -> str:
        """The file of the sum, which those of other shards do not have."""
        return f"{self.number:06d}-{xxhash.xxh3_64_hexdigest(chr(0).join(self.shards).encode())}.json"


@dataclass(frozen=True)
class SumStep:
    """Group in, the sum of its statistics in the exchange and a receipt out."""

    output: Place

    def open(self) -> Callable[[Group], Receipt]:
        """Nothing to load."""

        def work(group: Group) -> Receipt:
            total, examples = added_up(self.output, map(layout.statistics_path, group.shards))
            content = json.dumps({"statistics": total.to_json(), "samples": examples}, ensure_ascii=False).encode()
            file = write_bytes(content, self.output, sum_path(group))
            return Receipt(f"{group}", COMMITTED, "", None, files=(file,), stage=SUM)

        return work

    def lost(self, task: Group, reason: str) -> Receipt:
        """No shard can be left out. Raises MachineError."""
        raise MachineError(f"stage {SUM}, task {task}: {reason}. Finished shards are kept: the same command resumes")


def groups_of(shards: Sequence[str]) -> list[Group]:
    """Consecutive shards, by id, in groups; none where the driver adds them up itself."""
    if len(shards) <= GROUP_SHARDS:
        return []
    firsts = range(0, len(shards), GROUP_SHARDS)
    return [Group(number, tuple(shards[at : at + GROUP_SHARDS])) for number, at in enumerate(firsts)]


def sum_path(group: Group) -> str:
    """Where the sum of a group lies."""
    return f"{layout.exchange_folder(SUM)}/{group.name}"


def left_of(output: Place, groups: Sequence[Group]) -> list[Group]:
    """The groups that nobody has added up."""
    found = {file.name for file in (output / layout.exchange_folder(SUM)).files()} if groups else set()
    return [group for group in groups if group.name not in found]


def paths_of(shards: Sequence[str], groups: Sequence[Group]) -> Iterator[str]:
    """Where the statistics lie that add up to those of a run."""
    return map(sum_path, groups) if groups else map(layout.statistics_path, shards)
