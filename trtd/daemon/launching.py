"""Starting build processes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from trtd.daemon.build_logs import BuilderFiles
from trtd.daemon.cgroup import BuildGroup
from trtd.daemon.orphans import ATTEMPT, MARKER
from trtd.daemon.wire import BuilderJob
from trtd.registry.layout import Registry
from trtd.store.atomic import storage_errors

# A service manager speaks with the daemon alone.
_NOT_FOR_BUILDS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


@dataclass(frozen=True)
class Launch:
    """What all build processes of a daemon have in common.

    Attributes:
        marker: of this daemon, as :func:`trtd.daemon.orphans.marker` gives it.
        grace_s: how long a build that was asked to end gets to do so.
        module: that is run.
    """

    registry: Registry
    marker: str
    grace_s: float
    module: str

    def command(self, files: BuilderFiles) -> list[str]:
        """The command line that runs a build by hand."""
        return [sys.executable, "-m", self.module, str(files.job)]

    def spawn(
        self, attempt: int, files: BuilderFiles, job: BuilderJob, group: BuildGroup | None
    ) -> tuple[subprocess.Popen[bytes], int]:
        """Start a build in a session of its own; returns its process and the end of the pipe that its events come from.

        Raises:
            OSError: the process could not be started.
            StorageError: its files could not be written.
        """
        read_fd, write_fd = os.pipe()
        wiring = ["--parent", str(os.getpid()), "--events-fd", str(write_fd)]
        wiring += ["--group", str(group.folder)] if group else []
        try:
            with _open(files, job) as output:
                process = subprocess.Popen(
                    [*self.command(files), *wiring],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[write_fd],
                    start_new_session=True,
                    cwd=self.registry.root,  # whatever libraries drop lands where it can be written and found
                    env=self._environment(attempt),
                )
        except BaseException:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        return process, read_fd

    def _environment(self, attempt: int) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_BUILDS}
        paths = os.pathsep.join(_import_path())
        return kept | ({"PYTHONPATH": paths} if paths else {}) | {MARKER: self.marker, ATTEMPT: str(attempt)}


def _import_path() -> list[str]:
    """``PYTHONPATH`` for another working folder; with trtd's own source if that is found for being in this one."""
    named = [os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    source = Path(__file__).parents[2]
    return [*named, str(source)] if source == Path.cwd() else named


def _open(files: BuilderFiles, job: BuilderJob) -> BinaryIO:
    """Write the job and open a new log. Neither is flushed to disk: after a power cut nobody asks for them."""
    with storage_errors("start the build's log", files.log):
        files.log.parent.mkdir(exist_ok=True)
        files.job.write_bytes(job.to_json())
        return open(files.log, "wb")
