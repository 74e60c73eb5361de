"""KenLM's own programs: lmplz estimates a model, build_binary packs it. No wheel has working ones."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from gneiss.errors import MachineError, first_line

PROGRAMS = ("lmplz", "build_binary")
INSTALL = (
    "apt-get install -y g++ cmake libboost-program-options-dev libboost-system-dev libboost-thread-dev"
    " libboost-test-dev zlib1g-dev libbz2-dev liblzma-dev"
    " && pip download --no-deps --no-binary :all: kenlm==0.3.0 && tar xzf kenlm-0.3.0.tar.gz"
    " && cmake -S kenlm-0.3.0 -B kenlm-build -DCMAKE_BUILD_TYPE=Release && make -C kenlm-build lmplz build_binary"
    ' && export PATH="$PWD/kenlm-build/bin:$PATH"'
)


def find_programs(lmplz: Path | None = None) -> tuple[str, str]:
    """The paths of lmplz and build_binary. Raises MachineError, with the commands that build them."""
    places = PROGRAMS if lmplz is None else (str(lmplz), str(lmplz.with_name("build_binary")))
    found = [shutil.which(place) for place in places]
    for place, path in zip(places, found, strict=True):
        if path is None:
            where = "not there" if lmplz is not None else "not on PATH"
            raise MachineError(f"{place}, a program of KenLM, is {where}; build it: {INSTALL}")
    return str(found[0]), str(found[1])


def run_program(program: str, *arguments: str) -> str:
    """Run a program and return its stderr. Raises MachineError when it fails."""
    try:
        done = subprocess.run([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    except OSError as error:
        raise MachineError(f"{program}: cannot be run: {first_line(error)}") from error
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        last = " ".join(said.strip().splitlines()[-2:])[-300:] or "no message"
        raise MachineError(f"{program} failed with code {done.returncode}: {last}; a working one: {INSTALL}")
    return said
