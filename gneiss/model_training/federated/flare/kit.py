"""The kit of a party: its certificate, its own policy, what a federation agrees on; at a site, what it sent.

| in a kit | |
| --- | --- |
| `startup/` | the party's certificate and key, and where the server is; NVIDIA FLARE reads it |
| `local/` | what the party allows: its own to change |
| `local/federation.toml`, `local/vocabulary.txt` | what is agreed on; see `agreement` |
| `local/site.json` | at a site: where its documents are, which nobody else is told |
| `site/` | at a site: features and the list of what was sent; see `site_documents` |
| `trainings/` | at the server: a folder a training; see `checkpoint` |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from gneiss.errors import InputError, first_line, printable
from gneiss.model_training.federated.divided import LABELS_FILE, divide
from gneiss.model_training.federated.federation import FEDERATION_FILE
from gneiss.model_training.federated.flare.agreement import Agreement, read_agreement
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.region import RegionFiles
from gneiss.model_training.federated.site_documents import SiteFiles
from gneiss.model_training.labels import QUALITY, rule_of
from gneiss.store.place import Place, place_of

LOCAL, STARTUP, SITE, TRAININGS = "local", "startup", "site", "trainings"
SITE_FILE = "site.json"
Party: TypeAlias = Literal["server", "site", "admin"]
#: By which NVIDIA FLARE starts each of them.
_STARTUP_FILES: Mapping[Party, str] = {
    "server": "fed_server.json",
    "site": "fed_client.json",
    "admin": "fed_admin.json",
}
#: What a job leaves in its folder at the server: the weights, a line on every round, or why there are none.
RESULT_FILE, RECORDS_FILE, OUTCOME_FILE = "result.safetensors", "records.json", "outcome.json"
AUTHORIZATION_FILE, RESOURCES_FILE = "authorization.json", "resources.json"
#: What an admin of the federation may do, at the server and at each site: submit trainings, see how they go, stop his
#: own, and fetch what comes of them. No code of his, no commands on machines, and nothing for any other role.
_RIGHTS = {
    "submit_job": "any",
    "clone_job": "none",
    "manage_job": "n:submitter",
    "download_job": "n:submitter",
    "app_command": "n:submitter",
    "view": "any",
    "operate": "none",
    "shell_commands": "none",
    "byoc": "none",
    "server-predeployed-flwr": "none",
}
ADMIN_ROLE = "lead"
_OTHER_ROLES = ("project_admin", "org_admin", "member")
#: Parts of NVIDIA FLARE by default, by which the server gets the logs of sites.
_LOGS_THAT_TRAVEL = frozenset({"site_log_streamer", "log_receiver"})
#: After how many seconds without a word a party is gone.
_HEARTBEAT_SECONDS = 30


@dataclass(frozen=True)
class SiteSettings:
    """Where the documents of a site are, and how they are read: labels, an absolute address; the rest as in SiteFiles.

    label, positive, score_threshold: see `rule_of`; sites_by: the column that says in which silo of this site a
    document is, None for a site without silos; clip_norm, noise_std: see Protection, None for none.
    """

    labels: str
    text: str = "text"
    label: str = "label"
    positive: tuple[str, ...] | None = None
    score_threshold: float | None = None
    held_out_share: float = 0.2
    min_documents: int = 5
    sites_by: str | None = None
    clip_norm: float | None = None
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        if self.clip_norm is None and self.noise_std:
            raise InputError("noise_std: expected a clip_norm, too: what is guaranteed is of noise beside a norm")

    def files(self, site: str, agreement: Agreement, kit: Path) -> SiteFiles | RegionFiles:
        """Of a site, or of all its silos. Raises InputError for labels that cannot be read, OutputError."""
        own = self._files(site, agreement, kit)
        if self.sites_by is None:
            return own
        homes = divide(own.labels, self.sites_by, (own.text, own.rule.column), own.folder / "silos")
        silos = [replace(own, site=silo, labels=home / LABELS_FILE, folder=home) for silo, home in homes.items()]
        return RegionFiles(site, tuple(silos))

    def _files(self, site: str, agreement: Agreement, kit: Path) -> SiteFiles:
        return SiteFiles(
            site,
            place_of(self.labels, "labels"),
            place_of(kit / SITE, "kit"),
            agreement.space,
            rule_of(self.label, self.positive, self.score_threshold, QUALITY),
            self.text,
            self.held_out_share,
            self.min_documents,
            None if self.clip_norm is None else Protection(self.clip_norm, self.noise_std),
        )


def agreement_of_kit(kit: Path) -> Agreement:
    """What a kit says is agreed on. Raises InputError for a folder that is no kit."""
    path = kit / LOCAL / FEDERATION_FILE
    if not path.is_file():
        raise InputError(f"{kit}: no kit of a federation: expected {LOCAL}/{FEDERATION_FILE} in it; name its folder")
    return read_agreement(path)


def require_party(kit: Path, party: Party) -> None:
    """Raise InputError for a folder that is no kit, or that of another party."""
    agreement_of_kit(kit)
    found = [name for name, file in _STARTUP_FILES.items() if (kit / STARTUP / file).is_file()]
    if found != [party]:
        of = f"that of the {found[0]}" if found else f"none of {', '.join(_STARTUP_FILES.values())} in {STARTUP}/"
        raise InputError(f"{kit}: expected the kit of the {party}, found {of}; name its folder")


def write_site_settings(kit: Path, settings: SiteSettings) -> None:
    """Keep them in the kit of a site. Raises OSError."""
    (kit / LOCAL / SITE_FILE).write_text(json.dumps(asdict(settings), indent=1) + "\n")


def read_site_settings(kit: Path) -> SiteSettings:
    """Those that a kit keeps. Raises InputError."""
    from pydantic import TypeAdapter, ValidationError

    path = kit / LOCAL / SITE_FILE
    if not path.exists():
        raise InputError(f"{kit}: the site has not been started yet; name its labels")
    try:
        return TypeAdapter(SiteSettings).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(f"{path}: cannot read: {printable(first_line(error))}; name its labels once more") from error


def site_of_kit(kit: Path) -> str:
    """The site that a kit's certificate is of. Raises InputError for the kit of another party."""
    path = kit / STARTUP / _STARTUP_FILES["site"]
    try:
        return str(json.loads(path.read_text())["client"]["fqsn"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{kit}: no kit of a site: cannot read {STARTUP}/{path.name}: {first_line(error)}") from error


def training_place(kit: Path, name: str) -> Place:
    """Where the server keeps a training."""
    return place_of(kit / TRAININGS / name, "kit")


def write_policy(local: Path, classes: tuple[str, ...]) -> None:
    """Write what a party allows: rights by role, and the only classes that a job can name.

    local: the folder in which NVIDIA FLARE's defaults lie. Raises OSError.
    """
    roles: dict[str, Any] = {role: dict.fromkeys(_RIGHTS, "none") for role in _OTHER_ROLES}
    rights = {"format_version": "1.0", "permissions": {ADMIN_ROLE: _RIGHTS, **roles}}
    _write_json(local / AUTHORIZATION_FILE, rights)
    resources = json.loads((local / f"{RESOURCES_FILE}.default").read_text())
    resources |= {"class_allow_list": [*classes], "class_list_enforcement_mode": "enforce"}
    for server in resources.get("servers", ()):
        server["heart_beat_timeout"] = _HEARTBEAT_SECONDS
    resources |= {"allow_log_streaming": False} if "allow_log_streaming" in resources else {}
    resources["components"] = [one for one in resources["components"] if one["id"] not in _LOGS_THAT_TRAVEL]
    for component in resources["components"]:
        if component["id"] == "resource_manager":  # a linear model needs no GPU
            component["args"] |= {"num_of_gpus": 0, "mem_per_gpu_in_GiB": 0}
    _write_json(local / RESOURCES_FILE, resources)


def settle_server(kit: Path) -> None:
    """Have the server keep jobs in its kit, wherever that is now: by default all servers of a machine share a folder.

    Jobs of a server that has died are forgotten, as they would seem to run for ever; a training is not kept in jobs.
    Raises InputError for a kit whose policy cannot be read, OSError.
    """
    path = kit / LOCAL / RESOURCES_FILE
    jobs, snapshots = kit / "jobs", kit / "snapshots"
    for folder in (jobs, snapshots):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        resources = json.loads(path.read_text())
        resources["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(snapshots)
        (manager,) = (one for one in resources["components"] if one["id"] == "job_manager")
        manager["args"]["uri_root"] = str(jobs / "stored")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot read: {printable(first_line(error))}; provision the kit again") from error
    _write_json(path, resources)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
