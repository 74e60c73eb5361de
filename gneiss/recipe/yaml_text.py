"""YAML as recipes have it: the core schema of YAML 1.2, in a text of limited size, each key once.

PyYAML reads YAML 1.1, where `0200` is 128, `1:20` is 80 and `no` is false. Here they are 200, '1:20' and 'no'.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from gneiss.errors import RecipeError

#: The largest text, in bytes of UTF-8; its most values, those of an alias counted wherever it stands; their depth.
MOST_BYTES, MOST_VALUES, MOST_DEPTH = 250_000, 50_000, 50

_NULL, _BOOLEAN, _INTEGER, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
# Section 10.3.2 of the specification, and the characters that a value of the kind can begin with.
_CORE = {
    _NULL: (r"~|null|Null|NULL|", [*"~nN", ""]),
    _BOOLEAN: (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    _INTEGER: (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    _FLOAT: (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        [*"-+.0123456789"],
    ),
}


def read_yaml(text: str) -> Any:
    """The value of a YAML text. Raises RecipeError in one line, without the name of the file."""
    if len(text) > MOST_BYTES or len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise RecipeError(f"larger than {MOST_BYTES:,} bytes; a long list belongs into a file that the recipe names")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _values(node, {}, 1)
        return loader.construct_document(node)
    except RecursionError as error:
        raise RecipeError(f"no valid YAML: more than {MOST_DEPTH} lists and mappings inside each other") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"no valid YAML: {' '.join(str(error).split())[:300]}") from error


def write_yaml(value: Any) -> str:
    """A value as a text that `read_yaml`, and a reader of YAML 1.1, reads as the same value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Loader(yaml.SafeLoader):
    """PyYAML's loader with the scalars of YAML 1.2; a repeated key is refused, of which it would use the last."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as in the base class

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value == "<<" and not key.style:
                raise _refusal("merges (<<) are not read; write the keys out", key)
            if key.value in seen:
                raise _refusal(f"the key {key.value!r} is given twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def core_scalar(self, node: yaml.ScalarNode) -> Any:
        """A scalar of the core schema."""
        text: str = self.construct_scalar(node)
        if not re.fullmatch(_CORE[node.tag][0], text):
            raise _refusal(f"{text!r} is no {node.tag.rpartition(':')[2]}", node)
        if node.tag == _NULL:
            return None
        if node.tag == _BOOLEAN:
            return text.lower() == "true"
        if node.tag == _INTEGER:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, which also quotes strings that YAML 1.2 would read as numbers."""


for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_constructor(_tag, _Loader.core_scalar)
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


def _refusal(message: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _values(node: yaml.Node, counted: dict[int, int], depth: int) -> int:
    """How many values a node holds, those of an alias wherever it stands; counted: by node, 0 while it is counted."""
    if depth > MOST_DEPTH:
        raise _refusal(f"more than {MOST_DEPTH} lists and mappings inside each other", node)
    known = counted.setdefault(id(node), -1)
    if known == 0:
        raise _refusal("an alias of what it stands in", node)
    if known > 0:
        return known
    counted[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    total = 1 + sum(_values(child, counted, depth + 1) for child in children)
    if total > MOST_VALUES:
        raise _refusal(f"more than {MOST_VALUES:,} values, with those of aliases", node)
    counted[id(node)] = total
    return total
