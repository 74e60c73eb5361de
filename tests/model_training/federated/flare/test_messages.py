"""What crosses the wire between coordinator and site, as NVIDIA FLARE serialises it: bytes of messages, and no text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytest.importorskip("nvflare", reason="NVIDIA FLARE is not installed: make test-train does")

from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.shareable import Shareable
from nvflare.fuel.utils import fobs

from gneiss.model_training.federated.coordinator import count_labels, train
from gneiss.model_training.federated.engines import Lost, received
from gneiss.model_training.federated.flare.agreement import Agreement
from gneiss.model_training.federated.flare.engine import Site
from gneiss.model_training.federated.flare.kit import SiteSettings, write_site_settings
from gneiss.model_training.federated.message import Message, most_bytes_of, packed
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import MIXES, WORDS, documents

AGREED = Agreement("localhost", tuple(MIXES), words=WORDS, buckets=64, rounds=2, steps=3)
MOST_BYTES = most_bytes_of(AGREED.space.size)


def context(site: str, kit: Path) -> FLContext:
    """What a site is told of itself."""
    private = {FLContextKey.WORKSPACE_ROOT: str(kit)}
    return FLContextManager(identity_name=site, job_id="job", private_stickers=private).new_context()


class Wire:
    """See Engine: sites of NVIDIA FLARE in this process; all that passes between, as it is serialised."""

    def __init__(self, kits: Mapping[str, Path]) -> None:
        self.kits = kits
        self.passed: list[bytes] = []
        self.sites_here = {name: Site() for name in kits}
        self.answers: list[tuple[str, Message] | Lost] = []

    def sites(self) -> tuple[str, ...]:
        return tuple(sorted(self.kits))

    def ask(self, site: str, task: Message) -> None:
        data = Shareable()
        data["message"] = packed(task)
        reply = self.execute(site, data)
        self.answers.append(received(site, reply["message"], MOST_BYTES))

    def execute(self, site: str, data: Shareable) -> Shareable:
        reply = self.sites_here[site].execute("work", data, context(site, self.kits[site]), None)
        self.passed += [fobs.dumps(data), fobs.dumps(reply)]
        return reply

    def answer(self, timeout_s: float) -> tuple[str, Message] | Lost | None:
        return self.answers.pop(0) if self.answers else None


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    """Three sites, each of whose texts has a word that nobody else has."""
    kits = {}
    for name in MIXES:
        kits[name] = tmp_path / "kits" / name
        (kits[name] / "local").mkdir(parents=True)
        AGREED.write(kits[name] / "local")
        table = documents(name)
        marked = [f"{text} secret{name}{row}" for row, text in enumerate(table["text"].to_pylist())]
        table = table.set_column(0, "text", [marked])
        pq.write_table(table, tmp_path / f"labels-of-{name}.parquet")
        write_site_settings(kits[name], SiteSettings(str(tmp_path / f"labels-of-{name}.parquet"), min_documents=1))
    return Wire(kits)


@pytest.mark.parametrize("strategy", ["fadam_gt", "mtgc", "fedbuff"])
def test_no_text_word_or_path_of_a_site_crosses_the_wire(wire: Wire, tmp_path: Path, strategy: str) -> None:
    federation = AGREED.federation(strategy)
    count_labels(federation, wire)
    found = train(federation, wire, place_of(tmp_path / "out"))
    assert found.held_out.keys() == MIXES.keys()
    assert len(wire.passed) >= 2 * 3 * 4
    crossed = b"".join(wire.passed)
    for name in MIXES:
        assert f"secret{name}".encode() not in crossed
        assert f"labels-of-{name}".encode() not in crossed
    assert str(tmp_path).encode() not in crossed
    assert not any(f'"{word}"'.encode() in crossed for word in WORDS)


def test_an_envelope_holds_one_value_of_bytes(wire: Wire) -> None:
    data = Shareable()
    data["message"] = packed(Message({"kind": "count", "features": AGREED.space.sha256, "round": 0}))
    reply = wire.execute("ann", data)
    assert {key for key in reply if key != "__headers__"} == {"message"}
    assert type(reply["message"]) is bytes


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        {"an": "object"},
        packed(Message({"kind": "count", "features": "others", "round": 0})),
        packed(Message({"kind": "everything", "features": AGREED.space.sha256, "round": 0})),
        b"x" * (MOST_BYTES + 1),
    ],
    ids=["empty", "junk", "object", "features", "kind", "size"],
)
def test_what_is_no_task_is_refused_without_a_word(wire: Wire, content: object) -> None:
    data = Shareable()
    data["message"] = content
    reply = wire.execute("bob", data)
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert {key for key in reply if key != "__headers__"} == set()


def test_why_a_site_failed_stays_there(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "labels-of-ann.parquet").unlink()
    data = Shareable()
    data["message"] = packed(Message({"kind": "count", "features": AGREED.space.sha256, "round": 0}))
    reply = wire.execute("ann", data)
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert b"labels-of-ann" not in wire.passed[-1]
