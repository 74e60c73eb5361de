"""Each run of the ordinary tests draws the same few examples; GNEISS_FUZZ_EXAMPLES=10000 draws that many others."""

from __future__ import annotations

import os

from hypothesis import settings

if examples := os.environ.get("GNEISS_FUZZ_EXAMPLES"):
    settings.register_profile("fuzz", settings.get_profile("gneiss"), max_examples=int(examples), derandomize=False)
    settings.load_profile("fuzz")
