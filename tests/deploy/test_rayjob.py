"""The manifest for Kubernetes: KubeRay's own schema, and what it must say for a run to survive."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from gneiss.cli.main import app

ROOT = Path(__file__).resolve().parent.parent.parent
SCHEMA = json.loads((Path(__file__).parent / "rayjob.schema.json").read_text("utf-8"))


def manifest() -> dict[str, Any]:
    """The manifest; a new one each time."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "deploy/rayjob.yaml").read_text("utf-8"))
    return found


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The head's pod, then the workers'."""
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


def test_it_is_what_kuberay_reads() -> None:
    jsonschema.validate(manifest(), SCHEMA)


@pytest.mark.parametrize(
    "broken",
    [
        lambda job: job["spec"].update(backoffLimits=3),
        lambda job: job["spec"].update(backoffLimit="twenty"),
        lambda job: pods(job)[1].update(toleration=[]),
        lambda job: pods(job)[1]["containers"][0].pop("name"),
        lambda job: job["spec"]["rayClusterSpec"].pop("headGroupSpec"),
    ],
)
def test_the_schema_finds_mistakes(broken: Any) -> None:
    job = manifest()
    broken(job)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job, SCHEMA)


def test_its_ray_is_that_of_the_image() -> None:
    (locked,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    assert manifest()["spec"]["rayClusterSpec"]["rayVersion"] == locked


def test_its_entrypoint_is_a_command_of_gneiss() -> None:
    program, verb, *arguments = shlex.split(manifest()["spec"]["entrypoint"])
    assert program == "gneiss"
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    with command.make_context(verb, arguments) as context:  # raises where an option is unknown
        assert context.params["input"].startswith("s3://")


def test_only_workers_are_on_spot_machines_and_all_have_the_credentials() -> None:
    head, *workers = pods(manifest())
    assert manifest()["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "tolerations" not in head
    assert all(pod["tolerations"] and pod["nodeSelector"] for pod in workers)
    for pod in (head, *workers):
        (container,) = pod["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "gneiss-store"}}]
        assert container["securityContext"]["runAsNonRoot"]
