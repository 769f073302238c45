"""From a failed validation to diagnostics: every fault, with file, line and key."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trtd.errors import Diagnostic
from trtd.spec.lines import key_lines, line_of
from trtd.spec.schema import AT_MOST_GATES, OutputGates
from trtd.spec.section import RELATION, KeyPath, Section
from trtd.spec.section_tree import SectionTree
from trtd.spec.values import dotted, literal, nearest
from trtd.spec.wording import Words, words_for

MOST = 100
"""Diagnostics shown; a text with more faults than this is something else."""

_UNKNOWN = "extra_forbidden"
_FOLLOW_UPS = ("default_factory_not_called", RELATION)


def diagnose(
    error: ValidationError, document: dict[str, Any], text: str, file: str, tree: SectionTree
) -> list[Diagnostic]:
    """Explain why ``document``, parsed from ``text``, is not what it should be.

    Args:
        error: what validating it raised.
        document: the parsed TOML.
        text: the TOML it was parsed from, for line numbers.
        file: its name, as the reader knows it.
        tree: the sections that it should consist of.

    Returns:
        Diagnostics in the order of the file; what belongs to no line comes first.
    """
    errors = [found for found in error.errors(include_url=False) if found["type"] not in _FOLLOW_UPS]
    lines = key_lines(text)
    unknown = [found["loc"] for found in errors if found["type"] == _UNKNOWN]
    misspelt = _misspelt(unknown, tree) - lines.keys()
    faults: list[tuple[KeyPath, ErrorDetails | Words]] = [
        (found["loc"], found) for found in errors if not (found["type"] == "missing" and found["loc"] in misspelt)
    ]
    faults += tree.broken_relations(document, {found["loc"] for found in errors} | misspelt)
    faults.sort(key=lambda fault: line_of(lines, fault[0]) or 0)
    told = [
        Diagnostic(
            file, line_of(lines, path), dotted(path), *(fault if isinstance(fault, tuple) else _words(fault, tree))
        )
        for path, fault in faults[:MOST]
    ]
    if len(faults) > MOST:
        told.append(Diagnostic(file, None, "", f"and {len(faults) - MOST} more faults"))
    return told


def _misspelt(unknown: list[KeyPath], tree: SectionTree) -> set[KeyPath]:
    """The keys that unknown ones were probably meant to be; that those are missing needs no second diagnostic."""
    found = set()
    for *parent, key in unknown[:MOST]:
        section = tree.at(tuple(parent))
        if section and not tree.homes(str(key)) and (near := nearest(str(key), list(section.model_fields))):
            found.add((*parent, near))
    return found


def _words(error: ErrorDetails, tree: SectionTree) -> Words:
    parent, key = error["loc"][:-1], str(error["loc"][-1])
    section = tree.at(parent)
    if error["type"] == _UNKNOWN:
        return "unknown key", _known_key(key, section, tree)
    field = section.model_fields.get(key) if section else None
    message, hint = words_for(error, list(field.examples or []) if field else [])
    if section and issubclass(section, OutputGates) and _never_fails(key, error["type"]):
        hint = "a gate that can never fail proves nothing"
    return message, hint


def _never_fails(gate: str, error_type: str) -> bool:
    return error_type.startswith("less_than" if gate in AT_MOST_GATES else "greater_than")


def _known_key(key: str, section: type[Section] | None, tree: SectionTree) -> str:
    """Where the author meant to write: another section that has this key, or the nearest key of this one."""
    here = list(section.model_fields) if section else []
    homes = tree.homes(key)
    if () in homes:
        return f"[{key}] is a section of its own" if (key,) in tree.sections else _above_sections(key)
    if homes:
        return f"{literal(key)} belongs in " + " or ".join(f"[{dotted(path)}]" for path in homes)
    if near := nearest(key, here):
        return f"did you mean {literal(near)}?"
    elsewhere = {name: path for path, other in tree.sections.items() for name in other.model_fields}
    if near := nearest(key, list(elsewhere)):
        path = elsewhere[near]
        return f"did you mean {literal(near)} in [{dotted(path)}]?" if path else f"did you mean {literal(near)}?"
    return f"known here: {', '.join(here)}"


def _above_sections(key: str) -> str:
    return f"{literal(key)} belongs at the top of the file, above the first [section]"
