"""The packaged recipes: their meaning is fixed, and their rules are the published ones."""

from __future__ import annotations

import pytest
import yaml

from gneiss.corpus_steps.duplicates import ExactDuplicates, NearDuplicates
from gneiss.corpus_steps.scope import group_of
from gneiss.filters.catalogue import FILTERS
from gneiss.recipe.recipe import _PACKAGED, Recipe, recipe_names

#: A recipe whose digest changes is another recipe: outputs of the former one are refused.
DIGESTS = {
    "c4": "878e279218541ee4b5ef87cab5edba40cb2f342b607d26315e87897afd41c398",
    "commoncrawl-to-gneissweb": "dd76a1c621f3760a172a0b9a7af5aafbc9da15d5f0872d8e1bdf414012c87385",
    "fineweb": "dc8f521e563a1fa0bf34279779b2ccda7b271f54df9bd20347a58e5c360b0ef5",
    "gneissweb": "a5bec6cd031cffbe8100032ece78cb8f72623a2b02ed28c6d2029f869078ddf5",
    "gneissweb-bytes": "45a9c8e6e1de2d51d90a9c708fd4cf9412a95ceb03ceeeaeaf208bfe33fc0166",
    "gneissweb-protect": "54326b55188c94f5aa5c4f03af599ca78ef68c3b29f7abe7969cbb51f8a064e9",
    "gopher": "920408efa56f2b99c34e5fe3ce3c4ad6099ea46a9d4a14d7cc9949caf8e86a59",
    "olmo3-substring": "7952f10f065fb55b8fcd5f203063757d7277fa8bfb4fadfad9657057f46b2b30",
}
#: Rules that no filter publishes: whether a text is left after dedup, and which document of a cluster is kept.
OF_RECIPES = {
    "not_emptied": {"text_chars > 0"},
    "first_of_its_kind": {"near_first", "exact_first AND near_first"},
}
PUBLISHED = {rule: condition for page in FILTERS.values() for rule, condition in page.rules.items()}


def test_their_digests_are_these() -> None:
    assert {name: Recipe.load(name).digest() for name in recipe_names()} == DIGESTS


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.slow
def test_their_rules_are_the_published_ones(name: str) -> None:
    for phase in Recipe.load(name).phases:
        for rule, condition in phase.rules.items():
            assert condition in OF_RECIPES.get(rule, {PUBLISHED.get(rule)})


@pytest.mark.parametrize("name", recipe_names())
def test_no_published_threshold_is_written_twice(name: str) -> None:
    given = yaml.safe_load((_PACKAGED / f"{name}.yaml").read_text("utf-8"))
    assert not [rule for phase in given["phases"] for rule in phase.get("rules", {}) if rule not in OF_RECIPES]


@pytest.mark.parametrize("name", ["fineweb", "commoncrawl-to-gneissweb"])
def test_duplicates_are_sought_within_each_dump(name: str) -> None:
    steps = [step for phase in Recipe.load(name).phases for step in phase.steps]
    found = [step for step in steps if isinstance(step, ExactDuplicates | NearDuplicates)]
    assert found
    for step in found:
        assert step.scope == "group"
        ids = ("data/CC-MAIN-2024-10/000_00000", "CC-MAIN-2013-20.g00012", "crawl/dump=CC-2024/0", "part-00000")
        groups = [group_of(step.key, step.group_by, shard_id) for shard_id in ids]
        assert groups == ["CC-MAIN-2024-10", "CC-MAIN-2013-20", "", ""]
