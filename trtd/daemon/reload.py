"""Reading the operator's configuration again, while the daemon runs."""

from __future__ import annotations

from trtd.daemon import log
from trtd.daemon.config import ConfigError, differences, load_config
from trtd.daemon.hooks import open_hooks
from trtd.daemon.inventory import Inventory
from trtd.daemon.messages import Now
from trtd.daemon.parts import Parts, timing_of
from trtd.daemon.perform import Performer
from trtd.daemon.policy import capacity


def reload(parts: Parts, do: Performer, inventory: Inventory, now: Now) -> str:
    """Take up a changed configuration; what came of it, in words.

    Raises:
        ConfigError: it is faulty. The old one goes on.
    """
    has_started = inventory.scans > 0  # READY=1 would tell that it has
    if has_started:
        parts.notifier.reloading()
    try:
        new = load_config(parts.config_file, parts.registry.root)
    except ConfigError as error:
        do.degrade("configuration", _faulty(error), now)
        raise
    finally:
        if has_started:
            parts.notifier.ready()
    do.degrade("configuration", "", now)
    changes, old, parts.config = differences(parts.config, new), parts.config, new
    if not changes:
        parts.log.info("the configuration was read again and is as it was")
        return "the configuration is as it was"
    log.set_up(new.log.level, new.log.format)
    if new.notify != old.notify:
        parts.hooks.close()
        parts.hooks = open_hooks(new.notify, registry=parts.registry.root, log=parts.log)
    parts.reconciler.timing = timing_of(new)
    do.step(capacity(new, [device.id for device in parts.devices]), now)
    inventory.renew(now)
    text = "; ".join(map(str, changes))
    do.say(f"configuration: {text}", now)
    return text


def _faulty(error: ConfigError) -> str:
    """On one line: it stands in the log, in `trtd status` and in `systemctl status`."""
    faults = "; ".join(map(str, error.diagnostics)) or error.message
    return f"the configuration is faulty, the one before goes on: {faults}"
