"""The sections of a document by their path, and the relations that a half-sound document already breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from trtd.spec.section import Fault, KeyPath, Section

ANY_NAME = "NAME"
"""Stands in a section's path for a name that the author gives, as in ``model.inputs.NAME``."""


class SectionTree:
    """All sections below one.

    Attributes:
        sections: by path, ``()`` being the root itself.
    """

    def __init__(self, root: type[Section]) -> None:
        self.root = root
        self.sections: dict[KeyPath, type[Section]] = dict(_all_sections(root, ()))

    def at(self, path: KeyPath) -> type[Section] | None:
        """The section that a key path leads to; ``None`` if it leads to a value, or nowhere."""
        for pattern, section in self.sections.items():
            if len(pattern) == len(path) and all(a in (ANY_NAME, b) for a, b in zip(pattern, path, strict=True)):
                return section
        return None

    def homes(self, key: str) -> list[KeyPath]:
        """The sections that know this key."""
        return [path for path, section in self.sections.items() if key in section.model_fields]

    def broken_relations(
        self, document: Mapping[str, Any], faulty: set[KeyPath]
    ) -> list[tuple[KeyPath, tuple[str, str]]]:
        """Keys that contradict each other, with message and hint, wherever the relation rests on sound values only.

        pydantic looks at relations only where everything is sound; a reader wants to see all faults in one run.

        Args:
            document: the parsed TOML.
            faulty: the keys that are at fault themselves.
        """
        around = {fault[:end] for fault in faulty for end in range(len(fault))}
        return list(_Sound(faulty, around).broken(self.root, document, ()))


@dataclass(frozen=True)
class _Sound:
    """What is sound in a document.

    Attributes:
        faulty: paths of faulty values.
        around: paths of all tables that hold one, at any depth.
    """

    faulty: set[KeyPath]
    around: set[KeyPath]

    def broken(
        self, section: type[Section], written: Mapping[str, Any], path: KeyPath
    ) -> Iterator[tuple[KeyPath, tuple[str, str]]]:
        made = self._part(section, written, path)
        for rule in section.relations:
            if all(self._is_sound((*path, *key)) for key in rule.reads):
                found: Iterator[Fault] = rule.find(made)
                yield from (((*path, *fault.key), (fault.message, fault.hint)) for fault in found)
        for key, child, is_named in _children(section):
            below = written.get(key)
            if not isinstance(below, dict):
                continue
            tables = {(*path, key, name): table for name, table in below.items()} if is_named else {(*path, key): below}
            for here, table in tables.items():
                if isinstance(table, dict):
                    yield from self.broken(child, table, here)

    def _is_sound(self, path: KeyPath) -> bool:
        return path not in self.around and not any(path[:end] in self.faulty for end in range(1, len(path) + 1))

    def _part(self, section: type[Section], written: Mapping[str, Any], path: KeyPath) -> Section:
        """The section as far as it is sound; defaults stand for the rest."""
        children = {key: child for key, child, is_named in _children(section) if not is_named}
        values: dict[str, Any] = {}
        for key, value in written.items():
            here = (*path, key)
            if key in section.model_fields and here not in self.faulty:
                nested = key in children and isinstance(value, dict)
                values[key] = self._part(children[key], value, here) if nested else value
        return section.model_construct(**values)


def _children(section: type[Section]) -> Iterator[tuple[str, type[Section], bool]]:
    """The sections below: key, class, and whether names that the author gives stand between."""
    for key, field in section.model_fields.items():
        if found := _section_in(field.annotation):
            yield key, found, get_origin(field.annotation) is dict


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, Section) else None
    return next((found for argument in get_args(annotation) if (found := _section_in(argument))), None)


def _all_sections(section: type[Section], path: KeyPath) -> Iterator[tuple[KeyPath, type[Section]]]:
    yield path, section
    for key, child, is_named in _children(section):
        yield from _all_sections(child, (*path, key, ANY_NAME) if is_named else (*path, key))
