"""An encoder behind cheap rules, alone and as a tier of a policy: what it sees, resumed and repeated, in processes."""

from __future__ import annotations

import math
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gneiss.annotation import annotate
from gneiss.backends.choice import choose_workers
from gneiss.backends.resources import Resources
from gneiss.errors import MachineError, ModelError
from gneiss.filters.encoder import Encoder
from gneiss.input.plan import make_plan
from gneiss.pipelines.run import resources_of, run
from gneiss.recipe.recipe import Recipe
from gneiss.routing.policy import Calibration, JudgeEntry, Policy, Scorer, Terms, Tier
from tests import runs
from tests.runs import Material
from tests.tiny_encoder import write_tiny_encoder

FILES = ("config.json", "tokenizer.json", "model.safetensors")
RECIPE = """
name: encoder-behind-rules
shard_max_bytes: 24000
budgets: {documents: 0.5, shards: 0}
phases:
  - name: cheap
    annotate: [fasttext: {models: {prose: {source: tiny.bin, label: hq}}}, readability]
    rules: {likely: prose > 0.5, readable: eflaw < 30}
  - name: dear
    annotate:
      - encoder: {model: minilm/, window_tokens: 32}
      - route: {policy: policy/}
    rules: {educational: encoder > 0, routed: route_decision}
    keep: educational OR routed
"""


def write_recipe(material: Material, folder: Path) -> Path:
    """The recipe with its models and a policy: the encoder, run by the router, decides where `prose` is unsure."""
    write_tiny_encoder(folder / "minilm", seed=5)
    write_tiny_encoder(folder / "policy/models/minilm", seed=6)
    (folder / "tiny.bin").write_bytes((material.folder / "tiny.bin").read_bytes())
    of_router = {"encoder": {"model": "models/minilm/", "heads": {"second": {}}, "window_tokens": 32}}
    (folder / "policy/policy.json").write_bytes(policy_of(of_router).to_json())
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def policy_of(of_router: dict[str, Any]) -> Policy:
    """One whose second tier is run by the router."""
    by_margin, likely = ((bias, slope, 0.0, 0.0, 0.0, 0.0) for bias, slope in ((0.0, 3.0), (2.3, 0.0)))
    return Policy(
        tiers=(
            Tier(Scorer("eflaw", 10.0, "below"), (-24.0, -10.0, 0.0), (-12.0, 0.0, 12.0), 0.01),
            Tier(Scorer("second", 0.0, "above", of_router), (-3.0, 0.0, 3.0), (-3.0, 0.0, 3.0), 0.1),
        ),
        judge=JudgeEntry(scorer=Scorer("eflaw", 12.0, "below")),
        judge_cost=1.0,
        cost_unit="questions",
        terms=Terms(0.9, audit_share=0.1),
        debt=1.0,
        weights=((by_margin, likely), (likely, likely)),
        calibration=Calibration(90, 100, 0.5),
    )


@pytest.fixture(scope="module")
def recipe(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(material, tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def whole(recipe: Path, material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in this process."""
    return run(recipe, material.input, tmp_path_factory.mktemp("whole") / "out", backend=runs.InThisProcess()).folder


@pytest.mark.slow
def test_it_sees_what_the_cheap_rules_keep_and_the_router_sends_it(recipe: Path, whole: Path) -> None:
    table = runs.annotations(whole)
    reached = np.array([of != "cheap" for of in table["dropped_in"].to_pylist()]) & ~np.equal(
        np.array(table["status"].to_pylist()), "quarantined"
    )
    has_score = np.array([score is not None for score in table["encoder"].to_pylist()])
    assert 0 < reached.sum() < len(reached)
    assert not has_score[~reached].any()
    assert {0, 1} <= set(table["route_tier"].to_pylist())
    kept = runs.data(whole)
    scores = dict(zip(table["id"].to_pylist(), table["encoder"].to_pylist(), strict=True))
    again = annotate(
        Encoder(f"{recipe.parent}/minilm/", window_tokens=32), kept["text"].combine_chunks()
    )["encoder"].to_pylist()  # fmt: skip
    assert again == [scores[id] for id in kept["id"].to_pylist()], "whatever stood beside a text"


@pytest.mark.processes
@pytest.mark.slow
def test_processes_give_the_same_bytes(recipe: Path, material: Material, whole: Path, tmp_path: Path) -> None:
    run(recipe, material.input, tmp_path / "out", workers=2)
    assert runs.promised(tmp_path / "out") == runs.promised(whole)


def test_memory_of_a_worker_has_room_for_the_loaded_weights_those_in_a_policy_too(
    recipe: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(Recipe.load(recipe), material.input)
    planned = resources_of(plan).memory_bytes
    monkeypatch.setattr(Encoder, "loaded_bytes_per_byte", 1)
    own, in_policy = (
        sum((recipe.parent / folder / name).stat().st_size for name in FILES)
        for folder in ("minilm", "policy/models/minilm")
    )
    assert planned - resources_of(plan).memory_bytes == 4 * (own + in_policy) > 0
    assert resources_of(plan).gpus == 0


def test_an_encoder_on_a_gpu_asks_for_one_in_a_recipe_and_in_a_policy(recipe: Path, material: Material) -> None:
    pytest.importorskip("torch", reason="torch is not installed (make test-train)")
    encoder = {"model": "models/minilm/", "window_tokens": 32, "device": "gpu"}
    policy = recipe.parent / "policy/policy.json"
    plain = Recipe.load(recipe)
    on_gpu = plain.changed(
        {"phases.dear.annotate": [{"encoder": {**encoder, "model": "minilm/"}}, {"route": {"policy": "policy/"}}]}
    )
    without = resources_of(make_plan(plain, material.input))
    found = resources_of(make_plan(on_gpu, material.input))
    assert (found.gpus, found.memory_bytes - without.memory_bytes) == (1.0, 2_000_000_000)
    before = policy.read_bytes()
    try:
        longer = policy_of({"encoder": {**encoder, "heads": {"second": {}}}}).to_json()
        policy.write_bytes(longer)
        routed = resources_of(make_plan(plain, material.input))
    finally:
        policy.write_bytes(before)
    grown = len(longer) - len(before)
    assert (routed.gpus, routed.memory_bytes - without.memory_bytes) == (1.0, 2_000_000_000 + grown)


def test_gpus_of_a_worker_are_those_of_the_recipe_or_those_asked_for(
    recipe: Path, material: Material, tmp_path: Path
) -> None:
    backend = runs.InThisProcess()
    resources = Resources(10**9, gpus=1.0)
    assert choose_workers(backend, 1, 1, resources, False).resources.gpus == 1.0
    assert choose_workers(backend, 1, 1, resources, False, gpus_per_worker=0.25).resources.gpus == 0.25
    for wrong in (-1, 1.5, math.nan):
        with pytest.raises(MachineError, match="expected a fraction of one, or a whole number"):
            run(recipe, material.input, tmp_path / "out", workers=1, gpus_per_worker=wrong)


def test_what_an_encoder_in_a_policy_calls_is_in_the_run_key_and_must_be_installed(
    recipe: Path, material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "phases.dear.annotate": [{"route": {"policy": "policy/"}}],
        "phases.dear.rules.educational": "eflaw < 30",
    }
    routed = Recipe.load(recipe).changed(changes)
    libraries = make_plan(routed, material.input).identity["libraries"]
    assert isinstance(libraries, dict)
    assert libraries["onnxruntime"] == version("onnxruntime")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"gneiss-curation\[encoder\]"):
        make_plan(routed, material.input)
