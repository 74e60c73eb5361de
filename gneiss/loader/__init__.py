"""A finished run as a trainer reads it: documents and packed sequences, shuffled, shared out, resumable; no torch."""
