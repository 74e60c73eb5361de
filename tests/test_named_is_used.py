"""Whatever a user names is used or refused: recipe keys, parameters of their parts, options of commands."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import gneiss
from gneiss.annotation import Annotator
from gneiss.backends.choice import choose_workers
from gneiss.backends.resources import Resources
from gneiss.cli.main import app
from gneiss.corpus_steps import STEPS
from gneiss.edit import Editor
from gneiss.errors import MachineError, RecipeError
from gneiss.filters.catalogue import ANNOTATORS, EDITORS
from gneiss.recipe.entries import part_of, step_of
from gneiss.recipe.files import Budgets, InputColumns, OutputFiles
from gneiss.recipe.part import Part
from gneiss.recipe.phase import Phase
from gneiss.recipe.recipe import Recipe

SOURCE = "\n".join(path.read_text("utf-8") for path in sorted(Path(gneiss.__file__).parent.rglob("*.py")))
RECIPE = """
name: full
input: {text: text, id: id, url: address, derived_from_text: {token_count: tokens}}
budgets: {documents: 0.5, shards: 1}
output: {format: jsonl.gz, level: 9}
phases:
  - name: one
    dedup: {min_length: 100}
    exact_duplicates: {normalize: spaces}
    edit: [pii: {email: true}]
    annotate:
      - tokens: {tokenizer: builtin:cl100k_base}
      - urls: {domains: [list.txt]}
    filters: [fineweb: {short_line_chars: 30, rules: {fineweb_no_list: fineweb_short_line_fraction < 0.5}}]
    aliases: {length: text_chars}
    rules: {long: length > 3}
    keep: long
"""


def mappings(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all mappings in a value."""
    if isinstance(value, dict):
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from mappings(child, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


WHOLE = Recipe.parse(RECIPE)


@pytest.mark.parametrize("path", list(mappings(WHOLE.canonical())), ids=str)
def test_an_unknown_key_is_refused_wherever_it_stands(path: tuple[Any, ...]) -> None:
    from gneiss.recipe.yaml_text import write_yaml

    given = WHOLE.canonical()
    at(given, path)["unknown_key"] = "unknown value"
    with pytest.raises(RecipeError, match=r"unknown|expected NAME"):
        Recipe.parse(write_yaml(given))


@pytest.mark.parametrize("name", [*ANNOTATORS, *EDITORS])
def test_a_part_refuses_what_it_does_not_know(name: str) -> None:
    kind, packaged = (Annotator, ANNOTATORS) if name in ANNOTATORS else (Editor, EDITORS)
    with pytest.raises(RecipeError, match="unknown key 'unknown_key'"):
        part_of("here", kind, packaged, name, {"unknown_key": 1})  # type: ignore[arg-type, type-var]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.key)
def test_a_step_refuses_what_it_does_not_know(step: Any) -> None:
    with pytest.raises(RecipeError, match="unknown key 'unknown_key'"):
        step_of("here", step.key, {"unknown_key": 1})


@pytest.mark.parametrize("part", [Recipe, Phase, InputColumns, OutputFiles, Budgets], ids=lambda part: part.__name__)
def test_every_key_of_a_recipe_is_read(part: type[Part]) -> None:
    assert [name for name in part.model_fields if not re.search(rf"\.{name}\b", SOURCE)] == []


@pytest.mark.parametrize("part", [*ANNOTATORS.values(), *EDITORS.values(), *STEPS], ids=lambda part: part.__name__)
def test_every_parameter_of_a_part_is_read(part: type[Any]) -> None:
    assert [field.name for field in fields(part) if not re.search(rf"\.{field.name}\b", SOURCE)] == []


def commands(group: typer.Typer) -> list[Callable[..., Any]]:
    found = [entry.callback for entry in group.registered_commands if entry.callback]
    return [*found, *(command for inner in group.registered_groups if inner.typer_instance
                      for command in commands(inner.typer_instance))]  # fmt: skip


def unread(function: Callable[..., Any]) -> set[str]:
    """The parameters that a function never reads."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(tree, ast.FunctionDef)
    read = {node.id for statement in tree.body for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return set(inspect.signature(function).parameters) - read


@pytest.mark.parametrize("command", commands(app), ids=lambda command: command.__name__)
def test_every_option_of_a_command_is_read(command: Callable[..., Any]) -> None:
    assert unread(command) == set()


FUNCTIONS = [public for name in gneiss.__all__ if inspect.isfunction(public := getattr(gneiss, name))]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_parameter_of_a_public_function_is_read(function: Callable[..., Any]) -> None:
    assert unread(function) == set()


# Keys and options that are known, but would do nothing.


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        ("[{name: a, aliases: {length: text_chars}}]", "alias 'length': no rule reads it"),
        ("[{name: a, aliases: {size: text_bytes}, rules: {r: text_chars > 1}}]", "alias 'size': no rule reads it"),
        ("[{name: a, dedup: {group_max_bytes: 7}}]", "`group_max_bytes` goes with `scope: group`"),
        ("[{name: a, dedup: {group_by: x}}]", "`scope: group` goes with"),
        ("[{name: a}]\ninput: {url: address}", "input.url: 'address' is read by no annotator"),
    ],
)
def test_what_would_do_nothing_is_refused(phases: str, told: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(told)):
        Recipe.parse(f"name: x\nphases: {phases}\n")


def test_an_option_of_another_backend_is_refused() -> None:
    with pytest.raises(MachineError, match="shared_filesystem=True is for Ray"):
        choose_workers("local", 1, 1, Resources(1), shared_filesystem=True)
