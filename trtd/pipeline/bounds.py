"""What the operator of a service fixed. Specs can ask for less, never for more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trtd.errors import Diagnostic
from trtd.spec.schema import BuildSection, Spec


@dataclass(frozen=True)
class Bounds:
    """Bounds on what a spec may ask for. The default leaves everything to the spec and the environment.

    Attributes:
        deadline_s: seconds that one stage may take at most.
        memory_limit_bytes: memory that one stage's process may take at most.
        hooks_allowed: whether specs may run Python of theirs; ``None``: as the environment says.
        unverified_allowed: whether specs may publish what could not be verified.
        roots: the only folders, beside the registry, that specs may read; ``None``: the usual ones.
    """

    deadline_s: float | None = None
    memory_limit_bytes: int | None = None
    hooks_allowed: bool | None = None
    unverified_allowed: bool = True
    roots: tuple[Path, ...] | None = None

    def limits(self, wanted: BuildSection) -> BuildSection:
        """The limits of each stage: the spec's or these, whichever is smaller."""
        memory = [m for m in (wanted.memory_limit_bytes, self.memory_limit_bytes) if m is not None]
        return wanted.model_copy(
            update={
                "deadline_s": min(wanted.deadline_s, self.deadline_s or wanted.deadline_s),
                "memory_limit_bytes": min(memory, default=None),
            }
        )

    def faults(self, spec: Spec, spec_file: Path) -> list[Diagnostic]:
        """What the spec asks for in vain, though it could be built with less."""
        if spec.publish.unverified and not self.unverified_allowed:
            message = "the operator forbids to publish what was not verified"
            hint = "remove it, or ask the operator for [access] unverified = true in trtd.toml"
            return [Diagnostic(str(spec_file), None, "publish.unverified", message, hint)]
        return []


UNBOUNDED = Bounds()
