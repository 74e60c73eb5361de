"""Push, against a fake hub: what is there afterwards, resumed wherever it ended, and what is refused."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.cli.main import main
from gneiss.errors import InputError, OutputError, StoreError
from gneiss.output import push as pushing
from gneiss.output.finished_run import open_run
from gneiss.output.push import push
from gneiss.recipe.recipe import Recipe
from gneiss.store import place as places
from gneiss.store.place import STORES, place_of
from tests import runs
from tests.store.fake_hub import SIGNATURE, TOKEN, Answer, FakeHub
from tests.store.memory import MemoryStore
from tests.warm_processes import WarmProcesses

pytestmark = pytest.mark.slow

TARGET = "hf://datasets/owner/out"
NAMES = ("test-00000", "validation/part", "100% [b]+ä", "c", "d", "e")


def curate(folder: Path, names: tuple[str, ...] = NAMES, threshold: int = 3, license: str = "odc-by") -> Path:
    for name in names:
        path = folder / "in" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"id": [f"{name} {i}" for i in range(3)], "text": [f"long {name}", "hi", None]}), path)
    phases = [{"name": "only", "rules": {"long_enough": f"text_chars > {threshold}"}}]
    given = {"name": "short", "budgets": {"documents": 1}, "card": {"license": license}, "phases": phases}
    gneiss.run(Recipe.parse(json.dumps(given)), folder / "in", folder / "out", backend=runs.InThisProcess())
    return folder / "out"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return curate(tmp_path_factory.mktemp("push"))


def expected(output: Path) -> dict[str, bytes]:
    """What is on the hub in the end."""
    names = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    pushed = ("data/", "annotations/", "quarantine/", "README.md", "_gneiss/run.json", "_gneiss/recipe.yaml",
              "_gneiss/statistics.json", "_gneiss/layers/")  # fmt: skip
    return {name: path.read_bytes() for name, path in names.items() if name.startswith(pushed)}


def found(hub: FakeHub, branch: str = "main") -> dict[str, bytes]:
    files = hub.repositories["datasets/owner/out"].files(branch)
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def test_a_run_is_pushed_and_opened_there(hub: FakeHub, output: Path) -> None:
    shares = []
    done = push(output, TARGET, progress=shares.append)
    assert found(hub) == expected(output)
    assert (done.files, done.uploaded, done.deleted, done.is_private) == (len(found(hub)), len(found(hub)), 0, True)
    assert done.left_out["_gneiss/ledger"] == 4
    assert (shares[-1].files, shares[-1].size_bytes) == (done.files, done.size_bytes)
    assert open_run(TARGET).digest == open_run(output).digest
    commits = len(hub.repositories["datasets/owner/out"].messages)
    assert push(output, TARGET).uploaded == 0
    assert len(hub.repositories["datasets/owner/out"].messages) == commits


def test_an_output_elsewhere_is_pushed_to_a_branch(hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "STORES", (*STORES, MemoryStore()))
    for file in place_of(output).files():
        with (place_of("memory://bucket/out") / file.name).create() as copied:
            copied.write((place_of(output) / file.name).read())
    push("memory://bucket/out", f"{TARGET}@v2", public=True)
    assert found(hub, "v2") == expected(output)
    assert found(hub) == {}
    assert not hub.repositories["datasets/owner/out"].private


def test_a_push_that_ends_anywhere_goes_on_there(
    hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setattr(pushing, "_COMMIT_FILES", 4)
    whole, rounds = expected(output), 0
    while rounds < 100:
        left = [rounds + 1]  # requests until it ends: in each round one more

        def end(request: str, left: list[int] = left) -> Answer | None:
            left[0] -= 1
            return Answer(403, b"", {"X-Error-Message": "ended"}) if left[0] < 0 else None

        hub.fault = end
        try:
            push(output, TARGET)
        except StoreError:
            hub.fault = lambda request: None
            if "datasets/owner/out" in hub.repositories:
                assert found(hub).items() <= whole.items()
            rounds += 1
            continue
        break
    assert rounds > 10
    assert found(hub) == whole
    messages = hub.repositories["datasets/owner/out"].messages[1:]
    committed = sum(int(message.split()[2]) for message in messages)
    assert committed == len(whole)  # no file twice


def test_files_are_uploaded_by_xet(hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the client's own test double of the storage, in a folder; the hub is told the sha256 of each file."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    storage = f"local://{tmp_path}/storage"
    headers = {"X-Xet-Cas-Url": storage, "X-Xet-Access-Token": "secret", "X-Xet-Token-Expiration": "4102444800"}
    answer = Answer(200, {"casUrl": storage, "accessToken": "secret", "exp": 4102444800}, headers)
    hub.fault = lambda request: answer if "xet-write-token" in request else None
    hub.uploaded = {hashlib.sha256(content).hexdigest(): content for content in expected(output).values()}
    push(output, TARGET)
    assert found(hub) == expected(output)
    assert not any("/lfs" in request for request in hub.requests)
    stored = sum(path.stat().st_size for path in (tmp_path / "storage").rglob("*") if path.is_file())
    assert stored > sum(path.stat().st_size for path in (output / "data").rglob("*.parquet"))


def test_datasets_loads_what_was_pushed(
    hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    push(output, TARGET)
    for name, each in (("default", 1), ("annotations", 3), ("quarantine", 1)):
        loaded = datasets.load_dataset("owner/out", name, cache_dir=str(tmp_path / "cache"))
        assert {split: loaded[split].num_rows for split in loaded} == {"train": each * len(NAMES)}


def test_what_a_run_lacks_is_deleted_and_what_is_of_no_run_stays(hub: FakeHub, tmp_path: Path) -> None:
    output = curate(tmp_path)
    push(output, TARGET)
    hub.repositories["datasets/owner/out"].commit({"data/old.parquet": b"x", "notes.txt": b"mine"})
    assert push(output, TARGET).deleted == 1
    assert found(hub) == {**expected(output), "notes.txt": b"mine"}


def test_another_run_and_foreign_files_are_refused(hub: FakeHub, output: Path, tmp_path: Path) -> None:
    push(output, TARGET)
    other = curate(tmp_path, ("a",), threshold=4)
    with pytest.raises(OutputError, match=r"it holds another run; .* with replace_run=True"):
        push(other, TARGET)
    assert found(hub) == expected(output)
    push(other, TARGET, replace_run=True)
    assert found(hub) == expected(other)
    hub.add("datasets/owner/foreign", {"data/a.parquet": b"x"})
    with pytest.raises(OutputError, match=r"it holds files that are of no run, such as 'data/a.parquet'"):
        push(output, "hf://datasets/owner/foreign")


def test_an_unfinished_run_is_refused(hub: FakeHub, output: Path, tmp_path: Path) -> None:
    shutil.copytree(output, tmp_path / "out")
    (tmp_path / "out/annotations/base/c.parquet").unlink()
    with pytest.raises(InputError, match="the run is not finished"):
        push(tmp_path / "out", TARGET)
    with pytest.raises(InputError, match="no finished run here"):
        push(tmp_path, TARGET)
    assert hub.requests == []


@pytest.mark.parametrize(
    "target",
    [
        "hf://datasets/owner/out/data", "hf://owner/model", "hf://buckets/owner/b", f"{TARGET}@{'0' * 40}",
        "out", "hf://datasets/out",
    ],
)  # fmt: skip
def test_a_target_that_is_no_branch_of_a_dataset_is_refused(hub: FakeHub, output: Path, target: str) -> None:
    with pytest.raises(InputError, match=r"expected hf://datasets/OWNER/NAME"):
        push(output, target)
    assert hub.requests == []


def test_who_may_not_push_is_told(hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="the token may not do that"):
        push(output, "hf://datasets/stranger/out")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(
        StoreError, match=r"the hub does not know this token, or it has expired; .* run again: what is finished"
    ):
        push(output, TARGET)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(StoreError, match="HF_TOKEN"):
        push(output, TARGET)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add("datasets/owner/out", {}, private=True)
    with pytest.raises(OutputError, match="it is there and private; make it public in its settings"):
        push(output, TARGET, public=True)


def test_a_token_that_expires_halfway_is_said_and_the_push_goes_on(
    hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "_COMMIT_FILES", 4)

    def expire(request: str) -> None:
        if request.startswith("PUT /lfs/") and sum(line.startswith("PUT /lfs/") for line in hub.requests) == 6:
            hub.tokens.clear()

    hub.fault = expire
    with pytest.raises(StoreError, match="the hub does not know this token, or it has expired"):
        push(output, TARGET)
    hub.fault = lambda request: None
    hub.tokens.add(TOKEN)
    before = len(found(hub))
    assert before > 3
    assert push(output, TARGET).uploaded == len(expected(output)) - before
    assert found(hub) == expected(output)


def test_a_hub_that_is_busy_is_waited_for_and_nothing_signed_is_logged(
    hub: FakeHub, output: Path, waits: list[float], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("huggingface_hub").propagate = True
    answers = {
        "POST /api/datasets/owner/out/commit/main": Answer(429, b"", {"ratelimit": '"api";r=0;t=271'}),
        "POST /api/datasets/owner/out/preupload/main": Answer(503),
        "PUT /lfs/": Answer(500),
    }

    def fail_once(request: str) -> Answer | None:
        kind = next((answer for answer in answers if request.startswith(answer)), None)
        return answers.pop(kind) if kind else None

    hub.fault = fail_once
    push(output, TARGET)
    assert found(hub) == expected(output)
    assert not answers
    assert 271 in waits
    said = caplog.text + "".join(capfd.readouterr())
    assert "the hub asks for fewer requests; run again in 271 s" in said
    assert "HTTP Error 500 thrown while requesting PUT" in said
    assert SIGNATURE not in said
    assert TOKEN not in said


def test_a_hub_that_stays_busy_is_an_error(hub: FakeHub, output: Path, waits: list[float]) -> None:
    hub.fault = lambda request: Answer(429) if "/commit/" in request else None
    with pytest.raises(StoreError, match=r"out@main: the hub asks for fewer requests; run again in some minutes"):
        push(output, TARGET)
    assert waits.count(300) == 11


def test_a_card_that_the_hub_refuses_is_said_before_anything_is_uploaded(hub: FakeHub, tmp_path: Path) -> None:
    output = curate(tmp_path, ("a",), license="of-my-own")
    with pytest.raises(OutputError, match=r'cannot push: .*"license" must be one of'):
        push(output, TARGET)
    assert found(hub) == {}


def test_a_file_that_the_repository_ignores_is_missed(
    hub: FakeHub, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = FakeHub._commit

    def leaving_out(self: FakeHub, body: bytes, **given: object) -> Answer:
        return commit(
            self,
            body=b"\n".join(line for line in body.splitlines() if b"data/c.parquet" not in line),
            **given,
        )

    monkeypatch.setattr(FakeHub, "_commit", leaving_out)
    with pytest.raises(OutputError, match=r"1 files are not there, first 'data/c.parquet'; see whether .gitignore"):
        push(output, TARGET)


def test_the_command_says_what_it_did(
    hub: FakeHub, output: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["push", str(output), TARGET])
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert f"are at {TARGET}@main (private): {len(expected(output))} uploaded, 0 were there" in said.out
    assert "not uploaded (files): _gneiss/ledger (4)" in said.out
    assert f"{len(expected(output))}/{len(expected(output))} files" in said.err
    with pytest.raises(SystemExit) as ended:
        main(["push", str(curate(tmp_path, ("a",), threshold=4)), TARGET])
    assert ended.value.code == 1
    assert "with --replace" in capsys.readouterr().err


def test_a_push_that_is_killed_goes_on(hub: FakeHub, output: Path, warm: WarmProcesses) -> None:
    process = warm.Process(target=push, args=(output, TARGET))

    def kill(request: str) -> None:
        if request.startswith("PUT /lfs/") and sum(line.startswith("PUT /lfs/") for line in hub.requests) == 5:
            process.kill()

    hub.fault = kill
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert set(found(hub)) < set(expected(output))
    hub.fault = lambda request: None
    done = push(output, TARGET)
    assert 0 < done.uploaded < done.files
    assert found(hub) == expected(output)
