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
    parts.notifier.reloading("reading the configuration")
    try:
        new = load_config(parts.config_file, parts.registry.root)
    except ConfigError as error:
        do.degrade("configuration", f"the configuration is faulty, the old one goes on: {error.message}", now)
        raise
    finally:
        parts.notifier.ready()
    do.degrade("configuration", "", now)
    changes, old, parts.config = differences(parts.config, new), parts.config, new
    if not changes:
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
