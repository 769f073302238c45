"""The page that lists every key of a spec, in the sections' own words: ``python -m trtd.spec.reference FILE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtd.spec.json_schema import schema
from trtd.spec.section import KeyPath
from trtd.spec.section_tree import ANY_NAME
from trtd.spec.sections import SECTIONS
from trtd.spec.values import literal

HEAD = """\
# The spec

Every key that a spec may have, written by `make schema` from the sections themselves: what editors show on hover, and
what `trtd check` holds a spec to. Paths are relative to the spec's folder. A spec needs `[model]`, and data that it is
judged on.
"""


def render() -> str:
    """The whole page as Markdown."""
    parts = [HEAD]
    for path, section in SECTIONS.items():
        title = f"[{'.'.join(map(str, path))}]" if path else "The first lines"
        words = " ".join((section.__doc__ or "").replace("``", "`").split()) if path else ""
        rows = list(_rows(path))
        if rows:
            table = ["| key | meaning | example |", "|---|---|---|", *rows]
            parts.append("\n".join([f"## {title}\n", *([f"{words}\n"] if words else []), *table, ""]))
    return "\n".join(parts)


def _rows(path: KeyPath) -> Iterator[str]:
    """A line for each key of a section that is a value: sections in it come by themselves."""
    node = _node(schema(), path)
    for key, value in node["properties"].items():
        if (*path, key) in SECTIONS or (*path, key, ANY_NAME) in SECTIONS:
            continue
        examples = [f"`{literal(example)}`" for example in value.get("examples", ())]
        cells = (f"`{key}`", str(value.get("description", "")), "<br>".join(examples))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _node(node: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    for name in path:
        node = node["additionalProperties"] if name == ANY_NAME else node["properties"][name]
    return node


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
