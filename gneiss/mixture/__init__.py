"""From annotations to a training mixture: buckets, the plan of a mixture, the mixed corpus, files for trainers."""

from gneiss.mixture.buckets import Bucket, Buckets, FoundBuckets, find_buckets, write_buckets
from gneiss.mixture.corpus import MixedCorpus
from gneiss.mixture.mix import Mixture, plan_mixture
from gneiss.mixture.plan import Cell, Curve, MixturePlan, Part, Policy, share_budget
from gneiss.mixture.trainers import write_mixture_file

__all__ = [
    "Bucket",
    "Buckets",
    "Cell",
    "Curve",
    "FoundBuckets",
    "MixedCorpus",
    "Mixture",
    "MixturePlan",
    "Part",
    "Policy",
    "find_buckets",
    "plan_mixture",
    "share_budget",
    "write_buckets",
    "write_mixture_file",
]
