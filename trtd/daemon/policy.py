"""What holds for one spec under the operator's configuration. A spec cannot weaken what the operator fixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from trtd.daemon.config import Config
from trtd.daemon.messages import Capacity, SpecFacts

CPU = "cpu"


@dataclass(frozen=True)
class Policy:
    """What holds for the builds of one spec.

    Attributes:
        memory_bytes: what a build is counted as taking.
        threads: CPU threads of each of its stages.
        build_deadline_s: of the whole build process.
        stage_deadline_s: most that a stage may take; ``None``: the spec alone decides.
        memory_limit_bytes: most that a stage may take, the spec's limit or the operator's; ``None``: there is neither.
        python_hooks, unverified: whether the spec may have them, should it ask.
        roots: folders that it may read besides the registry.
    """

    rebuild: Literal["auto", "ask"]
    on_delete: Literal["keep", "unpublish"]
    memory_bytes: int
    threads: int
    build_deadline_s: float
    stage_deadline_s: float | None
    memory_limit_bytes: int | None
    python_hooks: bool
    unverified: bool
    roots: tuple[Path, ...]


def policy_of(config: Config, facts: SpecFacts) -> Policy:
    """What holds where both the operator and the spec have something to say."""
    limits = config.limits
    return Policy(
        rebuild=config.policy.rebuild or facts.rebuild,
        on_delete=config.policy.on_delete or facts.on_delete,
        memory_bytes=_memory_limit(config, facts) or limits.build_memory_bytes,
        threads=limits.threads,
        build_deadline_s=limits.build_deadline_s,
        stage_deadline_s=limits.stage_deadline_s,
        memory_limit_bytes=_memory_limit(config, facts),
        python_hooks=config.access.python_hooks,
        unverified=config.access.unverified,
        roots=config.roots,
    )


def governed(config: Config, facts: SpecFacts) -> SpecFacts:
    """The facts with the operator's word put in: what the reconciler is to see."""
    policy = policy_of(config, facts)
    return replace(facts, rebuild=policy.rebuild, on_delete=policy.on_delete, memory_bytes=_memory_limit(config, facts))


def capacity(config: Config, devices: Iterable[str] = (CPU,)) -> Capacity:
    """What builds may take, for the reconciler: ``limits.builds`` of them on the CPU, one on each other device."""
    return Capacity(
        slots=tuple((device, config.limits.builds if device == CPU else 1) for device in devices),
        memory_bytes=config.limits.memory_bytes,
        build_memory_bytes=config.limits.build_memory_bytes,
    )


def _memory_limit(config: Config, facts: SpecFacts) -> int | None:
    """The spec's limit or the operator's, whichever is smaller; ``None`` if neither is set."""
    limits = (facts.memory_bytes, config.limits.stage_memory_limit_bytes)
    return min((limit for limit in limits if limit is not None), default=None)
