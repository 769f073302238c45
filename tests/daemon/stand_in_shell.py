"""A stand-in for the shell around the reconciler: performs what it says in a stand-in world, and checks it."""

from __future__ import annotations

from tests.daemon.stand_in_world import StandInBuilder, StandInWorld
from trtd.daemon.backoff import Timing
from trtd.daemon.claims import Name
from trtd.daemon.memory import read
from trtd.daemon.messages import (
    Answer,
    Blind,
    Capacity,
    Command,
    CommandName,
    Finished,
    Forget,
    Gone,
    InEvent,
    Instruction,
    Now,
    Observed,
    Save,
    Scanned,
    Seen,
    SpecFacts,
    Start,
    Stop,
    Tick,
    Unpublish,
)
from trtd.daemon.reconciler import Reconciler
from trtd.daemon.subject import SCANS_TO_TRUST
from trtd.status import SubjectStatus

CAPACITY = Capacity((("cpu", 2), ("GPU-1", 1)), memory_bytes=100, build_memory_bytes=30)
TIMING = Timing(backoff_s=10, backoff_max_s=3600, wait_s=30)


class StandInShell:
    """Performs instructions, and checks each against what the reconciler was told.

    Attributes:
        told: what the scan said last of each spec, in this life of the daemon.
        saved: the state database.
        paused: keys that people paused, as answered.
        builds: how many were started, in all.
        performed_at_most: how many instructions of a step are performed; ``None``: all, as long as the daemon lives.
    """

    def __init__(self, world: StandInWorld) -> None:
        self.world = world
        self.mono_s, self.wall_s = 0.0, 1e9
        self.saved: dict[str, Save] = {}
        self.paused: set[str] = set()
        self.builds = 0
        self.performed_at_most: int | None = None
        self.boot()

    def boot(self) -> None:
        """A daemon starts on what is saved; nothing of a former one runs any more."""
        self.told: dict[str, Observed] = {}
        self.scanned = False
        self.running: dict[str, StandInBuilder] = {}
        self.reconciler = Reconciler(TIMING)
        self.reconciler.restore([(key, save.memory) for key, save in self.saved.items()], self.now)
        self.step(CAPACITY)

    def lose_state(self) -> None:
        """The state database is removed while no daemon runs."""
        self.saved.clear()
        self.paused.clear()
        self.boot()

    @property
    def now(self) -> Now:
        return Now(self.mono_s, self.wall_s)

    def step(self, event: InEvent) -> list[Instruction]:
        self.mono_s += 0.001
        self.wall_s += 0.001
        out = self.reconciler.step(event, self.now)
        for instruction in out[: self.performed_at_most]:
            self._perform(instruction)
        answers = [i for i in out if isinstance(i, Answer)]
        assert len(answers) == isinstance(event, Command)
        return out

    def scan(self) -> None:
        """As the real one: what is gone first, then what differs from the scan before, then that it is complete."""
        if self.world.away:
            self.scanned = False
            self.step(Blind())
            return
        self.paused &= self.world.specs.keys()
        for key in sorted(self.told.keys() - self.world.specs.keys()):
            del self.told[key]
            self.step(Gone(key))
        for key in sorted(self.world.specs):
            seen = self.world.look(key)
            if seen != self.told.get(key):
                recorded = self.world.recorded(key) if key not in self.told and seen.facts is not None else None
                if recorded is not None and key not in self.saved:
                    self.step(recorded)
                self.told[key] = seen
                self.step(Seen(seen))
        self.scanned = True
        self.step(Scanned())

    def say(self, command: CommandName, key: str) -> Answer:
        before = set(self.paused)
        if command == "resume":
            self.paused.discard(key)
        (answer,) = (i for i in self.step(Command(command, key)) if isinstance(i, Answer))
        if answer.problem is not None:
            self.paused = before
        elif command == "pause":
            self.paused.add(key)
        return answer

    def end(self, key: str) -> None:
        """A builder's process ends."""
        builder = self.running.pop(key)
        self.step(Finished(key, builder.start.attempt, builder.ending))

    def wait(self, seconds: float) -> None:
        self.mono_s += seconds
        self.wall_s += seconds
        self.step(Tick())

    def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Start(key):
                self._start(key, instruction)
            case Stop(key, attempt):
                assert self.running[key].start.attempt == attempt
                assert not self.running[key].stop, "told twice to stop"
                self.running[key].stop = True
            case Unpublish(engines):
                for engine in engines:
                    assert not self._claimants(engine), "retired although a spec wants it"
                    assert all(engine not in dict(b.facts.engines) for b in self.running.values())
                    self.world.live.pop(engine, None)
            case Save(status):
                assert instruction != self.saved.get(status.key), "saved although nothing changed"
                self.saved[status.key] = instruction
            case Forget(key):
                assert key not in self.told
                assert key not in self.running
                self.saved.pop(key, None)
            case _:
                pass

    def _start(self, key: str, start: Start) -> None:
        told = self.told[key]
        assert self.scanned, "started although nobody knows what is there"
        assert key not in self.running, "two builds of one spec"
        assert told.facts is not None, "a faulty spec is built"
        assert told.settled, "files that are still changing are built"
        assert key not in self.paused, "a paused spec is built"
        assert not self.rivals(key), "a spec in conflict is built"
        assert start.reasons
        engines = {engine for engine, _ in told.facts.engines}
        assert all(engines.isdisjoint(dict(b.facts.engines)) for b in self.running.values()), "two builds of one engine"
        builder = self.running[key] = StandInBuilder(start, told, told.facts)
        if start.attempt % 2:  # every other one is quick
            builder.look(self.world)
        self.builds += 1
        self._check_room()

    def _check_room(self) -> None:
        running = [builder.facts for builder in self.running.values()]
        for device, slots in CAPACITY.slots:
            assert sum(facts.device == device for facts in running) <= slots
        taken = sum(CAPACITY.build_memory_bytes if f.memory_bytes is None else f.memory_bytes for f in running)
        assert taken <= CAPACITY.memory_bytes or len(running) == 1

    def rivals(self, key: str) -> set[str]:
        """Keys of settled, valid specs that claim a name of this one."""
        mine, names = self.told[key], set[Name]()
        if mine.facts is not None and mine.settled:
            names = _names(mine.facts)
        others = {k: o.facts for k, o in self.told.items() if k != key and o.facts is not None and o.settled}
        return {k for k, facts in others.items() if names & _names(facts)}

    def _claimants(self, engine: str) -> list[str]:
        facts = {key: told.facts for key, told in self.told.items() if told.facts is not None}
        return [key for key, f in facts.items() if engine in dict(f.engines)]

    def check(self) -> None:
        """What must hold between any two events."""
        board = self.reconciler._board
        statuses = {status.key: status for status in self.reconciler.statuses()}
        for key in self.told:
            saved = read(self.saved[key].memory)
            assert saved is not None
            assert saved.memory == board.subjects[key].memory, "something that must survive was not saved"
            assert self.saved[key].status == statuses[key]
            builder = self.running.get(key)
            if builder is not None and not builder.stop:
                fault = self.told[key].fault if self.told[key].settled else None
                assert fault is None or fault.retry != "never", "the build of a faulty spec goes on"
                assert not self.rivals(key), "the build of a spec in conflict goes on"
        assert self.reconciler.running == {key: b.start.attempt for key, b in self.running.items()}
        phases = [status.phase for status in statuses.values()]
        assert self.reconciler.counts() == {phase: phases.count(phase) for phase in phases}
        assert self.reconciler.queued == phases.count("queued")
        wake = self.reconciler.next_wake()
        assert wake is None or wake > self.mono_s, "something that is due was not done"

    def come_to_rest(self) -> None:
        """Let everything become still and every build succeed that can; people resume and retry what waits for them."""
        self.world.moving.clear()
        self.world.unreadable.clear()
        self.world.away = False
        for _ in range(3):
            self.scan()
        for key in sorted(self.paused):
            assert self.say("resume", key).problem is None
        self._work_off()
        for status in self.reconciler.statuses():
            if status.phase in ("stalled", "stale"):
                assert self.say("retry", status.key).problem is None
        self._work_off()
        before = self.builds
        for _ in range(4):
            self.scan()
            self.wait(TIMING.backoff_max_s)
        assert self.builds == before, "it never comes to rest"

    def _work_off(self) -> None:
        bound = self.builds + 10 + 8 * len(self.world.specs)
        while True:
            while self.running:
                assert self.builds <= bound, "it builds for ever"
                key = min(self.running)
                builder = self.running[key]
                if builder.outcome is None and not builder.stop:
                    if builder.read is None:
                        builder.look(self.world)
                    builder.work(self.world, "good")
                self.end(key)
                self.scan()
                self.check()
            for _ in range(SCANS_TO_TRUST):  # until then a build's word stands against the scan's
                self.scan()
            if self.running:
                continue
            wake = self.reconciler.next_wake()
            if wake is None:
                break
            self.wait(wake - self.mono_s)
        assert not self.reconciler.queued

    def result(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Phase of each spec and, if it is ready, what is published of it."""
        statuses: dict[str, SubjectStatus] = {status.key: status for status in self.reconciler.statuses()}
        assert statuses.keys() == self.world.specs.keys()
        found: dict[str, tuple[str, tuple[str, ...]]] = {}
        for key, status in statuses.items():
            engines = [engine for engine, _ in self.world.specs[key].facts.engines]
            content = tuple(self.world.live[e][1] for e in engines) if status.phase == "ready" else ()
            assert status.ready == (status.phase == "ready")
            found[key] = (status.phase, content)
        return found


def _names(facts: SpecFacts) -> set[Name]:
    return {Name("spec", facts.name), *(Name("engine", engine) for engine, _ in facts.engines)}
