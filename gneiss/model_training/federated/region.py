"""Regions: sites that exchange among themselves, cheaply, and answer together as one.

To the coordinator a region is a site. It answers a task by rounds among its own sites, over an engine of its own, and
says of them only what they come to together: a sum of counts, a sum of figures, the difference that all made. So a
region of a federation across organisations may be workers of one cluster, and what a single site answers does not leave
its region.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from gneiss.errors import InputError, MachineError, printable
from gneiss.model_training.federated import tasks
from gneiss.model_training.federated.asking import (
    Correspondence,
    Traffic,
    answer_of,
    check_counts,
    check_figures,
    check_trained,
    gathered,
    said_of,
)
from gneiss.model_training.federated.engines import Engine, Site
from gneiss.model_training.federated.engines.in_process import InProcess
from gneiss.model_training.federated.message import Message, most_bytes_of, require_arrays
from gneiss.model_training.federated.site import DocumentSite
from gneiss.model_training.federated.site_documents import SiteFiles
from gneiss.model_training.federated.strategies.hierarchy import Hierarchy
from gneiss.model_training.federated.tasks import round_of, rule_of_steps, sampling_of, steps_meta

#: How long a region waits for its sites in a round.
SITE_SECONDS = 600.0
#: Sites whose documents a worker has in memory.
_MOST_SITES = 256


@dataclass(frozen=True, eq=False)
class RegionSite:
    """See Site: a region, whose sites an engine reaches.

    A site that is lost in a round takes no part until the next task; `site_seconds`: how long it is waited for.
    """

    name: str
    engine: Engine
    site_seconds: float = SITE_SECONDS

    @cached_property
    def _out(self) -> Correspondence:
        return Correspondence(self.engine)

    def work(self, task: Message) -> Message:
        """See Site. Raises also MachineError where none of its sites answers, or one that is needed does not."""
        match task.meta.get("kind"):
            case tasks.COUNT:
                answers = self._asked(dict.fromkeys(self.engine.sites(), task), check_counts)
                if len(answers) < len(self.engine.sites()):
                    raise MachineError(f"region {self.name}: not all sites count their labels; start them")
                found = [answer.meta["labels"] for answer in answers.values()]
                return Message(
                    {"labels": [sum(column) for column in zip(*found, strict=True)], "round": round_of(task)}
                )
            case tasks.EVALUATE:
                answers = self._asked(dict.fromkeys(self.engine.sites(), task), check_figures)
                return Message({"held_out": _together(answers), "round": round_of(task)})
            case tasks.TRAIN:
                return self._trained(task)
            case other:
                raise InputError(f"region {self.name}: no task is called {printable(repr(other)[:40])}")

    def _trained(self, task: Message) -> Message:
        rule = rule_of_steps(task)
        if not isinstance(rule, Hierarchy):
            raise InputError(f"region {self.name}: expected a task for a region, found one for a site")
        x, correction = task.arrays.get("x"), task.arrays.get("correction")
        if x is None:
            raise InputError(f"region {self.name}: expected a task with x, found none")
        require_arrays(task, dict.fromkeys(("x", "correction") if rule.corrects_regions else ("x",), x.shape))
        sampling, seed = sampling_of(task, 1)
        first = round_of(task) * rule.region_rounds
        said = {
            "kind": tasks.TRAIN, "features": task.meta.get("features"), **steps_meta(rule.site),
            "batch": sampling.batch, "l2": sampling.l2, "seed": seed,
        }  # fmt: skip
        check = check_trained(x.shape, rule.site.answered)
        region, figures = rule.begin_region(x, self.engine.sites()), None
        for round_ in range(first, first + rule.region_rounds):
            messages = {
                site: Message({**said, "round": round_}, own.arrays)
                for site, own in rule.site_tasks(region, correction, tuple(region.corrections)).items()
            }
            answers = self._asked(messages, check)
            figures = figures or _together(answers)
            region = rule.next_region(region, {site: answer_of(answer) for site, answer in answers.items()})
        return Message({"held_out": figures, "round": round_of(task)}, {"difference": region.x - x})

    def _asked(self, messages: Mapping[str, Message], check: Callable[[Message], None]) -> dict[str, Message]:
        """The answers of sites, one at least."""
        answers, lost = gathered(self._out, messages, check, self.site_seconds, Traffic())
        if not answers:
            raise MachineError(f"region {self.name}: no site answers ({said_of(lost)}); start them")
        return answers


def _together(answers: Mapping[str, Message]) -> dict[str, Any]:
    """The figures of all sites, added up in order."""
    found = [answers[site].meta["held_out"] for site in sorted(answers)]
    return {name: sum(one[name] for one in found) for name in ("documents", "correct", "loss_sum")}


@dataclass(frozen=True)
class RegionFiles:
    """The sites of a region, where one machine has the documents of all of them. site: its name, as of a site."""

    site: str
    sites: tuple[SiteFiles, ...]


@lru_cache(maxsize=_MOST_SITES)
def site_of(files: SiteFiles | RegionFiles) -> Site:
    """The site or region of some files: in one process the same one, so that it reads its documents once."""
    if isinstance(files, SiteFiles):
        return DocumentSite(files)
    members = {member.site: site_of(member) for member in files.sites}
    return RegionSite(files.site, InProcess(members, most_bytes_of(files.sites[0].space.size)))
