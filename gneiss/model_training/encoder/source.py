"""Where an encoder is: the folder and the file of weights that a recipe would name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gneiss.errors import InputError
from gneiss.filters.encoder_models.features import EncoderFiles
from gneiss.input.model_files import locate


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder is. model: a folder with a slash at the end, as in a recipe; weights: a file in it.

    Raises InputError for what is no folder.
    """

    model: str
    weights: str = "model.safetensors"

    def __post_init__(self) -> None:
        if not self.model.endswith("/"):
            raise InputError(f"encoder: expected a folder, with a slash at the end: {self.model}/")

    @property
    def files(self) -> EncoderFiles:
        """The encoder's. Raises ModelError where they are not there."""
        return EncoderFiles(
            *(locate(f"{self.model}{name}") for name in ("config.json", "tokenizer.json", self.weights))
        )

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, by its path."""
        return "://" not in self.model and not self.model.startswith("package:")

    def anywhere(self) -> EncoderSource:
        """The same, from any folder that a process may be in."""
        return replace(self, model=f"{Path(self.model).resolve()}/") if self.is_local else self
