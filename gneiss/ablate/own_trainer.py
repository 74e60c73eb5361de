"""Your own trainer: a command that is given a corpus and a seed, and prints bits per byte as JSON."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gneiss.errors import InputError, ModelError, first_line, printable

#: What a command's words may name in braces.
PLACEHOLDERS = ("corpus", "held_out", "seed", "budget_tokens")


@dataclass(frozen=True)
class OwnTrainer:
    """A command, as a shell would split it, though no shell runs it; `{corpus}` and the like in it are replaced.

    corpus: a folder of Parquet files with a column `text`; held_out: a folder with a Parquet file a domain. The last
    line of its standard output is `{"bits_per_byte": {DOMAIN: NUMBER}}`. Raises InputError for a command that names
    neither corpus nor seed.
    """

    command: str

    def __post_init__(self) -> None:
        if missing := [name for name in ("corpus", "seed") if f"{{{name}}}" not in self.command]:
            raise InputError(f"trainer: expected {{{missing[0]}}} in the command, found {self.command!r}")

    def bits_per_byte(self, values: Mapping[str, object], domains: Collection[str]) -> dict[str, float]:
        """Run the command with values for its placeholders. Raises ModelError for any other answer than it promises.

        >>> own = OwnTrainer("echo '{\\"bits_per_byte\\": {\\"quiz\\": 1.5}}' {corpus} {seed}")
        >>> own.words({"corpus": "some folder", "seed": 3})[2:]
        ['some folder', '3']
        """
        words = self.words(values)
        try:
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True)
            answer = json.loads((done.stdout.strip().splitlines() or [""])[-1])
        except (OSError, subprocess.CalledProcessError, UnicodeDecodeError, ValueError) as error:
            raise ModelError(f"trainer {shlex.join(words)}: {first_line(error)}") from error
        found = answer.get("bits_per_byte") if isinstance(answer, dict) else None
        if not isinstance(found, dict) or found.keys() != set(domains) or not all(map(_is_number, found.values())):
            raise ModelError(
                f"trainer {shlex.join(words)}: expected a last line with bits_per_byte for {', '.join(domains)}, found"
                f" {printable(answer)[:300]}"
            )
        return {domain: float(found[domain]) for domain in domains}

    def words(self, values: Mapping[str, object]) -> list[str]:
        """The words of the command, placeholders replaced."""
        words = shlex.split(self.command)
        for name in PLACEHOLDERS:
            words = [word.replace(f"{{{name}}}", str(values.get(name, f"{{{name}}}"))) for word in words]
        return words


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
