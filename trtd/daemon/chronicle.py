"""The log's lines about specs and builds. Each line about a build says which: subject, stage, attempt, digest."""

from __future__ import annotations

from dataclasses import dataclass

from trtd.daemon.keys import stem_of
from trtd.daemon.log import Log
from trtd.status import Event, StageStatus

LOUD = ("failed", "stale")


@dataclass
class _Build:
    """A build that runs: its number since the daemon started, the digest of its spec, and where it is."""

    attempt: int
    digest: str
    engine: str = ""
    stage: str = ""


class Chronicle:
    """Writes events and the stages of builds to the log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._builds: dict[str, _Build] = {}

    def begin(self, key: str, attempt: int, digest: str) -> None:
        """A build is started; ``digest`` is that of its spec, as the last scan saw it."""
        self._builds[key] = _Build(attempt, digest)

    def read(self, key: str, attempt: int, digest: str) -> None:
        """The build itself has told which spec it read; an empty digest if it read none."""
        build = self._builds.get(key)
        if build is not None and build.attempt == attempt and digest:
            build.digest = digest

    def move(self, key: str, stage: StageStatus) -> None:
        """A build tells where it is; a line for each stage."""
        build = self._builds.get(key)
        if build is None or (build.engine, build.stage) == (stage.engine, stage.stage):
            return
        build.engine, build.stage = stage.engine, stage.stage
        name = stage.engine or stem_of(key)
        self._log.info(f"{name}: {stage.stage}", event="stage", subject=key, engine=stage.engine, **self._of(key))

    def end(self, key: str, attempt: int) -> None:
        """All is told of a build."""
        build = self._builds.get(key)
        if build is not None and build.attempt == attempt:
            del self._builds[key]

    def tell(self, event: Event, *, loud: bool = False) -> None:
        """An event; ``loud``: as a warning, whatever its kind."""
        write = self._log.warning if loud or event.kind in LOUD else self._log.info
        text = f"{event.name}: {event.kind}: {event.text}" if event.subject else event.text
        write(text, event=event.kind, subject=event.subject, name=event.name, **self._of(event.subject))

    def _of(self, key: str) -> dict[str, str | int]:
        build = self._builds.get(key)
        return {} if build is None else {"stage": build.stage, "attempt": build.attempt, "digest": build.digest}
