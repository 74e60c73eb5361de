"""Where an input comes from, as far as the hub knows: its data set, and what the card of that says of its license."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gneiss.errors import RecipeError, first_line
from gneiss.recipe.yaml_text import MOST_BYTES, read_yaml
from gneiss.store.hub import HubAddress, HubStore
from gneiss.store.place import Place

#: What a card says that holds for what is made of its data set; the hub's identifiers, and names of licenses.
_KEPT = ("license", "license_name", "license_link", "language")
_IDENTIFIER = re.compile(r"[\w .:/+-]{1,200}", re.ASCII)
_FRONT = re.compile(r"---\s*\n(.*?\n)---\s*\n", re.DOTALL)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where an input comes from. datasets: on the hub, `OWNER/NAME`; card: what their card says, key by key."""

    datasets: tuple[str, ...] = ()
    card: Mapping[str, str | list[str]] = field(default_factory=dict)


def origin_of(input: Place) -> Origin:
    """The origin of an input, at the revision that it has. Raises OSError, StoreError."""
    if not isinstance(input.store, HubStore):
        return Origin()
    at = HubAddress.parse(str(input))
    datasets = (at.repository,) if at.kind == "dataset" else ()
    if at.kind == "bucket":
        return Origin()
    card = Place(input.store, input.store.path(str(replace(at, path="README.md"))))
    try:
        with card.open() as file:
            text = bytes(file.read(MOST_BYTES)).decode("utf-8", "replace")
        front = read_yaml(found[1]) if (found := _FRONT.match(text)) else None
    except FileNotFoundError:
        return Origin(datasets)
    except RecipeError as error:
        _log.warning("%s: its front matter cannot be read: %s", card, first_line(error))
        return Origin(datasets)
    known = {key: front[key] for key in _KEPT if key in front} if isinstance(front, dict) else {}
    return Origin(datasets, {key: value for key, value in known.items() if _is_plain(value)})


def _is_plain(value: object) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(isinstance(value, str) and _IDENTIFIER.fullmatch(value) for value in values)
