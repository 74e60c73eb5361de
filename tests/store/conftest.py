"""An S3 server for the tests of stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

import pytest

from gneiss.store.place import Place, place_of
from tests.store.buckets import admin, s3_server

_NUMBERS = count()


@pytest.fixture(scope="session")
def s3() -> Iterator[Mapping[str, str]]:
    """A server; see `s3_server`."""
    with s3_server() as environment:
        yield environment


@pytest.fixture
def s3_bucket(s3: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty bucket, which this process has the rights to."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(_NUMBERS)}"
    admin(s3).create_bucket(Bucket=name)
    return place_of(f"s3://{name}")
