"""The demo: a real corpus from this installation, two small models, a recipe."""
