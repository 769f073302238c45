"""A spec with several targets: subjects that share a file and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.daemon.driver import Driver, done, engine, facts_of, failure, observed, of, started, stopped
from trtd.daemon.messages import (
    Answer,
    Command,
    Failure,
    Finished,
    Forget,
    Gone,
    Observed,
    Outcome,
    Scanned,
    Seen,
    Unpublish,
)
from trtd.status import Problem, SubjectStatus

CPU, TRT = "det.toml#onnxruntime-cpu", "det.toml#tensorrt"


def part(key: str, **changes: Any) -> Observed:
    """One target of ``det.toml``, valid and settled."""
    target = key.partition("#")[2]
    device = "GPU-1" if target == "tensorrt" else "cpu"
    facts = facts_of(f"det-{target}", target=target, device=device, on_delete="unpublish")
    return replace(observed(f"det-{target}", facts=facts), key=key, **changes)


@pytest.fixture
def driver() -> Driver:
    """Both are being built."""
    made = Driver()
    for key in (CPU, TRT):
        made.step(Seen(part(key)))
    assert started(made.step(Scanned())) == [CPU, TRT]
    return made


def finish(driver: Driver, key: str, outcome: Outcome) -> None:
    driver.step(Finished(key, driver.reconciler.running[key], outcome))


def status(driver: Driver, key: str) -> SubjectStatus:
    return next(found for found in driver.reconciler.statuses() if found.key == key)


def test_one_fails_and_backs_off_while_the_other_is_published(driver: Driver) -> None:
    """A target without its device would drag those down that are built, and all be built again at each try."""
    finish(driver, TRT, Outcome("", (), failure("backoff", "the GPU fell off the bus")))
    assert status(driver, TRT).phase == "backoff"
    finish(driver, CPU, done(engine("det-onnxruntime-cpu")))
    driver.step(Seen(part(CPU, versions=(("det-onnxruntime-cpu", 1),))))
    assert (status(driver, CPU).phase, status(driver, TRT).phase) == ("ready", "backoff")
    assert (status(driver, CPU).name, status(driver, CPU).target) == ("det-onnxruntime-cpu", "onnxruntime-cpu")
    assert started(driver.wait(10_000)) == [TRT]


@pytest.mark.parametrize("name", ["det-tensorrt", TRT])
def test_orders_are_for_one_of_them(driver: Driver, name: str) -> None:
    """`trtd cancel det-tensorrt` would stop the build for the CPU too."""
    assert driver.say("cancel", name).problem is None
    assert stopped(driver.out) == [TRT]


@pytest.mark.parametrize("name", ["det", "det.toml"])
def test_the_files_name_is_not_enough_to_say_which(driver: Driver, name: str) -> None:
    """An order would hit whichever comes first."""
    answer = driver.say("cancel", name)
    assert answer.problem is not None
    assert answer.problem.message == f"{name} is built for several targets: det-onnxruntime-cpu, det-tensorrt"
    assert not stopped(driver.out)
    driver.step(Gone(CPU))
    assert driver.say("pause", name).problem is None  # the only one is meant


def test_one_that_is_listed_no_more_is_stopped_and_retired_alone(driver: Driver) -> None:
    """Its build would go on, and its engine serve for ever; or the others' with it."""
    for key in (CPU, TRT):
        name = f"det-{key.partition('#')[2]}"
        finish(driver, key, done(engine(name)))
        driver.step(Seen(part(key, versions=((name, 1),))))
    for key in (CPU, TRT):
        driver.step(Seen(part(key, spec_digest="spec-2", versions=((f"det-{key.partition('#')[2]}", 1),))))
    assert set(driver.reconciler.running) == {CPU, TRT}
    assert stopped(driver.step(Gone(TRT))) == [TRT]
    driver.step(Scanned())
    finish(driver, TRT, Outcome("", (), failure("backoff", "was stopped")))
    assert of(Unpublish, driver.out) == [Unpublish(("det-tensorrt",))]
    assert of(Forget, driver.out) == [Forget(TRT)]
    assert driver.told() == [
        ("stopped", "the build was stopped: no spec asks for it any more"),
        ("removed", "no spec asks for it any more; no longer published: det-tensorrt"),
    ]
    assert list(driver.reconciler.running) == [CPU]


def test_one_that_is_listed_again_before_its_build_has_ended(driver: Driver) -> None:
    """It would be forgotten with the build that is being stopped, or two builds of it run at once."""
    driver.step(Gone(TRT))
    assert not started(driver.step(Seen(part(TRT, spec_digest="spec-3"))))
    assert not started(driver.step(Scanned()))
    finish(driver, TRT, Outcome("", (), failure("backoff", "was stopped")))
    assert started(driver.out) == [TRT]
    assert not of(Forget, driver.out)


def test_a_fault_is_shown_by_the_names_of_the_targets(driver: Driver) -> None:
    """The rows of one file would all be called by its stem."""
    fault = Failure(Problem("spec", "line 1: a typo"), "never")
    for key in (CPU, TRT):
        driver.step(Seen(part(key, spec_digest="spec-2", facts=None, fault=fault)))
    assert {(s.name, s.target, s.phase) for s in driver.reconciler.statuses()} == {
        ("det-onnxruntime-cpu", "onnxruntime-cpu", "invalid"),
        ("det-tensorrt", "tensorrt", "invalid"),
    }
    (answer,) = of(Answer, driver.step(Command("retry", "det-tensorrt")))
    assert answer.problem is not None
    assert answer.problem.hint == "mend det.toml, it is read again when it changes: trtd check FILE"


def test_a_file_that_only_settled_goes_without_a_word() -> None:
    """Each new spec with a list of targets would be told to be removed, before its targets are told of."""
    driver = Driver()
    driver.step(Seen(Observed("det.toml", "", None, settled=False)))
    driver.step(Gone("det.toml"))
    assert of(Forget, driver.out) == [Forget("det.toml")]
    assert driver.told() == []
    fault = Failure(Problem("spec", "line 1: a typo"), "never")
    driver.step(Seen(Observed("det.toml", "spec-1", None, fault)))
    driver.step(Gone("det.toml"))
    assert driver.told() == [("removed", "no spec asks for it any more; what it published stays")]
