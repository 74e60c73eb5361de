"""A pytest plugin that runs a share of the tests: one in `GNEISS_SHARE`, chosen by `GNEISS_SHARE_SEED`.

Continuous integration has no time for all that takes long by nature. It runs another share at each commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import xxhash


@dataclass(frozen=True)
class SeededShare:
    """The plugin: one test in `of`, by the hash of its name and the seed."""

    of: int
    seed: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> SeededShare:
        """All tests, if nothing else is said."""
        return cls(int(environment.get("GNEISS_SHARE", "1")), environment.get("GNEISS_SHARE_SEED", ""))

    def has(self, name: str) -> bool:
        """Whether the test of this name is in the share."""
        return xxhash.xxh3_64_intdigest(f"{self.seed}\n{name}".encode()) % self.of == 0

    @pytest.hookimpl(trylast=True)  # after -m has deselected
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Deselect what is not in the share."""
        left_out = [item for item in items if not self.has(item.nodeid)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if self.has(item.nodeid)]
