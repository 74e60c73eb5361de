"""How many workers fit on the nodes of a cluster, as `ray.nodes()` describes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gneiss.backends import Room
from gneiss.backends.resources import Resources
from gneiss.errors import MachineError

_log = logging.getLogger(__name__)


def room_on(nodes: Sequence[Mapping[str, Any]], resources: Resources) -> Room:
    """How many workers fit on nodes, as `ray.nodes()` describes them; a worker fits only where one node has all."""
    cpus = [int(_offer(node, "CPU")) // resources.cpus for node in nodes]
    by_memory = [resources.places(int(_offer(node, "memory"))) for node in nodes]
    if resources.gpus:
        by_memory = [min(n, resources.sharing(_offer(node, "GPU"))) for n, node in zip(by_memory, nodes, strict=True)]
    return Room(sum(cpus), sum(map(min, cpus, by_memory)))


def asked_of(nodes: Sequence[Mapping[str, Any]], resources: Resources) -> Resources:
    """What workers can ask of these nodes: no GPUs where no node has any, as filters then do without."""
    return resources if any(_offer(node, "GPU") for node in nodes) else replace(resources, gpus=0.0)


def _offer(node: Mapping[str, Any], resource: str) -> float:
    return float(node["Resources"].get(resource, 0))


def check_nodes(nodes: Sequence[Mapping[str, Any]], workers: int, resources: Resources, local: Sequence[str]) -> None:
    """Refuse a run whose workers have no place on any node, or find other files there. Raises MachineError.

    local: paths that workers read or write, and of which nobody has said that every node sees the same there.
    """
    if len(nodes) > 1 and local:
        raise MachineError(
            f"the cluster has {len(nodes)} nodes, and these are local paths: {', '.join(local)}; give"
            " shared_filesystem=True if every node sees the same files there, or addresses of a store instead"
        )
    if asked_of(nodes, resources) != resources:
        _log.warning("no node of the cluster has a GPU: filters that would use one run on CPUs")
        resources = asked_of(nodes, resources)
    room = room_on(nodes, resources)
    if not room.by_memory and (room.by_cpus or local):
        offered = ", ".join(f"{_offer(node, 'CPU'):g} and {_offer(node, 'memory') / 1e9:.1f} GB" for node in nodes)
        raise MachineError(
            f"a worker needs CPUs ({resources.cpus}) and memory (about {resources.said}) of one node, but the cluster's"
            f" nodes offer {offered}: use {resources.less}"
        )
    if workers > room.by_memory:
        _log.warning(
            "%d workers were asked for, but the cluster has CPUs for %d, and memory for %d at %s each: the others start"
            " when machines join",
            workers, room.by_cpus, room.by_memory, resources.said,
        )  # fmt: skip
