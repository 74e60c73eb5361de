"""Property tests draw the same examples whatever modules are loaded: alone, in a whole run, in any order."""

from pathlib import Path

import pytest

from tests import runs

DRAW = """
import tests.conftest
{imports}
from hypothesis import given, strategies as st

@given(st.integers() | st.floats() | st.text() | st.binary())
def draw(value):
    print(repr(value))

draw()
"""


def drawn(imports: str) -> list[str]:
    result = runs.python("-c", DRAW.format(imports=imports), cwd=Path(__file__).parent.parent)
    assert not result.returncode, result.stderr
    return result.stdout.splitlines()


@pytest.mark.processes
def test_the_modules_that_are_loaded_do_not_change_the_examples() -> None:
    first = drawn("")
    assert len(first) >= 25  # as many as `make test` draws
    assert drawn("import gneiss.recipe.rule, gneiss.filters.c4, gneiss.filters.gopher") == first
