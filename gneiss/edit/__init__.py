"""Edits of texts: what they are, how they are applied and combined, and what makes them."""

from gneiss.edit.editor import Edited, Editor
from gneiss.edit.edits import Edits

__all__ = ["Edited", "Editor", "Edits"]
