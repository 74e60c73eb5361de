"""The size of a batch by measurement: devices that saturate, that run out of memory, and that have none at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.filters.encoder_models.batch_size import MOST_WINDOWS, fastest_batch
from gneiss.filters.encoder_models.session import OutOfMemoryError


class Fake:
    """A device that takes a second for a batch, and one for each `parallel` windows of it; it holds `holds`."""

    def __init__(self, parallel: float, holds: int = 10**9) -> None:
        self.parallel, self.holds = parallel, holds
        self.asked: list[int] = []

    def __call__(self, windows: int) -> float:
        self.asked.append(windows)
        if windows > self.holds:
            raise OutOfMemoryError("CUDA out of memory")
        return 1 + windows / self.parallel


@given(st.floats(0.01, 1e6), st.integers(0, 5000))
def test_it_doubles_while_that_is_worth_it_and_there_is_memory(parallel: float, holds: int) -> None:
    device = Fake(parallel, holds)
    found = fastest_batch(device)
    asked, device = device.asked, Fake(parallel)
    assert asked == [2**step for step in range(len(asked))], "each once"
    assert found <= min(MOST_WINDOWS, max(1, holds))
    for windows in asked:
        if 1 < windows <= found:
            assert windows / device(windows) >= 1.1 * (windows // 2) / device(windows // 2)
    if 2 * found <= min(MOST_WINDOWS, holds):
        assert 2 * found / device(2 * found) < 1.1 * found / device(found)


@pytest.mark.parametrize(
    ("device", "expected"),
    [(Fake(0.01), 1), (Fake(8), 64), (Fake(1e6), 1024), (Fake(1e6, holds=100), 64), (Fake(1, holds=0), 1)],
)
def test_devices(device: Fake, expected: int) -> None:
    assert fastest_batch(device) == expected
