"""What the reconciler decides, case by case: what is built when, and what becomes of specs at fault."""

from __future__ import annotations

import pytest

from tests.daemon.driver import (
    TOOLS,
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
from trtd.daemon.messages import Scanned, Seen, Start, Tick

NEWER = (("onnxruntime", "1.32.0"), ("trtd", "0.1.0"))


@pytest.fixture
def driver() -> Driver:
    return about_to_build()


@pytest.fixture
def ready() -> Driver:
    return published()


def test_nothing_starts_before_the_first_scan_is_complete() -> None:
    """A spec would be built although another one, not yet seen, claims its name."""
    driver = Driver()
    assert not started(driver.see("digits"))
    assert not started(driver.step(Tick()))
    assert driver.status("digits").phase == "queued"
    (start,) = of(Start, driver.step(Scanned()))
    assert (start.key, start.device, start.reasons) == ("digits.toml", "cpu", ("engine digits is not published",))


def test_a_success_leaves_nothing_to_do(ready: Driver) -> None:
    """The daemon would build again and again what is published."""
    assert not started(ready.out)
    assert ready.status("digits").ready
    assert not started(ready.scan(digits={}) + ready.wait(7200))
    assert ready.reconciler.next_wake() is None
    assert ready.reconciler.running == {}


def test_the_version_of_an_own_build_is_no_change(driver: Driver) -> None:
    """The daemon would take what it published itself for somebody else's change, and build twice."""
    out = driver.finish("digits", done(engine("digits", 1)))
    assert not started(out)
    assert driver.status("digits").phase == "ready"
    assert not started(driver.scan())
    assert not started(driver.scan(digits={"versions": (("digits", 1),)}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spec_digest": "spec-2"}, "the spec changed"),
        ({"inputs_digest": "inputs-2"}, "the model or its data changed"),
        ({"tools": NEWER}, "onnxruntime 1.31.0 → 1.32.0"),
        ({"tools": TOOLS[1:]}, "onnxruntime is gone (was 1.31.0)"),
        ({"tools": (*TOOLS, ("driver", "550"))}, "driver 550 is new"),
        ({"versions": (("digits", None),)}, "engine digits is not published"),
        ({"versions": (("digits", 3),)}, "engine digits is at version 3, not 1"),
    ],
)
def test_every_change_starts_a_build_and_says_why(ready: Driver, changes: dict[str, object], reason: str) -> None:
    """A change would go unnoticed, or people would not learn why something is built."""
    (start,) = of(Start, ready.see("digits", **changes))
    assert start.reasons == (reason,)
    assert ready.status("digits").reasons == (reason,)
    assert ready.condition("digits", "Fresh").status is False


def test_a_build_that_finds_nothing_to_do_is_believed(ready: Driver) -> None:
    """A rolled-back engine would be looked at for ever: builder and scan may tell different versions."""
    assert started(ready.see("digits", versions=(("digits", 3),))) == ["digits"]
    out = ready.finish("digits", done(engine("digits", 1), built=False))
    assert not started(out)
    assert ready.told() == [("up-to-date", "nothing to build (engine digits is at version 3, not 1)")]
    for _ in range(4):
        assert not started(ready.scan())


def test_adds_collapse_and_a_change_during_work_reruns_once(driver: Driver) -> None:
    """Edits during a build would be lost, or each of them would build."""
    for number in range(2, 7):
        assert not driver.see("digits", spec_digest=f"spec-{number}") or not started(driver.out)
        assert not stopped(driver.out)
    out = driver.finish("digits", done(engine("digits", 1)))
    assert started(out) == ["digits"]
    assert not started(driver.finish("digits", done(engine("digits", 2))))
    assert driver.status("digits").phase == "ready"


def test_a_change_that_is_taken_back_during_work_needs_no_rerun(driver: Driver) -> None:
    """Work would be done for bytes that are not there any more."""
    driver.see("digits", inputs_digest="inputs-2")
    driver.see("digits", inputs_digest="inputs-1")
    assert not started(driver.finish("digits", done(engine("digits", 1))))


def test_a_success_belongs_to_the_bytes_that_the_build_read(driver: Driver) -> None:
    """An edit just before the builder read the spec would be built twice."""
    assert not started(driver.finish("digits", done(engine("digits", 1), spec="spec-2")))
    assert not started(driver.step(Scanned()))
    assert not started(driver.scan(digits={"spec_digest": "spec-2", "versions": (("digits", 1),)}))
    assert driver.status("digits").phase == "ready"


def test_the_scan_is_right_in_the_end(driver: Driver) -> None:
    """A spec that was changed and changed back between two scans would stay as the builder happened to read it."""
    driver.finish("digits", done(engine("digits", 1), spec="spec-2"))
    assert not started(driver.step(Scanned()))  # this scan may have begun before the build ended
    assert started(driver.step(Scanned())) == ["digits"]


def test_an_engine_removed_while_its_build_ended_is_built_again(driver: Driver) -> None:
    """The scan says nothing new of it (never published, as before), and so it would stay removed for good."""
    driver.finish("digits", done(engine("digits", 1)))
    driver.step(Scanned())
    (start,) = of(Start, driver.step(Scanned()))
    assert start.reasons == ("engine digits is not published",)


def test_a_wish_to_be_asked_holds_when_only_tools_changed() -> None:
    """An upgrade would rebuild what its owner wants to approve; or an edit would wait for an approval."""
    driver = Driver()
    driver.scan(digits={"facts": facts_of("digits", rebuild="ask")})
    driver.succeed("digits")
    assert not started(driver.see("digits", tools=NEWER))
    status = driver.status("digits")
    assert (status.phase, status.reasons) == ("stale", ("onnxruntime 1.31.0 → 1.32.0",))
    assert not status.ready
    assert driver.condition("digits", "Fresh").reason == "ToolsChanged"
    assert ("stale", "onnxruntime 1.31.0 → 1.32.0 → approve it: trtd retry digits") in driver.told()
    heir = driver.restart()
    heir.rescan()
    assert heir.status("digits").phase == "stale"
    assert not [kind for kind, _ in heir.told() if kind == "stale"]

    assert started(driver.see("digits", spec_digest="spec-2")) == ["digits"]
    driver.succeed("digits", 2)
    driver.see("digits", tools=TOOLS)
    assert driver.say("retry", "digits").problem is None
    assert driver.reconciler.running
    driver.finish("digits", failure("backoff"))
    assert driver.status("digits").phase == "backoff"
    assert started(driver.wait(20)) == ["digits"]  # the approval holds until it succeeds
    driver.succeed("digits", 3)
    assert driver.status("digits").phase == "ready"


def test_a_missing_engine_is_built_without_asking() -> None:
    """What serves nobody would wait for an approval."""
    driver = Driver()
    driver.scan(digits={"facts": facts_of("digits", rebuild="ask")})
    driver.succeed("digits")
    assert not started(driver.see("digits", tools=NEWER, versions=(("digits", 7),)))
    assert started(driver.see("digits", versions=(("digits", None),))) == ["digits"]


def test_unsettled_files_are_waited_for(ready: Driver) -> None:
    """Half a copy would be built; or a running build would be stopped because somebody touched a file."""
    assert not started(ready.see("digits", inputs_digest="half", settled=False))
    assert ready.status("digits").phase == "settling"
    assert ready.condition("digits", "Settled").status is False
    assert started(ready.see("digits", inputs_digest="whole", settled=True)) == ["digits"]
    out = ready.see("digits", settled=False)
    assert not stopped(out)
    assert ready.status("digits").phase == "building"
    out = ready.finish("digits", done(engine("digits", 2)))
    assert not started(out)
    assert ready.status("digits").phase == "settling"


def test_the_same_again_is_no_news(ready: Driver) -> None:
    """Every scan would write every subject to the disk."""
    for _ in range(3):
        assert ready.step(Seen(ready.seen["digits"])) == []
        assert ready.step(Scanned()) == []
        assert ready.wait(10) == []


def test_an_edit_after_the_build_read_the_spec_reruns_it(driver: Driver) -> None:
    """The edit would be taken for what was built, until two scans have passed."""
    driver.see("digits", spec_digest="spec-2")
    assert started(driver.finish("digits", done(engine("digits", 1), spec="spec-1"))) == ["digits"]


def test_a_scan_that_looked_before_the_build_ended_is_not_believed(driver: Driver) -> None:
    """A file touched just when a build ends would start the build again."""
    driver.finish("digits", done(engine("digits", 1), spec="spec-2"))
    assert not started(driver.see("digits", settled=False))
    assert not started(driver.see("digits", settled=True))
    assert driver.status("digits").phase == "ready"


def test_an_invalid_spec_waits_for_other_bytes(ready: Driver) -> None:
    """A typo would be retried for ever, or would take down what is published."""
    fault = failure("never", "1 fault in the spec\ndigits.toml:3: engine.precision: must be one of int8", "spec")
    ready.see("digits", spec_digest="spec-2", facts=None, fault=fault, versions=())
    status = ready.status("digits")
    assert (status.phase, status.name, status.problem) == ("invalid", "digits", fault.problem)
    assert ready.reconciler.next_wake() is None
    assert ready.condition("digits", "SpecValid").reason == "SpecInvalid"
    assert ready.condition("digits", "Stalled").status is True
    assert ready.condition("digits", "Published").message == "digits@1"
    assert [kind for kind, _ in ready.told()] == ["failed"]
    assert all("\n" not in text for _, text in ready.told())
    answer = ready.say("retry", "digits")
    assert answer.problem is not None
    assert "fault" in answer.text
    out = ready.see("digits", spec_digest="spec-1", facts=facts_of("digits"), fault=None, versions=(("digits", 1),))
    assert not started(out)
    assert ready.status("digits").phase == "ready"


def test_a_spec_that_turns_invalid_stops_its_build(driver: Driver) -> None:
    """A build that nobody wants any more would go on, and publish."""
    half = {"facts": None, "fault": failure("never", code="spec"), "spec_digest": "spec-2"}
    assert not stopped(driver.see("digits", **half, settled=False))  # an editor may be writing it just now
    assert stopped(driver.see("digits", settled=True)) == ["digits"]
    assert driver.condition("digits", "Building").reason == "Stopping"
    assert not stopped(driver.see("digits", spec_digest="spec-3"))  # once is enough
    driver.finish("digits", failure("never", "was stopped"))
    assert driver.told() == [("stopped", "the build was stopped: the spec is at fault now")]
    status = driver.status("digits")
    assert (status.phase, status.failures) == ("invalid", 0)


def test_an_unreadable_spec_is_unknown_and_not_retried_in_a_loop(driver: Driver) -> None:
    """A disk error while reading a spec would stop its build, or keep the daemon spinning."""
    unreadable = {"facts": None, "fault": failure("backoff", "cannot read it: EIO", "storage")}
    assert not stopped(driver.see("digits", **unreadable))
    driver.finish("digits", done(engine("digits", 1)))
    assert driver.status("digits").phase == "invalid"
    assert driver.condition("digits", "SpecValid").status is None
    assert driver.reconciler.next_wake() is None
    driver.see("digits", facts=facts_of("digits"), fault=None, versions=(("digits", 1),))
    assert driver.status("digits").phase == "ready"
