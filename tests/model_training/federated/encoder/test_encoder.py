"""Adapters of an encoder across sites, with torch: layers, sites, coordinator, and the model in a recipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="adapters are trained by torch, which is not installed")

from gneiss.backends import Workers  # noqa: E402
from gneiss.backends.local import LocalProcesses  # noqa: E402
from gneiss.backends.resources import worker_resources  # noqa: E402
from gneiss.batch import TextBatch  # noqa: E402
from gneiss.cli.main import app  # noqa: E402
from gneiss.errors import InputError, MachineError, ModelError  # noqa: E402
from gneiss.filters.encoder import Encoder, EncoderHead  # noqa: E402
from gneiss.filters.encoder_models.bert import Bert, read_bert  # noqa: E402
from gneiss.filters.encoder_models.torch_bert import TorchBert  # noqa: E402
from gneiss.model_training.federated.checkpoint import ROUNDS_FOLDER, read_checkpoint  # noqa: E402
from gneiss.model_training.federated.coordinator import count_labels, train_in_rounds  # noqa: E402
from gneiss.model_training.federated.encoder.adapted import AdaptedEncoder, Hidden  # noqa: E402
from gneiss.model_training.federated.encoder.adapters import Form  # noqa: E402
from gneiss.model_training.federated.encoder.documents import (  # noqa: E402
    HIDDEN_FILE,
    EncoderSettings,
    EncoderSiteFiles,
    encoder_site_of,
    loaded_encoder,
)
from gneiss.model_training.federated.encoder.lowrank import AdapterState  # noqa: E402
from gneiss.model_training.federated.encoder.site import EncoderSite  # noqa: E402
from gneiss.model_training.federated.encoder.training import (  # noqa: E402
    ENCODER_STRATEGIES,
    EncoderFederation,
    EncoderTraining,
    hex_of,
)
from gneiss.model_training.federated.engines import Engine, Site  # noqa: E402
from gneiss.model_training.federated.engines.in_process import InProcess  # noqa: E402
from gneiss.model_training.federated.engines.local import local_engine  # noqa: E402
from gneiss.model_training.federated.linear import draw_of  # noqa: E402
from gneiss.model_training.federated.message import Message  # noqa: E402
from gneiss.model_training.labels import Rule, labelled_documents  # noqa: E402
from gneiss.store.place import place_of  # noqa: E402
from tests.model_training.federated.silos_of_text import MIXES, Mistaken, documents  # noqa: E402
from tests.tiny_encoder import LAYERS, WORDS, write_tiny_encoder  # noqa: E402

FORMS: tuple[Form, ...] = ("svd", "lora", "frozen_a")
TEXTS = ["the river runs south", "buy now", "light energy of plants and the river " * 4, "cheap", ""]
TOKENS, RANK, MOST_BYTES = 16, 3, 1 << 22
RULE = Rule("label", ("hq",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder"))


def settings_of(folder: Path, layers: int = 1) -> EncoderSettings:
    return EncoderSettings(f"{folder}/", TOKENS, layers)


def hidden_of(folder: Path, layers: int) -> tuple[AdaptedEncoder, Hidden]:
    """An encoder with three labels, and TEXTS."""
    loaded = loaded_encoder(settings_of(folder, layers))
    states, lengths = loaded.bert.hidden(loaded.windows, TEXTS, LAYERS - layers)
    return AdaptedEncoder(loaded.bert, layers, 3), Hidden(states, lengths, np.arange(len(TEXTS)) % 3)


def drawn(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, size).astype(np.float32)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
def test_layers_are_those_of_the_library(folder: Path) -> None:
    from transformers import BertConfig, BertModel

    said = json.loads((folder / "config.json").read_text())
    said |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    library = BertModel(BertConfig(**said), add_pooling_layer=False)
    bert = read_bert(folder / "config.json", folder / "model.safetensors")
    library.load_state_dict({name: torch.from_numpy(array) for name, array in bert.arrays.items()}, strict=False)
    loaded = loaded_encoder(settings_of(folder))
    states, lengths = loaded.bert.hidden(loaded.windows, TEXTS, LAYERS - 1)
    for at, text in enumerate(TEXTS):
        window = (loaded.windows.of(text) or [np.array([*loaded.windows.before, *loaded.windows.after])])[0]
        with torch.no_grad():
            expected = library(torch.from_numpy(window)[None], output_hidden_states=True).hidden_states
            own = torch.from_numpy(states[at : at + 1]).float()
            found = loaded.bert.first_token(expected[-2], lengths[at : at + 1], {LAYERS - 1: loaded.bert.linear(1)})
        assert lengths[at] == len(window) <= TOKENS
        assert (own[0, : lengths[at]] - expected[-2][0]).abs().max() < 3e-3  # float16
        assert not own[0, lengths[at] :].any()
        assert (found[0] - expected[-1][0, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_adapters_are_what_they_add_to_their_matrices(folder: Path, form: Form, layers: int) -> None:
    """Scores are those of an encoder into whose matrices the products are written; at the start, of the encoder."""
    encoder, texts = hidden_of(folder, layers)
    space = encoder.space(form, RANK, 7)
    alive = np.arange(space.ranks) % 4 != 1
    alive[:RANK] = False
    x = drawn(space.size(alive))
    adapters, head = space.adapters(x, alive)
    assert len(adapters) == len(space.matrices) - 1
    arrays = {**read_bert(folder / "config.json", folder / "model.safetensors").arrays}
    for matrix, adapter in adapters.items():
        arrays[f"{matrix}.weight"] = arrays[f"{matrix}.weight"] + adapter.product.astype(np.float32)
    merged = replace(encoder, bert=TorchBert.of(Bert(encoder.bert.config, arrays)))
    nothing = np.zeros(space.ranks, np.bool_)
    expected = merged.scores(space, nothing, head, texts)
    assert np.abs(encoder.scores(space, alive, x, texts) - expected).max() < 1e-4
    everything, begin = np.ones(space.ranks, np.bool_), space.begin()
    begin[-space.head :] = head
    assert np.allclose(
        encoder.scores(space, everything, begin, texts), encoder.scores(space, nothing, head, texts), atol=1e-5
    )


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_how_the_loss_changes(folder: Path, form: Form) -> None:
    encoder, texts = hidden_of(folder, 2)
    space = encoder.space(form, RANK, 7)
    alive = np.arange(space.ranks) % 4 != 1
    x = drawn(space.size(alive))
    found = encoder.gradient(space, alive, texts, draw_of(0, 0, "a"), 16)(x)
    chosen = draw_of(0, 0, "a").integers(0, len(texts), 16)
    direction = found / np.linalg.norm(found)

    def loss(step: float) -> float:
        moved = torch.from_numpy((x + step * direction).astype(np.float32))
        return float(encoder.loss(space, alive, moved, texts, chosen))

    assert (loss(1e-2) - loss(-1e-2)) / 2e-2 == pytest.approx(np.linalg.norm(found), rel=1e-2)


def nodes(loss: Any) -> int:
    """Operations of which gradients go back."""
    seen, left = set(), [loss.grad_fn]
    while left:
        if (node := left.pop()) is not None and node not in seen:
            seen.add(node)
            left += [following for following, _ in node.next_functions]
    return len(seen)


def test_what_has_no_rank_is_not_in_the_graph(folder: Path) -> None:
    encoder, texts = hidden_of(folder, 1)
    space = encoder.space("svd", RANK, 0)
    of_matrix = np.arange(space.ranks) // RANK
    chosen = np.arange(len(texts))
    counts = []
    for left in range(len(space.matrices), -1, -1):
        alive = of_matrix < left
        x = torch.from_numpy(drawn(space.size(alive))).requires_grad_()
        counts.append(nodes(encoder.loss(space, alive, x, texts, chosen)))
    assert counts == sorted(set(counts), reverse=True)
    assert counts[-1] < 12  # the head alone: the layer is computed, and nothing goes back through it


def site_files(home: Path, encoder: Path, site: str) -> EncoderSiteFiles:
    """A site whose labels are written if they are not there: good documents have words of low numbers rather."""
    (home / site).mkdir(parents=True, exist_ok=True)
    labels = home / site / "labels.parquet"
    if not labels.exists():
        table = documents(site)
        words = [" ".join(WORDS[int(word[1:]) * len(WORDS) // 40] for word in text.split())
                 for text in table["text"].to_pylist()]  # fmt: skip
        pq.write_table(table.set_column(0, "text", [words]), labels)
    return EncoderSiteFiles(site, place_of(labels), place_of(home / site), settings_of(encoder), RULE)


def federation(encoder: Path, strategy: str = "fedara", **others: Any) -> EncoderFederation:
    loaded = loaded_encoder(settings_of(encoder))
    space = AdaptedEncoder(loaded.bert, 1, 2).space("svd", RANK, 3)
    values: dict[str, Any] = {
        "sites": tuple(sorted(MIXES)), "features": settings_of(encoder).sha256, "width": loaded.config.width,
        "matrices": tuple((matrix.name, matrix.outputs, matrix.inputs) for matrix in space.matrices),
        "labels": ("cc", "hq"), "rounds": 5, "rank": RANK, "ranks_left": 1, "steps": 2, "batch": 4, "seed": 3,
    }  # fmt: skip
    return EncoderFederation(strategy, **{**values, **others})


Sites = Callable[[], dict[str, EncoderSite]]


@pytest.fixture
def sites(tmp_path: Path, folder: Path) -> Iterator[Sites]:
    encoder_site_of.cache_clear()
    yield lambda: {site: encoder_site_of(site_files(tmp_path / "sites", folder, site)) for site in MIXES}
    encoder_site_of.cache_clear()


def trained(
    found: EncoderFederation, engine: Engine, out: Path
) -> tuple[AdapterState, tuple[dict[str, Any], ...], Any]:
    return train_in_rounds(EncoderTraining(found), engine, place_of(out))


@pytest.mark.parametrize("strategy", ENCODER_STRATEGIES)
def test_rounds_are_those_of_the_strategy(tmp_path: Path, folder: Path, sites: Sites, strategy: str) -> None:
    found, there = federation(folder, strategy), sites()
    state, records, held_out = trained(found, InProcess(dict(there), MOST_BYTES), tmp_path / "out")
    lowrank, floats = found.lowrank, []
    expected = lowrank.begin()
    for round_ in range(found.rounds):
        task = lowrank.task(expected, round_)
        floats.append(3 * lowrank.space.size(expected.alive))
        expected = lowrank.aggregate(
            expected,
            {
                name: lowrank.answer(
                    task,
                    site.encoder.gradient(lowrank.space, task.alive, site.trained, draw_of(3, round_, name), 4),
                    len(site.trained),
                )
                for name, site in there.items()
            },
        )
        assert records[round_]["ranks"] == lowrank.space.live(expected.alive)
    assert state.x.tobytes() == expected.x.tobytes()
    assert (state.alive == expected.alive).all()
    assert [record["floats_down"] for record in records] == [record["floats_up"] for record in records] == floats
    assert (int(state.alive.sum()) < lowrank.space.ranks) is (strategy == "fedara")
    assert {site: figures["documents"] for site, figures in held_out.items()} == dict.fromkeys(MIXES, 8)
    counted = count_labels(found, InProcess(dict(there), MOST_BYTES))
    assert {site: sum(counts) for site, counts in counted.items()} == dict.fromkeys(MIXES, 40)
    sent = [json.loads(path.read_text()) for path in (tmp_path / "sites" / "ann" / "sent").iterdir()]
    assert sorted(line["kind"] for line in sent) == ["count", "evaluate", *["train"] * 5]


def test_a_training_goes_on_where_it_ended(tmp_path: Path, folder: Path, sites: Sites) -> None:
    found, there = federation(folder), dict[str, Site](sites())
    whole, *_ = trained(found, InProcess(there, MOST_BYTES), tmp_path / "whole")
    trained(found, InProcess(there, MOST_BYTES), tmp_path / "cut")
    (tmp_path / "cut" / ROUNDS_FOLDER / "000005.safetensors").unlink()
    again, *_ = trained(found, InProcess(there, MOST_BYTES), tmp_path / "cut")
    assert again.x.tobytes() == whole.x.tobytes()


@pytest.mark.processes
@pytest.mark.slow
def test_workers_give_the_same_weights(tmp_path: Path, folder: Path, sites: Sites) -> None:
    found = federation(folder, rounds=2)
    expected, *_ = trained(found, InProcess(dict(sites()), MOST_BYTES), tmp_path / "expected")
    files = [site_files(tmp_path / "sites", folder, site) for site in MIXES]
    workers = Workers(LocalProcesses(), 2, worker_resources())
    with local_engine(files, workers, MOST_BYTES, encoder_site_of) as engine:
        state, *_ = trained(found, engine, tmp_path / "out")
    assert state.x.tobytes() == expected.x.tobytes()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"documents": 0}, "documents: expected a whole number from 1"),
        ({"keeps": "ff"}, "keeps: expected 18 bits in hexadecimal"),
        ({"keeps": "zz"}, "keeps: expected 18 bits in hexadecimal"),
        ({"keeps": "ffffff"}, "keeps: expected 18 bits in hexadecimal"),
        ({"held_out": None}, "held_out: expected figures"),
    ],
)
def test_a_malformed_answer_counts_as_none(
    tmp_path: Path, folder: Path, sites: Sites, wrong: dict[str, Any], reason: str
) -> None:
    there: dict[str, Site] = {**sites()}
    there["bob"] = Mistaken(
        there["bob"], lambda _, answer: Message({**answer.meta, **wrong}, answer.arrays) if answer.arrays else answer
    )
    _, records, _ = trained(federation(folder, rounds=1), InProcess(there, MOST_BYTES), tmp_path / "out")
    assert records[0]["lost"].keys() == {"bob"}
    assert reason in records[0]["lost"]["bob"]


def test_a_site_that_does_not_vote_keeps_all_ranks(tmp_path: Path, folder: Path, sites: Sites) -> None:
    there: dict[str, Site] = {**sites()}
    for silent in ("ann", "bob"):
        there[silent] = Mistaken(
            there[silent], lambda _, answer: Message({**answer.meta, "keeps": None}, answer.arrays)
        )
    _, records, _ = trained(federation(folder, rounds=3), InProcess(there, MOST_BYTES), tmp_path / "out")
    assert not any(record["lost"] for record in records)
    assert [record["ranks"] for record in records] == [[RANK] * 6] * 3


def test_a_site_refuses_what_is_no_task(folder: Path, sites: Sites) -> None:
    site, training = sites()["ann"], EncoderTraining(federation(folder))
    task = training.tasks(training.begin(), ["ann"], 0)["ann"]
    for wrong, reason in (
        ({"features": "0" * 64}, "expected a task for the encoder"),
        ({"kind": "send all"}, "no task is called 'send all'"),
        ({"form": "qr"}, "form: expected one of svd, lora, frozen_a, found 'qr'"),
        ({"score": "loud"}, "score: expected one of importance, magnitude, found 'loud'"),
        ({"alive": 3}, "alive: expected 18 bits in hexadecimal, found 3"),
        ({"alive": hex_of(np.arange(18) < 3)}, "array 'x': expected the shape"),
        ({"rank": 10**9}, "rank: expected a whole number from 1 to 1024"),
        ({"steps": 10**9}, "steps: expected a whole number from 1 to 10000"),
        ({"ranks": -1}, "ranks: expected a whole number from 0 to 18"),
    ):
        with pytest.raises(InputError, match=reason):
            site.work(Message({**task.meta, **wrong}, task.arrays))


def test_what_frozen_layers_compute_is_kept_and_made_anew_where_it_is_damaged(
    tmp_path: Path, folder: Path, sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sites()["ann"]
    file = tmp_path / "sites" / "ann" / HIDDEN_FILE
    content = file.read_bytes()
    encoder_site_of.cache_clear()
    with monkeypatch.context() as without:
        without.setattr(TorchBert, "hidden", None)
        again = sites()["ann"]
    assert again.trained.states.tobytes() == first.trained.states.tobytes()
    for damaged in (content[:1000], b"", content.replace(b'"gneiss\\"', b'"gnoiss\\"'), content[:-1] + b"\xff"):
        encoder_site_of.cache_clear()
        file.write_bytes(damaged)
        made = sites()["ann"]
        assert made.trained.states.tobytes() == first.trained.states.tobytes()
        assert made.held_out.labels.tolist() == first.held_out.labels.tolist()


def test_what_cannot_be_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"strategy 'fedarra' is not known; did you mean 'fedara'"):
        federation(folder, "fedarra")
    with pytest.raises(InputError, match="ranks_left: expected 0 to 3, found 4"):
        federation(folder, ranks_left=4)
    with pytest.raises(InputError, match="adapted layers: expected 1 to 2, those of the encoder, found 3"):
        AdaptedEncoder(loaded_encoder(settings_of(folder)).bert, 3, 2).space("svd", 2, 0)
    with pytest.raises(InputError, match="tokens: expected 3 to 64"):
        loaded_encoder(EncoderSettings(f"{folder}/", 65))
    with pytest.raises(ModelError, match=r"missing/config\.json"):
        _ = EncoderSettings(f"{folder}/missing/").sha256


def labelled(folder: Path, encoder: Path) -> Path:
    """One file of the documents of all sites."""
    tables = []
    for site in MIXES:
        table = pq.read_table(str(site_files(folder / "sites", encoder, site).labels))
        tables.append(table.append_column("source", pa.array([site] * len(table))))
    pq.write_table(pa.concat_tables(tables), folder / "labels.parquet")
    return folder / "labels.parquet"


@pytest.mark.slow
def test_a_simulation_ends_as_an_annotator(tmp_path: Path, folder: Path, sites: Sites) -> None:
    """The annotator `encoder` scores as the sites do, after a kill too, and other options are refused."""
    labels, out = labelled(tmp_path, folder), tmp_path / "out"
    options = [
        *("federated", "simulate", "--input", str(labels), "--output", str(out), "--model", "encoder"),
        *("--encoder", f"{folder}/", "--strategy", "fedara", "--tokens", str(TOKENS), "--rank", "3", "--rounds", "6"),
        *("--ranks-left", "1", "--steps", "4", "--rate", "0.01", "--json"),
    ]
    made = json.loads(CliRunner().invoke(app, options, catch_exceptions=False).stdout)
    assert made["outcomes"][0]["strategy"] == "fedara"
    assert sum(made["outcomes"][0]["ranks"]) < 18
    first = {name: (out / name).read_bytes() for name in made["sha256"]}
    (out / "fedara" / ROUNDS_FOLDER / "000006.safetensors").unlink()
    printed = CliRunner().invoke(app, options[:-1], catch_exceptions=False).stdout
    assert "central training" in printed
    assert "fedara" in printed
    assert {name: (out / name).read_bytes() for name in made["sha256"]} == first
    assert "source: head.safetensors, label: hq" in (out / "MODEL.md").read_text()

    site = encoder_site_of(site_files(out / "sites", folder, "ann"))
    training = EncoderTraining(EncoderFederation(**as_federation(made["federation"])))
    checkpoint = read_checkpoint(place_of(out / "fedara"), training.federation.key)
    assert checkpoint is not None
    state = training.state(checkpoint.arrays)
    z = site.encoder.scores(training.federation.lowrank.space, state.alive, state.x, site.held_out)
    expected = 1 / (1 + np.exp(z[:, 0] - z[:, 1]))
    here = labelled_documents(site_files(out / "sites", folder, "ann").labels, "text", RULE)
    texts = [document.line for document in here.split(0.2)[1].documents]
    pytest.importorskip("onnxruntime", reason="the annotator encoder needs onnxruntime, which is not installed")
    head = EncoderHead(str(out / "head.safetensors"), "hq")
    annotator = Encoder(f"{out}/encoder/", {"quality": head}, pooling="cls", windows=1, window_tokens=TOKENS)
    compute = annotator.load({source: Path(source) for source in annotator.model_files})
    found = np.array(list(compute(TextBatch.of(texts))["quality"]), np.float64)
    assert np.abs(found - expected).max() < 2e-3  # the states of frozen layers are float16


def test_options_of_another_model_are_refused(tmp_path: Path) -> None:
    options = ["federated", "simulate", "--input", str(tmp_path), "--output", str(tmp_path / "out")]
    for wrong, said in (
        (["--model", "encoder", "--encoder", "a/", "--buckets", "10"], "--buckets is no option of --model encoder"),
        (["--rank", "4"], "--rank is no option of --model linear"),
        (["--model", "encoder"], "expected --encoder, the folder of the encoder"),
    ):
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(app, [*options, *wrong], catch_exceptions=False)


def test_without_torch_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for module in [name for name in sys.modules if name.startswith("gneiss.model_training.federated.")]:
        monkeypatch.delitem(sys.modules, module)
    options = ["federated", "simulate", "--input", str(tmp_path), "--output", str(tmp_path / "out")]
    with pytest.raises(MachineError, match=r"need the package torch: pip install 'gneiss-curation\[train\]'"):
        CliRunner().invoke(app, [*options, "--model", "encoder", "--encoder", "a/"], catch_exceptions=False)


def as_federation(said: dict[str, Any]) -> dict[str, Any]:
    """As it was before it was JSON."""
    return {
        **said, "sites": tuple(said["sites"]), "labels": tuple(said["labels"]),
        "matrices": tuple(map(tuple, said["matrices"])),
    }  # fmt: skip
