"""What every job does: claim, resume, run on a backend, keep a ledger, say how it goes."""

from gneiss.jobs.logs import Fields
from gneiss.jobs.progress import PrintedProgress, Progress, Silent

__all__ = ["Fields", "PrintedProgress", "Progress", "Silent"]
