"""How many windows a device computes at once: as many as it was measured to be fastest with."""

from __future__ import annotations

from collections.abc import Callable

from gneiss.filters.encoder_models.session import OutOfMemoryError

#: Windows of a batch, at most; twice as many have to compute so many times as many a second to be worth their memory.
MOST_WINDOWS, _LEAST_GAIN = 1024, 1.1


def fastest_batch(seconds_of: Callable[[int], float], most: int = MOST_WINDOWS) -> int:
    """How many windows at once, doubled from 1 until windows a second rise by less than a tenth, or memory ends.

    Parameters: `seconds_of`: how long so many windows take; raises OutOfMemoryError; `most`: windows, at most.

    >>> fastest_batch(lambda windows: 1 + windows / 8)
    64
    """
    best, rate, windows = 1, 0.0, 1
    while windows <= most:
        try:
            found = windows / seconds_of(windows)
        except OutOfMemoryError:
            break
        if found < _LEAST_GAIN * rate:
            break
        best, rate, windows = windows, found, 2 * windows
    return best
