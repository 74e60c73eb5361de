"""Cut KubeRay's schema of a RayJob down to what deploy/rayjob.yaml uses, for tests/deploy.

    python scripts/kuberay_schema.py ray.io_rayjobs.yaml v1.7.0 > tests/deploy/rayjob.schema.json

The first argument is ray-operator/config/crd/bases/ray.io_rayjobs.yaml of KubeRay (Apache-2.0), the second its version.
Of an object that the manifest has, all names of properties are kept, so that a misspelled one is found; the schemas of
those it does not have are not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).resolve().parent.parent / "deploy/rayjob.yaml"
KEPT = ("type", "enum", "required", "pattern", "format", "minimum", "maximum", "x-kubernetes-int-or-string", "anyOf")


def cut(schema: dict[str, Any], value: Any) -> dict[str, Any]:
    """The part of a schema that a value needs; as in Kubernetes, properties that it does not name are errors."""
    kept = {name: schema[name] for name in KEPT if name in schema}
    if isinstance(value, list) and "items" in schema:
        merged: Any = {}
        for item in value:
            merged = {**merged, **item} if isinstance(item, dict) else item
        kept["items"] = cut(schema["items"], merged)
    elif isinstance(value, dict) and "properties" in schema:
        properties = schema["properties"]
        kept["properties"] = {
            name: cut(property_, value[name]) if name in value else True for name, property_ in properties.items()
        }
        kept["additionalProperties"] = False
    elif isinstance(value, dict) and "additionalProperties" in schema:
        kept["additionalProperties"] = {
            name: value for name, value in schema["additionalProperties"].items() if name in KEPT
        }
    return kept


def main() -> None:
    """Print the schema."""
    path, version = sys.argv[1:]
    versions = yaml.safe_load(Path(path).read_text("utf-8"))["spec"]["versions"]
    schema = next(version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1")
    file = "ray-operator/config/crd/bases/ray.io_rayjobs.yaml"
    source = f"{file} of KubeRay {version} (Apache-2.0), cut down by scripts/kuberay_schema.py"
    found = cut(schema, yaml.safe_load(MANIFEST.read_text("utf-8")))
    found["properties"]["metadata"] = True  # which Kubernetes itself checks
    print(json.dumps({"$comment": source, **found}, indent=1))


if __name__ == "__main__":
    main()
