"""Indented JSON is the text that the standard library writes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gneiss.output.json_text import indented

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_the_text_is_that_of_the_standard_library(value: Any) -> None:
    assert indented(value) == json.dumps(value, indent=1, ensure_ascii=False)
