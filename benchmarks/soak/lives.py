"""The lives of daemons: each begins, works a while among disturbances, and is killed."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from benchmarks.soak.quick import LEDGER
from trtd.daemon.client import ask
from trtd.daemon.orphans import Marked, marked
from trtd.daemon.snapshot import SnapshotReader
from trtd.errors import TrtdError
from trtd.registry.layout import Registry
from trtd.store.failpoint import VARIABLE
from trtd.store.process import is_alive

ROOT = Path(__file__).resolve().parents[2]
LONGEST_LIFE_S = 2.5
FAULTY_SHARE = 0.35
OVERFLOW_SHARE = 0.03
DRAIN_SHARE = 0.08
KILL_SHARE = 0.12
ERRORS = ("ENOSPC", "EIO", "EROFS", "EACCES")
PATIENCE_S = 60.0
FLOOD_FILES = 12_000  # each makes several events, and a queue has 16384 by default
PAUSE_S = 0.15


def failpoints() -> list[str]:
    """Names of all failpoints of publishing and of the stores, as they stand in the source."""
    files = [*ROOT.glob("trtd/store/*.py"), *ROOT.glob("trtd/registry/*.py")]
    found = (re.findall(r'failpoint\("(.*?)"\)', file.read_text()) for file in sorted(files))
    return [name for names in found for name in names]


class Lives:
    """Starts daemons and kills them.

    Attributes:
        counts: kills by whom and how, faults, and what must not be: orphans, daemons that did not start or end.
        used: failpoints that a daemon was started with.
    """

    def __init__(self, registry: Registry, chance: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        self.log = registry.root.with_name("daemon.log")
        self._registry, self._chance = registry, chance
        self.ledger = registry.root.with_name("ledger")
        self._process: subprocess.Popen[bytes] | None = None
        self._failpoints = failpoints()
        self._overflows = 0

    def start(self, failpoint: str = "") -> bool:
        """Start a daemon; False if it died on the way, as some failpoints want it."""
        environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
        environment |= {LEDGER: str(self.ledger)} | ({VARIABLE: failpoint} if failpoint else {})
        command = [sys.executable, "-m", "benchmarks.soak.daemon", "run", "--registry", str(self._registry.root)]
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=ROOT)
        self.counts["daemons"] += 1
        give_up_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_s:
            if self._process.poll() is not None:
                return False
            with suppress(TrtdError):
                ask(self._registry, "ping", timeout_s=5.0)
                self._count_orphans()
                return True
            time.sleep(0.02)
        raise SystemExit(f"the daemon never answered; its log: {self.log}")

    def live(self, disturb: Callable[[], None]) -> None:
        """One life: a start, disturbances and killed workers, an end."""
        chance = self._chance
        failpoint = self._failpoint() if chance.random() < FAULTY_SHARE else ""
        if not self.start(failpoint):
            self.counts["daemons killed at a failpoint" if failpoint else "daemons that did not start"] += 1
            return
        end_s = time.monotonic() + chance.uniform(0.0, LONGEST_LIFE_S)
        while time.monotonic() < end_s:
            disturb()
            if chance.random() < KILL_SHARE:
                self._kill_worker()
            time.sleep(chance.uniform(0, 2 * PAUSE_S))
        if self._process is not None and self._process.poll() is not None:
            self.counts["daemons killed at a failpoint" if failpoint else "daemons that died"] += 1
        elif chance.random() < OVERFLOW_SHARE:
            self._overflow()
        elif chance.random() < DRAIN_SHARE:
            self.drain()
        else:
            self.kill()

    def kill(self) -> None:
        """kill -9, as it comes."""
        if self._process is not None:
            self._count_overflows()
            self._process.kill()
            self._process.wait()
            self.counts["daemons killed"] += 1

    def drain(self) -> None:
        """SIGTERM: it must end by itself, and leave nothing."""
        if self._process is None:
            return
        self._count_overflows()
        self._process.terminate()
        if self._process.wait(PATIENCE_S) != 0 or self.workers():
            self.counts["daemons that did not end well"] += 1
        self.counts["daemons ended by SIGTERM"] += 1

    def workers(self) -> list[Marked]:
        """Living processes that a daemon of this registry has started."""
        root = os.fsencode(os.path.realpath(self._registry.root))
        return marked(lambda process: process.owner is not None and process.owner[0] == root)

    def _failpoint(self) -> str:
        name = self._chance.choice(self._failpoints)
        self.used[name] += 1
        action = "kill" if self._chance.random() < 0.5 else f"error={self._chance.choice(ERRORS)}"
        self.counts["daemons with a failpoint that kills" if action == "kill" else "daemons on a refusing disk"] += 1
        return f"{name}:{action}"

    def _kill_worker(self) -> None:
        found = self.workers()
        if found:
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(found).pid, signal.SIGKILL)
                self.counts["workers killed"] += 1

    def _count_orphans(self) -> None:
        """A daemon that answers has cleared away what others had left."""
        for process in self.workers():
            owner = process.owner
            if owner is not None and not is_alive(*owner[1:]):
                self.counts["orphans"] += 1

    def _overflow(self) -> None:
        """So much happens while the daemon cannot run that the kernel forgets some of it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        litter = self._registry.specs / "flood"
        for number in range(FLOOD_FILES):
            litter.write_text(str(number))
        litter.unlink()
        spec = self._registry.specs / "quick-00.toml"
        if spec.is_file():
            spec.write_text(spec.read_text().replace("samples = 2", "samples = 3"))
        self._process.send_signal(signal.SIGCONT)
        time.sleep(LONGEST_LIFE_S)
        self.kill()

    def _count_overflows(self) -> None:
        reader = SnapshotReader(self._registry)
        with suppress(TrtdError):
            daemon = reader.read().daemon
            self.counts["watch overflows"] += daemon.overflows if daemon else 0
        reader.close()
