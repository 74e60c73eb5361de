"""What a worker asks of its machine or of a Ray node: the one place to change it."""

from __future__ import annotations

from dataclasses import dataclass

#: Peak resident memory of a worker beside its models and its task: Python and the libraries, and, of an extraction, the
#: sandbox. Measured on 45 MB of HTML: 210 MB and 70 to 180 MB; of a run without models: under 600 MB.
WORKER_BYTES = 600_000_000


@dataclass(frozen=True)
class Resources:
    """What one worker asks for: peak resident memory, and CPUs.

    step: the corpus-wide step whose tasks take this memory, however small the shards are; empty where the shards do.
    """

    memory_bytes: int
    cpus: int = 1
    step: str = ""

    @property
    def less(self) -> str:
        """What a user can do who has less memory, beside fewer workers."""
        if self.step:
            return f"machines with more memory: a task of {self.step} takes it, however small the shards are"
        return "smaller shards (shard_max_bytes)"


def worker_resources(task_bytes: int = 0, step: str = "") -> Resources:
    """What a worker asks for whose models and largest task, or a task of this step, take `task_bytes`."""
    return Resources(WORKER_BYTES + task_bytes, step=step)
