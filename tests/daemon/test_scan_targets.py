"""The full scan of specs that list targets: each is a subject of its own, whatever becomes of its file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.driver import engine
from tests.daemon.scene import INPUTS_S, PERIOD_S, SPEC_S, Scene
from trtd.daemon import spec_file
from trtd.daemon.evidence import Evidence, leave
from trtd.daemon.messages import EngineOutcome, Observed, Outcome, SpecFacts
from trtd.engines import gpu

CPU, TRT, RTX = "onnxruntime-cpu", "tensorrt", "tensorrt-rtx"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def write(scene: Scene, *targets: str, name: str = "a.toml", more: str = "") -> Path:
    """A spec with a list of targets."""
    return scene.spec(name, engine=f"target = {json.dumps(targets)}\n{more}")


def facts(scene: Scene, key: str) -> SpecFacts:
    found = scene.known[key].facts
    assert found is not None
    return found


def keys(*targets: str) -> list[str]:
    return [f"a.toml#{target}" for target in targets]


# ------------------------------------------------------------------------------------------------- what is told of each


def test_each_target_of_a_list_is_a_subject(scene: Scene) -> None:
    """One that fails would keep the others from being built, and from being told apart."""
    write(scene, CPU, TRT, more='precision = ["int8", "fp16"]')
    cpu, trt = scene.settled(*keys(CPU, TRT))
    assert list(scene.known) == keys(CPU, TRT)
    assert cpu.facts == SpecFacts(f"a-{CPU}", ((f"a-{CPU}-int8", "int8"), (f"a-{CPU}-fp16", "fp16")), CPU)
    assert trt.facts == SpecFacts(f"a-{TRT}", ((f"a-{TRT}-int8", "int8"), (f"a-{TRT}-fp16", "fp16")), TRT)
    assert cpu.versions == ((f"a-{CPU}-int8", None), (f"a-{CPU}-fp16", None))
    assert "onnxruntime" in dict(cpu.tools)
    assert "device.gpu" in dict(trt.tools).keys() - dict(cpu.tools).keys()
    assert (cpu.spec_digest, cpu.inputs_digest) == (trt.spec_digest, trt.inputs_digest)
    assert scene.scanner.path(trt.key) == scene.registry.specs / "a.toml"
    assert scene.scanner.listings(trt.key) == scene.scanner.listings(cpu.key) != ()


def test_a_list_of_one_is_a_list(scene: Scene) -> None:
    """Its engine is called NAME-TARGET, as that of a longer list is: its key must not change when the list grows."""
    write(scene, TRT)
    [only] = scene.settled()
    assert only.key == f"a.toml#{TRT}"
    assert facts(scene, only.key).name == f"a-{TRT}"


def test_a_new_file_settles_by_its_own_name(scene: Scene) -> None:
    """Nobody knows its targets before it is read; once they are known, the file itself is no subject any more."""
    write(scene, CPU, TRT)
    [first] = scene.scan().seen
    assert (first.key, first.facts, first.settled) == ("a.toml", None, False)
    result = scene.scan(SPEC_S)
    assert result.gone == ["a.toml"]
    assert [(seen.key, seen.settled) for seen in result.seen] == [(key, False) for key in keys(CPU, TRT)]
    assert [seen.key for seen in scene.scan(INPUTS_S).seen] == keys(CPU, TRT)


def test_a_published_version_is_news_for_its_target_alone(scene: Scene) -> None:
    """Every target would be decided anew whenever one was published."""
    write(scene, CPU, TRT)
    scene.settle()
    (scene.registry.engines / f"a-{TRT}" / "1").mkdir(parents=True)
    [seen] = scene.scan(PERIOD_S).seen
    assert (seen.key, seen.versions) == (f"a.toml#{TRT}", ((f"a-{TRT}", 1),))


def test_records_tell_of_each_target_by_itself(scene: Scene) -> None:
    """With the state database lost, a target that never succeeded would cost those that did a build process each."""
    write(scene, CPU, TRT)
    cpu, _ = scene.settled(*keys(CPU, TRT))
    name = f"a-{CPU}"
    for folder in (scene.registry.engines / name / "1", scene.registry.record(name, 1)):
        folder.mkdir(parents=True)
    made = Evidence(cpu.spec_digest, scene.scanner.listings(cpu.key), cpu.tools)
    leave(scene.registry, made, Outcome("", (EngineOutcome(engine(name, 1), "plan", True),)))
    scene.start()
    scene.scan()
    result = scene.scan(SPEC_S)
    assert [(recorded.key, recorded.spec_digest) for recorded in result.recorded] == [(cpu.key, cpu.spec_digest)]
    assert [seen.settled for seen in result.seen] == [True, True]  # what one was made from had settled


# ------------------------------------------------------------------------------------------------ when the list changes


def as_text(target: str) -> str:
    return f'target = "{target}"'


def as_list(*targets: str) -> str:
    return f"target = {json.dumps(targets)}"


@pytest.mark.parametrize(
    ("before", "after", "gone", "there"),
    [
        (as_list(CPU, TRT, RTX), as_list(CPU), keys(TRT, RTX), keys(CPU)),
        (as_list(CPU), as_list(TRT, CPU, RTX), [], keys(CPU, TRT, RTX)),
        (as_list(CPU, TRT), as_list(TRT, CPU), [], keys(CPU, TRT)),
        (as_list(CPU, TRT), as_list(RTX), keys(CPU, TRT), keys(RTX)),
        (as_text(TRT), as_list(TRT), ["a.toml"], keys(TRT)),
        (as_list(TRT, CPU), as_text(TRT), keys(TRT, CPU), ["a.toml"]),
        (as_text(TRT), as_text(CPU), [], ["a.toml"]),
    ],
    ids=["shrinks", "grows", "order", "others", "text to list", "list to text", "text to text"],
)
def test_those_that_are_listed_no_more_are_gone_and_the_others_stay(
    scene: Scene, before: str, after: str, gone: list[str], there: list[str]
) -> None:
    """An engine that no spec asks for would stay for ever; or one that is asked for be retired and built again."""
    scene.spec(engine=before)
    scene.settle()
    del scene.gone[:]
    scene.spec(engine=after)
    assert (scene.scan().seen, scene.gone) == ([], [])  # what is known stands until the new bytes have settled
    result = scene.scan(SPEC_S)
    assert result.gone == gone
    assert all(seen.settled for seen in result.seen)  # its model and data are no others
    scene.settle()
    assert (scene.gone, sorted(scene.known)) == (gone, sorted(there))


def test_a_target_that_is_listed_again_is_as_good_as_a_new_one(scene: Scene) -> None:
    """It would be taken for told already, and never be built."""
    for targets in ((CPU, TRT), (CPU,), (CPU, TRT)):
        write(scene, *targets)
        scene.settle()
    assert [key for key in scene.gone if key != "a.toml"] == keys(TRT)
    assert sorted(scene.known) == keys(CPU, TRT)
    assert facts(scene, f"a.toml#{TRT}").target == TRT


def test_a_fault_is_told_under_each_target_that_the_file_had(scene: Scene) -> None:
    """A typo would retire every engine of the list; or leave one of them ready, as if nothing were wrong."""
    write(scene, CPU, TRT)
    before = scene.settled(*keys(CPU, TRT))
    del scene.gone[:]
    scene.spec(head="precison = 1")
    for seen in scene.settled(*keys(CPU, TRT)):
        assert seen.facts is None
        assert seen.fault is not None
        assert seen.fault.problem.where.endswith("/a.toml")
    assert (len(scene.known), scene.gone) == (2, [])
    write(scene, CPU, TRT)
    assert (scene.settled(*keys(CPU, TRT)), scene.gone) == (before, [])
    scene.spec(head="precison = 1")
    scene.settle()
    write(scene, TRT)
    scene.settle()
    assert (scene.gone, list(scene.known)) == (keys(CPU), keys(TRT))


def test_a_fault_of_a_file_that_was_never_without_one_is_its_own(scene: Scene) -> None:
    """It would not be shown at all; or stay, at fault, beside the targets that it has come to list."""
    scene.spec(head="precison = 1")
    [wrong] = scene.settled()
    assert (wrong.key, wrong.facts) == ("a.toml", None)
    write(scene, CPU, TRT)
    scene.settle()
    assert (scene.gone, list(scene.known)) == (["a.toml"], keys(CPU, TRT))


@pytest.mark.parametrize("is_faulty", [False, True])
def test_a_file_that_vanishes_takes_all_its_targets_along_once(scene: Scene, is_faulty: bool) -> None:
    """One of them would be built for ever from a file that is not there."""
    file = write(scene, CPU, TRT)
    scene.settle()
    if is_faulty:
        file.write_text("nonsense = 1")
        scene.settle()
    del scene.gone[:]
    file.unlink()
    scene.settle()
    assert (scene.gone, scene.known) == (keys(CPU, TRT), {})
    write(scene, TRT)
    scene.settle()
    assert list(scene.known) == keys(TRT)


def test_data_outside_the_allowed_folders_is_a_fault_of_each_target(scene: Scene, tmp_path: Path) -> None:
    """One target would be refused and the other built from what the operator has closed."""
    shutil.rmtree(scene.data)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    scene.data.symlink_to(elsewhere)
    write(scene, CPU, TRT)
    for seen in scene.settled(*keys(CPU, TRT)):
        assert seen.fault is not None
        assert "outside the folders" in seen.fault.problem.message


# -------------------------------------------------------------------------------------------------------------- restart


def test_a_restart_reads_nothing_again_and_loses_nobody(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target would be forgotten and built anew, or settle for ten seconds, after each restart."""
    write(scene, CPU, TRT)
    write(scene, CPU, TRT, name="b.toml")
    scene.settle()
    scene.spec("b.toml", head="nonsense = 1")
    scene.settle()
    before = dict(scene.known)
    assert len(before) == 4
    del scene.gone[:]
    scene.restart()
    monkeypatch.setattr(spec_file, "load_spec", None)  # whoever calls it is told so as a fault of the spec
    result = scene.scan()
    assert (scene.known, scene.gone, result.next_due_mono_s) == (before, [], None)


def test_a_list_that_changed_while_nobody_looked(scene: Scene) -> None:
    """What is listed no more would stay; or all of them be built before the file is known to be whole."""
    write(scene, CPU, TRT)
    scene.settle()
    before = dict(scene.known)
    del scene.gone[:]
    write(scene, CPU, RTX)
    scene.restart()
    assert scene.scan().gone == []
    assert {key: (seen.facts, seen.settled) for key, seen in scene.known.items()} == {
        key: (seen.facts, False) for key, seen in before.items()
    }
    scene.settle()
    assert (scene.gone, sorted(scene.known)) == (keys(TRT), sorted(keys(CPU, RTX)))


def test_a_file_that_vanished_while_nobody_looked(scene: Scene) -> None:
    """Its targets would be shown for ever."""
    file = write(scene, CPU, TRT)
    scene.settle()
    del scene.gone[:]
    file.unlink()
    scene.restart()
    assert scene.scan().gone == keys(CPU, TRT)


def test_memories_that_do_not_fit_together(scene: Scene) -> None:
    """A daemon that dies while it writes leaves rows of targets that are listed no more, or torn ones."""
    write(scene, CPU, TRT)
    scene.settle()
    stale = scene.scanner.memory(f"a.toml#{TRT}")
    write(scene, CPU)
    [now] = scene.settled()
    fresh = scene.scanner.memory(now.key)
    rows = [(f"a.toml#{TRT}", stale), (now.key, fresh), ("a.toml", "torn"), (f"a.toml#{RTX}", "torn")]
    for order in (rows, rows[::-1]):
        scene.start()
        scene.known.clear()
        scene.scanner.restore(order)
        assert scene.settled() == [now]


def test_a_torn_memory_of_every_target_is_found_out_anew(scene: Scene) -> None:
    """Until the file is read, its targets must be told as settling: who is not told of is taken for deleted."""
    write(scene, CPU, TRT)
    before = scene.settled(*keys(CPU, TRT))
    scene.start()
    scene.known.clear()
    del scene.gone[:]
    scene.scanner.restore([(key, "torn") for key in keys(CPU, TRT)])
    assert [(seen.key, seen.facts, seen.settled) for seen in scene.scan().seen] == [
        (key, None, False) for key in keys(CPU, TRT)
    ]
    assert (scene.settled(*keys(CPU, TRT)), scene.gone) == (before, [])


# -------------------------------------------------------------------------------------------------------------- devices


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what the driver's files say: the GPUs are asked for again only when they change."""
    (tmp_path / "driver" / "gpus" / "0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(gpu, "_DRIVER", tmp_path / "driver")

    def say(text: str) -> None:
        (tmp_path / "driver" / "version").write_text("580")
        (tmp_path / "driver" / "gpus" / "0000:01:00.0" / "information").write_text(text)

    say("none")
    return say


def devices(scene: Scene) -> dict[str, str]:
    return {key.rpartition("#")[2]: facts(scene, key).device for key in scene.known}


def tools(seen: dict[str, Observed]) -> dict[str, object]:
    return {key.rpartition("#")[2]: observed.tools for key, observed in seen.items()}


def test_a_gpu_comes_and_goes_and_facts_follow(
    scene: Scene, gpus_here: Callable[..., None], driver: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds would share a GPU that is counted as the CPU, or wait for one that was pulled, until a restart."""
    gpus_here()
    write(scene, CPU, TRT, RTX)
    scene.settle()
    assert devices(scene) == {CPU: "cpu", TRT: "cpu", RTX: "cpu"}
    before = tools(scene.known)
    monkeypatch.setenv("STAND_IN_GPUS", "8.9")
    driver("a GPU came")
    assert scene.scan(PERIOD_S).seen == []  # it counts once it has been still
    result = scene.scan(INPUTS_S)
    assert [seen.key for seen in result.seen] == keys(TRT, RTX)
    assert result.devices == {"cpu", "GPU-stand-in-0"}
    assert devices(scene) == {CPU: "cpu", TRT: "GPU-stand-in-0", RTX: "GPU-stand-in-0"}
    assert dict(scene.known[f"a.toml#{TRT}"].tools)["device.gpu"] == "Stand-in GPU 0 (8.9)"
    monkeypatch.setenv("STAND_IN_GPUS", "")
    driver("it went")
    scene.settle()
    assert devices(scene) == {CPU: "cpu", TRT: "cpu", RTX: "cpu"}
    assert tools(scene.known) == before


def test_what_is_built_ahead_of_time_occupies_the_gpu_that_it_is_proved_on(
    scene: Scene, gpus_here: Callable[..., None], driver: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead-of-time builds would queue for a GPU that they never touch; or a proof run beside another build.

    The GPU is no ingredient of such an engine: its coming and going must rebuild nothing.
    """
    gpus_here("9.0")
    write(scene, TRT, RTX, more='compute_capabilities = ["8.6", "8.9"]')
    scene.settle()
    assert devices(scene) == {TRT: "cpu", RTX: "cpu"}
    before = tools(scene.known)
    assert dict(scene.known[f"a.toml#{TRT}"].tools)["device.gpu"] == "none"
    monkeypatch.setenv("STAND_IN_GPUS", "9.0,8.9")
    driver("a second GPU came")
    scene.settle()
    assert devices(scene) == {TRT: "GPU-stand-in-1", RTX: "GPU-stand-in-1"}
    assert tools(scene.known)[RTX] == before[RTX]
    assert tools(scene.known)[TRT] != before[TRT]


def test_the_driver_is_not_asked_while_nothing_changes(
    scene: Scene, gpus_here: Callable[..., None], driver: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking wakes a GPU that sleeps, at each scan."""
    gpus_here("8.9")
    write(scene, CPU, TRT, RTX)
    scene.settle()
    monkeypatch.setenv("STAND_IN_GPU_FAULT", "lost")
    for _ in range(5):
        assert scene.scan(PERIOD_S).seen == []
    os.utime(scene.registry.specs / "a.toml")
    scene.settle()
    assert devices(scene)[TRT] == "GPU-stand-in-0"
