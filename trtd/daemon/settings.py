"""The sections of ``trtd.toml``: every key that the operator may write, with its bounds and default.

All keys are optional. The descriptions are the reference: ``docs/reference/configuration.md`` repeats them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from trtd.daemon.machine import usable_cores, usable_memory_bytes
from trtd.daemon.setting_values import (
    DAY_S,
    LEAST_BYTES,
    AbsolutePath,
    Bytes,
    Count,
    Deadline,
    EveryHours,
    Folders,
    HookEvents,
    Interval,
    Listen,
    Patience,
    Pause,
    Program,
    Webhook,
)
from trtd.spec.section import Fault, Relation, Section, relation

THREADS_A_BUILD = 4
MEMORY_SHARE = 0.8


class WatchSection(Section):
    """How changes are noticed."""

    period_s: float = Field(
        default=30.0, ge=1, le=3600, description="Seconds between full scans, give or take a tenth. Default: 30.0."
    )
    debounce_s: float = Field(
        default=0.2,
        ge=0,
        le=10,
        description="Seconds of silence after a change before the scan that it causes. Default: 0.2.",
    )
    settle_spec_s: Pause = Field(
        default=0.5, description="Seconds that a spec must have been still before it counts. Default: 0.5."
    )
    settle_s: Pause = Field(
        default=10.0,
        description="Seconds that models and data must have been still before they count. Default: 10.0.",
    )
    poll_s: Interval = Field(
        default=5.0, description="Seconds between looks at folders that send no events. Default: 5.0."
    )


class LimitsSection(Section):
    """What builds may take, all together and each."""

    builds: Count = Field(
        default_factory=lambda: max(1, usable_cores() // THREADS_A_BUILD),
        description="Builds on the CPU at a time; on each GPU it is one. Default: a quarter of the usable cores, or 1.",
    )
    threads: Count = Field(
        default_factory=lambda fields: max(1, usable_cores() // fields.get("builds", 1)),
        description="CPU threads of each build. Default: the usable cores divided by builds.",
    )
    memory_bytes: Bytes = Field(
        default_factory=lambda: max(LEAST_BYTES, int(usable_memory_bytes() * MEMORY_SHARE)),
        description="Memory of all builds together; one that wants more runs alone. Default: 80 % of the usable RAM.",
        examples=[16_000_000_000],
    )
    build_memory_bytes: Bytes = Field(
        default=2_000_000_000,
        description="What a build is counted as taking where its spec sets no limit. Default: 2000000000.",
    )
    build_deadline_s: Deadline = Field(
        default=DAY_S,
        description="Seconds that a whole build may take: all its engines, and waiting for a GPU. Default: 86400.0.",
    )
    stage_deadline_s: Deadline | None = Field(
        default=None,
        description="Most seconds that any one stage may take, whatever the spec's build.deadline_s says. "
        "Default: none, the spec decides.",
        examples=[3600.0],
    )
    stage_memory_limit_bytes: Bytes | None = Field(
        default=None,
        description="Most memory that any one stage may take, whatever the spec's build.memory_limit_bytes says. "
        "Default: none, the spec decides.",
        examples=[8_000_000_000],
    )


@relation("backoff_s", "backoff_max_s")
def _growing(retry: RetrySection) -> Iterator[Fault]:
    """Waiting doubles from backoff_s up to backoff_max_s."""
    if retry.backoff_max_s < retry.backoff_s:
        message = f"is {retry.backoff_max_s:g}, below backoff_s = {retry.backoff_s:g}"
        yield Fault(("backoff_max_s",), message, "backoff_s <= backoff_max_s must hold")


class RetrySection(Section):
    """When what failed is tried again."""

    relations: ClassVar[tuple[Relation, ...]] = (_growing,)

    backoff_s: Patience = Field(
        default=10.0, description="Seconds before the first new try; each further one doubles them. Default: 10.0."
    )
    backoff_max_s: Patience = Field(default=3600.0, description="Most seconds between two tries. Default: 3600.0.")
    wait_s: Patience = Field(
        default=30.0,
        description="Seconds between looks for something that is missing: a lock, a package, a device. Default: 30.0.",
    )


class AccessSection(Section):
    """What specs may reach and do."""

    roots: Folders = Field(
        default=[],
        description="Folders that specs may read models and data from, besides the registry. Default: [].",
        examples=[["/srv/models", "/srv/data"]],
    )
    python_hooks: bool = Field(
        default=False,
        description="Whether specs may run Python code of theirs (verify.metric). It runs as the daemon's user. "
        "Default: false.",
    )
    unverified: bool = Field(
        default=False,
        description="Whether specs may publish engines that could not be verified (publish.unverified). "
        "Default: false.",
    )


class PolicySection(Section):
    """Overrides what specs say."""

    rebuild: Literal["auto", "ask"] | None = Field(
        default=None,
        description="What happens after tools or the device changed, whatever the spec's build.rebuild says. "
        "Default: none, the spec decides.",
        examples=["ask"],
    )
    on_delete: Literal["keep", "unpublish"] | None = Field(
        default=None,
        description="What happens to the engines of a deleted spec, whatever its publish.on_delete says. "
        "Default: none, the spec decides.",
        examples=["keep"],
    )


class NotifySection(Section):
    """Who else is told. Nobody, by default."""

    on: HookEvents = Field(
        default=["published", "failed", "stale"],
        description='What to tell: published, failed, stale. Default: ["published", "failed", "stale"].',
    )
    command: Program | None = Field(
        default=None,
        description="A program and its arguments, run without a shell; it reads the event as JSON from its standard "
        "input. Default: none.",
        examples=[["/usr/local/bin/tell", "--channel", "models"]],
    )
    webhook: Webhook | None = Field(
        default=None,
        description="A web address that the event is sent to as JSON, by POST. Default: none.",
        examples=["https://hooks.example.org/trtd"],
    )
    timeout_s: float = Field(
        default=10.0,
        ge=0.1,
        le=600,
        description="Seconds after which a receiver is given up and its process killed. Default: 10.0.",
    )


class MetricsSection(Section):
    """Where Prometheus finds figures. Nowhere, by default."""

    listen: Listen | None = Field(
        default=None,
        description="IP address and port of an HTTP endpoint. Default: none.",
        examples=["127.0.0.1:9464"],
    )
    textfile: AbsolutePath | None = Field(
        default=None,
        description="A file for node_exporter's textfile collector, replaced after each scan. Default: none.",
        examples=["/var/lib/node_exporter/textfile/trtd.prom"],
    )


class LogSection(Section):
    """What the daemon writes to its standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description='The least that is logged: debug, info, warning, error. Default: "info".'
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description='json, text, or auto: text on a terminal, json elsewhere. Default: "auto".'
    )


class ShutdownSection(Section):
    """How the daemon ends."""

    drain_s: Pause = Field(
        default=20.0, description="Seconds that running builds get to stop in before they are killed. Default: 20.0."
    )


class RetentionSection(Section):
    """When the daemon removes what retention does not keep."""

    gc_every_h: EveryHours = Field(default=24.0, description="Hours between two runs of gc; 0: never. Default: 24.0.")
