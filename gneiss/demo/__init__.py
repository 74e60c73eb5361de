"""The demo: a real corpus from what the installation holds, two small models, a recipe."""
