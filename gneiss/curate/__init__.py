"""The one path of a shard through a recipe, in memory."""
