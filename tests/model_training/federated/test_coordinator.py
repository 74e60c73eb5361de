"""The coordinator: rounds as the pure strategies have them, whatever answers come, whenever it is killed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gneiss.errors import InputError, MachineError, ModelError, OutputError
from gneiss.model_training.federated.asking import require_bounded, times_asked
from gneiss.model_training.federated.checkpoint import ROUNDS_FOLDER, read_checkpoint, read_log, write_checkpoint
from gneiss.model_training.federated.coordinator import Trained, count_labels, train
from gneiss.model_training.federated.engines import Lost, Site
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.federation import Federation
from gneiss.model_training.federated.linear import Sampling
from gneiss.model_training.federated.message import Message
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.region import RegionSite
from gneiss.model_training.federated.rounds import rounds
from gneiss.model_training.federated.site import DocumentSite
from gneiss.model_training.federated.site_documents import site_examples
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, REGIONAL, ROUNDS
from gneiss.model_training.federated.strategies.steps import Gradient
from gneiss.store.place import Place, place_of
from tests.model_training.federated.silos_of_text import MIXES, MOST_BYTES, Mistaken, federation, site_files, sites_of


def trained(tmp_path: Path, found: Federation, sites: dict[str, Site] | None = None, **others: Any) -> Trained:
    """Trained in `out`, by sites that are there already."""
    return train(found, engine(tmp_path, sites, found.strategy), place_of(tmp_path / "out"), **others)


def engine(tmp_path: Path, sites: dict[str, Site] | None = None, strategy: str = "fedavg") -> InProcess:
    found: dict[str, Site] = dict(sites or sites_of(tmp_path / "sites", min_documents=2))
    if strategy in REGIONAL:  # one of two sites, and two of one
        twin = DocumentSite(site_files(tmp_path / "sites", "twin", min_documents=2))
        inside = {name: {name: site} | ({"twin": twin} if name == "ann" else {}) for name, site in found.items()}
        found = {name: RegionSite(name, InProcess(own, MOST_BYTES)) for name, own in inside.items()}
    return InProcess(found, MOST_BYTES, duration)


def duration(site: str, draw: np.random.Generator) -> float:
    """`cee` is slow."""
    return float(draw.uniform(1, 2)) * (5 if site == "cee" else 1)


def lines(folder: Path) -> list[dict[str, Any]]:
    return read_log(place_of(folder))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", sorted(ROUNDS))
def test_rounds_are_those_of_the_strategy(tmp_path: Path, strategy: str) -> None:
    found = federation(strategy, 4, share=0.67)
    result = trained(tmp_path, found)
    sampling = Sampling(found.batch, found.l2, 2)
    gradients: dict[str, Callable[[np.random.Generator], Gradient]] = {}
    for name, site in sites_of(tmp_path / "sites", min_documents=2).items():
        examples = site_examples(site.files).trained
        gradients[name] = lambda draw, examples=examples: sampling.gradient(examples, draw)  # type: ignore[misc]
    begin = np.zeros(found.shape, np.float32)
    states = islice(rounds(ROUNDS[strategy](found.rates), begin, gradients, share=0.67), 4)
    assert np.array_equal(list(states)[-1].x, result.weights)
    assert [record["round"] for record in lines(tmp_path / "out")] == [0, 1, 2, 3]
    assert all(len(record["asked"]) == 2 and not record["lost"] for record in result.records)
    assert set(result.held_out) == set(MIXES)


def test_labels_are_counted(tmp_path: Path) -> None:
    counts = count_labels(federation(), engine(tmp_path))
    assert {site: sum(found) for site, found in counts.items()} == dict.fromkeys(MIXES, 40)
    assert counts["ann"][1] > counts["cee"][1] > counts["bob"][1]


def test_the_newest_checkpoints_and_every_tenth_are_kept(tmp_path: Path) -> None:
    output = place_of(tmp_path)
    for number in range(1, 24):
        arrays = {"x": np.full((2, 1), number, np.float32)}
        write_checkpoint(output, "key", arrays, [{"round": at} for at in range(number)])
    kept = sorted(path.name for path in (tmp_path / ROUNDS_FOLDER).glob("*.safetensors"))
    assert kept == [f"{number:06}.safetensors" for number in (10, 20, 22, 23)]
    found = read_checkpoint(output, "key")
    assert found is not None
    assert (found.rounds, found.arrays["x"][0, 0], len(found.records)) == (23, 23, 23)
    with pytest.raises(OutputError, match="of another training"):
        read_checkpoint(output, "another")
    (tmp_path / ROUNDS_FOLDER / "000023.safetensors").write_bytes(b"damaged")
    with pytest.raises(OutputError, match="damaged: message: expected a header"):
        read_checkpoint(output, "key")
    (tmp_path / ROUNDS_FOLDER / "000023.safetensors").unlink()
    (tmp_path / ROUNDS_FOLDER / "000007.json").unlink()
    with pytest.raises(OutputError, match="damaged: there is not a line for each round before it"):
        read_checkpoint(output, "key")


@pytest.mark.parametrize("strategy", ["fadam_gt", "fedbuff"])
def test_no_file_is_written_twice_nor_longer_with_every_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    sizes: dict[str, list[int]] = {}
    create = Place.create

    @contextmanager
    def creating(place: Place, **others: Any) -> Iterator[Any]:
        with create(place, **others) as sink:
            yield sink
        sizes.setdefault(str(place), []).append(sink.size_bytes)

    monkeypatch.setattr(Place, "create", creating)
    trained(tmp_path, federation(strategy, 12, concurrency=3))
    assert all(len(found) == 1 for found in sizes.values())
    of_rounds = [found[0] for path, found in sorted(sizes.items()) if f"/{ROUNDS_FOLDER}/" in path]
    assert len(of_rounds) == 24
    assert max(of_rounds[4:]) < 1.2 * max(of_rounds[:4])
    of_answers = [found[0] for path, found in sizes.items() if "/sent/" in path]
    assert max(of_answers) < 1000


def test_another_training_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, federation("fedavg", 2))
    with pytest.raises(OutputError, match=r"another training \(what differs: rounds, seed\)"):
        trained(tmp_path, federation("fedavg", 3, seed=1))


class Killed(BaseException):
    """As a kill would have it."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Iterator[list[str]]:
    """The process ends at a write or deletion: before an even one, after an odd one."""
    done: list[str] = []
    create, delete = Place.create, Place.delete

    def end(at: int) -> None:
        if 2 * len(done) + at == number:
            raise Killed

    @contextmanager
    def creating(place: Place, **others: Any) -> Iterator[Any]:
        end(0)
        with create(place, **others) as sink:
            yield sink
        end(1)
        done.append(place.name)

    def deleting(place: Place) -> None:
        end(0)
        delete(place)
        end(1)
        done.append(place.name)

    with monkeypatch.context() as patched:
        patched.setattr(Place, "create", creating)
        patched.setattr(Place, "delete", deleting)
        yield done


def files(folder: Path) -> dict[str, bytes]:
    """What a training leaves, without seconds."""
    kept = {path.name: path.read_bytes() for path in (folder / ROUNDS_FOLDER).glob("*.safetensors")}
    said = [{name: value for name, value in record.items() if name != "seconds"} for record in lines(folder)]
    return kept | {"lines": json.dumps(said).encode()}


@pytest.mark.slow
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("strategy", ["fadam_gt", "mtgc"])
def test_a_coordinator_or_site_that_is_killed_at_any_write_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, strategy: str
) -> None:
    """Of regions, sites are those that they answer for: what a region knows within a round is lost with it."""
    found = federation(strategy, 3, share=0.67)
    with killed_at(monkeypatch, -1) as writes:
        whole = trained(tmp_path, found)
    expected = files(tmp_path / "out")
    for number in range(0, 2 * len(writes), every):
        folder = tmp_path / str(number)
        with killed_at(monkeypatch, number), pytest.raises(Killed):
            trained(folder, found)
        again = trained(folder, found)
        assert np.array_equal(again.weights, whole.weights)
        assert again.held_out == whole.held_out
        assert files(folder / "out") == expected


@pytest.mark.slow
def test_a_training_by_arrival_goes_on_where_it_was_killed_and_its_replay_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for strategy, number in zip(sorted(ARRIVALS), (0, 21, 36, 47), strict=True):
        folder, found = tmp_path / strategy, federation(strategy, 5, concurrency=3)
        with killed_at(monkeypatch, number), pytest.raises(Killed):
            trained(folder, found)
        result = trained(folder, found)
        assert [record["round"] for record in lines(folder / "out")] == list(range(5))
        again = train(found, engine(folder), place_of(folder / "again"), replay=place_of(folder / "out"))
        assert np.array_equal(again.weights, result.weights)
        assert again.held_out == result.held_out
        assert max(record["longest_delay"] for record in result.records) > 0


def test_a_replay_needs_the_log_of_a_training_by_arrival(tmp_path: Path) -> None:
    rounds_of, found = federation("fedavg", 2), federation("fedbuff", 2)
    trained(tmp_path, rounds_of)
    here, out = place_of(tmp_path / "again"), place_of(tmp_path / "out")
    with pytest.raises(InputError, match="rounds need no replay"):
        train(rounds_of, engine(tmp_path), out, replay=out)
    with pytest.raises(InputError, match="expected lines with arrivals"):
        train(found, engine(tmp_path), here, replay=out)
    with pytest.raises(InputError, match="expected the arrivals of 2 updates, found those of 0"):
        train(found, engine(tmp_path), here, replay=place_of(tmp_path / "nowhere"))


HOSTILE: dict[str, Callable[[Message], Message]] = {
    "other names": lambda found: Message(found.meta, {"x": found.arrays["difference"]}),
    "another shape": lambda found: Message(found.meta, {"difference": found.arrays["difference"][:-1]}),
    "figures": lambda found: Message({**found.meta, "held_out": {"documents": 1, "correct": 2}}, found.arrays),
    "no figures": lambda found: Message({"round": found.meta["round"]}, found.arrays),
    "a protection": lambda found: Message(
        {**found.meta, "protection": {"clip_norm": -1, "noise_std": 0}}, found.arrays
    ),
    "another round": lambda found: Message({**found.meta, "round": 99}, found.arrays),
}


@pytest.mark.slow
@pytest.mark.parametrize("hostile", sorted(HOSTILE))
@pytest.mark.parametrize("strategy", ["fedavg", "fedbuff"])
def test_what_is_no_answer_counts_as_lost_and_changes_nothing(tmp_path: Path, hostile: str, strategy: str) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites", min_documents=2))

    def mistaken(_round: int, found: Message) -> Message:
        return HOSTILE[hostile](found) if found.arrays else found

    without = {**sites, "bob": Mistaken(sites["bob"], mistaken)}
    found = federation(strategy, 3, concurrency=3)
    result = trained(tmp_path, found, without)
    assert all(set(record["held_out"]) <= {"ann", "cee"} for record in result.records)
    assert any("bob" in record["lost"] for record in result.records)
    if strategy == "fedavg":
        lost = train(found, _Losing(engine(tmp_path)), place_of(tmp_path / "lost"))
        assert np.array_equal(lost.weights, result.weights)


class _Losing(InProcess):
    """Loses whatever `bob` does, and what it was asked in an evaluation."""

    def __init__(self, engine: InProcess) -> None:
        self.__dict__ = engine.__dict__

    def answer(self, timeout_s: float) -> Any:
        found = super().answer(timeout_s)
        return Lost("bob", "it died") if found is not None and found[0] == "bob" else found


POISONED = ("ann", "bob", "cee", "dan", "eve", "fay")


def test_a_trimmed_mean_withstands_a_site_that_answers_wrongly(tmp_path: Path) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites", dict.fromkeys(POISONED, 0.5), min_documents=2))

    def poisoned(_round: int, found: Message) -> Message:
        return Message(found.meta, {name: np.full_like(array, 1e4) for name, array in found.arrays.items()})

    def largest(**others: Any) -> float:
        found = federation("fedavg", 2, sites=POISONED, min_answers=5, **others)
        return float(abs(train(found, engine(tmp_path, sites), place_of(tmp_path / str(others))).weights).max())

    sound = largest()
    sites["cee"] = Mistaken(sites["cee"], poisoned)
    assert largest(seed=1) > 1e3
    assert largest(is_trimmed=True) < 3 * sound


@pytest.mark.parametrize("strategy", ["fedavg", "fedbuff"])
def test_the_line_on_a_round_says_by_what_answers_are_protected(tmp_path: Path, strategy: str) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites"))
    protected = replace(sites_of(tmp_path / "sites")["ann"].files, protection=Protection(1.0, 0.5))
    sites["ann"] = DocumentSite(protected)
    result = trained(tmp_path, federation(strategy, 3, concurrency=3), sites)
    said = [record["protection"] for record in result.records if "protection" in record]
    assert said
    assert all(found == {"ann": {"clip_norm": 1.0, "noise_std": 0.5}} for found in said)


def test_an_answer_that_is_lost_or_under_way_may_have_left_its_site() -> None:
    by_arrival = [{"arrivals": [["a", 0, 0], ["a", 2, 0]], "lost": {"b": "no answer"}}, {"arrivals": [], "lost": {}}]
    assert times_asked(by_arrival) == {"a": 3, "b": 2}
    assert times_asked([{"asked": ["a", "b"], "lost": {"b": "no answer"}}]) == {"a": 1, "b": 1}


def test_numbers_that_are_none_are_lost_by_the_engine(tmp_path: Path) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites", min_documents=2))

    def poisoned(round_: int, found: Message) -> Message:
        return Message(found.meta, {name: array * np.float32(np.nan) for name, array in found.arrays.items()})

    sites["bob"] = Mistaken(sites["bob"], poisoned)
    result = trained(tmp_path, federation("fedavg", 2), sites)
    assert [set(record["lost"]) for record in result.records] == [{"bob"}, {"bob"}]
    assert "expected numbers of at most" in result.records[0]["lost"]["bob"]


def test_too_few_answers_end_a_round_that_goes_on_later(tmp_path: Path) -> None:
    found = federation("fedavg", 2, min_answers=3)
    with pytest.raises(MachineError, match=r"round 0: 2 of 3 sites answered, expected 3 at least \(bob: it died\)"):
        train(found, _Losing(engine(tmp_path)), place_of(tmp_path / "out"))
    whole = trained(tmp_path, found)
    assert np.array_equal(whole.weights, trained(tmp_path / "other", found).weights)


def test_a_site_that_is_late_is_not_asked_meanwhile(tmp_path: Path) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites", min_documents=2))
    slow = InProcess(sites, MOST_BYTES, lambda site, _: 99.0 if site == "cee" else 1.0)
    result = train(federation("fedavg", 2), slow, place_of(tmp_path / "out"), answer_seconds=10)
    assert result.records[0]["lost"] == {"cee": "no answer within 10 s"}
    assert result.records[1]["lost"] == {"cee": "at the task of round 0 still"}


def test_the_place_of_a_site_that_never_answers_is_given_to_another(tmp_path: Path) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites", min_documents=2))
    slow = InProcess(sites, MOST_BYTES, lambda site, _: 1e9 if site == "bob" else 1.0)
    found = federation("fedbuff", 6, concurrency=1)
    result = train(found, slow, place_of(tmp_path / "out"), answer_seconds=10)
    arrived = [site for record in result.records for site, _, _ in record["arrivals"]]
    tasks = [task for record in result.records for _, task, _ in record["arrivals"]]
    assert len(result.records) == 6
    assert set(arrived) == {"ann", "cee"}
    assert set(range(max(tasks))) - set(tasks), "bob was given one, and no other until it answers"
    assert len(set(range(max(tasks))) - set(tasks)) == 1


@pytest.mark.parametrize("strategy", ["fedavg", "fedbuff"])
def test_a_training_without_any_answer_ends(tmp_path: Path, strategy: str) -> None:
    sites: dict[str, Site] = dict(sites_of(tmp_path / "sites"))
    never = InProcess(sites, MOST_BYTES, lambda *_: 1e9)
    with pytest.raises(MachineError, match=r"round 0: (0 of 3 sites answered|no site answers)"):
        train(federation(strategy, 2), never, place_of(tmp_path / "out"), answer_seconds=10)


@pytest.mark.parametrize("weight", [1.1e6, math.inf, math.nan])
def test_weights_that_grow_without_bound_end_a_training(weight: float) -> None:
    require_bounded(np.array([[1e6]]), 7)
    with pytest.raises(ModelError, match=r"round 7: .* training diverges; lower the rate"):
        require_bounded(np.array([[0.0], [-weight]]), 7)


def test_a_site_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="site dan: cannot be reached"):
        trained(tmp_path, federation(sites=("ann", "dan")))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"strategy": "fadam_tg"}, "strategy 'fadam_tg' is not known; did you mean 'fadam_gt'"),
        ({"sites": ("../etc",)}, "expected at most 64 letters"),
        ({"sites": ("b", "a")}, "sorted and each once"),
        ({"rounds": 0}, "rounds: expected 1 to"),
        ({"concurrency": 4}, "concurrency: expected 1 to 3, found 4"),
        ({"l2": -1.0}, "l2"),
        ({"is_trimmed": True}, "trimmed mean: expected 5 answers in each round or more, found 3 sites asked"),
        ({"is_trimmed": True, "strategy": "fadam_gt"}, "fadam_gt: no trimmed mean; expected fedavg or fedadam"),
        ({"is_trimmed": True, "strategy": "mtgc"}, "mtgc: no trimmed mean"),
        ({"is_trimmed": True, "strategy": "fedbuff"}, "fedbuff: no trimmed mean: it takes answers one by one"),
    ],
)
def test_federations_out_of_bounds_are_refused(given: dict[str, Any], expected: str) -> None:
    values = {"strategy": "fedavg", "rounds": 1, **given}
    if values["strategy"] == "fadam_tg":
        values["rates"] = federation().rates
    with pytest.raises(InputError, match=expected):
        federation(**values)
