"""Statistics: integer counts in fixed bins, so that merging them in any order gives the same answer.

A number falls into the bin of its sign, exponent and first six bits of mantissa: bins are 0.8 to 1.6 % wide at every
normal magnitude, the same for all annotations, and a bin's lower edge is exact. Subnormal numbers have bins of equal
width, 2⁻¹⁰²⁸; those nearest to zero, of either sign, share the bin of zero. Quantiles are lower edges of bins.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from gneiss.arrays import Float64Array, Int64Array

_DROPPED_BITS = 52 - 6
_BIN_OF_MINUS_ZERO = -(2**63) >> _DROPPED_BITS
_MOST_VALUES = 1000
_OTHER = "(other)"
#: What becomes of a document.
KEPT, DROPPED, QUARANTINED = "kept", "dropped", "quarantined"


@dataclass
class ColumnStatistics:
    """Counts of one annotation over the documents that have it.

    bins: bin → documents (numbers); values: value → documents (strings, booleans); missing: null; nan: NaN.
    kept_bins and kept_values count only the kept documents. Of more than 1000 values those with the smallest hashes are
    counted, and all others together: which ones these are does not depend on how the documents are cut into shards.
    """

    missing: int = 0
    nan: int = 0
    bins: Counter[int] = field(default_factory=Counter)
    kept_bins: Counter[int] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    kept_values: Counter[str] = field(default_factory=Counter)

    @property
    def documents(self) -> int:
        """Documents with a value."""
        return self.bins.total() + self.values.total()

    def __iadd__(self, other: ColumnStatistics) -> ColumnStatistics:
        self.missing += other.missing
        self.nan += other.nan
        self.bins.update(other.bins)
        self.kept_bins.update(other.kept_bins)
        self.values.update(other.values)
        self.kept_values.update(other.kept_values)
        self.count_rest_together()
        return self

    def count_rest_together(self) -> None:
        """Keep the counts of at most 1000 values, and add up those of all others."""
        values = self.values.keys() - {_OTHER}
        if len(values) <= _MOST_VALUES:
            return
        for value in sorted(values, key=_hash)[_MOST_VALUES:]:
            self.values[_OTHER] += self.values.pop(value)
            if value in self.kept_values:
                self.kept_values[_OTHER] += self.kept_values.pop(value)

    def quantile(self, share: float) -> float | None:
        """The lower edge of the bin that holds the given share of the documents; None without numbers."""
        total, seen = self.bins.total(), 0
        for bin_ in sorted(self.bins, key=bin_edge):
            seen += self.bins[bin_]
            if seen >= share * total:
                return bin_edge(bin_)
        return None


@dataclass
class Statistics:
    """Counts of a shard or a run; `+=` merges.

    counts: rows, kept, dropped, quarantined, repeated_ids, input_text_bytes, kept_text_bytes, dedup_bytes,
    orphaned_bytes (cut from kept documents although the source lies in a document that is not kept);
    dropped_in: phase → documents; reasons: reason of quarantine → documents;
    patterns: phase → (one character a rule, `1` true, `0` false, `?` unknown, `!` unknown since it failed) → documents;
    decisive: rule → documents that this rule alone dropped; columns: annotation → its counts.
    """

    counts: Counter[str] = field(default_factory=Counter)
    dropped_in: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    patterns: dict[str, Counter[str]] = field(default_factory=dict)
    decisive: Counter[str] = field(default_factory=Counter)
    columns: dict[str, ColumnStatistics] = field(default_factory=dict)

    def __iadd__(self, other: Statistics) -> Statistics:
        for mine, theirs in (
            (self.counts, other.counts),
            (self.dropped_in, other.dropped_in),
            (self.reasons, other.reasons),
            (self.decisive, other.decisive),
        ):
            mine.update(theirs)
        for phase, patterns in other.patterns.items():
            self.patterns.setdefault(phase, Counter()).update(patterns)
        for name, column in other.columns.items():
            mine_column = self.columns.setdefault(name, ColumnStatistics())
            mine_column += column
        return self

    def rule_counts(self, phase: str, rules: Iterable[str]) -> dict[str, dict[str, int]]:
        """Per rule of a phase: documents for which it is true, false, unknown, and those it alone dropped.

        errors: those of the unknown for which it could not be computed.
        """
        patterns = self.patterns.get(phase, Counter())
        return {
            rule: {
                **{
                    name: sum(n for pattern, n in patterns.items() if pattern[i] in marks)
                    for name, marks in (("true", "1"), ("false", "0"), ("unknown", "?!"), ("errors", "!"))
                },
                "decisive": self.decisive[rule],
            }
            for i, rule in enumerate(rules)
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values with sorted keys; bins by their number."""
        return {
            "counts": dict(sorted(self.counts.items())),
            "dropped_in": dict(sorted(self.dropped_in.items())),
            "reasons": dict(sorted(self.reasons.items())),
            "patterns": {phase: dict(sorted(counts.items())) for phase, counts in self.patterns.items()},
            "decisive": dict(sorted(self.decisive.items())),
            "columns": {
                name: {
                    "missing": c.missing,
                    "nan": c.nan,
                    "bins": {str(b): n for b, n in sorted(c.bins.items())},
                    "kept_bins": {str(b): n for b, n in sorted(c.kept_bins.items())},
                    "values": dict(sorted(c.values.items())),
                    "kept_values": dict(sorted(c.kept_values.items())),
                }
                for name, c in self.columns.items()
            },
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Statistics:
        """The inverse of `to_json`."""
        return cls(
            Counter(given["counts"]),
            Counter(given["dropped_in"]),
            Counter(given["reasons"]),
            {phase: Counter(counts) for phase, counts in given["patterns"].items()},
            Counter(given["decisive"]),
            {
                name: ColumnStatistics(
                    c["missing"],
                    c["nan"],
                    Counter({int(b): n for b, n in c["bins"].items()}),
                    Counter({int(b): n for b, n in c["kept_bins"].items()}),
                    Counter(c["values"]),
                    Counter(c["kept_values"]),
                )
                for name, c in given["columns"].items()
            },
        )


def bin_edge(bin_: int) -> float:
    """The number of smallest magnitude in a bin.

    >>> [bin_edge(int(b)) for b in bins_of(np.array([0.0, 0.25, 1.0, 100.5]))]
    [0.0, 0.25, 1.0, 100.0]
    """
    return float(struct.unpack("<d", struct.pack("<q", bin_ << _DROPPED_BITS))[0])


def bins_of(numbers: Float64Array) -> Int64Array:
    """The bin of each number (n,); no NaN among them. Minus zero counts as zero."""
    bins = numbers.view(np.int64) >> _DROPPED_BITS
    bins[bins == _BIN_OF_MINUS_ZERO] = 0
    return bins


def _hash(value: str) -> tuple[int, str]:
    return xxhash.xxh3_64_intdigest(value.encode()), value
