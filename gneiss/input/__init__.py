"""What a run reads: shards of an input, model files, and the plan of both."""
