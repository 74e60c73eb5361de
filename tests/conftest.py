"""Property tests meet numba's first compilation, so they have no deadline; they draw the same examples every time."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings

settings.register_profile("gneiss", deadline=None, max_examples=100, derandomize=True)
settings.load_profile("gneiss")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `gneiss demo` makes, of the documents of fewer packages: sample/, models/, demo.yaml and curated/."""
    from gneiss.demo.demo import run_demo
    from gneiss.demo.sample import write_sample

    folder = tmp_path_factory.mktemp("demo") / "demo"
    with patch("gneiss.demo.demo.write_sample", partial(write_sample, requirements=("numba", "pydantic"))):
        run_demo(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models are converted anew, and the cache of whoever runs the tests is left alone."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GNEISS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
