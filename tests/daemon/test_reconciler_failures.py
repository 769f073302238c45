"""What becomes of builds that fail, of one engine and of several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.daemon.driver import (
    Driver,
    about_to_build,
    done,
    engine,
    facts_of,
    failure,
    of,
    started,
)
from trtd.daemon.messages import Blind, EngineOutcome, Finished, Outcome, Scanned, Start
from trtd.status import Problem

NEWER = (("onnxruntime", "1.32.0"), ("trtd", "0.1.0"))


@pytest.fixture
def driver() -> Driver:
    return about_to_build()


def test_never_stalls_until_something_changes(driver: Driver) -> None:
    """What cannot work would be tried again and again; or would not be when it was mended."""
    driver.finish("digits", failure("never", "cosine 0.8 is below 0.99", "gate", "calibrate on more data"))
    status = driver.status("digits")
    assert (status.phase, status.failures, status.next_try_at) == ("stalled", 1, None)
    assert driver.condition("digits", "Stalled").reason == "GateMissed"
    ((kind, text),) = driver.told()
    assert kind == "failed"
    assert "calibrate on more data" in text
    assert "trtd retry digits" in text
    assert not started(driver.wait(1e6))
    for changes in ({"spec_digest": "spec-2"}, {"inputs_digest": "inputs-2"}, {"tools": NEWER}):
        assert started(driver.see("digits", **changes)) == ["digits"]
        driver.finish("digits", failure("never"))
    assert driver.say("retry", "digits").problem is None
    assert driver.reconciler.running == {"digits.toml": 5}


def test_a_fault_that_only_the_build_can_see_is_a_fault_of_the_spec(driver: Driver) -> None:
    """Two lines of one status would contradict each other: a fault, and a spec that has none."""
    driver.finish("digits", failure("never", "publish.unverified: the operator forbids it", "spec"))
    valid = driver.condition("digits", "SpecValid")
    assert (valid.status, valid.reason, valid.message) == (
        False,
        "SpecError",
        "publish.unverified: the operator forbids it",
    )
    driver.see("digits", spec_digest="spec-2")
    assert driver.condition("digits", "SpecValid").status


def test_wait_tries_again_and_does_not_lengthen_a_backoff(driver: Driver) -> None:
    """A lock held by somebody for ten minutes would end in a wait of an hour, or fill the events."""
    kinds = []
    for _ in range(20):
        driver.finish("digits", failure("wait", "somebody holds the lock", "registry-busy"))
        kinds += [kind for kind, _ in driver.told()]
        assert driver.status("digits").phase == "waiting"
        assert driver.reconciler.next_wake() == driver.mono_s + 30
        assert not started(driver.wait(29.9))
        assert started(driver.wait(0.1)) == ["digits"]
        kinds += [kind for kind, _ in driver.told()]
    assert kinds == ["failed"]
    driver.finish("digits", failure("backoff"))
    assert driver.status("digits").failures == 21
    assert started(driver.wait(12)) == ["digits"]


def test_backoff_doubles_to_the_cap_and_only_success_resets_it(driver: Driver) -> None:
    """A crashing build would hammer the machine, or wait for days."""
    delays = []
    for _ in range(14):
        driver.finish("digits", failure("backoff"))
        wake = driver.reconciler.next_wake()
        assert wake is not None
        delays.append(wake - driver.mono_s)
        assert driver.status("digits").next_try_at == pytest.approx(driver.wall_s + delays[-1])
        assert started(driver.wait(delays[-1])) == ["digits"]
    for number, delay in enumerate(delays):
        plain = min(10 * 2**number, 3600)
        assert plain * 0.8 - 1e-6 <= delay <= min(plain * 1.2, 3600) + 1e-6  # sums of floats
    assert len({round(delay / min(10 * 2**n, 3600), 6) for n, delay in enumerate(delays)}) > 3  # jitter
    driver.finish("digits", failure("backoff"))
    assert started(driver.see("digits", spec_digest="spec-2")) == ["digits"]  # an edit is tried at once ...
    driver.finish("digits", failure("backoff"))
    wake = driver.reconciler.next_wake()
    assert wake is not None
    assert wake - driver.mono_s >= 2880  # ... but keeps the count
    driver.wait(3600)
    driver.succeed("digits")
    assert driver.status("digits").failures == 0
    driver.see("digits", spec_digest="spec-3")
    driver.finish("digits", failure("backoff"))
    assert started(driver.wait(12)) == ["digits"]


def test_jitter_differs_between_subjects() -> None:
    """A hundred specs that failed together would come back together."""
    driver = Driver()
    driver.limit(("cpu", 5))
    driver.scan(**{name: {} for name in "abcde"})
    for name in "abcde":
        driver.finish(name, failure("backoff"))
    assert len({status.next_try_at for status in driver.reconciler.statuses()}) == 5


def test_a_silent_builder_has_failed(driver: Driver) -> None:
    """A builder that tells nothing would count as a success."""
    driver.finish("digits", Outcome(""))
    assert driver.status("digits").phase == "backoff"
    assert driver.condition("digits", "Published").status is False


def test_an_outcome_of_another_attempt_is_ignored(driver: Driver) -> None:
    """A late word of a former build would end the present one."""
    assert driver.step(Finished("digits.toml", 99, done(engine("digits")))) == []
    assert driver.step(Finished("other.toml", 1, done(engine("other")))) == []
    assert driver.reconciler.running == {"digits.toml": 1}


def both(int8: EngineOutcome, fp16: EngineOutcome) -> Outcome:
    return Outcome("spec-1", (int8, fp16))


def built(precision: str, version: int) -> EngineOutcome:
    name = f"digits-{precision}"
    return EngineOutcome(engine(name, version, precision, cosine=0.999, speedup=2.0), f"plan-{precision}", True)


def test_the_worst_failure_decides_and_hopeless_plans_are_not_tried_again() -> None:
    """One engine's missed gate would keep the other from being retried, or would be measured again at each retry."""
    driver = Driver()
    driver.scan(digits={"facts": facts_of("digits", "int8", "fp16")})
    missed = EngineOutcome(engine("digits-int8", None), "plan-int8", False, failure("never", "gate missed", "gate"))
    crashed = EngineOutcome(engine("digits-fp16", None, "fp16"), "plan-fp16", False, failure("backoff", "SIGSEGV"))
    driver.finish("digits", both(missed, crashed))
    status = driver.status("digits")
    assert status.phase == "backoff"
    assert status.problem is not None
    assert status.problem.message == "digits-fp16: SIGSEGV (and 1 more failed)"
    (start,) = of(Start, driver.wait(15))
    assert start.stalled_plans == ("plan-int8",)
    unchanged = EngineOutcome(engine("digits-int8", None), "plan-int8", False, unchanged=True)
    driver.finish("digits", both(unchanged, built("fp16", 1)))
    status = driver.status("digits")
    assert (status.phase, status.problem) == ("stalled", Problem("gate", "digits-int8: gate missed"))
    assert status.failures == 1  # nothing was tried that failed
    assert [e.version for e in status.engines] == [None, 1]
    assert [kind for kind, _ in driver.told()] == ["published", "up-to-date"]

    (start,) = of(Start, driver.see("digits", inputs_digest="inputs-2"))  # perhaps only touched
    assert start.stalled_plans == ("plan-int8",)
    driver.finish("digits", both(unchanged, replace(built("fp16", 1), built=False)))
    assert driver.status("digits").phase == "stalled"
    driver.say("retry", "digits")
    (start,) = of(Start, driver.out)
    assert start.stalled_plans == ()
    driver.finish("digits", both(missed, replace(built("fp16", 1), built=False)))
    (start,) = of(Start, driver.see("digits", tools=NEWER))
    assert start.stalled_plans == ()


def test_figures_of_the_live_version_survive_a_failed_rebuild() -> None:
    """After a failed rebuild, `trtd status` would show nothing about what still serves."""
    driver = Driver()
    driver.scan(digits={"facts": facts_of("digits", "int8", "fp16")})
    driver.finish("digits", both(built("int8", 1), built("fp16", 1)))
    before = driver.status("digits").engines
    assert before[0].cosine == 0.999
    driver.see("digits", spec_digest="spec-2", versions=(("digits-int8", 1), ("digits-fp16", 1)))
    driver.finish("digits", failure("backoff"))
    assert driver.status("digits").engines == before
    driver.wait(15)
    lost = EngineOutcome(engine("digits-int8", 1), "p", False, failure("never"))
    driver.finish("digits", both(lost, built("fp16", 2)))
    status = driver.status("digits")
    assert status.engines[0] == before[0]
    assert status.engines[1].version == 2
    driver.see("digits", versions=(("digits-int8", 1), ("digits-fp16", 2)))
    heir = driver.restart()
    heir.rescan()
    assert heir.status("digits").engines == status.engines
    driver.see("digits", versions=(("digits-int8", 4), ("digits-fp16", 2)))  # nobody has measured version 4
    assert driver.status("digits").engines[0] == engine("digits-int8", 4)


def test_what_was_published_is_told_with_figures(driver: Driver) -> None:
    """The webhook would say that something was published and not how good it is."""
    figures: dict[str, Any] = {
        "cosine": 0.9993,
        "sqnr_db": 31.25,
        "speedup": 2.1,
        "engine_bytes": 2_600_000,
        "fp32_bytes": 9_700_000,
    }
    driver.finish("digits", done(engine("digits", 3, **figures)))
    assert driver.told() == [
        ("published", "digits@3: cosine 0.9993, SQNR 31.2 dB, 2.10\N{MULTIPLICATION SIGN} FP32, 9.7 → 2.6 MB")
    ]


def test_nothing_is_tried_while_the_specs_cannot_be_seen(driver: Driver) -> None:
    """A registry that is moved away for a minute would have each of its specs fail, and some of them for good."""
    driver.finish("digits", failure("backoff"))
    driver.step(Blind())
    assert not started(driver.wait(3600))
    assert driver.say("retry", "digits").problem is None
    assert not started(driver.out)
    assert driver.reconciler.next_wake() is None
    assert started(driver.step(Scanned())) == ["digits"]
