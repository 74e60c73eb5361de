"""What every part of a recipe has in common."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, ValidationInfo, model_validator

from gneiss.errors import RecipeError
from gneiss.recipe.entries import explain, step_kinds

#: The context of a validation whose errors the whole recipe reports.
READING = {"reading": True}


class Part(BaseModel):
    """A part of a recipe: strict and frozen, with no key but its own. Raises RecipeError."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _refused(cls, given: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """What is made from Python raises a RecipeError of its own; what is read is a part of the whole recipe's."""
        try:
            return handler(given)
        except ValidationError as error:
            if info.context is READING:
                raise
            raise RecipeError(f"{cls.__name__}: {explain(error, cls, step_kinds())}") from error
