"""One grammar: `gneiss VERB RECIPE|RUN … --input --output`, for every command, as docs/cli.md lists it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from gneiss.cli.main import PANELS, app

PAGE = Path(__file__).parents[2] / "docs/cli.md"


def commands(group: Any, call: str = "gneiss") -> dict[str, Any]:
    """What calls it → command; typer may bring a click of its own."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        more = commands(command, f"{call} {name}") if hasattr(command, "commands") else {f"{call} {name}": command}
        found.update(more)
    return found


COMMANDS = commands(typer.main.get_command(app))


def params(command: Any, kind: str) -> list[Any]:
    return [param for param in command.params if param.param_type_name == kind]


def noun(argument: Any) -> str:
    return str(argument.metavar or argument.name).upper().strip("[]")


def test_an_argument_is_a_noun_and_paths_are_input_and_output() -> None:
    assert len(COMMANDS) > 10
    for call, command in COMMANDS.items():
        assert [noun(argument) for argument in params(command, "argument")] in [
            [], ["RECIPE"], ["RUN"], ["CODE"], ["NAME"], ["RUN", "RECIPE"], ["RUN", "TARGET"], ["BEFORE", "AFTER"],
            ["FEDERATION"], ["KIT"],
        ], call  # fmt: skip
        for option in params(command, "option"):
            if option.name in {"input", "output"}:
                assert set(option.opts) == {f"--{option.name}", f"-{option.name[0]}"}, call
            else:
                assert not any(word in option.opts for word in ("-i", "-o")), call


def test_the_page_lists_every_command_with_what_it_requires() -> None:
    listed = re.findall(r"^\| `(gneiss [^`]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(listed) == len(COMMANDS)
    for call, command in COMMANDS.items():
        (line,) = [line for line in listed if re.match(rf"{call}(?= \[?[A-Z]| --|$)", line)]
        assert re.findall(r" \[?([A-Z]+)", line.split(" --")[0]) == [noun(a) for a in params(command, "argument")]
        named = set(re.findall(r"--([\w-]+)", line))
        options = {option.opts[0].removeprefix("--"): option for option in params(command, "option")}
        assert {name for name, option in options.items() if option.required} - named <= {"tokenizer"}, call
        assert named <= options.keys(), call


def test_the_page_has_the_groups_of_the_help() -> None:
    assert re.findall(r"^### (.+)$", PAGE.read_text("utf-8"), re.MULTILINE) == list(PANELS)


def test_the_help_of_every_command_has_an_example_that_it_understands() -> None:
    for call, command in COMMANDS.items():
        (example,) = re.findall(rf"^Example: {call}\b(.*)$", command.help, re.MULTILINE)
        command.make_context(call, shlex.split(example))  # raises for an option that there is not
