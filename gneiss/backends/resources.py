"""What a worker asks of its machine or of a Ray node: the one place to change it.

The memory is an estimate, from the footers of the input and from the recipe. Where tasks have shown what they take, in
this run or in one that it resumes, the estimate is corrected by that.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gneiss.errors import MachineError

#: Peak resident memory of a worker beside its models and its task: Python and the libraries, and, of an extraction, the
#: sandbox. Measured on 45 MB of HTML: 210 MB and 70 to 180 MB; of a run without models: under 600 MB.
WORKER_BYTES = 600_000_000
#: By how much an estimate is corrected at most, either way; what is added to what was measured.
_MOST_CORRECTION, _MARGIN = 2.0, 1.2
#: Tasks with less than this share of the input of the largest one say little of that.
_TELLING_SHARE = 0.25


@dataclass
class Peaks:
    """What tasks were seen to take: the highest peaks of memory, by the size of their input."""

    _highest: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, input_bytes: int, peak_bytes: int) -> None:
        """A task with this input (0 where that has no size) took so much. Sizes within a factor of two are one."""
        size = input_bytes.bit_length()
        self._highest[size] = max(self._highest.get(size, (0, 0)), (peak_bytes, input_bytes))

    def seen(self) -> list[tuple[int, int]]:
        """Peaks, and the input that each was seen with."""
        return list(self._highest.values())


@dataclass(frozen=True)
class Resources:
    """What one worker asks for: peak resident memory, CPUs, and GPUs, where there are any.

    shared_bytes: of mapped model files, which all workers of a machine share, and which are not in `memory_bytes`;
    largest_bytes: the input of its largest task; step: the corpus-wide step whose tasks take this memory, however small
    the shards are; empty where the shards do; gpus: a fraction of one, or a whole number.
    """

    memory_bytes: int
    cpus: int = 1
    step: str = ""
    shared_bytes: int = 0
    largest_bytes: int = 0
    gpus: float = 0.0

    @property
    def less(self) -> str:
        """What a user can do who has less memory, beside fewer workers."""
        if self.step:
            return f"machines with more memory: a task of {self.step} takes it, however small the shards are"
        return "smaller shards (shard_max_bytes)"

    @property
    def said(self) -> str:
        """Its memory, as messages have it."""
        shared = f"{self.shared_bytes / 1e9:.1f}"
        return (
            f"{self.memory_bytes / 1e9:.1f} GB"
            + (f" and {shared} GB for models that all share" if float(shared) else "")
            + (f", and {self.gpus:g} GPUs" if self.gpus else "")
        )

    def less_than(self, memory_bytes: int) -> str:
        """The same, for a machine with so much memory, with the size of a shard that fits."""
        fits = self._fitting_bytes(memory_bytes)
        return f"{self.less}, here {fits:,}" if fits else self.less

    def places(self, memory_bytes: int) -> int:
        """How many workers find room in so much memory of one machine."""
        return max(0, memory_bytes - self.shared_bytes) // self.memory_bytes

    def sharing(self, gpus: float) -> int:
        """How many workers that ask for some find them in so many GPUs of one machine; a fraction is of one GPU."""
        return int(gpus) * int(1 / self.gpus) if self.gpus < 1 else int(gpus / self.gpus)

    def _fitting_bytes(self, memory_bytes: int) -> int | None:
        """The input of a task that one worker has room for in so much memory; None where that is no matter of size."""
        task_bytes = self.memory_bytes - WORKER_BYTES
        if self.step or not self.largest_bytes or task_bytes <= 0:
            return None
        room = memory_bytes - self.shared_bytes - WORKER_BYTES
        return max(0, room) * self.largest_bytes // task_bytes

    def corrected(self, peaks: Peaks) -> Resources:
        """The same by what tasks were seen to take; what they share is in their peaks, and not in this."""
        own = [(max(0, peak - self.shared_bytes), size) for peak, size in peaks.seen()]
        ratios = [
            peak / self._needed(size)
            for peak, size in own
            if self.largest_bytes and size >= _TELLING_SHARE * self.largest_bytes
        ]
        least = 1.0 if self.step or not ratios else 1 / _MOST_CORRECTION  # small tasks only show that more is needed
        by = max([*(peak / self.memory_bytes for peak, _ in own), *ratios], default=0.0) * _MARGIN
        return replace(self, memory_bytes=int(self.memory_bytes * min(max(by, least), _MOST_CORRECTION)))

    def _needed(self, input_bytes: int) -> float:
        """The estimate for a task with so much input."""
        return WORKER_BYTES + (self.memory_bytes - WORKER_BYTES) * input_bytes / self.largest_bytes


def check_gpus(gpus: float) -> float:
    """What a worker can ask for: 0, a fraction of a GPU, or several whole ones. Raises MachineError.

    >>> check_gpus(0.25)
    0.25
    """
    if not (0 <= gpus <= 1 or (1 < gpus <= 64 and gpus == int(gpus))):
        raise MachineError(f"gpus_per_worker={gpus:g}: expected a fraction of one, or a whole number to 64")
    return gpus


def worker_resources(
    task_bytes: int = 0, step: str = "", shared_bytes: int = 0, largest_bytes: int = 0, gpus: float = 0.0
) -> Resources:
    """What a worker asks for whose models and largest task, or a task of this step, take `task_bytes`."""
    return Resources(
        WORKER_BYTES + task_bytes, step=step, shared_bytes=shared_bytes, largest_bytes=largest_bytes, gpus=gpus
    )
