"""Whether sites have other mixes of labels than all of them together, from counts only: corrections are for these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from gneiss.errors import InputError

#: In place of a strategy's name: what suits the label mixes of the sites.
AUTO = "auto"
#: What suits label mixes that differ, and those that are alike; without regions, and with them.
SUITABLE, SUITABLE_IN_REGIONS = ("fadam_gt", "local_adam"), ("mtgc", "hfedavg")
#: By how much the majority label of a site must be more frequent there, on average, than that of all documents.
_LEAST_DIFFERENCE = 0.15


@dataclass(frozen=True)
class LabelMixes:
    """Shares of the majority label: the mean over sites of each one's own, and that of all documents together."""

    of_sites: float
    of_all: float

    @classmethod
    def of(cls, counts: Mapping[str, Sequence[int]]) -> LabelMixes:
        """From each site's documents by label, in one order of labels.

        Raises InputError where there is no document, or a site has counts of other labels.

        >>> LabelMixes.of({"forum": [90, 10], "textbooks": [10, 90]})
        LabelMixes(of_sites=0.9, of_all=0.5)
        """
        sizes = {len(own) for own in counts.values()}
        if len(sizes) > 1:
            raise InputError(f"label counts: expected as many labels at every site, found {sorted(sizes)}")
        there = [own for own in counts.values() if sum(own)]
        if not there:
            raise InputError("label counts: no site has a labelled document")
        totals = [sum(column) for column in zip(*there, strict=True)]
        return cls(fmean(max(own) / sum(own) for own in there), max(totals) / sum(totals))

    @property
    def differ(self) -> bool:
        """Whether corrections are worth their traffic."""
        return self.of_sites - self.of_all > _LEAST_DIFFERENCE

    def strategy(self, has_regions: bool) -> str:
        """The name of one that suits them."""
        differing, alike = SUITABLE_IN_REGIONS if has_regions else SUITABLE
        return differing if self.differ else alike

    @property
    def reason(self) -> str:
        """What to say of the choice."""
        shares = f"a site's majority label is {self.of_sites:.0%} of its documents on average, {self.of_all:.0%} of all"
        if self.differ:
            return f"{shares}: label mixes differ, so corrections are worth their traffic"
        return f"{shares}: label mixes are alike, so corrections would be traffic for nothing"
