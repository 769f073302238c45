"""Finding what is published: from a name, and maybe a version, to a folder."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from trtd.errors import RegistryError
from trtd.registry.layout import RETIRED_FILE, Registry, is_name
from trtd.registry.manifest import Manifest, read_manifest


def current(registry: Registry, name: str, version: int | None = None) -> tuple[Manifest, Path]:
    """Manifest and folder of a published engine.

    Args:
        registry: where to look.
        name: of the engine.
        version: which; ``None`` for the live one, that is the highest.

    Raises:
        RegistryError: there is no such name or version; the hint names those that come close, or the version's
            manifest is missing or torn.
    """
    found = find_version(registry, name, version)
    return read_manifest(registry, name, found), registry.engine(name, found)


def find_version(registry: Registry, name: str, version: int | None = None) -> int:
    """The published version that is meant, as in :func:`current`, whatever state its manifest is in."""
    versions = registry.versions(name) if is_name(name) else ()
    if not versions and is_name(name) and (failed := registry.failed(name)).is_dir():
        what = f"{name} is not published: its last build missed a gate"
        raise RegistryError(what, hint=f"its report and its log: {failed}", where=str(registry.engines))
    if not versions:
        raise _no_name("engine", name, registry.names(), registry.engines)
    wanted = versions[-1] if version is None else version
    if wanted not in versions:
        retired = (registry.record(name, wanted) / RETIRED_FILE).is_file()
        what = f"{name}@{wanted} is not published any more" if retired else f"{name} has no version {wanted}"
        raise RegistryError(what, hint=f"published are: {_listed(versions)}", where=str(registry.engines / name))
    return wanted


def source_model(registry: Registry, name: str, version: int | None = None) -> tuple[int, Path]:
    """Version and folder of a source model under ``models/``; ``version=None`` means the highest.

    Raises:
        RegistryError: there is no such model or version; the hint names those that come close.
    """
    versions = registry.model_versions(name) if is_name(name) else ()
    if not versions:
        with_versions = [path.name for path in sorted(registry.models.glob("*")) if _has_versions(registry, path.name)]
        raise _no_name("source model", name, with_versions, registry.models)
    wanted = versions[-1] if version is None else version
    if wanted not in versions:
        hint = f"there are: {_listed(versions)}"
        raise RegistryError(f"the source model {name} has no version {wanted}", hint=hint, where=str(registry.models))
    return wanted, registry.models / name / str(wanted)


def _has_versions(registry: Registry, name: str) -> bool:
    return is_name(name) and bool(registry.model_versions(name))


def _no_name(kind: str, name: str, known: Iterable[str], where: Path) -> RegistryError:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif names:
        hint = f"there are: {_listed(names)}"
    else:
        hint = "there is none yet: `trtd build SPEC` publishes one" if kind == "engine" else "put one there"
    return RegistryError(f"there is no {kind} {name!r}", hint=hint, where=str(where))


def _listed(things: Iterable[object], limit: int = 12) -> str:
    words = [str(thing) for thing in things]
    return ", ".join(words if len(words) <= limit else ["…", *words[-limit:]])
