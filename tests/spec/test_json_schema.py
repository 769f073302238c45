"""The committed JSON Schema: fresh, and in the dialect that editors of TOML read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtd.spec import reference
from trtd.spec.fields import TARGETS
from trtd.spec.json_schema import committed, render, schema
from trtd.spec.sections import ANY_NAME, SECTIONS


def test_the_reference_page_is_fresh() -> None:
    """It would describe keys that are gone. ``make schema`` writes it anew."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "spec.md"
    assert page.read_text(encoding="utf-8") == reference.render()


def test_the_committed_schema_is_fresh() -> None:
    """A stale schema underlines new keys in every editor. ``python -m trtd.spec.json_schema`` writes it anew."""
    assert committed() == render()


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from nodes(value)
    if isinstance(node, list):
        for value in node:
            yield from nodes(value)


def test_every_section_is_there() -> None:
    """Each section refuses unknown keys and describes every key that it knows, with its default."""
    for path, section in SECTIONS.items():
        node = schema()
        for key in path:
            node = node["additionalProperties"] if key == ANY_NAME else node["properties"][key]
        assert node["type"] == "object"
        assert node["additionalProperties"] is False
        assert list(node["properties"]) == list(section.model_fields)
        for key, field in section.model_fields.items():
            assert node["properties"][key]["description"] == field.description
            if isinstance(field.default, (bool, int, float, str)):
                assert node["properties"][key]["default"] == field.default


def test_it_holds_nothing_that_toml_lacks() -> None:
    """Draft 7 ignores what stands beside a reference, and an editor would offer null as a value."""
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "null" not in json.dumps(schema())
    assert not [node for node in nodes(schema()) if "$ref" in node or "$defs" in node or "const" in node]


def test_it_says_what_must_stand_there() -> None:
    """The name may be left to the file, the model may not."""
    made = schema()
    assert made["required"] == ["model"]
    assert made["properties"]["model"]["oneOf"] == [{"required": ["path"]}, {"required": ["registry"]}]
    assert "required" not in made["properties"]["calibration"]  # without int8 it may hold preprocess alone
    one, several = made["properties"]["engine"]["properties"]["target"]["anyOf"]
    assert one["enum"] == several["items"]["enum"] == list(TARGETS)
