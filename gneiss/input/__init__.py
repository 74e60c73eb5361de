"""The inputs of a run: shards, model files, and the plan of both."""
