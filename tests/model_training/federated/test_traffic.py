"""What crosses the wire in a whole training: listed here, from the bytes that were sent, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.model_training.federated.coordinator import count_labels, train
from gneiss.model_training.federated.engines import Site
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.message import Message, packed, unpacked
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.region import RegionSite
from gneiss.model_training.federated.site import DocumentSite
from gneiss.model_training.federated.strategies.by_name import REGIONAL
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import MIXES, MOST_BYTES, SPACE, documents, federation, site_files

#: Names of values of a task: of any, and of one to train at a site or in a region.
OF_ANY = {"kind", "round", "features"}
TRAINING = OF_ANY | {"steps", "rate", "largest_norm", "corrected", "batch", "l2", "seed"}
TASKS = {
    "count": OF_ANY,
    "evaluate": OF_ANY,
    "train": TRAINING | {"optimizer", "tracked"},
    "region": TRAINING | {"region_rounds", "corrects_sites"},
}
#: The only strings of a task, beside the sha256 of the feature space.
WORDS = {"count", "evaluate", "train", "amsgrad", "gradient", "direction"}
#: Names of numbers of an answer; `0` and `1` are places in a list.
ANSWERS = {
    "count": {"round", "labels.0", "labels.1"},
    "evaluate": {"round", "held_out.documents", "held_out.correct", "held_out.loss_sum"},
}
ANSWERS["train"] = ANSWERS["region"] = ANSWERS["evaluate"]
PROTECTION = {"protection.clip_norm", "protection.noise_std"}
VECTORS = {"x", "correction"}, {"difference", "tracked"}

SECRET = "the quick brown fox of 1844 keeps its passphrase: xylophone-gazebo-quartz"
PLANTED = {"text": [SECRET], "label": ["hq"], "id": ["id-93ab54c1-private"], "url": ["https://hospital.example/7"]}


class Wire:
    """A site or region, and all bytes to and from it."""

    def __init__(self, site: Site, heard: list[tuple[bytes, bytes]]) -> None:
        self._site, self._heard = site, heard

    def work(self, task: Message) -> Message:
        """See Site."""
        answer = self._site.work(task)
        self._heard.append((packed(task), packed(answer)))
        return answer


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """What is in JSON values, by its place."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield name, value
        return
    for key, inner in items:
        yield from leaves(inner, f"{name}.{key}".removeprefix("."))


def plant(folder: Path) -> None:
    """A document of one site has words that no other has, an id and an address."""
    table = documents("ann")
    blank = pa.array([""] * table.num_rows)
    (folder / "ann").mkdir(parents=True)
    whole = table.append_column("id", blank).append_column("url", blank)
    pq.write_table(pa.concat_tables([whole, pa.table(PLANTED)]), folder / "ann" / "labels.parquet")


def traffic(folder: Path, strategy: str, **others: Any) -> list[tuple[bytes, bytes]]:
    """(task, answer) of a whole training, between coordinator and regions, too."""
    heard: list[tuple[bytes, bytes]] = []
    found: dict[str, Site] = {
        name: Wire(DocumentSite(site_files(folder / "sites", name, min_documents=5, **others)), heard) for name in MIXES
    }
    if strategy in REGIONAL:
        inside = InProcess({name: found.pop(name) for name in ("ann", "bob")}, MOST_BYTES)
        alone = InProcess({"cee": found.pop("cee")}, MOST_BYTES)
        found = {"east": Wire(RegionSite("east", inside), heard), "west": Wire(RegionSite("west", alone), heard)}
    made = federation(strategy, 4, sites=tuple(sorted(found)))
    count_labels(made, InProcess(found, MOST_BYTES))
    train(made, InProcess(found, MOST_BYTES), place_of(folder / "out"))
    return heard


@pytest.mark.parametrize(
    ("strategy", "protection"),
    [
        ("fadam_gt", None),
        ("fedbuff", None),
        ("mtgc", None),
        ("fedavg", Protection(0.1)),
        ("mtgc", Protection(0.1, 0.1)),
    ],
)
def test_what_crosses_the_wire(tmp_path: Path, strategy: str, protection: Protection | None) -> None:
    plant(tmp_path / "sites")
    heard = traffic(tmp_path, strategy, protection=protection)
    kinds = set()
    for task, answer in ((unpacked(one, MOST_BYTES), unpacked(other, MOST_BYTES)) for one, other in heard):
        kind = "region" if "region_rounds" in task.meta else task.meta["kind"]
        kinds.add(kind)
        assert task.meta.keys() == TASKS[kind]
        said = {value for _, value in leaves(task.meta) if isinstance(value, str)}
        assert said <= {*WORDS, SPACE.sha256}
        numbers = dict(leaves(answer.meta))
        assert numbers.keys() - PROTECTION == ANSWERS[kind]
        assert (numbers.keys() >= PROTECTION) is (protection is not None and kind == "train")
        assert all(type(number) in {int, float} for number in numbers.values())  # no text at all
        for message, names in zip((task, answer), VECTORS, strict=True):
            assert message.arrays.keys() <= names
            assert all(vector.shape == (SPACE.size, 1) for vector in message.arrays.values())  # none by document
    assert kinds == {"count", "evaluate", "train", *(["region"] if strategy in REGIONAL else [])}
    sent = b"\n".join(content for both in heard for content in both)
    for private in (value[0].encode() for value in PLANTED.values() if len(value[0]) >= 8):
        assert not any(private[at : at + 8] in sent for at in range(len(private) - 7))
