"""The trainers' own formats."""
