"""The daemon's one thread: waits, looks, feeds the reconciler, does what it says.

Whatever takes long runs elsewhere: builds and gc in processes, hooks and watch events in threads that only write a byte
into a pipe. Build processes are started from here, since the kernel ends them with the *thread* that made them.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from trtd.daemon.chores import Chores
from trtd.daemon.config import ConfigError
from trtd.daemon.control import Request
from trtd.daemon.describe import Describer
from trtd.daemon.inventory import Inventory
from trtd.daemon.messages import Answer, Command, Drain, Now, Tick
from trtd.daemon.orphans import marker
from trtd.daemon.parts import Parts
from trtd.daemon.perform import Performer
from trtd.daemon.policy import capacity
from trtd.daemon.reload import reload
from trtd.errors import TrtdError
from trtd.status import Problem

LONGEST_WAIT_S = 60.0
ENDING = (signal.SIGTERM, signal.SIGINT)


class Daemon:
    """The running daemon. Make it, then :meth:`run` it in the main thread."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._do = Performer(parts)
        self._signals: list[int] = []
        self._kill_mono_s: float | None = None  # draining: when what still runs is killed
        self._ping_mono_s = 0.0
        self._wake_fd, self._woken_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Reconcile until SIGTERM or SIGINT."""
        parts = self._parts
        self._take_up(_now())
        self._describer = Describer(parts, self._inventory)
        self._chores = Chores(parts, marker(parts.registry.root))
        with selectors.DefaultSelector() as selector, self._signal_handlers():
            for source in (self._wake_fd, parts.children, parts.control):
                selector.register(source, selectors.EVENT_READ)
            self._inventory.watch(self._wake)
            while self._kill_mono_s is None or (parts.children.running and _now().mono_s < self._kill_mono_s):
                self._turn(selector)
        self._end()

    def _take_up(self, now: Now) -> None:
        """Go on where the daemon before was."""
        parts, do = self._parts, self._do
        for note in filter(None, [parts.state.take_note()]):
            do.say(note, now)
        parts.reconciler.restore(parts.state.memories(), now)
        do.step(capacity(parts.config, [device.id for device in parts.devices]), now)
        self._inventory = Inventory(parts, do, parts.state.scans())

    def _turn(self, selector: selectors.BaseSelector) -> None:
        parts, do = self._parts, self._do
        selector.select(self._patience_s())
        with suppress(BlockingIOError):
            while os.read(self._wake_fd, 4096):
                pass
        now = _now()
        self._ping(now)
        self._obey_signals(now)
        for news in [*parts.children.handle(now.mono_s), *parts.children.poll(now.mono_s)]:
            do.hear(news, now)
        self._serve(now)
        if self._kill_mono_s is None:
            self._reconcile(now)
        self._describer.update(now)
        do.catch_up(now)

    def _reconcile(self, now: Now) -> None:
        parts = self._parts
        if self._inventory.look(now) and self._inventory.scans == 1:
            parts.notifier.ready()
            self._do.say(f"watching {parts.registry.specs}: {self._describer.line()}", now)
        due_s = parts.reconciler.next_wake()
        if due_s is not None and due_s <= now.mono_s:
            self._do.step(Tick(), now)
        self._chores.look(now)
        self._keep_socket(now)

    def _keep_socket(self, now: Now) -> None:
        """Somebody may have tidied up, or moved the registry."""
        trouble = ""
        if not self._parts.control.is_in_place():
            try:
                self._parts.control.renew()
            except TrtdError as error:
                trouble = f"no commands can be given: {error.message}"
        self._do.degrade("control socket", trouble, now)

    def _patience_s(self) -> float:
        """Until the next thing that is due by the clock."""
        parts = self._parts
        dues = [parts.children.next_due(), parts.control.next_due(), self._do.next_due(), self._kill_mono_s]
        if parts.notifier.interval_s is not None:
            dues.append(self._ping_mono_s)
        if self._kill_mono_s is None:
            dues += [self._inventory.next_due(), parts.reconciler.next_wake(), self._chores.next_due()]
        now_s = time.monotonic()
        first_s = min((due_s for due_s in dues if due_s is not None), default=now_s + LONGEST_WAIT_S)
        return min(max(0.0, first_s - now_s), LONGEST_WAIT_S)

    def _ping(self, now: Now) -> None:
        """From the loop itself: when it hangs, the service manager must learn of it."""
        interval_s = self._parts.notifier.interval_s
        if interval_s is not None and now.mono_s >= self._ping_mono_s:
            self._parts.notifier.watchdog()
            self._ping_mono_s = now.mono_s + interval_s

    # ------------------------------------------------------------------------------------- what people and systems say

    def _serve(self, now: Now) -> None:
        """What was answered is to be seen at once in `trtd status`."""
        answers = [(request, self._answer(request, now)) for request in self._parts.control.handle(now.mono_s)]
        if answers:
            self._do.write_down(now)
        for request, answer in answers:
            self._parts.control.answer(request, answer)

    def _answer(self, request: Request, now: Now) -> Answer:
        try:
            if request.command == "ping":
                return Answer(f"process {os.getpid()}: {self._describer.line()}")
            if request.command == "reload":
                return Answer(reload(self._parts, self._do, self._inventory, now))
        except TrtdError as error:
            return Answer(error.message, Problem(error.code, error.message, error.hint, error.where))
        answer = self._do.step(Command(request.command, request.name), now)
        assert answer is not None
        return answer

    def _obey_signals(self, now: Now) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number in ENDING:
                self._drain(signal.Signals(number).name, now)
            else:
                with suppress(ConfigError):  # it is told already
                    reload(self._parts, self._do, self._inventory, now)

    def _drain(self, why: str, now: Now) -> None:
        if self._kill_mono_s is not None:  # asked for a second time
            self._kill_mono_s = now.mono_s
            return
        patience_s = self._parts.config.shutdown.drain_s
        self._kill_mono_s = now.mono_s + patience_s
        self._parts.notifier.stopping("stopping builds", within_s=patience_s + 10)
        self._do.say(f"ending: {why}; builds are stopped and go on from their last finished stage", now)
        self._do.step(Drain(), now)

    def _end(self) -> None:
        now = _now()
        for news in self._parts.children.kill_all():
            self._do.hear(news, now)
        self._inventory.close()
        self._chores.close()
        self._describer.update(now)
        self._do.write_down(now)
        for descriptor in (self._wake_fd, self._woken_fd):
            os.close(descriptor)

    # ----------------------------------------------------------------------------------------------------- waking up

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: the loop turns anyway
            os.write(self._woken_fd, b"\0")

    @contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        def note(number: int, frame: FrameType | None) -> None:
            self._signals.append(number)
            self._wake()

        former = {number: signal.signal(number, note) for number in (*ENDING, signal.SIGHUP)}
        former[signal.SIGIO] = signal.signal(signal.SIGIO, signal.SIG_IGN)  # from file leases: see settle.py
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def _now() -> Now:
    return Now(time.monotonic(), time.time())
