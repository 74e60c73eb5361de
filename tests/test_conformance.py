"""docs/conformance.md: made by a script, with the versions that are installed; few documents are compared here."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import pytest

from scripts import conformance

pytestmark = pytest.mark.skipif(find_spec("textstat") is None, reason="a peer, of the extra bench, is not installed")


#: Of the others `make test` has their own files' tests.
SHARE = ("datatrove", "fasttext-community")


@pytest.mark.parametrize(
    "peer", [peer if peer in SHARE else pytest.param(peer, marks=pytest.mark.exhaustive) for peer in conformance.PEERS]
)
@pytest.mark.slow
def test_what_differs_has_a_reason(peer: str) -> None:
    for found in conformance.PEERS[peer](conformance.documents(150)):
        assert found.cases >= 150
        assert found.equal == found.cases or found.why, found


def test_the_page_is_of_these_versions() -> None:
    told = conformance.PAGE.read_text("utf-8")
    for peer in conformance.PEERS:
        assert f"| {peer} {version(peer)} |" in told
