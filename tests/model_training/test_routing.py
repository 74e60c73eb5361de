"""Routing from a run to a policy and back into a recipe: what is asked, what is written, what is said, what fails."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gneiss
from gneiss.errors import GneissError, InputError, MachineError, ModelError, OutputError, RecipeError
from gneiss.filters.route import Route, read_policy
from gneiss.input.plan import make_plan
from gneiss.model_training.routing import Calibrated, calibrate
from gneiss.recipe.recipe import Recipe
from gneiss.report.as_text import report_text
from gneiss.report.routing import routed_agreement
from gneiss.stages.reuse import Code
from tests.model_training import route_judge
from tests.routing.chat_server import ChatServer, answering, chat_server, said, silent
from tests.runs import InThisProcess, annotations, command, files, promised, train
from tests.tiny_encoder import write_tiny_encoder

pytestmark = pytest.mark.slow
DOCUMENTS = 1500
RECIPE = """
name: scored
input: {text: text, id: id}
phases:
  - name: only
    annotate:
      - input_column: {name: cheap, type: float64}
      - input_column: {name: dear, type: float64}
      - input_column: {name: noise, type: float64}
      - input_column: {name: source}
"""
ROUTED = RECIPE.replace("name: scored", "name: routed") + "      - route: {policy: policy/}\n"
JUDGE = """
judge: {function: "tests.model_training.route_judge:verdicts"}
judge_cost: 1.0
tiers:
  - {column: cheap, cost: 0.003}
  - {column: dear, cost: 0.1}
"""


def write_input(folder: Path, documents: int = DOCUMENTS, seed: int = 0) -> Path:
    """Documents with a hidden quality, and two scores that see it with noise: of the dear one less."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=documents)
    scores = truth[:, None] + rng.normal(size=(documents, 2)) * [0.7, 0.25]
    texts = [f"text {seed} {i}, verdict {'good' if z > 0.3 else 'bad'}" for i, z in enumerate(truth)]
    folder.mkdir()
    for part in range(3):
        rows = slice(part * documents // 3, (part + 1) * documents // 3)
        columns: dict[str, Any] = {
            "id": [f"{part}-{i}" for i in range(len(texts[rows]))],
            "text": texts[rows],
            "cheap": np.exp(scores[rows, 0]),  # of any scale: margins are ranks
            "dear": scores[rows, 1],
            "noise": rng.normal(size=len(texts[rows])),
            "source": [f"source {i % 3}" for i in range(len(texts[rows]))],
        }
        pq.write_table(pa.table(columns), folder / f"part-{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an input, a recipe, its run, and the recipe that routes."""
    folder = tmp_path_factory.mktemp("routing")
    write_input(folder / "input")
    (folder / "scored.yaml").write_text(RECIPE)
    (folder / "routed.yaml").write_text(ROUTED)
    (folder / "judge.yaml").write_text(JUDGE)
    gneiss.run(folder / "scored.yaml", folder / "input", folder / "scored", backend=InThisProcess())
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNEISS_CACHE", str(tmp_path / "cache"))
    route_judge.ASKED.clear()


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chat_server() as server:
        server.default = lambda handler, text: (
            200, json.dumps({"choices": [{"message": {"content": json.dumps({"keep": "verdict good" in text})}}],
                             "usage": {"prompt_tokens": 100, "completion_tokens": 10}}).encode(),
        )  # fmt: skip
        yield server


def made(scored: Path, folder: Path, judge: str = JUDGE, **options: Any) -> Calibrated:
    (folder / "judge.yaml").write_text(judge)
    (folder / "routed.yaml").write_text(ROUTED)
    given = {"sla": 0.95, "sample": 900, **options}
    return calibrate(scored / "scored", folder / "judge.yaml", folder / "policy", **given)


def test_from_a_run_to_a_policy_and_into_a_recipe(scored: Path, tmp_path: Path) -> None:
    calibrated = made(scored, tmp_path, audit_share=0.1)
    assert calibrated.asked == len(set(route_judge.ASKED)) == 900
    policy = read_policy(tmp_path / "policy")
    assert policy.reads == ("cheap", "dear")
    assert policy.calibration.agreement.value >= 0.94
    assert calibrated.pilot.ways[0].cost < 0.6
    card = (tmp_path / "policy/MODEL.md").read_text()
    assert str(policy.calibration.agreement) in card
    assert str(tmp_path) not in card + (tmp_path / "policy/policy.json").read_text()
    run = gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    table = annotations(tmp_path / "out")
    texts = pq.read_table(scored / "input")["text"].to_pylist()
    truth = np.array(["verdict good" in text for text in texts])
    decisions = np.array(table["route_decision"])
    assert (decisions == truth).mean() >= 0.95
    asked = np.array(table["route_asked"])
    assert 0.05 < asked.mean() < 0.6
    assert len(set(route_judge.ASKED)) - 900 <= asked.sum()  # what the pilot asked about is known
    audited, agrees = np.array(table["route_audited"]), table["route_agrees"]
    assert 0.05 < audited.mean() < 0.15
    assert np.array(agrees.is_valid()).tolist() == audited.tolist()
    assert (decisions == truth)[audited].all()
    by_judge = np.array(table["route_tier"]) == 2
    assert (asked == (audited | by_judge)).all()
    costs = np.array(table["route_cost"])
    assert costs[~asked].max() == pytest.approx(0.103)
    assert costs[asked].min() >= 1
    found = routed_agreement(run, "source")
    assert found.audited.of == audited.sum()
    assert found.audited.hits == agrees.to_pylist().count(True)
    assert {name for name, _ in found.values} == {"source 0", "source 1", "source 2"}
    assert not found.drifted
    assert f"agree with the judge's on {found.audited}" in (tmp_path / "out/README.md").read_text()


def test_outputs_depend_on_recipe_and_input_alone(scored: Path, tmp_path: Path) -> None:
    made(scored, tmp_path)
    outputs = []
    for name in ("one", "again"):
        gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / name, backend=InThisProcess())
        outputs.append(promised(tmp_path / name))
    assert outputs[0] == outputs[1]
    whole = tmp_path / "whole"
    whole.mkdir()
    pq.write_table(pq.read_table(scored / "input"), whole / "whole.parquet", row_group_size=100)
    gneiss.run(tmp_path / "routed.yaml", whole, tmp_path / "cut otherwise", backend=InThisProcess())
    rows = [annotations(tmp_path / name) for name in ("one", "cut otherwise")]
    routed = [name for name in rows[0].column_names if name.startswith("route_")]
    assert rows[0].select(routed).equals(rows[1].select(routed))


@pytest.mark.processes
def test_any_workers_give_the_same_bytes(scored: Path, tmp_path: Path) -> None:
    made(scored, tmp_path)
    outputs = []
    for workers in (1, 2):
        gneiss.run(
            tmp_path / "routed.yaml", scored / "input", tmp_path / f"{workers}", workers=workers, backend="local"
        )
        outputs.append(promised(tmp_path / f"{workers}"))
    assert outputs[0] == outputs[1]


def test_a_run_is_of_the_code_of_its_judge(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / "own_judge.py"
    own.write_text("def verdicts(texts):\n    return ['verdict good' in text for text in texts]\n")
    made(scored, tmp_path, JUDGE.replace("tests.model_training.route_judge", "own_judge"))
    plan = make_plan(Recipe.load(tmp_path / "routed.yaml"), scored / "input")
    (judge,) = (part for part in plan.recipe.phases[0].annotators if isinstance(part, Route))
    before = Code.of(plan.identity).behind(judge)
    assert plan.identity["libraries"]["own_judge"].startswith("sha256 ")  # type: ignore[index]
    run = gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    own.write_text(own.read_text().replace("good", "bad"))
    after = make_plan(Recipe.load(tmp_path / "routed.yaml"), scored / "input")
    assert after.run_key != plan.run_key
    assert Code.of(after.identity).behind(judge) != before
    with pytest.raises(OutputError, match="libraries"):
        gneiss.run(tmp_path / "routed.yaml", scored / "input", run.folder, backend=InThisProcess())
    own.unlink()
    del sys.modules["own_judge"]
    assert routed_agreement(gneiss.open_run(run.folder)).audited.of > 0  # to read it takes no judge
    with pytest.raises(GneissError, match="own_judge"):
        gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "other", backend=InThisProcess())


def test_the_same_sample_gives_the_same_policy_and_asks_nothing_twice(scored: Path, tmp_path: Path) -> None:
    made(scored, tmp_path)
    first = {name: path.read_bytes() for name, path in files(tmp_path / "policy").items()}
    route_judge.ASKED.clear()
    assert made(scored, tmp_path).asked == 0
    assert not route_judge.ASKED
    assert {name: path.read_bytes() for name, path in files(tmp_path / "policy").items()} == first


def test_a_tier_of_a_policy_runs_where_it_is_needed_only(scored: Path, tmp_path: Path) -> None:
    train(tmp_path / "tiny.bin", ("good", "bad"))
    tiers = JUDGE.replace(
        "{column: dear, cost: 0.1}",
        "{column: words, cost: 0.1, annotator: {fasttext: {models: {words: {source: tiny.bin, label: good,"
        " other_labels: [bad]}}}}}",
    )
    made(scored, tmp_path, tiers, sla=0.8)
    assert (tmp_path / "policy/models/tiny.bin").read_bytes() == (tmp_path / "tiny.bin").read_bytes()
    assert read_policy(tmp_path / "policy").reads == ("cheap",)
    run = gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    assert run.counts["kept"] == DOCUMENTS
    (tmp_path / "policy/models/tiny.bin").unlink()
    with pytest.raises(ModelError, match="the policy names this model"):
        gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "other", backend=InThisProcess())


def test_an_encoder_of_a_policy_is_copied_with_its_folder(scored: Path, tmp_path: Path) -> None:
    write_tiny_encoder(tmp_path / "some/minilm")
    tiers = JUDGE.replace(
        "{column: dear, cost: 0.1}",
        "{column: encoder, cost: 0.1, annotator: {encoder: {model: some/minilm/, window_tokens: 32}}}",
    )
    made(scored, tmp_path, tiers, sla=0.8)
    copied = files(tmp_path / "policy/models")
    assert set(copied) == {f"minilm/{name}" for name in ("config.json", "tokenizer.json", "model.safetensors")}
    shutil.rmtree(tmp_path / "some")
    run = gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    assert run.counts["kept"] == DOCUMENTS


def test_a_judge_may_be_an_annotation(scored: Path, tmp_path: Path) -> None:
    judge = "judge: {scorer: {column: dear, threshold: 0.3}}\njudge_cost: 1.0\ntiers: [{column: cheap}]\n"
    calibrated = made(scored, tmp_path, judge)
    assert calibrated.pilot.policy.reads == ("cheap", "dear")
    run = gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    assert routed_agreement(run).audited.of > 0


def of_chat(chat: ChatServer, more: str = "", **changes: object) -> str:
    http = {
        "url": chat.url, "model": "m", "question": "Is it good?", "attempts": 2, "first_pause_s": 0.001,
        "price_in": 2.0, "price_out": 30.0, "key_variable": "JUDGE_KEY", **changes,
    }  # fmt: skip
    return f"judge: {json.dumps({'http': http})}\ntiers: [{{column: cheap}}]\n{more}"


def test_a_server_judges_at_its_price_and_its_key_is_nowhere(
    scored: Path, tmp_path: Path, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    calibrated = made(scored, tmp_path, of_chat(chat), sample=300)
    assert calibrated.asked == len(chat.asked) == 300
    assert calibrated.pilot.policy.judge_cost == pytest.approx((2 * 100 + 30 * 10) / 1e6)
    assert calibrated.pilot.policy.cost_unit == "the judge's prices"
    gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    assert set(chat.authorizations) == {"Bearer sk-very-secret"}
    assert len(chat.asked) == len(set(chat.asked))
    everything = b"".join(path.read_bytes() for path in files(tmp_path).values())
    assert b"very-secret" not in everything + "".join(capsys.readouterr()).encode()


def test_a_server_that_fails_or_lies_stops_the_run_which_goes_on_later(
    scored: Path, tmp_path: Path, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k")
    honest = chat.default
    chat.default = answering(503, b"")
    with pytest.raises(MachineError, match=r"no answer for 300 of 300 documents: HTTP 503"):
        made(scored, tmp_path, of_chat(chat), sample=300)
    assert not (tmp_path / "policy/policy.json").exists()
    chat.default = honest
    made(scored, tmp_path, of_chat(chat), sample=300, audit_share=0.3)
    asked = len(chat.asked)
    chat.default = answering(200, said('{"keep": 1}'))
    with pytest.raises(GneissError, match=r"no answer for .*other than"):
        gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    chat.default = honest
    gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "undisturbed", backend=InThisProcess())
    assert promised(tmp_path / "out") == promised(tmp_path / "undisturbed")
    assert asked < len(chat.asked)


def test_a_silent_server_stops_the_run_which_goes_on_later(
    scored: Path, tmp_path: Path, chat: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k")
    made(scored, tmp_path, of_chat(chat, timeout_s=0.3, attempts=1), sample=300, audit_share=0.3)
    folder = write_input(tmp_path / "more", 20, seed=1)
    honest, chat.default = chat.default, silent
    with pytest.raises(GneissError, match=r"no answer for .* documents: no answer within 0.3 s"):
        gneiss.run(tmp_path / "routed.yaml", folder, tmp_path / "out", backend=InThisProcess())
    chat.default = honest
    for output in ("out", "undisturbed"):
        gneiss.run(tmp_path / "routed.yaml", folder, tmp_path / output, backend=InThisProcess())
    assert promised(tmp_path / "out") == promised(tmp_path / "undisturbed")


@pytest.mark.parametrize("bad", [answering(200, b"lies"), silent], ids=["lies", "silent"])
@pytest.mark.exhaustive
def test_a_run_goes_on_without_answers_where_the_policy_says_so(
    scored: Path, tmp_path: Path, chat: ChatServer, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k")
    judge = of_chat(chat, "on_failure: tier\n", timeout_s=0.3 if bad is silent else 60.0, attempts=1)
    made(scored, tmp_path, judge, sample=1500, audit_share=0.02)
    folder = write_input(tmp_path / "more", 60, seed=1)
    chat.default = bad
    run = gneiss.run(tmp_path / "routed.yaml", folder, tmp_path / "out", backend=InThisProcess())
    table = annotations(tmp_path / "out")
    assert run.counts["kept"] == 60
    failed = np.array(table["route_failed"])
    assert failed.tolist() == np.array(table["route_asked"]).tolist()
    assert table["route_agrees"].null_count == 60
    decisions = np.array(table["route_decision"])
    assert decisions.tolist() == (np.array(table["route_margin"]) > 0).tolist()
    assert routed_agreement(run).failed == failed.sum()


def test_drift_is_said_on_card_and_terminal(
    scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(scored, tmp_path, audit_share=0.5)
    table = pq.read_table(scored / "input")
    texts = [text.replace("good", "BAD").replace("bad", "good") for text in table["text"].to_pylist()]
    (tmp_path / "drifted").mkdir()
    pq.write_table(table.set_column(1, "text", pa.array(texts)), tmp_path / "drifted/a.parquet")
    run = gneiss.run(tmp_path / "routed.yaml", tmp_path / "drifted", tmp_path / "out", backend=InThisProcess())
    assert [name for name, _ in routed_agreement(run).drifted] == ["all", "a"]
    assert "below the interval of the pilot" in (tmp_path / "out/README.md").read_text()
    capsys.readouterr()
    assert command("route", "agreement", tmp_path / "out", "--by", "source") == 0
    assert "warning: all:" in capsys.readouterr().out
    assert "calibrate again on such text" in " ".join(report_text(run).split())


def test_a_router_is_called_pointless_where_one_tier_does(scored: Path, tmp_path: Path) -> None:
    judge = "judge: {scorer: {column: dear, threshold: 0.3}}\njudge_cost: 1.0\ntiers: [{column: dear}]\n"
    assert made(scored, tmp_path, judge).pilot.advice.startswith("A router is pointless here: dear alone agrees")


def test_a_router_is_called_pointless_where_no_tier_knows_anything(scored: Path, tmp_path: Path) -> None:
    judge = JUDGE.replace("{column: cheap, cost: 0.003}", "{column: noise}").replace("- {column: dear, cost: 0.1}", "")
    calibrated = made(scored, tmp_path, judge)
    assert "asks the judge about" in calibrated.pilot.advice
    assert calibrated.pilot.policy.calibration.agreement.value >= 0.95


@pytest.mark.parametrize(
    ("judge", "error", "said"),
    [
        ("", InputError, "judge.yaml"),
        ("tiers: [", GneissError, "judge.yaml: no valid YAML"),
        (JUDGE + "more: 1\n", InputError, "more"),
        (JUDGE.replace("function:", "fnuction:"), InputError, "fnuction"),
        (JUDGE.replace("cheap", "chaep"), InputError, "no annotation 'chaep'; did you mean 'cheap'"),
        (JUDGE.replace("column: cheap", "column: source"), InputError, "'source': expected numbers"),
        (JUDGE.replace("verdicts", "no_such"), ModelError, "module:function"),
        (JUDGE.replace("judge_cost: 1.0", "judge_cost: 0"), InputError, "judge_cost: expected more than 0"),
        (JUDGE.replace("judge_cost: 1.0\n", ""), InputError, "cannot be compared"),
        (JUDGE.replace("cost: 0.003", "cost: -1"), InputError, "cost: expected 0 or more"),
        ("judge: {function: 'a:b'}\ntiers: []\n", InputError, "at least one"),
        (
            JUDGE.replace("cost: 0.003}", "cost: 0.003, annotator: {gopher: {}}}"),
            ModelError,
            "a router can run fasttext, perplexity, encoder",
        ),
    ],
)
def test_what_a_judge_file_gets_wrong_is_said(scored: Path, tmp_path: Path, judge: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        made(scored, tmp_path, judge)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"sla": 1.5}, "sla"), ({"sla": 0.0}, "sla"), ({"sample": 10}, "at least 300 documents")],
)
def test_impossible_wishes_are_refused(scored: Path, tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        made(scored, tmp_path, **options)


def test_a_judge_that_says_the_same_to_all_teaches_nothing(scored: Path, tmp_path: Path) -> None:
    judge = "judge: {scorer: {column: dear, threshold: 1000.0}}\njudge_cost: 1.0\ntiers: [{column: cheap}]\n"
    with pytest.raises(InputError, match="alike"):
        made(scored, tmp_path, judge)


def test_what_is_no_run_or_no_free_folder_is_refused(scored: Path, tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/mine.txt").write_text("")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        made(scored, tmp_path)
    with pytest.raises(GneissError):
        calibrate(tmp_path, scored / "judge.yaml", tmp_path / "other", sla=0.9)
    with pytest.raises(InputError, match="no `route`"):
        routed_agreement(gneiss.open_run(scored / "scored"))


def test_a_recipe_without_what_the_policy_reads_is_refused(scored: Path, tmp_path: Path) -> None:
    made(scored, tmp_path)
    lacking = ROUTED.replace("      - input_column: {name: dear, type: float64}\n", "")
    (tmp_path / "routed.yaml").write_text(lacking)
    with pytest.raises(GneissError, match="reads the annotation 'dear'"):
        gneiss.run(tmp_path / "routed.yaml", scored / "input", tmp_path / "out", backend=InThisProcess())
    assert not (tmp_path / "out").exists()


def test_a_policy_is_a_folder() -> None:
    with pytest.raises(RecipeError, match="policy/"):
        Route("policy")


def test_the_command_line_calibrates(scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--judge", scored / "judge.yaml", "--sla", "0.9", "--sample", "600", "--output", tmp_path / "policy")
    assert command("route", "calibrate", scored / "scored", *options) == 0
    said = capsys.readouterr().out
    assert "600 documents were asked about" in said
    assert "## Ways to decide" in said
