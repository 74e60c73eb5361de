"""What stores in a network do on bad days: a run ends right, or with one line that says what to do."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import gneiss
from gneiss.errors import GneissError, InputError, StoreError
from gneiss.store.place import Place, place_of
from tests import runs
from tests.store import faults
from tests.store.faults import Proxy
from tests.store.s3_server import KEY, READER, SECRET, S3Server

pytestmark = pytest.mark.slow

LARGE = bytes(range(256)) * (130_000)  # 33 MB: three parts
#: Days that pass: what happens to a request, and to which.
PASSING = {
    "busy": dict(faults.SLOW_DOWN),
    "unavailable": dict(faults.UNAVAILABLE),
    "failing": dict(faults.INTERNAL),
    "cut in mid-upload": {"upload_bytes": 1},
    "answer lost": {"is_lost": True},
    "cut in mid-read": {"answer_bytes": 1},
    "short": {"operation": "GetObject", "short_by": 1},
    "slow": {"before_s": 0.05, "bytes_per_s": 1 << 20},
}  # fmt: skip
#: Days that do not: what happens, the error number's words, and what the message says.
LASTING = {
    "busy": (faults.SLOW_DOWN, r"SlowDown.*run again with fewer workers"),
    "expired": (faults.EXPIRED, "ExpiredToken.*credentials have expired; renew them and run again"),
    "skewed": (faults.SKEWED, "RequestTimeTooSkewed.*clock of this machine"),
    "denied": (faults.DENIED, "AccessDenied.*docs/stores.md lists the rights"),
}


@pytest.fixture
def folder(s3_folder: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty folder of the server, of which little patience is expected."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    return place_of(s3_folder)


def write(place: Place, content: bytes) -> None:
    with place.create() as file:
        file.write(content)


# The store.


@pytest.mark.parametrize(
    "day",
    [
        *("busy", "cut in mid-upload", "answer lost", "cut in mid-read", "short"),
        *(pytest.param(day, marks=pytest.mark.exhaustive) for day in ("unavailable", "failing")),  # as busy
    ],
)
def test_what_passes_is_not_noticed(day: str, proxy: Proxy, folder: Place) -> None:
    with proxy.fault(times=2, every=2, **PASSING[day]):
        for content in (b"small", LARGE, b""):
            write(folder / "key", content)
            assert (folder / "key").read() == content
            assert [(file.name, file.size_bytes) for file in folder.files()] == [("key", len(content))]
    (folder / "key").delete()
    assert (folder / "key").find() is None


@pytest.mark.parametrize("day", LASTING)
def test_what_lasts_is_said_with_its_action_and_its_object(day: str, proxy: Proxy, folder: Place) -> None:
    fault, expected = LASTING[day]
    write(folder / "key", b"x")
    actions: tuple[tuple[str, str, Callable[[], object]], ...] = (
        ("PutObject", "PutObject", lambda: write(folder / "key", b"y")),
        ("UploadPart", "PutObject", lambda: write(folder / "key", LARGE)),
        ("GetObject", "GetObject", lambda: (folder / "key").read()),
        ("ListObjectsV2", "ListObjects", lambda: list(folder.files())),
        ("DeleteObject*", "DeleteObject", lambda: (folder / "key").delete()),
    )
    for operation, action, act in actions:
        with proxy.fault(operation, **fault), pytest.raises(StoreError, match=f"{action}.*{expected}") as got:
            act()
        assert str(folder) in str(got.value)
    assert (folder / "key").read() == b"x"


def test_who_answers_no_body_is_understood(proxy: Proxy, folder: Place) -> None:
    write(folder / "key", b"x")
    with (
        proxy.fault("HeadObject", **faults.DENIED),
        pytest.raises(StoreError, match=r"HeadObject: 403; .*lists the rights that are needed, here s3:GetObject"),
    ):
        (folder / "key").find()


def test_a_list_that_lags_is_a_list(proxy: Proxy, folder: Place) -> None:
    write(folder / "key", b"x")
    with proxy.fault("ListObjectsV2", hidden="*/key"):
        assert list(folder.files()) == []
        assert (folder / "key").read() == b"x"


def test_who_is_refused_by_the_server_is_told_which_right_is_missing(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "key", b"x")
    with pytest.raises(StoreError, match=r"s3://nowhere-yet/key: .*no such bucket"):
        write(place_of("s3://nowhere-yet/key"), b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    assert (folder / "key").read() == b"x"
    with pytest.raises(StoreError, match=rf"{folder}/key: PutObject: AccessDenied.*docs/stores.md lists the rights"):
        write(folder / "key", b"y")
    with pytest.raises(StoreError, match=rf"{folder}/key: DeleteObject.*AccessDenied.*docs/stores.md lists the rights"):
        (folder / "key").delete()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(StoreError, match=r"SignatureDoesNotMatch.*check which are set"):
        (folder / "key").read()


# Runs.


@pytest.fixture(scope="module")
def expected(material: runs.Material, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run on a disk gives."""
    output = tmp_path_factory.mktemp("expected") / "out"
    gneiss.run(recipe(material), material.input, output, backend=runs.InThisProcess())
    return contents(place_of(output))


@pytest.fixture
def crawl(material: runs.Material, folder: Place) -> Place:
    """The input there."""
    for file in place_of(material.input).files():
        write(folder / "input" / file.name, (place_of(material.input) / file.name).read())
    return folder / "input"


def recipe(material: runs.Material) -> Path:
    path = material.folder / "bad-days.yaml"
    path.write_text(f"{runs.WITHOUT_MODEL}\nbudgets: {{documents: 0.5}}\n".lstrip())
    return path


def contents(output: Place) -> dict[str, bytes]:
    apart = ("_gneiss/ledger/", "_gneiss/run.json", "_gneiss/lock", "README.md")
    return {file.name: (output / file.name).read() for file in output.files() if not file.name.startswith(apart)}


@pytest.mark.parametrize("day", ["slow", "all at once"])
def test_a_run_on_a_day_that_passes_has_the_bytes_of_a_disk(
    day: str, proxy: Proxy, material: runs.Material, crawl: Place, expected: dict[str, bytes]
) -> None:
    with ExitStack() as stack:
        for number, (name, fault) in enumerate(PASSING.items()):
            if day in (name, "all at once"):
                often = 3 if day == name else 7 if "operation" in fault else 11 + 2 * number
                stack.enter_context(proxy.fault(every=often, **fault))
        output = crawl.parent / "output"
        gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
    assert contents(output) == expected


@pytest.mark.parametrize(
    ("day", "operation", "key"),
    [
        ("expired", "PutObject", "*/annotations/*"),
        ("busy", "GetObject", "*.json"),
        pytest.param("expired", "GetObject", "*/input/*", marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_on_a_day_that_lasts_ends_with_one_line_and_is_resumed(
    day: str, operation: str, key: str, proxy: Proxy, material: runs.Material, crawl: Place,
    expected: dict[str, bytes],
) -> None:  # fmt: skip
    fault, said = LASTING[day]
    output = crawl.parent / "output"
    with proxy.fault(operation, key, **fault), pytest.raises(StoreError, match=f"{operation}.*{said}") as got:
        gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
    assert "\n" not in str(got.value)
    gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
    assert contents(output) == expected


def test_a_run_whose_lists_lag_has_the_bytes_of_a_disk(
    proxy: Proxy, material: runs.Material, crawl: Place, expected: dict[str, bytes]
) -> None:
    output = crawl.parent / "output"
    with proxy.fault("ListObjectsV2", hidden="*/output/*"):
        gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
    with proxy.fault("ListObjectsV2", hidden="*/output/*/a.*"):
        gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
    assert contents(output) == expected
    assert gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess()).finished_before == 5


def test_a_run_without_the_right_to_delete_ends_well(
    proxy: Proxy, material: runs.Material, crawl: Place, expected: dict[str, bytes]
) -> None:
    output = crawl.parent / "output"
    proxy.faults.append(faults.Fault("DeleteObject*", **faults.DENIED))
    for finished in (0, 5):
        done = gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
        assert done.finished_before == finished
    assert contents(output) == expected


def test_an_input_that_is_replaced_in_mid_run_is_quarantined(
    proxy: Proxy, s3_server: S3Server, material: runs.Material, crawl: Place
) -> None:
    other = runs.write_corpus(material.folder / "other.parquet", runs.documents(60, seed=7), row_group_size=60)

    def replace() -> None:
        bucket, _, key = (crawl / "a.parquet").path.partition("/")
        s3_server.put(bucket, key.encode(), other.read_bytes())

    with proxy.fault("PutObject", "*/_gneiss/run.json", times=1, then=replace):
        done = gneiss.run(recipe(material), crawl, crawl.parent / "output", backend=runs.InThisProcess())
    assert "modified or replaced after the run began" in done.quarantined_shards["a"]


def test_an_input_that_is_replaced_when_all_of_it_is_read_does_not_matter(
    proxy: Proxy, s3_server: S3Server, material: runs.Material, crawl: Place, expected: dict[str, bytes]
) -> None:
    bucket, _, key = (crawl / "a.parquet").path.partition("/")
    output = crawl.parent / "output"
    with proxy.fault("PutObject", "*/data/a.*", times=1, then=lambda: s3_server.put(bucket, key.encode(), b"another")):
        gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
    assert contents(output) == expected


# Credentials.


def test_credentials_are_nowhere(
    proxy: Proxy, material: runs.Material, crawl: Place, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    output = crawl.parent / "output"
    said: list[str] = []

    def attempt() -> None:
        try:
            gneiss.run(recipe(material), crawl, output, backend=runs.InThisProcess())
        except GneissError as error:
            said.append("".join(traceback.format_exception(error)))
            said.append(repr(error))

    attempt()
    assert not said
    (output / "annotations/base/a.parquet").delete()
    for fault, _ in LASTING.values():
        with proxy.fault("PutObject", **fault):
            attempt()
    monkeypatch.setenv("AWS_SESSION_TOKEN", token := "FwoGZXIvYXdzEXAMPLETOKEN")
    with proxy.fault(**faults.EXPIRED):
        attempt()
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    assert len(said) == 2 * len(LASTING) + 2
    captured = capfd.readouterr()
    everything = [*said, captured.out, captured.err, caplog.text, *map(str, output.files())]
    everything += [(output / file.name).read().decode("latin-1") for file in output.files()]
    for secret in (KEY, SECRET, token, "Signature="):
        assert not [text for text in everything if secret in text]


def test_without_credentials_it_is_said_where_they_are_looked_for(
    folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="no credentials were found"):
        (folder / "key").read()


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:9", "HeadObject: tcp connect error: Connection refused; check the network and the endpoint"),
        ("http://there.invalid", "HeadObject: dns error: .*; check the network and the endpoint"),
        ("127.0.0.1:9000", "AWS_ENDPOINT_URL: expected http://… or https://…, found '127.0.0.1:9000'"),
    ],
)
def test_an_endpoint_that_does_not_answer_is_said(
    endpoint: str, said: str, folder: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match=said):
        (folder / "key").find()


# Names.


@pytest.fixture
def named(s3_server: S3Server, folder: Place, material: runs.Material) -> Iterator[Callable[[bytes], Place]]:
    """A folder with an input of this name, put there by another program."""
    content = (material.input / "a.parquet").read_bytes()
    put: list[bytes] = []

    def put_there(name: bytes) -> Place:
        put.append(name)
        s3_server.put("gneiss", f"{folder.path.partition('/')[2]}/{len(put)}/".encode() + name, content)
        return folder / f"{len(put)}"

    return put_there


@pytest.mark.parametrize(
    "name",
    [
        *("a%20b", "q?x#y"),
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("with space", "ä", "100%", "a+b", "'\"", "a=b", "a:b", "~", "&<")
        ),
    ],
)
def test_names_that_need_care_are_names(name: str, named: Callable[[bytes], Place], material: runs.Material) -> None:
    source = named(f"{name}.parquet".encode())
    output = source.parent / "output"
    done = gneiss.run(recipe(material), source, output, backend=runs.InThisProcess())
    assert not done.quarantined_shards
    assert (output / f"data/{name}.parquet").find()
    assert gneiss.run(recipe(material), source, output, backend=runs.InThisProcess()).finished_before == 1


@pytest.mark.parametrize("name", [b"new\nline", b"tab\tx"])
def test_names_that_are_no_paths_are_refused(
    name: bytes, named: Callable[[bytes], Place], material: runs.Material
) -> None:
    source = named(name + b".parquet")
    with pytest.raises(InputError, match=rf"{source}: cannot read: ListObjects: the key '.*' is no path") as got:
        gneiss.run(recipe(material), source, source.parent / "output", backend=runs.InThisProcess())
    assert str(got.value).isprintable()


@pytest.mark.parametrize("address", ["s3://gneiss/a/../b", "s3://gneiss//a", "s3://", "s3:///a", "s3://gneiss/./a"])
def test_addresses_that_are_none_are_refused(address: str, s3_folder: str, material: runs.Material) -> None:
    for source, output in ((address, f"{s3_folder}/output"), (s3_folder, address)):
        with pytest.raises(InputError, match="expected s3://bucket/key"):
            gneiss.run(recipe(material), source, output, backend=runs.InThisProcess())
