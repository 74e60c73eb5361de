"""Files of web servers: by ranges, and without them; servers that fail, redirect and lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gneiss.errors import InputError, OutputError, StoreError
from gneiss.store import web
from gneiss.store.place import place_of
from tests.store.web_server import Server, serving

CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(web, "_PAUSE_SECONDS", 0.001)
    web._pool.cache_clear()
    with serving({"/a/b c.bin": CONTENT, "/empty": b""}) as started:
        yield started
    web._pool.cache_clear()


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("trouble", ["", "cuts", "failures"])
@pytest.mark.slow
def test_a_file_is_read_in_any_order(server: Server, has_ranges: bool, trouble: str) -> None:
    server.has_ranges = has_ranges
    place = place_of(f"{server.address}/a/b%20c.bin")
    found = place.find()
    assert found is not None
    assert (found.name, found.size_bytes, found.etag) == ("b c.bin", len(CONTENT), '"1"')
    assert str(place) == f"{server.address}/a/b%20c.bin"
    if trouble:
        setattr(server, trouble, 3)
    with place.open() as file:
        assert file.size() == len(CONTENT)
        for start, size in ((0, 10), (5000, 700_000), (10, 3), (len(CONTENT) - 5, 99)):
            file.seek(start)
            assert file.read(size) == CONTENT[start : start + size]
    assert place.read() == CONTENT


def test_redirects_are_followed_and_empty_files_are_files(server: Server) -> None:
    assert place_of(f"{server.address}/moved/a/b%20c.bin").read() == CONTENT
    assert place_of(f"{server.address}/empty").read() == b""
    found = place_of(f"{server.address}/empty").find()
    assert found is not None
    assert found.size_bytes == 0


def test_what_a_server_refuses_is_named(server: Server) -> None:
    place = place_of(f"{server.address}/nowhere")
    assert place.find() is None
    with pytest.raises(FileNotFoundError, match="the server says 404"):
        place.read()
    server.status = 403
    with pytest.raises(PermissionError, match="the server says 403"):
        place.read()
    server.status = 503
    with pytest.raises(StoreError, match=r"nowhere: too many 503 error responses; check the address"):
        place.read()
    assert len(server.asked) == 3 + web._TRIES
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/x: "):
        place_of("http://127.0.0.1:1/x").read()


def test_a_file_that_is_replaced_while_it_is_read_is_not_mixed(server: Server) -> None:
    with place_of(f"{server.address}/a/b%20c.bin").open() as file:
        file.read(10)
        server.etag = '"2"'
        file.seek(500_000)
        with pytest.raises(OSError, match="it was replaced while it was read"):
            file.read(10)


@pytest.mark.parametrize("rest", ["user:secret@host/x", "host/x?key=secret", "/x", "host/x#secret"])
def test_addresses_that_may_hold_secrets_are_refused_without_them(rest: str) -> None:
    with pytest.raises(InputError, match="expected https://host/path, with no user, query or fragment") as error:
        place_of(f"https://{rest}")
    assert "secret" not in str(error.value)


def test_nothing_is_listed_or_written() -> None:
    place = place_of("https://host/folder/x")
    assert list(place.parent.files()) == []
    with pytest.raises(OutputError, match="web servers are read only"):
        place_of("https://host/folder", "output")
    with pytest.raises(OutputError, match="web servers are read only"), place.create():
        pass
    with pytest.raises(OutputError, match="web servers are read only"):
        place.delete()
