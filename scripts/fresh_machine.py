"""Try gneiss on a machine that has nothing: a bare Debian root, what the README names, and the README's commands.

Then the steps of the Dockerfile in the same root, so that the image is tried where there is no container engine.
Needs root, debootstrap and a mirror; says so, and exits with 3, where it cannot be tried.

    python scripts/fresh_machine.py --bind /etc/ssl/certs     # folders of this machine that its pip needs, if any
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RELEASE = "bookworm"
#: What a process of the new machine gets of this one's environment: how it reaches package indexes.
PASSED_ON = re.compile(r"(?i)(pip_|uv_|ssl_cert_|(https?|no)_proxy$).*")
CANNOT = 3


def main() -> None:
    """Make the machine, and try both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", default="http://deb.debian.org/debian")
    parser.add_argument("--bind", action="append", default=[], metavar="FOLDER", help="seen there, read-only")
    given = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        print("not tried: this needs root and debootstrap (apt-get install debootstrap)", file=sys.stderr)
        sys.exit(CANNOT)
    with tempfile.TemporaryDirectory(prefix="gneiss-fresh-") as folder:
        root = Path(folder)
        root.chmod(0o755)  # other users go in
        run(["debootstrap", "--variant=minbase", "--include=ca-certificates", RELEASE, folder, given.mirror])
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        binds = [(str(REPOSITORY), "/repository"), *((name, name) for name in given.bind)]
        (packages, commands), steps = readme(), list(dockerfile())
        print(f"README: {packages}", *commands, sep="\n  ", flush=True)
        inside(root, binds, f"export DEBIAN_FRONTEND=noninteractive; apt-get update -q && {packages} -q --yes", "/")
        inside(root, binds, "\n".join(["git config --global --add safe.directory '*'", *commands]), "/root")
        print("Dockerfile:", *(f"{user} {command}" for user, command in steps), sep="\n  ", flush=True)
        for user, command in steps:
            inside(root, binds, command, "/opt/gneiss" if user != "root" else "/", user)
    print("a fresh machine: the README's commands and the Dockerfile's steps work")


def readme() -> tuple[str, list[str]]:
    """What the README has one install, and the commands of its first minutes."""
    text = (REPOSITORY / "README.md").read_text("utf-8")
    section = text[text.index("## Two minutes") :]
    packages = re.search(r"`(apt-get install [^`]+)`", section)
    assert packages, "the README names the packages of Debian"
    blocks = re.findall(r"```sh[^\n]*\n(.*?)```", section, re.DOTALL)[:2]
    return packages[1], "".join(blocks).replace("REPOSITORY", "/repository").splitlines()


def dockerfile() -> Iterator[tuple[str, str]]:
    """The steps of the Dockerfile, each with its user; its base image is this root with Python and venv."""
    text = re.sub(r"^#.*\n", "", (REPOSITORY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    user, environment = "root", ""
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        word, _, rest = line.partition(" ")
        if word == "USER":
            user = rest
        elif word == "RUN":
            yield user, rest
        elif word == "COPY":
            *names, target = [part for part in rest.split() if not part.startswith("--")]
            yield user, " && ".join(f"cp -r /repository/{name} {target}" for name in names)
        elif word == "ENV":
            environment = f"export {rest}; "
        elif word == "CMD":
            yield user, environment + shlex.join(re.findall(r'"([^"]*)"', rest))


def inside(root: Path, binds: Sequence[tuple[str, str]], script: str, folder: str, user: str = "root") -> None:
    """Run a script there, with file systems that are gone when it ends."""
    mounts = [f"mount -t proc proc {shlex.quote(f'{root}/proc')}"]
    for source, target in binds:
        place = shlex.quote(f"{root}{target}")
        mounts.append(f"mkdir -p {place} && mount --rbind {shlex.quote(source)} {place}")
    passed = [f"{name}={value}" for name, value in os.environ.items() if PASSED_ON.fullmatch(name)]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    home = f"HOME={'/root' if user == 'root' else f'/home/{user}'}"
    command = ["env", "-i", path, home, *passed, "bash", "-euo", "pipefail", "-c", f"cd {folder}\n{script}"]
    entered = ["chroot", f"--userspec={user}", str(root), *command]
    run(
        ["unshare", "--mount", "--pid", "--fork", "bash", "-ec", f"{' && '.join(mounts)} && exec {shlex.join(entered)}"]
    )


def run(command: Sequence[str]) -> None:
    """Run a command; what fails ends all with its status."""
    ended = subprocess.run(command, check=False)
    if ended.returncode:
        print(f"failed with {ended.returncode}: {shlex.join(command)[-600:]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
