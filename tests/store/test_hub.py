"""The hub as a store, against a fake one on loopback: addresses, revisions, ranges, refusals; a run from it."""

from __future__ import annotations

import io
import json
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gneiss
from gneiss.errors import GneissError, InputError, OutputError, StoreError
from gneiss.input.model_files import locate
from gneiss.output.finished_run import open_run
from gneiss.recipe.recipe import Recipe
from gneiss.recipe.yaml_text import read_yaml
from gneiss.store.hub import HubAddress
from gneiss.store.place import Place, place_of
from tests import runs
from tests.store.fake_hub import TOKEN, Answer, FakeHub

NAMES = ("a", "deep/b", "with space", "100% [x]+#?&ä", "train/test-0", "c", "d", "e")
CORPUS = "hf://datasets/owner/corpus"
RECIPE = """
name: plain
shard_max_bytes: 24000
budgets: {documents: 1}
phases:
  - name: only
    dedup: {min_length: 80, scope: SCOPE}
    annotate: [readability]
    rules: {readable: eflaw < 30}
"""


def documents(folder: Path) -> Path:
    for number, name in enumerate(NAMES):
        runs.write_corpus(folder / f"{name}.parquet", runs.documents(30, seed=number), row_group_size=10)
    return folder


def uploaded(folder: Path, inside: str = "") -> dict[str, bytes]:
    return {
        inside + path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def outputs(folder: Place) -> dict[str, bytes]:
    """The bytes that are promised."""
    kept = ("data/", "annotations/", "quarantine/", "_gneiss/statistics", "_gneiss/recipe")
    return {file.name: (folder / file.name).read() for file in folder.files() if file.name.startswith(kept)}


# Addresses.


@pytest.mark.parametrize(
    ("address", "kind", "repository", "revision", "path"),
    [
        ("hf://datasets/o/n", "dataset", "o/n", None, ""),
        ("hf://datasets/o/n@v1/a/b.parquet", "dataset", "o/n", "v1", "a/b.parquet"),
        ("hf://datasets/o/n@refs/convert/parquet/x", "dataset", "o/n", "refs/convert/parquet", "x"),
        ("hf://datasets/o/n@refs%2Fpr%2F1/x@y", "dataset", "o/n", "refs/pr/1", "x@y"),
        ("hf://o/n@main/model.bin", "model", "o/n", "main", "model.bin"),
        ("hf://models/o/n/model.bin", "model", "o/n", None, "model.bin"),
        ("hf://buckets/o/n/a b/", "bucket", "o/n", None, "a b"),
    ],
)  # fmt: skip
def test_an_address_is_taken_apart(address: str, kind: str, repository: str, revision: str | None, path: str) -> None:
    assert HubAddress.parse(address) == HubAddress(kind, repository, revision, path)


@pytest.mark.parametrize(
    "address",
    ["hf://datasets/squad", "hf://datasets", "hf://o", "hf://datasets/o/n/../m", "hf://datasets/o/n//a",
     "hf://buckets/o/n@main/a", "hf://datasets/o/n m/a", "hf://datasets/o/n@/a", "hf:///datasets/o/n", "hf://spaces/o"],
)  # fmt: skip
def test_what_is_no_address_of_the_hub_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="expected hf://datasets/OWNER/NAME@REVISION/path"):
        place_of(address)


PARTS = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1).filter(
    lambda part: part not in (".", "..")
)


@given(st.sampled_from(["dataset", "model", "space"]), st.none() | PARTS, st.lists(PARTS, max_size=3))
def test_an_address_is_the_same_when_it_is_read_again(kind: str, revision: str | None, parts: list[str]) -> None:
    at = HubAddress(kind, "o.x/n-_", revision, "/".join(parts))
    assert HubAddress.parse(str(at)) == at


# Reading.


def test_files_are_listed_page_by_page_and_read_in_any_range(hub: FakeHub, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    hub.add("datasets/owner/corpus", {f"in/{name}.bin": content + name.encode() for name in NAMES})
    folder = place_of(f"{CORPUS}@main/in").pinned()
    assert folder is not None
    listed = {file.name: file for file in folder.files()}
    assert listed.keys() == {f"{name}.bin" for name in NAMES}
    assert {file.name for file in folder.files("*/*.bin")} == {"deep/b.bin", "train/test-0.bin"}
    for name, file in listed.items():
        place = folder / name
        found = place.find()
        assert found is not None
        assert (found.size_bytes, found.etag) == (file.size_bytes, file.etag) == (len(place.read()), found.etag)
        with place.open() as opened:
            assert isinstance(opened, pa.NativeFile)
            opened.seek(1000)
            assert bytes(opened.read(70_000)) == content[1000:71_000]
        assert place.read() == content + name.removesuffix(".bin").encode()
    assert (folder / "nothing").find() is None
    assert list((folder / "nothing").files()) == []
    assert folder.find() is None
    with pytest.raises(FileNotFoundError, match="no such file on the hub"):
        (folder / "nothing").open()


@pytest.mark.parametrize(("name", "content"), [("small.txt", b"not in LFS"), ("empty.txt", b""), ("e.parquet", b"")])
def test_small_and_empty_files_are_read(hub: FakeHub, name: str, content: bytes) -> None:
    hub.add("models/owner/model", {name: content})
    place = place_of(f"hf://owner/model/{name}")
    assert place.read() == content
    found = place.find()
    assert found is not None
    assert found == next(file for file in place.parent.files() if file.name == name)


def test_what_ignores_ranges_is_read_right(hub: FakeHub) -> None:
    hub.add("datasets/owner/corpus", {"a.bin": bytes(200_000)[:-1] + b"x"})
    hub.ranges = False
    with place_of(f"{CORPUS}/a.bin").open() as file:
        assert bytes(file.read()) == bytes(199_999) + b"x"


def test_a_pinned_file_is_read_on_when_its_branch_moves_and_a_signature_expires(hub: FakeHub) -> None:
    repository = hub.add("datasets/owner/corpus", {"a.bin": b"first" * 100_000})
    pinned = place_of(f"{CORPUS}/a.bin").pinned()
    assert pinned is not None
    repository.commit({"a.bin": b"other" * 100_000})
    with pinned.open() as file:
        hub.expire_signatures()
        assert bytes(file.read()) == b"first" * 100_000
    assert place_of(f"{CORPUS}/a.bin").read() == b"other" * 100_000
    assert pinned.pinned() == pinned


def test_a_bucket_is_read(hub: FakeHub) -> None:
    hub.buckets["owner/bucket"] = {"in/a.bin": b"one", "in/b/c.bin": b"three", "input.bin": b"", "in-x/a": b"x"}
    folder = place_of("hf://buckets/owner/bucket/in")
    assert folder.pinned() is None
    assert {file.name: file.size_bytes for file in folder.files()} == {"a.bin": 3, "b/c.bin": 5}
    assert (folder / "b/c.bin").read() == b"three"
    assert (folder / "a.bin").find() == next(file for file in folder.files() if file.name == "a.bin")
    assert (folder / "no").find() is None
    with pytest.raises(StoreError, match="not on the hub, or private"):
        list(place_of("hf://buckets/owner/no").files())


def test_a_place_on_the_hub_travels(hub: FakeHub) -> None:
    hub.add("datasets/owner/corpus", {"a.bin": b"x"})
    place = place_of(f"{CORPUS}/a.bin")
    assert pickle.loads(pickle.dumps(place)).read() == b"x"  # noqa: S301 - our own


# Runs.


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["shard", "corpus"])
def test_a_run_from_the_hub_has_the_bytes_of_a_local_run(hub: FakeHub, tmp_path: Path, scope: str) -> None:
    recipe = Recipe.parse(RECIPE.replace("SCOPE", scope))
    hub.add("datasets/owner/corpus", {"README.md": b"---\n---\n", **uploaded(documents(tmp_path / "in"), "data/")})
    local = gneiss.run(recipe, tmp_path / "in", tmp_path / "local", backend=runs.InThisProcess())
    hub.requests.clear()
    found = gneiss.run(recipe, f"{CORPUS}@main/data", tmp_path / "out", backend=runs.InThisProcess())
    assert outputs(found.folder) == outputs(local.folder)
    resolved = [request for request in hub.requests if re.search("/resolve/.*/data", request)]
    assert len(resolved) == len(set(resolved)) == len(NAMES) + 1  # each file is asked for once, and the folder
    assert all(request.startswith("HEAD") for request in resolved)


@pytest.mark.exhaustive
@pytest.mark.processes
def test_a_run_from_the_hub_that_is_killed_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text(RECIPE.replace("SCOPE", "shard"))
    hub.add("datasets/owner/corpus", uploaded(documents(tmp_path / "in"), "data/"))
    local = gneiss.run(tmp_path / "plain.yaml", tmp_path / "in", tmp_path / "local", backend=runs.InThisProcess())
    command = [sys.executable, "-m", "gneiss", "run", str(tmp_path / "plain.yaml"), "--workers", "2"]
    command += ["--input", f"{CORPUS}/data", "--output", str(tmp_path / "out")]
    started: list[subprocess.Popen[bytes]] = []

    def kill(request: str) -> None:
        if any((tmp_path / "out/annotations").rglob("*.parquet")):
            started[0].kill()

    hub.fault = kill
    started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    assert started[0].wait(200) == -signal.SIGKILL
    hub.fault = lambda request: None
    hub.requests.clear()
    subprocess.run(command, check=True, timeout=200, capture_output=True)
    assert outputs(place_of(tmp_path / "out")) == outputs(local.folder)
    described = [request for request in hub.requests if re.fullmatch("HEAD .*/resolve/.*parquet", request)]
    assert len(described) <= 2 * len(NAMES)  # by the driver, and by one worker each


@pytest.mark.slow
def test_the_commit_is_in_the_run_key_and_on_the_card(hub: FakeHub, tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE.replace("SCOPE", "shard"))
    files = uploaded(documents(tmp_path / "in"))
    repository = hub.add("datasets/owner/corpus", files)
    first = repository.refs["main"]
    gneiss.run(recipe, CORPUS, tmp_path / "out", backend=runs.InThisProcess())
    assert json.loads((tmp_path / "out/_gneiss/run.json").read_text())["revision"] == f"{CORPUS}@{first}"
    assert f"{CORPUS}@{first}" in (tmp_path / "out/README.md").read_text()
    repository.commit({"a.parquet": files["c.parquet"]})
    with pytest.raises(OutputError, match=r"what differs: the revision of the input: name the one .*run.json"):
        gneiss.run(recipe, CORPUS, tmp_path / "out", backend=runs.InThisProcess())
    again = gneiss.run(recipe, f"{CORPUS}@{first}", tmp_path / "out", backend=runs.InThisProcess())
    assert again.finished_before == len(again.shards)


@pytest.mark.parametrize(
    ("card", "said", "expected"),
    [
        ("license: odc-by\nlanguage: [en, 'no']\nsize_categories: [n>1T]", {}, ("odc-by", ["en", "no"])),
        ("license: odc-by\nlanguage: en", {"license": "mit"}, ("mit", "en")),
        ("license: [mit, apache-2.0]", {"language": ["de"]}, (["mit", "apache-2.0"], ["de"])),
        ('license: {a: 1}\nlanguage: ["\\u001b[31m"]', {}, (None, None)),
        ("license: [", {}, (None, None)),
        ("- a", {}, (None, None)),
    ],
)
@pytest.mark.slow
def test_the_card_has_what_the_card_of_the_input_says(
    hub: FakeHub, tmp_path: Path, card: str, said: dict[str, object], expected: tuple[object, object]
) -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"id": ["1"], "text": ["x"]}), table)
    hub.add("datasets/owner/corpus", {"in/a.parquet": table.getvalue(), "README.md": f"---\n{card}\n---\n".encode()})
    recipe = Recipe.parse(RECIPE.replace("SCOPE", "shard")).changed({"card": said})
    gneiss.run(recipe, f"{CORPUS}/in", tmp_path / "out", backend=runs.InThisProcess())
    front = read_yaml((tmp_path / "out/README.md").read_text().split("---\n")[1])
    assert (front.get("license"), front.get("language")) == expected
    assert front["source_datasets"] == ["owner/corpus"]
    assert front["size_categories"] == ["n<1K"]


@pytest.mark.slow
def test_an_output_that_lies_on_the_hub_is_opened(hub: FakeHub, tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE.replace("SCOPE", "shard"))
    local = gneiss.run(recipe, documents(tmp_path / "in"), tmp_path / "out", backend=runs.InThisProcess())
    hub.add("datasets/owner/out", uploaded(tmp_path / "out"))
    found = open_run("hf://datasets/owner/out")
    assert found.digest == local.digest
    assert found.annotations(columns=["eflaw"]).equals(local.annotations(columns=["eflaw"]))


def test_a_model_is_fetched_from_the_hub(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub.add("models/owner/model", {"deep/m.bin": b"weights"})
    hub.add("datasets/owner/corpus", {"t.json": b"{}"})
    assert locate("hf://owner/model@main/deep/m.bin").read_bytes() == b"weights"
    assert locate("hf://datasets/owner/corpus/t.json").read_bytes() == b"{}"


# Refusals.


def refusal(address: str, tmp_path: Path) -> str:
    recipe = Recipe.parse(RECIPE.replace("SCOPE", "shard"))
    with pytest.raises(GneissError) as caught:
        gneiss.run(recipe, address, tmp_path / "out", backend=runs.InThisProcess())
    message = str(caught.value)
    assert "\n" not in message
    assert TOKEN not in message
    assert not (tmp_path / "out").exists()
    return message


def test_what_is_not_there_is_said(hub: FakeHub, tmp_path: Path) -> None:
    hub.add("datasets/owner/corpus", {"a.parquet": b"x"})
    assert "not on the hub, or private: check the name; the token in use" in refusal("hf://datasets/owner/no", tmp_path)
    assert "no such branch, tag or commit on the hub" in refusal(f"{CORPUS}@v2", tmp_path)
    assert "no such file or directory" in refusal(f"{CORPUS}/no", tmp_path)
    assert "no such branch" in refusal(f"{CORPUS}@{'0' * 40}", tmp_path)


def test_what_is_private_or_gated_is_said(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"id": ["1"], "text": ["x"]}), file)
    hub.add("datasets/owner/secret", {"a.parquet": file.getvalue()}, private=True)
    hub.add("datasets/owner/gated", {"a.parquet": file.getvalue()}, gated=True)
    monkeypatch.delenv("HF_TOKEN")
    message = refusal("hf://datasets/owner/secret", tmp_path)
    assert "no token was found: set HF_TOKEN, or `hf auth login`" in message
    assert "gated: accept its conditions on the hub; no token" in refusal("hf://datasets/owner/gated", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert "the hub does not know this token, or it has expired" in refusal("hf://datasets/owner/secret", tmp_path)


def test_a_hub_that_is_busy_is_asked_again_and_said(hub: FakeHub, tmp_path: Path, waits: list[float]) -> None:
    hub.add("datasets/owner/corpus", {"a.bin": b"x" * 200_000})
    busy = [Answer(429, b"", {"ratelimit": '"api";r=0;t=7', "ratelimit-policy": '"fixed window";"api";q=5;w=300'})]
    hub.fault = lambda request: busy.pop() if busy else None
    place = place_of(f"{CORPUS}/a.bin")
    assert place.read() == b"x" * 200_000
    assert waits == [8.0]
    hub.fault = lambda request: Answer(429, b"", {"ratelimit": '"resolvers";r=0;t=7'})
    with pytest.raises(
        StoreError, match="the hub asks for fewer requests; run again in 7 s, with fewer workers: what is"
    ):
        place.read()
    hub.fault = lambda request: Answer(503, b"sorry")
    with pytest.raises(StoreError, match="the hub answered 503"):
        place.read()


def test_a_hub_that_does_not_answer_is_not_waited_for_for_ever(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr("gneiss.store.hub_errors.PATIENCE_SECONDS", 0.05)
    ended = Event()
    hub.fault = lambda request: Answer(200) if ended.wait(20) else None
    assert "cannot reach the hub (ReadTimeout); check the network" in refusal(CORPUS, tmp_path)
    ended.set()


def test_no_network_is_said(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "cannot reach the hub (ConnectError)" in refusal(CORPUS, tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it, or name a local path" in refusal(CORPUS, tmp_path)


def test_an_output_on_the_hub_is_pushed(hub: FakeHub, tmp_path: Path) -> None:
    recipe = Recipe.parse(RECIPE.replace("SCOPE", "shard"))
    with pytest.raises(OutputError, match=r"output hf://datasets/owner/out: .*then `gneiss push OUT hf://…`"):
        gneiss.run(recipe, documents(tmp_path / "in"), "hf://datasets/owner/out")
    place = place_of("hf://datasets/owner/out/a")
    for write in (place.create().__enter__, place.lock().__enter__, place.delete, place.sweep):
        with pytest.raises(OutputError, match="cannot write: an output is not written to the hub"):
            write()
    assert hub.requests == []


@pytest.mark.slow
def test_a_wrong_answer_is_a_failure_of_that_file(hub: FakeHub, tmp_path: Path) -> None:
    """A file that is damaged on its way is quarantined; the others are curated."""
    recipe = Recipe.parse(RECIPE.replace("SCOPE", "shard").replace("{documents: 1}", "{documents: 1, shards: 1}"))
    hub.add("datasets/owner/corpus", uploaded(documents(tmp_path / "in")))

    def cut_short(request: str) -> Answer | None:
        return Answer(206, b"PAR1") if request.startswith("GET /cdn/") and oid in request else None

    import hashlib

    oid = hashlib.sha256((tmp_path / "in/a.parquet").read_bytes()).hexdigest()
    hub.fault = cut_short
    found = gneiss.run(recipe, CORPUS, tmp_path / "out", backend=runs.InThisProcess())
    assert list(found.quarantined_shards) == ["a"]
    assert "cut short" in found.quarantined_shards["a"]
