"""What every job does: claim, resume, run on a backend, keep a ledger, say how it goes."""

from gneiss.jobs.progress import PrintedProgress, Progress, Silent

__all__ = ["PrintedProgress", "Progress", "Silent"]
