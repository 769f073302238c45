"""Tells others what happened: a command of the operator's, a web address, or both.

Each delivery is a process of its own, also that to a web address: only a process can be ended at its deadline whatever
it hangs in, and the daemon is spared the memory of TLS. Deliveries run one after the other in one thread, so that they
arrive in order and a slow receiver delays nothing else. Events that nobody has taken while the queue was full are
dropped, oldest first, counted and logged.

Event text goes as data, on standard input: never through a shell, never as an argument. The web address goes the same
way, since its end is often a secret and arguments are public.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, Protocol

from trtd.daemon.converse import converse, ending, kill_group
from trtd.daemon.log import Log
from trtd.daemon.settings import NotifySection
from trtd.status import Event
from trtd.ui.machine import plain

QUEUE_LIMIT = 256
SCHEMA_VERSION = 1

Receiver = Literal["command", "webhook"]
Result = Literal["ok", "failed", "timeout", "dropped"]

_WEBHOOK = Path(__file__).with_name("webhook.py")
_REAP_S = 5.0


class Hooks(Protocol):
    """Where events go. ``counts``: deliveries by receiver and result."""

    counts: Counter[tuple[Receiver, Result]]

    def tell(self, event: Event) -> None: ...

    def close(self, patience_s: float = 0.0) -> None: ...


class NoHooks:
    """Nobody wants to be told."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[Receiver, Result]] = Counter()

    def tell(self, event: Event) -> None:
        pass

    def close(self, patience_s: float = 0.0) -> None:
        pass


def open_hooks(
    section: NotifySection, *, registry: Path, log: Log | None = None, environment: Mapping[str, str] | None = None
) -> Hooks:
    """What ``[notify]`` asks for.

    Args:
        registry: its root; receivers of several registries tell them apart by it.
        environment: of the delivering processes; ``None``: the daemon's.
    """
    if section.command is None and section.webhook is None:
        return NoHooks()
    return Messenger(section, registry=registry, log=log or Log(), environment=environment)


@dataclass(frozen=True)
class _Delivery:
    receiver: Receiver
    command: tuple[str, ...]
    stdin: bytes
    event: Event


class Messenger:
    """Delivers events in a thread of its own, until closed."""

    def __init__(
        self, section: NotifySection, *, registry: Path, log: Log, environment: Mapping[str, str] | None = None
    ) -> None:
        self.counts: Counter[tuple[Receiver, Result]] = Counter()
        self._section = section
        self._source = {"registry": str(registry), "host": socket.gethostname()}
        self._log = log
        self._environment = None if environment is None else dict(environment)
        self._waiting: deque[_Delivery] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = False
        self._running: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)
        self._thread.start()

    def tell(self, event: Event) -> None:
        """Queue an event, if it is of a kind that is wanted. Returns at once."""
        if event.kind not in self._section.on:
            return
        payload = self._payload(event)
        with self._changed:
            if self._closing:
                return
            if self._section.command is not None:
                self._put(_Delivery("command", tuple(self._section.command), payload, event))
            if self._section.webhook is not None:
                request = {"url": self._section.webhook, "timeout_s": self._section.timeout_s}
                stdin = json.dumps(request).encode() + b"\n" + payload
                self._put(_Delivery("webhook", (sys.executable, "-I", "-S", str(_WEBHOOK)), stdin, event))
            self._changed.notify()

    def close(self, patience_s: float = 0.0) -> None:
        """Deliver what waits, for so long; then kill what runs and forget the rest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(patience_s)
        with self._changed:
            self._given_up = True
            left = len(self._waiting)
            self._waiting.clear()
            if self._running is not None:
                kill_group(self._running)
        if left:
            self._log.warning("events were not delivered: the daemon ends", events=left)
        self._thread.join(_REAP_S)

    def _payload(self, event: Event) -> bytes:
        at = datetime.fromtimestamp(event.at, timezone.utc).isoformat(timespec="milliseconds")
        told = {"schema_version": SCHEMA_VERSION, **asdict(event), "at": at, **self._source}
        del told["id"]  # the state database gives it out, and only later
        return json.dumps(plain(told)).encode() + b"\n"

    def _put(self, delivery: _Delivery) -> None:
        if len(self._waiting) >= QUEUE_LIMIT:
            lost = self._waiting.popleft()
            self._note(lost, "dropped", f"more than {QUEUE_LIMIT} events wait to be delivered")
        self._waiting.append(delivery)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closing:
                        return
                    self._changed.wait()
                delivery = self._waiting.popleft()
            self._note(delivery, *self._deliver(delivery))

    def _deliver(self, delivery: _Delivery) -> tuple[Result, str]:
        """What became of one delivery, and why if it failed."""
        try:
            process = subprocess.Popen(
                delivery.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self._environment,
                cwd="/",
            )
        except (OSError, ValueError) as error:
            return "failed", f"it could not be started: {error}"
        with process:
            with self._changed:
                self._running = process
                if self._given_up:  # while it was being started
                    kill_group(process)
            try:
                finished, tail = converse(process, delivery.stdin, time.monotonic() + self._section.timeout_s)
            except OSError as error:  # no descriptors left
                return "failed", f"it could not be spoken to: {error}"
            finally:
                with self._changed:  # from here on nobody else kills it: its number may be given out again
                    self._running = None
                kill_group(process)  # and what it left behind in its group
            status = process.wait()
        if not finished:
            return "timeout", f"it took longer than {self._section.timeout_s:g} s and was killed"
        return ("ok", "") if status == 0 else ("failed", f"{ending(status)}: {tail}" if tail else ending(status))

    def _note(self, delivery: _Delivery, result: Result, why: str) -> None:
        self.counts[delivery.receiver, result] += 1
        event = delivery.event
        facts = {"receiver": delivery.receiver, "result": result, "event": event.kind, "subject": event.subject}
        if result == "ok":
            self._log.debug("an event was delivered", **facts)
        else:
            self._log.warning("an event was not delivered", **facts, reason=why)
