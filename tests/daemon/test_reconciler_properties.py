"""Whatever happens in whatever order: where everything comes to rest depends on specs, models and tools alone.

500 runs of 50 steps. ``TRTD_SOAK=N`` makes it N times as many.
"""

from __future__ import annotations

import os
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.daemon.stand_in_shell import StandInShell
from tests.daemon.stand_in_world import Fate, StandInSpec, StandInWorld
from trtd.daemon.messages import CommandName

KEYS = ("a.toml", "b.toml", "c.toml#onnxruntime-cpu", "c.toml#tensorrt")
RUNS = 500 * int(os.environ.get("TRTD_SOAK", "1"))

specs = st.builds(
    StandInSpec,
    name=st.sampled_from(["x", "y", "z", "x-int8"]),
    edit=st.integers(0, 2),
    precisions=st.sampled_from([("int8",), ("int8", "fp16")]),
    valid=st.sampled_from([True, True, True, True, True, False]),
    hopeless=st.sampled_from([False, False, False, False, True]),
    rebuild=st.sampled_from(["auto", "ask"]),
    on_delete=st.sampled_from(["keep", "unpublish"]),
    priority=st.integers(0, 1),
    device=st.sampled_from(["cpu", "cpu", "GPU-1"]),
    memory_bytes=st.sampled_from([None, 60, 500]),
)
keys = st.sampled_from(KEYS)
fates = st.sampled_from(["good", "good", "good", "never", "wait", "backoff", "half"])
commands = st.sampled_from(["pause", "resume", "retry", "cancel"])


class Daemon(RuleBasedStateMachine):
    """A daemon in its world; each rule is something that happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = StandInWorld()
        self.shell = StandInShell(self.world)

    @initialize(names=st.lists(st.sampled_from(["x", "y", "z"]), max_size=3, unique=True), base=specs)
    def begin(self, names: list[str], base: StandInSpec) -> None:
        """Some specs that are in order are there from the beginning."""
        for key, name in zip(KEYS, names, strict=False):
            self.world.specs[key] = replace(base, name=name, valid=True)
            self.world.listings[key] = self.world.data[key] = 0
        self.shell.scan()

    @rule(key=keys, spec=specs, moving=st.booleans(), scan=st.booleans())
    def write(self, key: str, spec: StandInSpec, moving: bool, scan: bool) -> None:
        """A spec is added, edited, renamed, broken, or comes to claim what others claim."""
        self.world.specs[key] = spec
        self.world.listings.setdefault(key, 0)
        self.world.data.setdefault(key, 0)
        if moving:
            self.world.moving.add(key)
        if scan:
            self.shell.scan()

    @precondition(lambda self: self.world.specs)
    @rule(index=st.integers(0, 3), name=st.sampled_from(["w", "x", "y"]))
    def rename(self, index: int, name: str) -> None:
        """A valid edit of one line."""
        key = self._one(index)
        self.world.specs[key] = replace(self.world.specs[key], name=name, valid=True)
        self.shell.scan()

    @precondition(lambda self: self.world.specs)
    @rule(index=st.integers(0, 3), other=keys)
    def move(self, index: int, other: str) -> None:
        """``mv a.toml b.toml``"""
        key = self._one(index)
        world = self.world
        world.specs[other], world.listings[other] = world.specs.pop(key), world.listings.pop(key)
        world.data[other] = world.data.pop(key)
        self.shell.scan()

    @precondition(lambda self: self.world.specs)
    @rule(index=st.integers(0, 3), really=st.booleans(), moving=st.booleans())
    def touch_model(self, index: int, really: bool, moving: bool) -> None:
        key = self._one(index)
        self.world.listings[key] += 1
        self.world.data[key] += really
        if moving:
            self.world.moving.add(key)
        self.shell.scan()

    @precondition(lambda self: self.world.moving)
    @rule()
    def become_still(self) -> None:
        self.world.moving.clear()
        self.shell.scan()

    @precondition(lambda self: self.world.specs)
    @rule(index=st.integers(0, 3))
    def delete(self, index: int) -> None:
        key = self._one(index)
        del self.world.specs[key]
        self.world.moving.discard(key)
        self.world.unreadable.discard(key)
        self.shell.scan()

    @precondition(lambda self: self.world.specs)
    @rule(index=st.integers(0, 3))
    def disk_errors_come_and_go(self, index: int) -> None:
        self.world.unreadable ^= {self._one(index)}
        self.shell.scan()

    @rule(scan=st.booleans())
    def the_folder_of_specs_goes_and_comes(self, scan: bool) -> None:
        """A disk is unmounted and mounted again, a registry moved away and back."""
        self.world.away = not self.world.away
        if scan:
            self.shell.scan()

    @rule()
    def upgrade_tools(self) -> None:
        self.world.tools += 1
        self.shell.scan()

    @precondition(lambda self: self.world.live)
    @rule(index=st.integers(0, 7), remove=st.booleans())
    def somebody_changes_the_registry(self, index: int, remove: bool) -> None:
        """An engine is removed by hand, or published again as it is."""
        engine = sorted(self.world.live)[index % len(self.world.live)]
        _, content = self.world.live.pop(engine)
        if not remove:
            self.world.publish(engine, content)

    @rule()
    def scan(self) -> None:
        self.shell.scan()

    @rule(index=st.integers(0, 3), command=commands)
    @precondition(lambda self: self.world.specs)
    def say(self, index: int, command: CommandName) -> None:
        self.shell.say(command, self._one(index))

    @precondition(lambda self: self.shell.running)
    @rule(index=st.integers(0, 3))
    def builder_reads(self, index: int) -> None:
        builder = self.shell.running[self._running(index)]
        if builder.outcome is None:
            builder.look(self.world)

    @precondition(lambda self: self.shell.running)
    @rule(index=st.integers(0, 3), fate=fates)
    def builder_publishes(self, index: int, fate: Fate) -> None:
        """It has published, and has not told yet."""
        builder = self.shell.running[self._running(index)]
        if builder.read is not None and builder.outcome is None:
            builder.work(self.world, fate)

    @precondition(lambda self: self.shell.running)
    @rule(index=st.integers(0, 3), fate=fates)
    def builder_ends(self, index: int, fate: Fate) -> None:
        key = self._running(index)
        builder = self.shell.running[key]
        if builder.outcome is None and not builder.stop:
            if builder.read is None:
                builder.look(self.world)
            builder.work(self.world, fate)
        self.shell.end(key)

    @precondition(lambda self: self.shell.running)
    @rule(fate=fates)
    def all_builders_end(self, fate: Fate) -> None:
        for _ in range(len(self.shell.running)):
            self.builder_ends(0, fate)
        self.shell.scan()

    @rule(seconds=st.sampled_from([1.0, 15.0, 40.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.shell.wait(seconds)

    @rule(seconds=st.sampled_from([-1e8, -100.0, 100.0, 1e8]))
    def clock_jumps(self, seconds: float) -> None:
        self.shell.wall_s += seconds

    @rule(jump_s=st.sampled_from([0.0, -1e8, 1e8]), mono_s=st.sampled_from([0.0, 1e6]), scan=st.booleans())
    def crash(self, jump_s: float, mono_s: float, scan: bool) -> None:
        """kill -9 of the daemon, and its builders with it; after a reboot the monotonic clock begins anew."""
        self.shell.wall_s += jump_s
        self.shell.mono_s = mono_s
        self.shell.boot()
        if scan:
            self.shell.scan()

    @precondition(lambda self: self.shell.running)
    @rule(index=st.integers(0, 3), fate=fates, performed=st.integers(0, 3))
    def crash_while_a_build_ends(self, index: int, fate: Fate, performed: int) -> None:
        """kill -9 amid performing instructions: the last ones never happen."""
        paused = set(self.shell.paused)
        self.shell.performed_at_most = performed
        self.builder_ends(index, fate)
        self.shell.performed_at_most = None
        self.shell.paused = paused & self.shell.saved.keys()
        self.shell.boot()
        self.shell.scan()

    @rule(scan=st.booleans())
    def lose_the_state_database(self, scan: bool) -> None:
        """What is published, and the records of it, are all that the next daemon knows."""
        self.shell.lose_state()
        if scan:
            self.shell.scan()

    @invariant()
    def all_is_well(self) -> None:
        self.shell.check()

    def teardown(self) -> None:
        self.shell.come_to_rest()
        world = self.world
        fresh = StandInWorld(dict(world.specs), dict(world.listings), dict(world.data), world.tools)
        other = StandInShell(fresh)
        other.come_to_rest()
        assert self.shell.result() == other.result()

    def _one(self, index: int) -> str:
        return sorted(self.world.specs)[index % len(self.world.specs)]

    def _running(self, index: int) -> str:
        return sorted(self.shell.running)[index % len(self.shell.running)]


Daemon.TestCase.settings = settings(
    max_examples=RUNS,
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
TestDaemon = Daemon.TestCase
