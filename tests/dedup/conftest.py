"""Property tests here meet numba's first compilation, so they have no deadline."""

from hypothesis import settings

settings.register_profile("dedup", deadline=None, max_examples=150, derandomize=True)
settings.load_profile("dedup")
