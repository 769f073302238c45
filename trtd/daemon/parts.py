"""What the daemon is made of, opened in order and closed in reverse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from trtd.daemon.backoff import Timing
from trtd.daemon.cgroup import open_groups
from trtd.daemon.children import Children
from trtd.daemon.config import Config
from trtd.daemon.control import ControlServer
from trtd.daemon.devices import Device, devices
from trtd.daemon.hooks import Hooks, open_hooks
from trtd.daemon.log import Log
from trtd.daemon.metrics import Metrics, open_metrics
from trtd.daemon.notify import Notifier
from trtd.daemon.orphans import kill_orphans, marker
from trtd.daemon.reconciler import Reconciler
from trtd.daemon.state import State
from trtd.registry.layout import Registry
from trtd.registry.retention import sweep
from trtd.store.lock import hold

LOCK_FILE = "daemon.lock"
HOOKS_PATIENCE_S = 5.0  # at the end; a unit file allows no more


@dataclass
class Parts:
    """The parts, and what all of them may look at.

    Attributes:
        config: replaced when the operator's file is read again.
        devices: replaced when they are others.
        config_file: that was named on the command line.
        degraded: what does not work as it should, in words, by what it is about.
    """

    registry: Registry
    config: Config
    config_file: Path | None
    version: str
    log: Log
    notifier: Notifier
    state: State
    control: ControlServer
    children: Children
    hooks: Hooks
    metrics: Metrics
    reconciler: Reconciler
    devices: tuple[Device, ...]
    degraded: dict[str, str] = field(default_factory=dict)


@contextmanager
def open_parts(
    registry: Registry, config: Config, config_file: Path | None, version: str, notifier: Notifier
) -> Iterator[Parts]:
    """Take the registry, clear away what a dead daemon left, and open everything.

    Raises:
        RegistryBusy: another daemon has the registry; the message names it.
        StorageError: the disk refused.
    """
    log = Log()
    with ExitStack() as opened:
        opened.enter_context(hold(registry.private / LOCK_FILE, "run the daemon"))
        for orphan in kill_orphans(registry.root):
            log.warning("killed what a dead daemon left running", pid=orphan.pid, command=orphan.command)
        for item in sweep(registry).items:
            log.info("swept up what a crash left", kind=item.kind, name=item.name, bytes=item.bytes)
        state = State.open(registry)
        opened.callback(state.close)
        groups, reason = open_groups()
        keeper = "control groups" if groups else f"limits of each process, for {reason}"
        log.info(f"memory limits of builds are kept by {keeper}")
        children = Children(registry, marker(registry.root), groups)
        opened.callback(children.close)
        opened.callback(children.kill_all)
        control = ControlServer(registry)
        opened.callback(control.close)
        metrics = open_metrics(config.metrics, version=version, log=log)
        opened.callback(metrics.close)
        parts = Parts(
            registry=registry,
            config=config,
            config_file=config_file,
            version=version,
            log=log,
            notifier=notifier,
            state=state,
            control=control,
            children=children,
            hooks=open_hooks(config.notify, registry=registry.root, log=log),
            metrics=metrics,
            reconciler=Reconciler(timing_of(config)),
            devices=devices(),
        )
        # Those of the last reload, not those that are open now.
        opened.callback(lambda: parts.hooks.close(patience_s=min(config.notify.timeout_s, HOOKS_PATIENCE_S)))
        yield parts


def timing_of(config: Config) -> Timing:
    """When failures are tried again."""
    retry = config.retry
    return Timing(backoff_s=retry.backoff_s, backoff_max_s=retry.backoff_max_s, wait_s=retry.wait_s)
