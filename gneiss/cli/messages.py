"""Messages of the library in the words of the command line."""

from __future__ import annotations

import re

import typer


def in_options(message: str, app: typer.Typer) -> str:
    """A message with parameters of the Python API as options of an app: `workers=3` becomes `--workers 3`."""
    options: dict[str | None, str] = {}
    commands = [typer.main.get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        options |= {param.name: param.opts[0] for param in command.params if param.param_type_name == "option"}

    def spelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        return found[0] if name not in options else options[name] + ("" if value == "True" else f" {value}")

    return re.sub(r"\b([a-z_]+)=('[^']*'|[^\s:;,)]+)", spelled, message)
