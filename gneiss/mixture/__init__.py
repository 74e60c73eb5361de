"""From annotations to a training mixture: buckets of documents."""

from gneiss.mixture.buckets import Bucket, Buckets, find_buckets, write_buckets

__all__ = ["Bucket", "Buckets", "find_buckets", "write_buckets"]
