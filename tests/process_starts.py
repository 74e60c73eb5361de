"""A pytest plugin that counts process starts: per test, printed after a run, and refused in tests without the mark.

A test that starts a process is marked `processes`; one that uses a fixture of FIXTURES is marked here. `make check`
leaves these tests out. What `subprocess` and `multiprocessing` start in the process of the tests counts; what those
processes start in turn does not.
"""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from functools import wraps
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

FIXTURES = {"demo", "head", "s3_server", "warm"}
_PROPERTY = "process starts"


class ProcessStarts:
    """The plugin: `here` counts in this process, `of_test` over all workers of pytest-xdist."""

    def __init__(self) -> None:
        self.here = 0
        self.of_test: dict[str, int] = {}
        for kind, name in ((subprocess.Popen, "__init__"), (BaseProcess, "start")):
            setattr(kind, name, self._counted(getattr(kind, name)))

    def _counted(self, start: Any) -> Any:
        @wraps(start)
        def counted(*arguments: Any, **named: Any) -> Any:
            self.here += 1
            return start(*arguments, **named)

        return counted

    @pytest.hookimpl(tryfirst=True)  # before -m deselects
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Mark what uses a fixture that starts processes."""
        for item in items:
            if FIXTURES & set(getattr(item, "fixturenames", ())):
                item.add_marker("processes")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Count from here on."""
        self.here = 0
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Report the count; an unmarked test that starts a process fails."""
        result = yield
        if self.here:
            item.user_properties.append((_PROPERTY, self.here))
            if item.get_closest_marker("processes") is None:
                pytest.fail(f"{self.here} processes started: mark the test with pytest.mark.processes", pytrace=False)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up, in the controller where there are workers."""
        if report.when == "teardown":
            self.of_test[report.nodeid] = dict(report.user_properties).get(_PROPERTY, 0)  # type: ignore[arg-type,assignment]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The number, and the twenty tests that start the most."""
        most = sorted(((n, test) for test, n in self.of_test.items() if n), key=lambda pair: (-pair[0], pair[1]))
        if most:
            terminalreporter.section(f"{sum(n for n, _ in most)} process starts by {len(most)} tests")
            for count, test in most[:20]:
                terminalreporter.write_line(f"{count:4} {test}")
