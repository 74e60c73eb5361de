"""What the audits of a run say about its routed decisions: agreement with the judge, in all and by source or shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from gneiss.errors import InputError, did_you_mean, printable
from gneiss.filters.route import Route
from gneiss.output.finished_run import FinishedRun
from gneiss.routing.interval import Share

_SHARD = "shard"
_READ = ("route_tier", "route_agrees", "route_failed", "route_asked")


@dataclass(frozen=True)
class Agreement:
    """Agreement by audits. values: by source or shard, those with most audits first; expected: what the pilot measured.

    sla: what was asked for; asked, failed: documents that the judge decided or audited, and those it failed on.
    """

    by: str
    documents: int
    audited: Share
    values: tuple[tuple[str, Share], ...]
    expected: Share
    sla: float
    asked: int
    failed: int

    @property
    def drifted(self) -> tuple[tuple[str, Share], ...]:
        """The values, and the whole as `all`, whose interval lies below that of the pilot: drift, or a poor sample."""
        return tuple(
            (name, share) for name, share in (("all", self.audited), *self.values) if share.high < self.expected.low
        )

    def lines(self, top: int) -> Iterator[str]:
        """The same for a terminal; at most `top` values."""
        yield f"documents  {self.documents:,} routed, {self.asked:,} asked about"
        if self.failed:
            yield f"failed     {self.failed:,} times the judge had no answer"
        yield f"agreement  {self.audited} in audits; {self.sla:g} was asked for"
        yield f"pilot      {self.expected}"
        for name, share in self.values[:top]:
            yield f"{printable(name)[:40]:40} {share}"
        if len(self.values) > top:
            yield f"and {len(self.values) - top:,} more with fewer audits"
        for name, share in self.drifted[:top]:
            yield f"warning: {printable(name)[:80]}: {share} is below the pilot's interval: calibrate on such text"


def routed_agreement(run: FinishedRun, by: str = _SHARD) -> Agreement:
    """Agreement of a run that was routed; by: `shard`, or an annotation of texts. Raises InputError."""
    route = next((found for phase in run.recipe.phases for found in phase.annotators if isinstance(found, Route)), None)
    if route is None:
        raise InputError(f"{run.folder}: its recipe has no `route`, so there is no agreement to show")
    schema = run.annotation_schema()
    if by != _SHARD and (by not in schema.names or not _is_text(schema.field(by).type)):
        texts = [field.name for field in schema if _is_text(field.type)]
        raise InputError(f"{run.folder}: by={by!r}: expected `shard` or a text annotation{did_you_mean(by, texts)}")
    counts: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    audits: Counter[str] = Counter()
    own = [] if by == _SHARD else [by]
    for shard in run.shards:
        for _, table in run.batches(shard, [*_READ, *own]):
            counts["documents"] += len(table) - table["route_tier"].null_count
            counts["failed"] += pc.sum(table["route_failed"]).as_py() or 0
            counts["asked"] += pc.sum(table["route_asked"]).as_py() or 0
            known = table.filter(table["route_agrees"].is_valid())
            names = [shard.id] * len(known) if by == _SHARD else map(str, known[by].to_pylist())
            for name, agrees in zip(names, known["route_agrees"].to_pylist(), strict=True):
                audits[name] += 1
                hits[name] += agrees
    shares = sorted(((name, Share(hits[name], of)) for name, of in audits.items()), key=lambda it: (-it[1].of, it[0]))
    whole = Share(sum(hits.values()), sum(audits.values()))
    expected = route.calibration.agreement if route.calibration else Share(0, 0)
    return Agreement(
        by, counts["documents"], whole, tuple(shares), expected, route.sla or 0.0, counts["asked"], counts["failed"]
    )


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
