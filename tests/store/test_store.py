"""What a store promises, held by the local one and by a toy of one file, and what places make of it."""

from __future__ import annotations

import errno
import glob
import os
import pickle
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gneiss.errors import InputError, OutputError
from gneiss.store import place as places
from gneiss.store.local import LocalStore
from gneiss.store.objects import ObjectStore
from gneiss.store.place import STORES, Place, place_of
from gneiss.store.store import File, Store, matches, may_hold
from tests.store.memory import MemoryStore
from tests.warm_processes import WarmProcesses


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.processes)])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty folder in a store."""
    if request.param == "s3":
        stores = tuple(
            replace(store, lease_seconds=0.5) if isinstance(store, ObjectStore) else store for store in STORES
        )
        monkeypatch.setattr(places, "STORES", stores)
        return place_of(request.getfixturevalue("s3_folder"))
    stores: tuple[Store, ...] = (*STORES, MemoryStore())
    monkeypatch.setattr(places, "STORES", stores)  # the line that a store of one's own takes
    return place_of(tmp_path if request.param == "local" else "memory://bucket/folder")


def write(place: Place, content: bytes) -> Place:
    with place.create() as file:
        file.write(content)
    return place


def names(files: Iterator[File]) -> list[str]:
    return sorted(file.name for file in files)


def test_what_is_written_is_read_in_any_range(folder: Place) -> None:
    place = write(folder / "deep/down/a.bin", b"0123456789")
    assert place.read() == b"0123456789"
    with place.open() as file:
        assert isinstance(file, pa.NativeFile)
        assert file.size() == 10
        file.seek(4)
        assert bytes(file.read(3)) == b"456"
    found = place.find()
    assert found is not None
    assert (found.name, found.size_bytes) == ("a.bin", 10)


def test_the_size_and_checksum_of_a_file_are_known_when_it_is_written(folder: Place) -> None:
    with (folder / "a").create() as file:
        file.write(b"some ")
        file.write(memoryview(b"bytes"))
        file.write(pa.py_buffer(b"!"))
    assert (file.size_bytes, file.checksum) == (11, (folder / "a").checksum())
    assert (folder / "a").read() == b"some bytes!"


def write_half(place: Place, error: BaseException) -> None:
    with place.create() as file:
        file.write(b"half")
        assert names(place.parent.files()) == ["a"]
        raise error


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_a_file_that_is_not_written_to_its_end_is_not_there(folder: Place, error: BaseException) -> None:
    write(folder / "a", b"before")
    for name in ("a", "b"):
        with pytest.raises((type(error), OutputError)):
            write_half(folder / name, error)
    assert names(folder.files()) == ["a"]
    assert (folder / "a").read() == b"before"


def test_an_etag_changes_when_a_file_is_written_again(folder: Place) -> None:
    place = write(folder / "a", b"one")
    first = place.find()
    assert first == place.find()
    os.utime(place, ns=(1, 1)) if isinstance(place.store, LocalStore) else write(place, b"two")
    second = place.find()
    assert first
    assert second
    assert first.etag != second.etag


def test_files_are_those_below_a_folder(folder: Place) -> None:
    for name in ("x/a", "x/deep/b", "x/.hidden", "y", "xy"):
        write(folder / name, b"content")
    assert names((folder / "x").files()) == [".hidden", "a", "deep/b"]
    assert {file.size_bytes for file in folder.files()} == {7}
    assert names((folder / "nowhere").files()) == names((folder / "y").files()) == []
    assert names(folder.files("x*/**/[ab]")) == ["x/a", "x/deep/b"]
    assert (folder / "x").find() is None


def test_what_is_deleted_is_gone(folder: Place) -> None:
    for name in ("x/a", "x/deep/b", "xy"):
        write(folder / name, b"")
    (folder / "x").delete()
    assert names(folder.files()) == ["xy"]
    (folder / "xy").delete()
    (folder / "nowhere").delete()
    assert names(folder.files()) == []
    with pytest.raises(FileNotFoundError):
        (folder / "xy").read()


def test_a_lock_is_held_by_one(folder: Place) -> None:
    place = folder / "own/lock"
    with place.lock() as check:
        check()
        with pytest.raises(BlockingIOError), place.lock():
            pass
        with (folder / "own/other").lock():
            pass
        assert place.holder()
        check()
    assert place.holder() is None
    assert (folder / "own/nowhere").holder() is None
    with place.lock():
        pass


def test_a_new_file_replaces_none(folder: Place) -> None:
    with (folder / "a").create(is_new=True) as file:
        file.write(b"first")
    assert file.etag == (folder / "a").etag()
    with pytest.raises(FileExistsError), (folder / "a").create(is_new=True) as file:
        file.write(b"second")
    assert (folder / "a").read() == b"first"
    assert names(folder.files()) == ["a"]


def test_an_etag_is_known_when_a_file_is_written(folder: Place) -> None:
    with (folder / "a").create() as file:
        file.write(b"content")
    assert file.etag == (folder / "a").etag() is not None


def test_a_place_travels_and_shows_its_address(folder: Place) -> None:
    place = write(folder / "with space/ä%b", b"x")
    assert str(place).endswith("/with space/ä%b")
    assert place_of(place) == place == place_of(str(place))
    assert (place.name, place.parent) == ("ä%b", folder / "with space")
    if not isinstance(place.store, MemoryStore):
        assert pickle.loads(pickle.dumps(place)).read() == b"x"  # noqa: S301
    if isinstance(place.store, LocalStore):
        assert Path(place).read_bytes() == b"x"
    else:
        with pytest.raises(InputError, match=r"(memory|s3)://.*: expected a local path"):
            os.fspath(place)


def test_a_place_lies_in_a_folder_or_does_not(folder: Place) -> None:
    inner = folder / "a/b"
    assert inner.is_in(folder)
    assert inner.is_in(inner)
    assert not folder.is_in(inner)
    assert not (folder / "ab").is_in(folder / "a")
    assert not inner.is_in(Place(MemoryStore(), folder.path))


# Patterns and addresses.

PARTS = st.text("ab.*?[]!-", min_size=1, max_size=4).filter(lambda part: part not in (".", ".."))


@given(st.lists(st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=3), max_size=8),
       st.lists(st.one_of(PARTS, st.just("**")), min_size=1, max_size=4))  # fmt: skip
def test_patterns_match_as_glob_does(
    tmp_path_factory: pytest.TempPathFactory, names: list[list[str]], parts: list[str]
) -> None:
    root, pattern = tmp_path_factory.mktemp("glob"), "/".join(parts)
    for name in names:
        path = root.joinpath(*name)
        if not {".", ".."} & {*name} and not any(p.is_file() for p in (path, *path.parents)) and not path.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    found = {name for name in glob.glob(pattern, root_dir=root, recursive=True) if (root / name).is_file()}
    assert {name for name in files if matches(name, pattern)} == found


@pytest.mark.parametrize("scheme", ["sftp", "abfss"])
def test_a_scheme_without_a_store_is_named(scheme: str) -> None:
    with pytest.raises(
        InputError, match=f"output {scheme}://bucket/x: no store has the scheme {scheme}://; expected .*file://, s3://"
    ):
        place_of(f"{scheme}://bucket/x", "output")


@pytest.mark.parametrize("scheme", ["s3", "hf", "https"])
def test_an_address_that_pathlib_made_a_path_is_refused(scheme: str) -> None:
    with pytest.raises(InputError, match=f"output {scheme}:/bucket/x: expected {scheme}://…; pathlib makes one slash"):
        place_of(Path(f"{scheme}://bucket/x"), "output")


def test_a_scheme_is_one_in_capitals_too() -> None:
    assert place_of("S3://Bucket/Key") == place_of("s3://Bucket/Key")


def test_credentials_in_an_address_are_refused_without_them() -> None:
    with pytest.raises(InputError, match=r"an address has no credentials; docs/stores\.md says where") as got:
        place_of("s3://AKIAKEY:secret@bucket/key")
    assert "secret" not in str(got.value)
    assert "AKIAKEY" not in str(got.value)


@pytest.mark.parametrize("name", ["a:b", "a?b#c", "100%", "x" * 200, "file", "'\""])
def test_a_path_is_no_address(tmp_path: Path, name: str) -> None:
    assert place_of(tmp_path / name).path == str(tmp_path / name)


def test_a_file_address_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert place_of("file:///data/with%20space").path == place_of("file://localhost/data/with%20space").path
    assert place_of("file:///data/with%20space").path == "/data/with space"
    with pytest.raises(InputError, match="file://data/crawl: expected file:///"):
        place_of("file://data/crawl")
    monkeypatch.chdir(tmp_path)
    assert place_of("here/x").path == str(tmp_path / "here/x")


# The local store.


def write_and_die(place: Place) -> None:
    with place.create() as file:
        file.write(b"half")
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.processes
def test_what_a_killed_process_wrote_is_not_seen_and_is_swept(warm: WarmProcesses, tmp_path: Path) -> None:
    folder = place_of(tmp_path)
    write(folder / "deep/a", b"whole")
    write(folder / "deep/.mine.part", b"of somebody else")
    process = warm.Process(target=write_and_die, args=(folder / "deep/b",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    (left,) = (tmp_path / "deep").glob(".b.*.part")
    assert names(folder.files()) == ["deep/.mine.part", "deep/a"]
    folder.sweep()
    assert not left.exists()
    assert names(folder.files()) == ["deep/.mine.part", "deep/a"]


def test_what_is_written_outlasts_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def note(what: str, path: object) -> None:
        name = os.path.relpath(str(path), tmp_path)
        calls.append(f"{what} {'temporary' if name.endswith('.part') else name}")

    def fsync(number: int) -> None:
        note("fsync", os.readlink(f"/proc/self/fd/{number}"))
        real_fsync(number)

    real_fsync, real_replace, real_link, real_mkdir = os.fsync, os.replace, os.link, Path.mkdir
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (note("replace", b), real_replace(a, b))[1])
    monkeypatch.setattr(os, "link", lambda a, b: (note("link", b), real_link(a, b))[1])
    monkeypatch.setattr(Path, "mkdir", lambda a, **options: (note("mkdir", a), real_mkdir(a, **options))[1])
    write(place_of(tmp_path / "x/y/a"), b"content")
    written = ["fsync temporary", "replace x/y/a", "fsync x/y"]
    assert calls == ["mkdir x", "fsync .", "mkdir x/y", "fsync x", *written]
    calls.clear()
    with place_of(tmp_path / "x/y/b").create(is_new=True) as file:
        file.write(b"content")
    assert calls == ["fsync temporary", "link x/y/b", "fsync x/y"]
    calls.clear()
    with place_of(tmp_path / "x").together() as folder:
        for name in ("y/c", "d", "y/e"):
            write(folder / name, b"content")
    written = [call for name in ("x/y/c", "x/d", "x/y/e") for call in ("fsync temporary", f"replace {name}")]
    assert calls == [*written, "fsync x", "fsync x/y"]


def test_temporary_files_of_two_machines_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(tmp_path / "a")
    with place.create(), place.create():
        first, second = sorted(tmp_path.iterdir())
        assert first.name.split(".")[-2] != second.name.split(".")[-2]
        assert all(f".{os.getpid()}." in each.name for each in (first, second))
        monkeypatch.setattr(socket, "gethostname", lambda: "node/7.cluster")
        with place_of(tmp_path / "b").create():
            assert [*tmp_path.glob(".b.node-7-cluster.*.part")]
    (tmp_path / ".c.123.part").touch()  # as they were called once
    assert names(place_of(tmp_path).files()) == ["a", "b"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with (
        pytest.raises(
            OutputError, match=r"lock: cannot write: its file system keeps no locks \(flock: .*Lustre: -o flock"
        ),
        place_of(tmp_path / "lock").lock(),
    ):
        pass


def hold_and_die(place: Place) -> None:
    with place.lock():
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.processes
def test_a_killed_process_holds_no_lock(warm: WarmProcesses, tmp_path: Path) -> None:
    process = warm.Process(target=hold_and_die, args=(place_of(tmp_path / "lock"),))
    process.start()
    process.join()
    with place_of(tmp_path / "lock").lock():
        pass


def test_what_is_no_file_is_met_and_cannot_be_read(tmp_path: Path) -> None:
    write(place_of(tmp_path / "real/a"), b"x")
    (tmp_path / "input").mkdir()
    (tmp_path / "input/file").symlink_to(tmp_path / "real/a")
    (tmp_path / "input/nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "input/itself").symlink_to(tmp_path / "input/itself")
    os.mkfifo(tmp_path / "input/pipe")
    found = sorted(place_of(tmp_path / "input").files(), key=lambda file: file.name)
    assert [(file.name, file.size_bytes) for file in found] == [("file", 1), ("itself", 0), ("nowhere", 0), ("pipe", 0)]
    for name in ("itself", "nowhere", "pipe"):
        with pytest.raises(OSError):
            place_of(tmp_path / "input" / name).read()
        assert place_of(tmp_path / "input" / name).find() is None


def test_links_to_folders_are_followed_and_no_folder_is_entered_twice(tmp_path: Path) -> None:
    write(place_of(tmp_path / "elsewhere/deep/a"), b"x")
    write(place_of(tmp_path / "input/z/b"), b"x")
    (tmp_path / "input/again").symlink_to("z")
    (tmp_path / "input/z/circle").symlink_to(tmp_path / "input")
    (tmp_path / "input/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "input/z/there too").symlink_to(tmp_path / "elsewhere/deep")
    (tmp_path / "elsewhere/deep/back").symlink_to(tmp_path)
    inside = place_of(tmp_path / "input")
    assert names(inside.files()) == ["there/deep/a", "z/b"]
    assert names(inside.files("**/a")) == ["there/deep/a"]
    assert names(inside.files("*/*")) == ["z/b"]
    inside.sweep()


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127, "y" * 247):
        write(place_of(tmp_path / name), b"x")
    assert sorted(names(place_of(tmp_path).files())) == sorted(["x" * 255, "ä" * 127, "y" * 247])
    with pytest.raises(InputError, match="cannot write: a name or path longer than the file system allows"):
        write(place_of(tmp_path / ("x" * 256)), b"x")


@given(st.lists(PARTS | st.just("**"), min_size=1, max_size=4), st.lists(st.text("ab.", min_size=1, max_size=2),
       min_size=1, max_size=4))  # fmt: skip
def test_a_folder_may_hold_what_matches(patterns: list[str], name: list[str]) -> None:
    pattern = "/".join(patterns)
    if matches("/".join(name), pattern):
        for depth in range(1, len(name)):
            assert may_hold("/".join(name[:depth]), pattern)


def test_a_place_behind_a_link_lies_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert place_of(tmp_path / "link/out").is_in(place_of(tmp_path / "real"))


def test_a_folder_that_cannot_be_read_is_an_error_and_not_empty(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError):
        list(place_of(tmp_path).files())


def test_a_place_that_cannot_be_written_is_an_output_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/a: cannot write: .*; check the path and its permissions"):
        write(place_of(tmp_path / "file/a"), b"x")
