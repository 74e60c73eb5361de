"""Simulations: what is written, what is compared, and that the model is used like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from gneiss.cli.main import app
from gneiss.errors import InputError, OutputError
from gneiss.filters.fasttext import fasttext_scores
from gneiss.model_training.federated.divided import divide
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.simulation import SimulationSettings, simulate
from gneiss.model_training.federated.simulation_card import Simulation
from gneiss.model_training.federated.site_documents import SECRET_FILE
from gneiss.model_training.federated.strategies.by_name import ARRIVALS, DEFAULT_RATES, ROUNDS
from gneiss.model_training.federated.vocabulary import shared_words
from gneiss.pipelines.run import run
from gneiss.store.place import place_of
from tests.model_training.federated.silos_of_text import MIXES, documents
from tests.runs import InThisProcess

SMALL = SimulationSettings(rounds=6, steps=5, buckets=64, min_documents=2)


def labels_of(folder: Path, count: int = 60) -> Path:
    """Documents of all sites in one file, each with the name of its site."""
    tables = [documents(site, count).append_column("source", pa.array([site] * count)) for site in MIXES]
    pq.write_table(pa.concat_tables(tables), folder / "labels.parquet")
    return folder / "labels.parquet"


def simulated(folder: Path, **others: Any) -> Simulation:
    given = {"sites_by": "source", "settings": SMALL, **others}
    return simulate(labels_of(folder), folder / "out", **given)


def test_a_model_is_trained_by_what_suits_the_label_mixes(tmp_path: Path) -> None:
    made = simulated(tmp_path)
    assert made.strategy == "fadam_gt"
    assert "label mixes differ" in made.reason
    assert {site: sum(counts) for site, counts in made.sites.items()} == dict.fromkeys(MIXES, 60)
    assert made.outcome.accuracy > 0.8
    assert made.outcome.rounds == 6
    held_out = sum(found["documents"] for found in made.held_out.values())
    assert held_out == 36
    scores = fasttext_scores(documents("dan", 200)["text"].to_pylist(), tmp_path / "out" / "quality.bin", "hq")
    good = pc.greater(scores, 0.5).to_pylist()
    labels = documents("dan", 200)["label"].to_pylist()
    assert sum((label == "hq") is verdict for label, verdict in zip(labels, good, strict=True)) > 150
    card = (tmp_path / "out" / "MODEL.md").read_text()
    assert str(tmp_path) not in card
    for said in ("| ann  |", "label: hq", made.model_sha256, "label mixes differ", 'strategy = "fadam_gt"'):
        assert said in card


def test_the_same_labels_give_the_same_bytes_and_others_are_refused(tmp_path: Path) -> None:
    first = simulated(tmp_path)
    (tmp_path / "again").mkdir()
    assert simulated(tmp_path / "again") == first
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.*")}
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "again" / "out").glob("*.*")}
    assert simulated(tmp_path) == first
    with pytest.raises(OutputError, match=r"what differs: settings"):
        simulated(tmp_path, settings=SimulationSettings(rounds=7))


@pytest.mark.slow
def test_all_strategies_are_compared_with_central_training(tmp_path: Path) -> None:
    made = simulated(tmp_path, strategy="all")
    assert [one.strategy for one in made.outcomes] == [*ROUNDS, *ARRIVALS]
    by_name = {one.strategy: one for one in made.outcomes}
    assert by_name["fadam_gt"].bytes_moved > 1.5 * by_name["local_adam"].bytes_moved
    assert by_name["fedasync"].rounds == 3 * by_name["fedavg"].rounds
    assert made.central > 0.8
    assert by_name[made.strategy].accuracy > made.central - 0.1
    assert simulated(tmp_path, strategy="fedbuff").strategy == "fedbuff"


@pytest.mark.processes
def test_workers_give_the_same_model(tmp_path: Path) -> None:
    expected = simulated(tmp_path)
    (tmp_path / "workers").mkdir()
    assert simulated(tmp_path / "workers", workers=2) == expected


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("source", ["ann", None], "column 'source': expected the name of a site in each row, found 1 rows without one"),
        ("source", [1, 2], "column 'source': expected the name of a site in each row, found int64"),
        ("source", ["ann", "../bob"], "site '../bob': expected at most 64 letters"),
        ("site", ["ann", "bob"], "column 'source' is not there"),
        ("source", ["ann", "bob"], "column 'label': expected strings or booleans, found double"),
        ("source", ["ann", "bob", "bob"], "no row has the label 'hq'; found 'cc' \\(3\\)"),
    ],
)
def test_columns_that_name_no_sites_are_refused(tmp_path: Path, column: str, values: list[Any], expected: str) -> None:
    path = tmp_path / "labels.parquet"
    labels = [0.5, 4.0] if "double" in expected else ["cc"] * 3 if len(values) > 2 else ["hq", "cc"]
    pq.write_table(pa.table({"text": ["a", "b", "c"][: len(values)], "label": labels, column: values}), path)
    with pytest.raises(InputError, match=expected):
        simulate(path, tmp_path / "out", sites_by="source")
    assert not (tmp_path / "out").exists()  # so that the command with the mistake mended is not refused there


def test_strategies_and_settings_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="strategy 'fadamgt' is not known; did you mean 'fadam_gt'"):
        simulated(tmp_path, strategy="fadamgt")
    with pytest.raises(InputError, match="noise_std: expected a clip_norm, too"):
        SimulationSettings(noise_std=1.0)
    with pytest.raises(InputError, match=r"held_out_share: expected 0.05 to 0.5, found 0"):
        SimulationSettings(held_out_share=0)


def test_rows_are_divided_as_they_are_but_for_texts_that_are_not_utf_8(tmp_path: Path) -> None:
    raw = pa.array([b"one", b"\xff", None, b"two"], pa.binary()).view(pa.string())
    table = pa.table({"text": raw, "label": ["hq", "cc", "hq", "cc"], "at": ["b", "a", "a", "b"], "id": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "labels.parquet")
    homes = divide(tmp_path / "labels.parquet", "at", ("text", "label"), place_of(tmp_path / "sites"))
    assert list(homes) == ["a", "b"]
    read = {site: pq.read_table(tmp_path / "sites" / site / "labels.parquet").to_pydict() for site in homes}
    assert read["a"] == {"text": [None, None], "label": ["cc", "hq"]}
    assert read["b"] == {"text": ["one", "two"], "label": ["hq", "cc"]}


def test_words_are_those_of_several_sites() -> None:
    sites = [["a b </s>", "a\tb"], ["b a", "a\nc b", "c", "c"], ["d", "d"]]
    assert shared_words(sites, 2, 10) == ["a", "b"]
    assert shared_words(sites[:1], 1, 10) == ["a", "b"]
    assert shared_words(sites, 3, 10) == []
    assert shared_words(sites, 1, 1) == ["a"]


def test_a_recipe_has_the_model_like_any_other(tmp_path: Path) -> None:
    simulated(tmp_path)
    shutil.copy(tmp_path / "out" / "quality.bin", tmp_path / "quality.bin")
    card = (tmp_path / "out" / "MODEL.md").read_text()
    phase = card.split("```yaml\n")[1].split("```")[0].replace("\n", "\n    ")
    (tmp_path / "recipe.yaml").write_text(f"name: federated\nphases:\n  - name: only\n    {phase}")
    texts = documents("dan", 30).select(["text"])
    (tmp_path / "input").mkdir()
    pq.write_table(texts, tmp_path / "input" / "a.parquet")
    run(tmp_path / "recipe.yaml", tmp_path / "input", tmp_path / "run", backend=InThisProcess())
    annotated = pq.read_table(tmp_path / "run" / "annotations" / "base" / "a.parquet")
    expected = fasttext_scores(texts["text"].to_pylist(), tmp_path / "quality.bin", "hq")
    assert annotated["quality"].to_pylist() == pytest.approx(expected.to_pylist(), abs=4e-7)
    assert set(annotated["status"].to_pylist()) == {"kept", "dropped"}


IN_REGIONS = {"ann": "north", "bob": "north", "cee": "south"}


def labels_in_regions(folder: Path, regions: Mapping[str, str | None] = IN_REGIONS) -> Path:
    table = pq.read_table(labels_of(folder))
    of_rows = [regions[site] for site in table["source"].to_pylist()]
    pq.write_table(table.append_column("region", pa.array(of_rows, pa.string())), folder / "labels.parquet")
    return folder / "labels.parquet"


@pytest.mark.slow
def test_sites_in_regions_are_compared_too(tmp_path: Path) -> None:
    given: dict[str, Any] = {"sites_by": "source", "regions_by": "region", "settings": replace(SMALL, region_rounds=2)}
    made = simulate(labels_in_regions(tmp_path), tmp_path / "out", strategy="all", **given)
    assert made.strategy == "mtgc"
    assert made.regions == {"north": ("ann", "bob"), "south": ("cee",)}
    assert [one.strategy for one in made.outcomes] == list(DEFAULT_RATES)
    by_name = {one.strategy: one for one in made.outcomes}
    assert by_name["mtgc"].accuracy > 0.8
    assert by_name["hfedavg"].bytes_moved < by_name["mtgc"].bytes_moved < by_name["fadam_gt"].bytes_moved
    assert set(made.held_out) == {"north", "south"}
    assert made.asked["north"] == tuple(map(sum, zip(made.sites["ann"], made.sites["bob"], strict=True)))
    card = (tmp_path / "out" / "MODEL.md").read_text()
    for said in (
        "## Regions",
        "| north  |",
        "across 3 sites in 2 regions",
        "a region does 2 of its own",
        'strategy = "mtgc"',
        "region_rounds = 2",
    ):
        assert said in card
    assert simulate(tmp_path / "labels.parquet", tmp_path / "out", **given).model_sha256 == made.model_sha256


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ({**IN_REGIONS, "cee": None}, "column 'region': expected the name of a region, found nothing"),
        ({**IN_REGIONS, "cee": "ann"}, "region 'ann': a site is called so, too"),
        ({**IN_REGIONS, "cee": "a/b"}, "'a/b': expected at most 64 letters"),
    ],
)
def test_columns_that_name_no_regions_are_refused(
    tmp_path: Path, regions: Mapping[str, str | None], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        simulate(labels_in_regions(tmp_path, regions), tmp_path / "out", sites_by="source", regions_by="region")
    assert not (tmp_path / "out").exists()


def test_a_site_is_in_one_region(tmp_path: Path) -> None:
    labels = pa.table({"text": ["a", "b"], "label": ["hq", "cc"], "source": ["s", "s"], "region": ["one", "two"]})
    pq.write_table(labels, tmp_path / "labels.parquet")
    with pytest.raises(InputError, match="expected one region a site, found 'one' and 'two' of site 's'"):
        simulate(tmp_path / "labels.parquet", tmp_path / "out", sites_by="source", regions_by="region")
    with pytest.raises(InputError, match="strategy mtgc: it is of regions; give regions_by=COLUMN"):
        simulate(tmp_path / "labels.parquet", tmp_path / "out", sites_by="source", strategy="mtgc")


@pytest.mark.parametrize(("strategy", "vectors"), [("fedavg", 6), ("fadam_gt", 12)])
def test_the_card_says_what_noise_guarantees(tmp_path: Path, strategy: str, vectors: int) -> None:
    settings = replace(SMALL, clip_norm=0.5, noise_std=0.25)
    made = simulated(tmp_path, strategy=strategy, settings=settings)
    assert (made.protection, made.vectors) == (Protection(0.5, 0.25), vectors)
    card = (tmp_path / "out" / "MODEL.md").read_text()
    one, every = Protection(0.5, 0.25).epsilon(1e-5), Protection(0.5, 0.25).epsilon_of_all(1e-5, vectors)
    for said in (
        "norm of 0.5",
        "deviation 0.25",
        f"({one:.3g}, 1e-05)",
        f"({every:.3g}, 1e-05)",
        f"the {vectors} that",
    ):
        assert said in card
    (tmp_path / "again").mkdir()
    assert simulated(tmp_path / "again", strategy=strategy, settings=settings) == made
    assert not list(tmp_path.rglob(SECRET_FILE))


def test_regions_answer_for_as_many_vectors_as_their_sites_sent(tmp_path: Path) -> None:
    settings = replace(SMALL, region_rounds=2, clip_norm=0.5)
    given: dict[str, Any] = {"sites_by": "source", "regions_by": "region", "strategy": "hfedavg"}
    made = simulate(labels_in_regions(tmp_path), tmp_path / "out", settings=settings, **given)
    assert made.vectors == 12
    assert "private" not in (tmp_path / "out" / "MODEL.md").read_text()


def test_arrivals_of_workers_are_done_again_in_this_process(tmp_path: Path) -> None:
    first = simulated(tmp_path, strategy="fedbuff", workers=2, backend=InThisProcess())
    given: dict[str, Any] = {"sites_by": "source", "settings": SMALL, "replay": tmp_path / "out"}
    again = simulate(tmp_path / "labels.parquet", tmp_path / "again", strategy="fedbuff", **given)
    assert again.model_sha256 == first.model_sha256
    with pytest.raises(InputError, match=r"replay: expected the strategy of the log \(fedasync, .*\), found fedavg"):
        simulate(tmp_path / "labels.parquet", tmp_path / "other", strategy="fedavg", **given)


def test_rates_are_of_a_strategy_that_is_named(tmp_path: Path) -> None:
    settings = replace(SMALL, rate=0.5, server_rate=0.01)
    found = simulated(tmp_path, strategy="fedadam", settings=settings).federation.rates
    assert (found.rate, found.server_rate) == (0.5, 0.01)
    with pytest.raises(InputError, match="rate: expected a strategy that is named"):
        simulated(tmp_path, settings=settings)
    with pytest.raises(InputError, match="rate: expected 1e-09 to 1000, found 0"):
        simulated(tmp_path / "out", strategy="fedavg", settings=replace(SMALL, rate=0.0))


def test_labels_may_not_hold_the_output(tmp_path: Path) -> None:
    labels_of(tmp_path)
    with pytest.raises(OutputError, match="overlap"):
        simulate(tmp_path, tmp_path / "out", sites_by="source")


def test_the_command_prints_a_table_or_json(tmp_path: Path) -> None:
    arguments = ["federated", "simulate", "--input", labels_of(tmp_path), "--output", tmp_path / "out",
                 "--rounds", 6, "--steps", 5, "--buckets", 64, "--min-documents", 2]  # fmt: skip
    shown = CliRunner().invoke(app, [str(argument) for argument in arguments]).stdout
    assert "central training" in shown
    assert "fadam_gt" in shown
    found = json.loads(CliRunner().invoke(app, [*map(str, arguments), "--json"]).stdout)
    assert found["strategy"] == "fadam_gt"
    assert found["sites"]["bob"][0] > found["sites"]["bob"][1]
