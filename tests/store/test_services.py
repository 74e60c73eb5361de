"""Google Cloud Storage and Azure Blob Storage: what is asked of them, by the client that asks, against a stub."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import gneiss
from gneiss.errors import StoreError
from gneiss.store.place import Place, place_of
from tests import runs
from tests.store.stub_service import StubService, serving

SECRET = "c2VjcmV0IG9mIHRoZSB0ZXN0cw=="


@pytest.fixture(params=["az", "gs"])
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubService]:
    """The stub, which the environment says how to reach."""
    with serving(is_azure=request.param == "az") as service:
        endpoint = f"http://127.0.0.1:{service.port}"
        key = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": SECRET}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps({**key, "private_key_id": ""}))
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(SECRET.encode()).decode())
        monkeypatch.setenv("AZURE_ENDPOINT", endpoint)
        yield service


@pytest.fixture
def folder(service: StubService) -> Place:
    return place_of("az://container/folder" if service.is_azure else "gs://bucket/folder")


def write(place: Place, content: bytes) -> Place:
    with place.create() as file:
        file.write(content)
    return place


def test_what_is_written_is_listed_and_read(folder: Place, service: StubService) -> None:
    large = bytes(range(256)) * 500
    for name, content in (("a b", large), ("ä%+", b"small"), ("empty", b"")):
        place = write(folder / name, content)
        (listed,) = [file for file in folder.files() if file.name == name]
        assert listed == place.find()
        assert place.read() == place.in_version(listed).read() == content
        assert f"{folder.path}/{name}" in service.objects
    (folder / "a b").delete()
    assert sorted(file.name for file in folder.files()) == ["empty", "ä%+"]
    assert (folder / "a b").find() is None


def test_another_version_is_not_read(folder: Place) -> None:
    place = write(folder / "a", b"first")
    version = place.find()
    assert version is not None
    write(place, b"other")
    with pytest.raises(OSError, match="replaced after it was found"):
        place.in_version(version).read()


def test_a_lock_is_held_by_one(folder: Place) -> None:
    with (folder / "lock").lock() as check:
        check()
        with pytest.raises(FileExistsError), (folder / "lock").create(is_new=True):
            pass
    with (folder / "lock").lock():
        pass


@pytest.mark.slow
def test_a_run_has_the_bytes_of_a_disk(folder: Place, material: runs.Material, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"{runs.WITHOUT_MODEL}\nbudgets: {{documents: 0.5}}\n".lstrip())
    for file in place_of(material.input).files():
        write(folder / "input" / file.name, (material.input / file.name).read_bytes())
    for source, output in ((material.input, tmp_path / "out"), (folder / "input", folder / "out")):
        gneiss.run(recipe, source, output, backend=runs.InThisProcess())
    expected = {file.name for file in place_of(tmp_path / "out").files() if file.name.endswith(".parquet")}
    assert len(expected) > 10
    for name in expected:
        assert (folder / "out" / name).read() == (tmp_path / "out" / name).read_bytes()
    again = gneiss.run(recipe, folder / "input", folder / "out", backend=runs.InThisProcess())
    assert again.finished_before == len(again.shards)


def test_a_list_that_is_nowhere_is_no_empty_one(folder: Place, service: StubService) -> None:
    service.refusal = 404, ""
    with pytest.raises(StoreError, match="ListObjects: 404; no such bucket, or no object store at the endpoint"):
        list(folder.files())


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AuthorizationFailure", "these credentials may not do that; docs/stores.md lists the rights"),
        (403, "AuthenticationFailed", "the store does not know these credentials"),
        (404, "ContainerNotFound", "no such bucket; create it, or check its name and the endpoint"),
        (404, "NoSuchBucket", "no such bucket"),
        (403, "AccessDenied", "docs/stores.md lists the rights that are needed$"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, code: str, said: str, folder: Place, service: StubService) -> None:
    service.refusal = status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>It is a test.</Message></Error>"
    for act in (lambda: write(folder / "a", b"x"), lambda: list(folder.files()), (folder / "a").read):
        with pytest.raises(StoreError, match=said) as got:
            act()
        assert str(folder) in str(got.value)
        assert SECRET not in str(got.value)
