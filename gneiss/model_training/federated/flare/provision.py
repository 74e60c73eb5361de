"""Kits for all parties of a federation: certificates of an authority of its own, policies, and what is agreed on."""

from __future__ import annotations

import shutil
from pathlib import Path

from gneiss.errors import OutputError, first_line
from gneiss.model_training.federated.flare.agreement import read_agreement
from gneiss.model_training.federated.flare.engine import CLASSES, startup_folders
from gneiss.model_training.federated.flare.kit import LOCAL, write_policy

_SCRIPTS = ("*.sh", "*.ipynb", "readme.txt")


def provision(path: Path, output: Path) -> dict[str, Path]:
    """Write the kits of a federation into a folder; party → its kit. Kits that are there stay as they are.

    With a site more in the file, the site gets a kit of the same authority, whose key is in `authority`.
    Raises InputError for a file that says nothing usable, OutputError for kits of another federation.
    """
    agreement = read_agreement(path)
    kits = {party: output / party for party in ("server", "admin", *sorted(agreement.sites))}
    try:
        output.mkdir(parents=True, exist_ok=True)
        if missing := [party for party, kit in kits.items() if not kit.exists()]:
            authority = output / "authority"
            authority.mkdir(mode=0o700, exist_ok=True)
            made = startup_folders(agreement, authority)
            for party in missing:
                _write_kit(made[party], kits[party])
            shutil.rmtree(made["server"].parent)  # the keys of all parties; the authority needs its own
        for kit in kits.values():
            agreement.write(kit / LOCAL)
    except OSError as error:
        raise OutputError(f"{output}: cannot write: {first_line(error)}") from error
    return kits


def _write_kit(made: Path, kit: Path) -> None:
    """Under its name only when it is whole."""
    aside = kit.with_name(f".{kit.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(made, aside, ignore=shutil.ignore_patterns(*_SCRIPTS))
    if made.joinpath(LOCAL, "authorization.json.default").exists():
        write_policy(aside / LOCAL, CLASSES)
    aside.rename(kit)
