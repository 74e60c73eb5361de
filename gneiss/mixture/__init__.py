"""From annotations to a training mixture: buckets of documents, the plan of a mixture, the mixed corpus."""

from gneiss.mixture.buckets import Bucket, Buckets, FoundBuckets, find_buckets, write_buckets
from gneiss.mixture.corpus import MixedCorpus
from gneiss.mixture.mix import Mixture, plan_mixture
from gneiss.mixture.plan import Cell, Curve, Part, Plan, Policy, make_plan

__all__ = [
    "Bucket",
    "Buckets",
    "Cell",
    "Curve",
    "FoundBuckets",
    "MixedCorpus",
    "Mixture",
    "Part",
    "Plan",
    "Policy",
    "find_buckets",
    "make_plan",
    "plan_mixture",
    "write_buckets",
]
