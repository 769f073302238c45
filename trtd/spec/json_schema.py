"""The JSON Schema of a spec, for editors: completion, hover text and errors while typing.

Taplo, and the VS Code extension "Even Better TOML" that is built on it, read draft 7. The committed file is what a
``#:schema`` line in a spec points to; ``python -m trtd.spec.json_schema`` writes it anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trtd.spec.schema import Spec

COMMITTED = Path(__file__).with_name("spec.schema.json")

_DRAFT = "http://json-schema.org/draft-07/schema#"
_ORDER = ("$schema", "title", "description", "type", "enum", "default", "examples", "required", "properties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def schema() -> dict[str, Any]:
    """The schema as plain data, draft 7, without references: a reader of draft 7 ignores what stands beside one.

    It says of a spec what can be said of its shape. Rules between values, such as min <= opt <= max, are for
    ``trtd check``.
    """
    raw = Spec.model_json_schema()
    made = _tidy(raw, raw.pop("$defs"))
    made["required"] = [key for key in made["required"] if key != "name"]  # the file's stem stands in
    made["properties"]["model"] |= {
        "oneOf": [{"required": ["path"]}, {"required": ["registry"]}],
        "dependencies": {"version": ["registry"]},
    }
    made["properties"]["verify"]["dependencies"] = {"labels": ["metric"]}
    ordered: dict[str, Any] = _ordered({"$schema": _DRAFT} | made)
    return ordered


def render() -> str:
    """The schema as the text of the committed file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def committed() -> str:
    """The text of the committed file. Raises ``FileNotFoundError`` if the installation lacks it."""
    return COMMITTED.read_text(encoding="utf-8")


def _tidy(node: Any, definitions: dict[str, Any]) -> Any:
    """Put definitions in the place of references, and leave out null, which TOML does not have."""
    if isinstance(node, list):
        return [_tidy(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "properties" in node:
        node = node | {"properties": {key: _titled(key, value) for key, value in node["properties"].items()}}
    if "$ref" in node:
        node = definitions[node["$ref"].rsplit("/", 1)[-1]] | {k: v for k, v in node.items() if k != "$ref"}
        return _tidy(node, definitions)
    if {"type": "null"} in node.get("anyOf", []):
        choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
        rest = {key: value for key, value in node.items() if key != "anyOf" and (key, value) != ("default", None)}
        return _tidy((choices[0] if len(choices) == 1 else {"anyOf": choices}) | rest, definitions)
    if "const" in node:  # editors complete what an enum lists
        node = {key: value for key, value in node.items() if key != "const"} | {"enum": [node["const"]]}
    if node.get("type") == "object":  # the keys below have their own defaults
        node = {key: value for key, value in node.items() if key != "default"}
    return {key: _whole(value) if key in _BOUNDS else _tidy(value, definitions) for key, value in node.items()}


def _whole(bound: float) -> float:
    """Without a needless ".0", which some versions of pydantic write."""
    return int(bound) if float(bound).is_integer() else bound


def _titled(key: str, node: dict[str, Any]) -> dict[str, Any]:
    return node | {"title": key}


def _ordered(node: Any) -> Any:
    """Keys in reading order, so that the committed file shows the same under every version of pydantic."""
    if isinstance(node, list):
        return [_ordered(item) for item in node]
    if not isinstance(node, dict):
        return node
    rank = {key: index for index, key in enumerate(_ORDER)}
    made = {key: node[key] for key in sorted(node, key=lambda key: (rank.get(key, len(rank)), key))}
    return {key: _by_name(value) if key == "properties" else _ordered(value) for key, value in made.items()}


def _by_name(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: _ordered(value) for name, value in properties.items()}


if __name__ == "__main__":
    COMMITTED.write_text(render(), encoding="utf-8")
