"""A training across organisations by NVIDIA FLARE: what is agreed on, the kit of each party, its engine, the admin."""
