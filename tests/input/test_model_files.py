"""Sources of models: local paths, the hub's cache, and what a machine without a network is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from gneiss.annotation import files_of
from gneiss.errors import ModelError
from gneiss.input.model_files import is_pinned, locate, resolve
from gneiss.output.parquet import write_bytes
from gneiss.store import place as places
from gneiss.store.place import STORES, place_of
from tests.store.memory import MemoryStore

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, bytes], Path]:
    """An empty hub cache on a machine without a network; the function puts a file into it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(repo: str, file: str, content: bytes) -> Path:
        folder = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs/main").write_text(COMMIT)
        path = folder / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return path

    return put


def test_a_local_path_counts_from_the_folder_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "models/tiny.bin"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    assert locate("models/tiny.bin", tmp_path) == path
    assert locate(str(path), Path("elsewhere")) == path
    found = resolve("models/tiny.bin", tmp_path)
    assert (found.source, found.path, found.size_bytes) == ("models/tiny.bin", path, 7)
    assert found.checksum == hashlib.sha256(b"weights").hexdigest()


def test_a_missing_file_is_named_with_where_it_was_looked_for(tmp_path: Path) -> None:
    for source in ("missing.bin", "."):
        with pytest.raises(ModelError, match=f"model {source}: no file at /.*; put it there, or name another"):
            locate(source, tmp_path)


def test_a_folder_is_a_source_with_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "evals"
    (folder / "more").mkdir(parents=True)
    for name, content in (("b.txt", "two"), ("more/a.txt", "one"), (".hidden", "x"), ("_draft", "x")):
        (folder / name).write_text(content)
    found = resolve("evals/", tmp_path)
    assert (found.source, found.path, found.size_bytes) == ("evals/", folder, 6)
    assert files_of(folder) == {"b.txt": folder / "b.txt", "more/a.txt": folder / "more/a.txt"}
    assert list(files_of(folder)) == sorted(files_of(folder))
    (folder / "_draft").write_text("y")
    assert resolve("evals/", tmp_path) == found
    checksums = {found.checksum}
    for change in (
        lambda: (folder / "b.txt").write_text("too"),
        lambda: (folder / "b.txt").rename(folder / "c.txt"),
        lambda: (folder / "d.txt").write_text(""),
        lambda: (folder / "more/a.txt").rename(folder / "a.txt"),
    ):
        change()
        checksums.add(resolve("evals/", tmp_path).checksum)
    assert len(checksums) == 5


def test_a_folder_must_be_one_and_hold_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="found none"):
        resolve("empty/", tmp_path)
    for source in ("missing/", "file/"):
        with pytest.raises(ModelError, match=f"model {source}: no folder at /.*; put it there"):
            locate(source, tmp_path)
    with pytest.raises(ModelError, match="no file at"):
        locate("empty", tmp_path)


def test_a_model_in_a_store_is_fetched_once_for_each_etag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNEISS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "STORES", (*STORES, store := MemoryStore()))
    write_bytes(b"a model", place_of("memory://bucket"), "models/a.bin")
    found = resolve("memory://bucket/models/a.bin")
    assert (found.path.name, found.path.read_bytes(), found.size_bytes) == ("a.bin", b"a model", 7)
    monkeypatch.setattr(MemoryStore, "open", None)
    assert resolve("memory://bucket/models/a.bin") == found
    monkeypatch.undo()
    monkeypatch.setenv("GNEISS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "STORES", (*STORES, store))
    write_bytes(b"another", place_of("memory://bucket"), "models/a.bin")
    assert resolve("memory://bucket/models/a.bin").path.read_bytes() == b"another"
    assert found.path.read_bytes() == b"a model"
    with pytest.raises(ModelError, match=r"model memory://bucket/b\.bin: no file there"):
        locate("memory://bucket/b.bin")


@pytest.mark.parametrize("source", ["sftp://host/model.bin", "ftp://host/model.bin"])
def test_other_schemes_are_refused(source: str) -> None:
    with pytest.raises(ModelError, match="no store has the scheme"):
        locate(source)


@pytest.mark.parametrize(
    "source",
    ["hf://", "hf://owner", "hf://owner/repo", "hf://owner/repo@main", "hf:///a/b/c", "hf://a/b@/c", "hf://a/b/c/"],
)
def test_a_malformed_hub_address_is_refused(source: str) -> None:
    with pytest.raises(ModelError, match="expected hf://owner/repo@revision/file"):
        locate(source)


@pytest.mark.parametrize("revision", ["@main", f"@{COMMIT}", ""])
def test_a_file_in_the_hubs_cache_is_found_without_a_network(
    hub: Callable[[str, str, bytes], Path], revision: str
) -> None:
    path = hub("owner/my.repo", "sub/model.bin", b"weights")
    found = resolve(f"hf://owner/my.repo{revision}/sub/model.bin")
    assert found.path == path
    assert found.checksum == hashlib.sha256(b"weights").hexdigest()


@pytest.mark.usefixtures("hub")
def test_without_a_network_the_message_says_how_to_get_the_file() -> None:
    with pytest.raises(ModelError, match="neither in the cache nor available from the hub") as caught:
        locate(f"hf://owner/repo@{COMMIT}/model.bin")
    assert f"`hf download owner/repo model.bin --revision {COMMIT}`" in str(caught.value)
    assert ": not in the cache, and the hub cannot be reached. With network access" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"`hf download owner/repo model\.bin`, then copy"):
        locate("hf://owner/repo/model.bin")


@pytest.mark.parametrize(
    ("source", "pinned"),
    [
        (f"hf://owner/repo@{COMMIT}/model.bin", True),
        ("hf://owner/repo@main/model.bin", False),
        ("hf://owner/repo@v1.0/model.bin", False),
        ("hf://owner/repo/model.bin", False),
        (f"hf://owner/repo@{COMMIT[:12]}/model.bin", False),
        ("models/tiny.bin", True),
    ],
)
def test_only_a_commit_pins_a_file_of_the_hub(source: str, pinned: bool) -> None:
    assert is_pinned(source) is pinned


def test_a_file_that_a_package_brings_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "carrier/model").mkdir(parents=True)
    (tmp_path / "carrier/__init__.py").write_text("raise SystemExit('nothing of a package is run')")
    (tmp_path / "carrier/model/config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve("package:carrier/model/config.json").path == tmp_path / "carrier/model/config.json"
    for source, told in (
        ("package:carrier/model/other.json", "no such file in .*carrier"),
        ("package:carrier", "no such file in .*carrier"),
        ("package:not_there/config.json", "no package 'not_there'; install it"),
        ("package:carrier.model/config.json", r"no package 'carrier\.model'"),
        ("package:/etc/passwd", "no package ''"),
    ):
        with pytest.raises(ModelError, match=told):
            resolve(source)
