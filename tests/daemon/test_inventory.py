"""Scanning and telling, with everything real but the children and the clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from tests.daemon.scene import INPUTS_S, PERIOD_S, SPEC_S, Scene
from trtd.daemon.children import Children
from trtd.daemon.config import config_from_text
from trtd.daemon.devices import Device, devices
from trtd.daemon.inventory import Inventory
from trtd.daemon.messages import Finished, Now, Outcome, Start
from trtd.daemon.notify import Notifier
from trtd.daemon.parts import Parts, open_parts
from trtd.daemon.perform import Performer
from trtd.daemon.policy import capacity
from trtd.daemon.wire import BuilderJob
from trtd.status import Phase

CPU, TRT = "a.toml#onnxruntime-cpu", "a.toml#tensorrt"


@dataclass
class StandInChildren:
    """Build processes that run until a test ends them."""

    jobs: dict[str, BuilderJob] = field(default_factory=dict)
    started: list[Start] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def start(self, start: Start, job: BuilderJob, now_mono_s: float) -> None:
        self.jobs[start.key] = job
        self.started.append(start)

    def stop(self, key: str, attempt: int, now_mono_s: float) -> None:
        self.stopped.append(key)


class House:
    """A daemon without its loop."""

    def __init__(self, parts: Parts, scene: Scene) -> None:
        self.scene, self.parts = scene, parts
        self.children = StandInChildren()
        parts.children = cast(Children, self.children)
        self.do = Performer(parts)
        self.do.step(capacity(parts.config, [device.id for device in parts.devices]), self.now)
        self.inventory = Inventory(parts, self.do, ())

    @property
    def now(self) -> Now:
        return Now(self.scene.now, self.scene.now)

    def write(self, *targets: str) -> None:
        self.scene.spec(engine=f"target = {json.dumps(targets)}")

    def settle(self) -> None:
        for after_s in (0.0, SPEC_S, INPUTS_S, PERIOD_S):
            self.scene.now += after_s
            self.inventory.look(self.now)

    def end(self, key: str) -> None:
        """The last build of a subject ends without having told anything."""
        attempt = next(start.attempt for start in reversed(self.children.started) if start.key == key)
        self.do.step(Finished(key, attempt, Outcome("")), self.now)

    @property
    def phases(self) -> dict[str, Phase]:
        return {status.key: status.phase for status in self.parts.reconciler.statuses()}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    scene = Scene(tmp_path)
    text = f"[watch]\nsettle_spec_s = {SPEC_S}\nsettle_s = {INPUTS_S}\nperiod_s = {PERIOD_S}\n[limits]\nbuilds = 2\n"
    config = config_from_text(text, file="trtd.toml")
    with open_parts(scene.registry, config, None, "0", Notifier({})) as parts:
        real = parts.children
        yield House(parts, scene)
        parts.children = real


def test_each_target_gets_a_build_of_its_own(house: House) -> None:
    """A job without its target would build them all, or the first one twice."""
    house.write("onnxruntime-cpu", "tensorrt")
    house.settle()
    assert {key: job.part for key, job in house.children.jobs.items()} == {CPU: "onnxruntime-cpu", TRT: "tensorrt"}
    assert {job.spec for job in house.children.jobs.values()} == {house.scene.registry.specs / "a.toml"}
    assert house.phases == {CPU: "building", TRT: "building"}


def test_a_new_configuration_brings_nobody_back(house: House) -> None:
    """A target that is listed no more, while its build is being stopped, would be told again and stay for ever."""
    house.write("onnxruntime-cpu", "tensorrt")
    house.settle()
    house.write("onnxruntime-cpu")
    house.settle()
    assert house.children.stopped == [TRT]
    house.inventory.renew(house.now)
    house.settle()
    house.end(TRT)
    assert house.phases == {CPU: "building"}
    assert [start.key for start in house.children.started] == [CPU, TRT]
    assert set(house.do.observed) == {CPU}


def test_devices_are_those_that_are_here_or_that_builds_occupy(
    house: House, gpus_here: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU that came later would not be shown, and what runs on it neither; the stand-in has no file in /proc."""
    here = devices()
    gpus_here("8.9")
    house.write("onnxruntime-cpu", "tensorrt")
    house.settle()
    assert house.parts.devices == (*here, Device("GPU-stand-in-0", "GPU-stand-in-0"))
    assert house.parts.reconciler.occupied("GPU-stand-in-0") == 1
    found: list[Any] = [*here, Device("GPU-new", "a GPU that came")]
    monkeypatch.setattr("trtd.daemon.inventory.devices", lambda: tuple(found))
    house.settle()
    assert house.parts.devices == (*found, Device("GPU-stand-in-0", "GPU-stand-in-0"))
