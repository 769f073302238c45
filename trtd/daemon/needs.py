"""Why a subject must be built: what is there now, held against the last success. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from trtd.daemon.memory import Memory, Pairs, basis_of
from trtd.daemon.messages import Observed


@dataclass(frozen=True, slots=True)
class Needs:
    """Why something is to be done; nothing is if there are no ``reasons``.

    Attributes:
        reasons: in words, for people.
        code: the first of them as one CamelCase word, for programs.
        stale: nothing but tools changed and all engines are live: what ``rebuild = "ask"`` is about.
    """

    reasons: tuple[str, ...] = ()
    code: str = "UpToDate"
    stale: bool = False


NOTHING = Needs()


def needs_of(view: Observed, memory: Memory) -> Needs:
    """Why the subject must be built. A failure with the same ingredients as the last success refutes that success."""
    success = memory.success
    missing = [f"engine {name} is not published" for name, version in view.versions if version is None]
    if success is None:
        return Needs(tuple(missing) or ("no build of it is on record",), "NotBuilt")
    basis = basis_of(view)
    if basis == success.basis and success.fits(view.versions):
        failure = memory.failure
        refuted = failure is not None and failure.kind != "cancelled" and failure.basis == basis
        return Needs(("the last build failed",), "BuildFailed") if refuted else NOTHING
    found: list[tuple[str, str]] = []
    if basis.spec_digest != success.basis.spec_digest:
        found.append(("SpecChanged", "the spec changed"))
    if basis.inputs_digest != success.basis.inputs_digest:
        found.append(("InputsChanged", "the model or its data changed"))
    same_bytes = not found
    tools = tool_changes(success.basis.tools, basis.tools)
    found += [("ToolsChanged", change) for change in tools]
    if not success.fits(view.versions):
        found += [("NotPublished", reason) for reason in missing]
        found += [("VersionChanged", reason) for reason in _other_versions(view, dict(success.versions[0]))]
    if not found:  # the same tools in another order
        return NOTHING
    return Needs(tuple(reason for _, reason in found), found[0][0], bool(same_bytes and tools and not missing))


def tool_changes(before: Pairs, after: Pairs) -> list[str]:
    """``onnxruntime 1.31.0 → 1.32.0`` for each tool that is not what it was."""
    old, new = dict(before), dict(after)
    changes = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            changes.append(f"{name} is gone (was {old[name]})")
        elif name not in old:
            changes.append(f"{name} {new[name]} is new")
        elif old[name] != new[name]:
            changes.append(f"{name} {old[name]} → {new[name]}")
    return changes


def _other_versions(view: Observed, expected: dict[str, int | None]) -> list[str]:
    return [
        f"engine {name} is at version {version}, not {expected.get(name) or 'of this spec'}"
        for name, version in view.versions
        if version is not None and version != expected.get(name)
    ]
