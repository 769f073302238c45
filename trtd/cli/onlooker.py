"""What the commands share that look at a daemon's work or talk to it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.cli.options import REGISTRY_VARIABLE, find_registry
from trtd.daemon.keys import is_of_file, several
from trtd.errors import UsageError

if TYPE_CHECKING:
    from trtd.registry.layout import Registry
    from trtd.status import SubjectStatus


def look_up_registry(given: Path | None) -> Registry:
    """The registry, as :func:`trtd.cli.options.find_registry` finds it, and only looked at.

    That one makes missing folders and flushes to disk, for which people who ask how things stand may lack the right,
    and a daemon that is busy the time.
    """
    from trtd.registry.layout import Registry, find

    named = given or (Path(os.environ[REGISTRY_VARIABLE]) if os.environ.get(REGISTRY_VARIABLE) else None)
    if named is None:
        found = find(Path.cwd())
    else:
        found = Registry(Path(os.path.realpath(named)))
        found = found if found.private.is_dir() else None
    return found or find_registry(given)  # says what is wrong


def find_subject(subjects: Iterable[SubjectStatus], name: str) -> SubjectStatus | None:
    """The subject of this key, name, engine or file, whichever fits first: as the daemon understands names.

    Raises:
        UsageError: several fit.
    """
    by_key, by_name, by_engine, by_file = [], [], [], []
    for subject in subjects:
        if subject.key == name:
            by_key.append(subject)
        elif subject.name == name:
            by_name.append(subject)
        elif any(engine.name == name for engine in subject.engines):
            by_engine.append(subject)
        elif is_of_file(subject.key, name):
            by_file.append(subject)
    found = by_key or by_name or by_engine or by_file
    if len(found) > 1:
        message, hint = several(name, {subject.key: subject.name for subject in found})
        raise UsageError(message, hint=hint)
    return found[0] if found else None


def unknown_name(subjects: Iterable[SubjectStatus], name: str) -> UsageError:
    """That there is no such spec, and which come close."""
    known: dict[str, None] = {}
    for subject in subjects:
        known |= dict.fromkeys([subject.name, subject.key, *(engine.name for engine in subject.engines)])
    near = get_close_matches(name[:255], known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`trtd status` lists them all"
    return UsageError(f"there is no spec or engine by the name {name}", hint=hint)
