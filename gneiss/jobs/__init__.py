"""What every job does: claim, resume, run on a backend, keep a ledger, say how it goes."""
