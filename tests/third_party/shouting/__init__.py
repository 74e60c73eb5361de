"""An annotator and an editor by somebody else."""
