"""What a worker asks for, corrected by what tasks were seen to take."""

from __future__ import annotations

import pytest

from gneiss.backends.resources import WORKER_BYTES, Peaks, Resources, worker_resources

GB = 10**9
SHARDS = worker_resources(4 * GB, largest_bytes=GB)


def seen(*peaks: tuple[float, float]) -> Peaks:
    """Of tasks: GB of input, and of memory."""
    found = Peaks()
    for size, peak in peaks:
        found.add(int(size * GB), int(peak * GB))
    return found


def by(peaks: Peaks, resources: Resources = SHARDS) -> float:
    return resources.corrected(peaks).memory_bytes / resources.memory_bytes


def test_without_a_task_the_estimate_stands() -> None:
    assert by(Peaks()) == 1


def test_tasks_of_a_size_show_what_the_largest_takes() -> None:
    assert by(seen((1, 4.6 * 0.7))) == pytest.approx(0.84)
    assert by(seen((0.5, 2.6 * 0.7), (0.9, 0.1))) == pytest.approx(0.84)
    assert by(seen((0.5, 2.6 * 1.3))) == pytest.approx(1.56)


def test_small_tasks_only_show_that_more_is_needed() -> None:
    assert by(seen((0.01, 0.7), (0, 0.5))) == 1
    assert by(seen((0.01, 4.6), (0, 0.5))) == pytest.approx(1.2)


def test_a_correction_is_bounded() -> None:
    assert by(seen((1, 0.1))) == 0.5
    assert by(seen((1, 100))) == 2


def test_a_step_whose_tasks_have_no_size_is_never_planned_with_less() -> None:
    step = worker_resources(4 * GB, "duplicates", largest_bytes=GB)
    assert by(seen((0, 1), (1, 1)), step) == 1
    assert by(seen((0, 4.6)), step) == pytest.approx(1.2)


def test_what_workers_share_is_asked_for_once() -> None:
    worker = worker_resources(GB, shared_bytes=3 * GB, largest_bytes=GB)
    assert [worker.places(memory) for memory in (GB, 3 * GB, 5 * GB, 10 * GB)] == [0, 0, 1, 4]
    assert worker.corrected(seen((1, 3 + 1.6))) == Resources(int(1.2 * 1.6 * GB), shared_bytes=3 * GB, largest_bytes=GB)


def test_a_machine_with_less_memory_is_given_the_size_that_fits() -> None:
    fits = "smaller shards (shard_max_bytes), here 500,000,000"
    assert SHARDS.less_than(WORKER_BYTES + 2 * GB) == fits
    assert SHARDS.less_than(1) == SHARDS.less == "smaller shards (shard_max_bytes)"
    step = worker_resources(4 * GB, "duplicates", largest_bytes=GB)
    assert step.less_than(GB) == step.less
    assert worker_resources().less_than(GB) == SHARDS.less
