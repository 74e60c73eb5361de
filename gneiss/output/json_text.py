"""JSON with indentation, for values so large that the time which `json` takes for it shows."""

from __future__ import annotations

import json
from typing import Any


def indented(value: Any, depth: int = 0) -> str:
    """What `json.dumps(value, indent=1, ensure_ascii=False)` gives, where keys are strings.

    Parameters: `value`: of mappings, lists and plain values; `depth`: of the line that it begins in. `json` indents in
    Python; here what holds no mapping or list is written by its C encoder, line ends and all.

    >>> print(indented({"bins": {"-3": 1, "7": 2}, "reasons": []}))
    {
     "bins": {
      "-3": 1,
      "7": 2
     },
     "reasons": []
    }
    """
    if not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    line, end = "\n" + " " * (depth + 1), "\n" + " " * depth
    inner = list(value.values()) if isinstance(value, dict) else value
    if not any(isinstance(item, dict | list) for item in inner):
        text = json.dumps(value, ensure_ascii=False, separators=("," + line, ": "))
        return f"{text[0]}{line}{text[1:-1]}{end}{text[-1]}"
    items = [indented(item, depth + 1) for item in inner]
    if isinstance(value, list):
        return f"[{line}{f',{line}'.join(items)}{end}]"
    pairs = (f"{json.dumps(key, ensure_ascii=False)}: {item}" for key, item in zip(value, items, strict=True))
    return f"{{{line}{f',{line}'.join(pairs)}{end}}}"
