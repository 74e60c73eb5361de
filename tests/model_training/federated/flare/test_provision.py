"""Kits of a federation: each party has its own key alone, and a site that comes later has one of the same authority."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("nvflare", reason="NVIDIA FLARE is not installed: make test-train does")

from cryptography import x509

from gneiss.errors import InputError
from gneiss.model_training.federated.flare.agreement import Agreement
from gneiss.model_training.federated.flare.engine import CLASSES
from gneiss.model_training.federated.flare.kit import agreement_of_kit, site_of_kit
from gneiss.model_training.federated.flare.provision import provision

AGREED = Agreement("localhost", ("ann", "bob"), buckets=64)


def provisioned(folder: Path, agreement: Agreement) -> dict[str, Path]:
    agreement.write(folder)
    return provision(folder / "federation.toml", folder / "kits")


def certificate(kit: Path) -> x509.Certificate:
    (path,) = (kit / "startup").glob("[cs]*.crt")
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_each_party_has_its_own_key_alone_and_nobody_elses_can_be_read(tmp_path: Path) -> None:
    kits = provisioned(tmp_path, AGREED)
    assert kits.keys() == {"server", "admin", "ann", "bob"}
    keys = {party: [*kit.rglob("*.key")] for party, kit in kits.items()}
    assert {len(found) for found in keys.values()} == {1}
    assert len({found[0].read_bytes() for found in keys.values()}) == 4
    assert all(found[0].stat().st_mode & 0o077 == 0 for found in keys.values())
    assert (tmp_path / "kits" / "authority").stat().st_mode & 0o077 == 0
    assert not [*(tmp_path / "kits" / "authority").rglob("*.key")]
    assert not [*(tmp_path / "kits").glob("*/**/*.sh")]


def test_kits_allow_two_classes_and_say_what_is_agreed_on(tmp_path: Path) -> None:
    kits = provisioned(tmp_path, AGREED)
    assert {agreement_of_kit(kit) for kit in kits.values()} == {AGREED}
    for party in ("server", "ann", "bob"):
        resources = json.loads((kits[party] / "local" / "resources.json").read_text())
        assert resources["class_allow_list"] == [*CLASSES]
    assert [site_of_kit(kits[site]) for site in AGREED.sites] == [*AGREED.sites]
    with pytest.raises(InputError, match="no kit of a site"):
        site_of_kit(kits["server"])


def test_a_site_that_comes_later_has_a_certificate_of_the_same_authority(tmp_path: Path) -> None:
    before = {party: certificate(kit) for party, kit in provisioned(tmp_path, AGREED).items()}
    more = replace(AGREED, sites=("ann", "bob", "cee"))
    kits = provisioned(tmp_path, more)
    assert {party: certificate(kits[party]) for party in before} == before
    root = x509.load_pem_x509_certificate((kits["cee"] / "startup" / "rootCA.pem").read_bytes())
    certificate(kits["cee"]).verify_directly_issued_by(root)
    before["ann"].verify_directly_issued_by(root)
    assert {agreement_of_kit(kit) for kit in kits.values()} == {more}
