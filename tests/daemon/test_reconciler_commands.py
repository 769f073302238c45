"""What people can say to the daemon, and what it answers."""

from __future__ import annotations

import pytest

from tests.daemon.driver import (
    Driver,
    about_to_build,
    done,
    engine,
    facts_of,
    failure,
    of,
    published,
    started,
    stopped,
)
from trtd.daemon.messages import Drain, Start

NEWER = (("onnxruntime", "1.32.0"), ("trtd", "0.1.0"))


@pytest.fixture
def driver() -> Driver:
    return about_to_build()


@pytest.fixture
def ready() -> Driver:
    return published()


def test_pause_holds_back_what_is_new_only(driver: Driver) -> None:
    """A paused spec would be built; or pausing would throw away a build that is nearly done."""
    answer = driver.say("pause", "digits")
    assert answer.problem is None
    assert not stopped(driver.out)
    assert driver.status("digits").phase == "building"
    driver.see("digits", spec_digest="spec-2")
    assert not started(driver.finish("digits", done(engine("digits", 1))))
    assert driver.status("digits").phase == "paused"
    heir = driver.restart()
    assert not started(heir.rescan())
    assert heir.status("digits").phase == "paused"
    assert heir.say("pause", "digits").text == "digits is paused already"
    assert "trtd resume" in heir.say("retry", "digits").text
    assert not started(heir.out)
    assert heir.say("resume", "digits").problem is None
    assert started(heir.out) == ["digits"]
    assert heir.say("resume", "digits").text == "digits is not paused"


def test_cancel_stalls_until_bytes_change(driver: Driver) -> None:
    """A cancelled build would start again by itself."""
    assert driver.say("cancel", "digits").problem is None
    assert stopped(driver.out) == ["digits"]
    assert "already" in driver.say("cancel", "digits").text
    assert not stopped(driver.out)
    heir = driver.restart()
    assert not started(heir.rescan())  # even if the daemon dies before the build does
    assert not started(driver.finish("digits", failure("never", "was stopped")))
    assert driver.told() == [("stopped", "the build was stopped: somebody cancelled it")]
    for one in (driver, heir):
        assert one.status("digits").phase == "stalled"
        assert one.condition("digits", "Stalled").reason == "Cancelled"
        assert not started(one.see("digits", tools=NEWER))
    assert started(driver.see("digits", spec_digest="spec-2")) == ["digits"]
    assert heir.say("retry", "digits").problem is None
    assert started(heir.out) == ["digits"]


def test_cancel_of_what_is_queued_or_waits_for_its_next_try() -> None:
    """Only running builds could be cancelled."""
    driver = Driver()
    driver.scan(a={}, b={})
    driver.say("cancel", "b")
    assert driver.status("b").phase == "stalled"
    assert driver.reconciler.queued == 0
    driver.finish("a", failure("backoff"))
    driver.say("cancel", "a")
    assert driver.status("a").phase == "stalled"
    assert driver.reconciler.next_wake() is None
    answer = driver.say("cancel", "a")
    assert answer.problem is not None
    assert "nothing to cancel: a is stalled" in answer.text


def test_a_build_that_ended_well_before_its_cancel_counts(driver: Driver) -> None:
    """What was published would be shown as cancelled, and later tools would not rebuild it."""
    driver.say("cancel", "digits")
    driver.finish("digits", done(engine("digits", 1)))
    assert driver.status("digits").phase == "ready"
    assert started(driver.see("digits", tools=NEWER)) == ["digits"]


def test_retry_after_cancel_reruns(driver: Driver) -> None:
    """Who changed their mind would have to wait and say it again."""
    driver.say("cancel", "digits")
    assert "again after that" in driver.say("retry", "digits").text
    assert started(driver.finish("digits", failure("never"))) == ["digits"]
    driver.say("cancel", "digits")
    driver.say("retry", "digits")
    driver.say("cancel", "digits")
    assert not started(driver.finish("digits", failure("never")))
    assert driver.status("digits").phase == "stalled"


def test_retry_tries_now_whatever_the_state(ready: Driver) -> None:
    """People would have no way to say: look again."""
    assert ready.say("retry", "digits").problem is None
    (start,) = of(Start, ready.out)
    assert start.reasons == ("somebody asked for it",)
    assert "being built now" in ready.say("retry", "digits").text
    heir = ready.restart()
    assert started(heir.rescan()) == ["digits"]  # a wish survives the daemon
    out = ready.finish("digits", done(engine("digits", 1), built=False))
    assert not started(out)
    ready.say("retry", "digits")
    ready.finish("digits", failure("backoff", "the published file is torn, and the build died"))
    assert ready.status("digits").phase == "backoff"  # a failure refutes the success before it
    assert ready.say("retry", "digits").text == "digits will be tried now"
    assert ready.reconciler.running
    ready.finish("digits", done(engine("digits", 2)))
    ready.see("digits", settled=False)
    assert "still changing" in ready.say("retry", "digits").text
    assert started(ready.see("digits", settled=True)) == ["digits"]


def test_names_are_resolved_and_close_matches_told() -> None:
    """A slip of the finger would answer nothing of use."""
    driver = Driver()
    assert driver.say("pause", "digits").problem is not None
    facts = facts_of("digits", "int8", "fp16")
    driver.scan(one={"facts": facts}, two={"facts": None, "fault": failure("never", code="spec")})
    for name in ("one.toml", "digits", "digits-int8", "one"):
        assert driver.reconciler.find(name) == "one.toml"
    assert driver.reconciler.find("two") == "two.toml"
    answer = driver.say("retry", "digts-int8")
    assert answer.problem is not None
    assert "digits-int8" in answer.problem.hint
    assert "\n" not in driver.say("retry", "no\nsuch").text
    driver.see("three", facts=facts)
    answer = driver.say("pause", "digits-int8")
    assert answer.problem is not None
    assert "one.toml, three.toml" in answer.text


def test_commands_before_the_first_scan_and_while_ending_are_refused() -> None:
    """A command about a spec that may be gone would be promised and not done."""
    driver = Driver()
    driver.scan(digits={})
    heir = driver.restart()
    assert heir.say("pause", "digits").problem is not None
    heir.rescan()
    heir.step(Drain())
    assert heir.say("pause", "digits").problem is not None
