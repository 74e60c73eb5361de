"""Kits of parties: what they allow, and what they hold, wherever they are moved to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gneiss.errors import InputError
from gneiss.model_training.federated.flare.agreement import Agreement
from gneiss.model_training.federated.flare.kit import (
    SiteSettings,
    agreement_of_kit,
    read_site_settings,
    require_party,
    settle_server,
    site_of_kit,
    write_policy,
    write_site_settings,
)
from gneiss.model_training.federated.privacy import Protection
from gneiss.model_training.federated.region import RegionFiles
from gneiss.model_training.federated.site_documents import SiteFiles

AGREED = Agreement("localhost", ("clinic",), buckets=64)
CLASSES = ("gneiss.one.Coordinator", "gneiss.one.Site")
#: The parts of NVIDIA FLARE's defaults that a policy changes.
DEFAULTS: dict[str, Any] = {
    "class_allow_list": ["nvflare.app_common.np.np_trainer.NPTrainer"],
    "allow_log_streaming": True,
    "servers": [{"heart_beat_timeout": 600}],
    "snapshot_persistor": {"args": {"storage": {"args": {"root_dir": "/tmp/nvflare/snapshot-storage"}}}},
    "components": [
        {"id": "resource_manager", "path": "x", "args": {"num_of_gpus": 4, "mem_per_gpu_in_GiB": 16}},
        {"id": "job_manager", "path": "x", "args": {"uri_root": "/tmp/nvflare/jobs-storage"}},
        {"id": "site_log_streamer", "path": "x", "args": {}},
    ],
}


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """One as it is made from the defaults."""
    local = tmp_path / "kit" / "local"
    local.mkdir(parents=True)
    (local / "resources.json.default").write_text(json.dumps(DEFAULTS))
    write_policy(local, CLASSES)
    AGREED.write(local)
    return tmp_path / "kit"


def test_nobody_may_bring_code_or_run_commands(kit: Path) -> None:
    rights = json.loads((kit / "local" / "authorization.json").read_text())["permissions"]
    for role in ("project_admin", "org_admin", "lead", "member"):
        assert rights[role]["byoc"] == rights[role]["shell_commands"] == rights[role]["operate"] == "none"
    assert {role for role, own in rights.items() if own["submit_job"] != "none"} == {"lead"}


def test_a_job_can_name_two_classes_and_no_log_leaves_a_site(kit: Path) -> None:
    found = json.loads((kit / "local" / "resources.json").read_text())
    assert found["class_allow_list"] == [*CLASSES]
    assert found["class_list_enforcement_mode"] == "enforce"
    assert found["allow_log_streaming"] is False
    assert "site_log_streamer" not in {one["id"] for one in found["components"]}
    assert found["components"][0]["args"] == {"num_of_gpus": 0, "mem_per_gpu_in_GiB": 0}


def test_a_server_keeps_its_jobs_in_its_kit_wherever_that_is(kit: Path, tmp_path: Path) -> None:
    settle_server(kit)
    moved = kit.rename(tmp_path / "moved")
    settle_server(moved)
    found = (moved / "local" / "resources.json").read_text()
    assert "/tmp/nvflare" not in found
    assert f"{kit}/" not in found
    assert str(moved / "snapshots") in found
    assert str(moved / "jobs") in found


def test_a_kit_that_is_none_is_refused(tmp_path: Path, kit: Path) -> None:
    with pytest.raises(InputError, match=r"no kit of a federation: expected local/federation\.toml"):
        agreement_of_kit(tmp_path)
    with pytest.raises(InputError, match=r"no kit of a site: cannot read startup/fed_client\.json"):
        site_of_kit(kit)
    (kit / "local" / "resources.json").write_text("{}")
    with pytest.raises(InputError, match="provision the kit again"):
        settle_server(kit)


def test_the_kit_of_another_party_is_named(kit: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the kit of the server, found none of fed_server\.json"):
        require_party(kit, "server")
    (kit / "startup").mkdir()
    (kit / "startup" / "fed_client.json").touch()
    require_party(kit, "site")
    with pytest.raises(InputError, match="expected the kit of the admin, found that of the site; name its folder"):
        require_party(kit, "admin")
    with pytest.raises(InputError, match="no kit of a federation"):
        require_party(tmp_path, "site")


def test_a_site_knows_where_its_documents_are(kit: Path, tmp_path: Path) -> None:
    own = SiteSettings(str(tmp_path / "labels.parquet"), label="grade", score_threshold=3.0, min_documents=2)
    with pytest.raises(InputError, match="has not been started yet; name its labels"):
        read_site_settings(kit)
    (kit / "local" / "site.json").write_text("{")
    with pytest.raises(InputError, match="name its labels once more"):
        read_site_settings(kit)
    write_site_settings(kit, own)
    assert read_site_settings(kit) == own
    files = own.files("clinic", agreement_of_kit(kit), kit)
    assert isinstance(files, SiteFiles)
    assert (files.site, str(files.folder), files.min_documents) == ("clinic", str(kit / "site"), 2)
    assert files.space == AGREED.space


def test_a_region_has_silos_of_its_own(kit: Path, tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": ["hq", "cc", "hq"], "ward": ["east", "west", "east"]})
    pq.write_table(table, tmp_path / "labels.parquet")
    own = SiteSettings(str(tmp_path / "labels.parquet"), sites_by="ward", clip_norm=2.0, noise_std=0.5)
    files = own.files("clinic", agreement_of_kit(kit), kit)
    assert isinstance(files, RegionFiles)
    assert [silo.site for silo in files.sites] == ["east", "west"]
    assert all(str(silo.labels).startswith(f"{kit}/site/silos/{silo.site}/") for silo in files.sites)
    assert {silo.protection for silo in files.sites} == {Protection(2.0, 0.5)}
    with pytest.raises(InputError, match="noise_std: expected a clip_norm, too"):
        SiteSettings("labels.parquet", noise_std=0.5)
