"""Specs that claim one name, and specs that go."""

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
from trtd.daemon.messages import Save, Scanned


@pytest.fixture
def driver() -> Driver:
    return about_to_build()


@pytest.fixture
def ready() -> Driver:
    return published()


def test_two_specs_with_one_engine_are_both_in_conflict() -> None:
    """Two specs would overwrite each other's engine in turn, for ever."""
    driver = Driver()
    driver.limit(("cpu", 2))
    assert not started(driver.scan(a={"facts": facts_of("digits")}, b={"facts": facts_of("digits")}))
    for name, other in (("a", "b.toml"), ("b", "a.toml")):
        status = driver.status(name)
        assert status.phase == "conflict"
        assert status.problem is not None
        assert other in status.problem.message
        assert driver.condition(name, "Ready").reason == "DuplicateName"
        answer = driver.say("retry", f"{name}.toml")
        assert answer.problem is not None
        assert "name" in answer.problem.hint
    out = driver.see("b", facts=facts_of("letters"), spec_digest="spec-2", versions=(("letters", None),))
    assert sorted(started(out)) == ["a", "b"]


def test_engines_of_different_specs_collide_too() -> None:
    """``digits`` with precision int8, fp16 and a spec named ``digits-int8`` publish into one folder."""
    driver = Driver()
    driver.scan(a={"facts": facts_of("digits", "int8", "fp16")}, b={"facts": facts_of("digits-int8")})
    assert driver.reconciler.counts() == {"conflict": 2}
    assert driver.condition("a", "Stalled").reason == "DuplicateEngine"
    assert 'engine "digits-int8" also claimed by b.toml' in driver.condition("a", "Ready").message
    assert started(driver.gone("b")) == ["a"]


def test_a_conflict_stops_the_build_and_the_other_waits_for_its_end() -> None:
    """Two builders would publish one engine at the same time."""
    driver = Driver()
    driver.limit(("cpu", 4))
    driver.scan(a={"facts": facts_of("digits")})
    assert stopped(driver.see("b", facts=facts_of("digits"))) == ["a"]
    out = driver.see("a", facts=facts_of("other"), spec_digest="spec-2", versions=(("other", None),))
    assert not started(out)
    assert driver.status("b").phase == "waiting"
    assert driver.condition("b", "Building").reason == "EngineBusy"
    out = driver.finish("a", failure("never", "was stopped"))
    assert sorted(started(out)) == ["a", "b"]


def test_a_crowd_of_claimants_is_named_briefly() -> None:
    """The message of one conflict would fill the screen, and each new claimant would rewrite all the others'."""
    driver = Driver()
    for number in range(8):
        out = driver.see(f"s{number}", facts=facts_of("digits"))
        assert len(of(Save, out)) <= 2
    driver.step(Scanned())
    message = driver.condition("s0", "Ready").message
    assert message.endswith("also claimed by s1.toml, s2.toml, s3.toml and others")
    for number in range(1, 7):
        driver.gone(f"s{number}")
    driver.step(Scanned())
    assert driver.condition("s0", "Ready").message.endswith("also claimed by s7.toml")
    assert started(driver.gone("s0")) == ["s7"]


def test_a_spec_being_edited_keeps_its_claims() -> None:
    """While an editor writes one of two conflicting specs, the other would be built for a moment."""
    driver = Driver()
    driver.scan(a={"facts": facts_of("digits")}, b={"facts": facts_of("digits")})
    half = {"facts": None, "fault": failure("never", code="spec"), "settled": False, "versions": ()}
    assert not started(driver.see("b", **half))
    assert driver.status("a").phase == "conflict"
    assert started(driver.see("b", settled=True)) == ["a"]  # it is at fault for good


def test_a_name_that_is_being_typed_stops_nobody() -> None:
    """Half a copy of another spec would stop that one's build."""
    driver = Driver()
    driver.scan(a={}, b={"facts": facts_of("other")})
    assert not stopped(driver.see("b", facts=facts_of("a"), spec_digest="spec-2", settled=False))
    assert stopped(driver.see("b", settled=True)) == ["a"]


def retiring(name: str) -> Driver:
    driver = Driver()
    driver.scan(**{name: {"facts": facts_of("digits", on_delete="unpublish")}})
    driver.succeed(name)
    return driver


def kinds(out: list[object]) -> list[str]:
    return [type(instruction).__name__ for instruction in out]


def test_a_deleted_spec_keeps_what_it_published_by_default(ready: Driver) -> None:
    """Deleting a file would take an engine out of production."""
    assert kinds(list(ready.gone("digits"))) == ["Forget", "Tell"]
    assert ready.told() == [("removed", "no spec asks for it any more; what it published stays")]
    assert ready.reconciler.counts() == {}
    assert ready.gone("digits") == []


def test_a_deleted_spec_retires_its_engine_if_it_says_so() -> None:
    """``on_delete = "unpublish"`` would do nothing, or would be forgotten if the daemon did not run just then."""
    driver = retiring("digits")
    heir = driver.restart()
    assert driver.gone("digits") == []
    assert kinds(list(driver.scan())) == ["Unpublish", "Forget", "Tell"]
    heir.seen.clear()
    assert kinds(list(heir.rescan())) == ["Unpublish", "Forget", "Tell"]


def test_the_policy_of_a_spec_that_came_to_be_at_fault_holds() -> None:
    """Breaking a spec before deleting it would change what becomes of its engine."""
    driver = retiring("digits")
    driver.see("digits", facts=None, fault=failure("never", code="spec"), versions=())
    driver.gone("digits")
    assert kinds(list(driver.scan()))[0] == "Unpublish"


@pytest.mark.parametrize("settled", [True, False])
def test_a_renamed_file_keeps_its_engine(settled: bool) -> None:
    """Renaming a spec's file would take its engine out of production for as long as it takes to build it again."""
    driver = retiring("old")
    driver.gone("old")
    out = driver.scan(new={"facts": facts_of("digits", on_delete="unpublish"), "settled": settled})
    assert "Unpublish" not in kinds(list(out))
    assert "Forget" in kinds(list(out))


def test_a_deleted_spec_is_stopped_before_it_is_retired() -> None:
    """The build would publish the engine after it was retired."""
    driver = Driver()
    driver.scan(digits={"facts": facts_of("digits", on_delete="unpublish")})
    assert stopped(driver.gone("digits")) == ["digits"]
    assert driver.scan() == []
    out = driver.finish("digits", done(engine("digits", 1)))
    assert kinds(list(out))[-3:] == ["Unpublish", "Forget", "Tell"]


def test_a_spec_that_comes_back_while_its_build_is_stopped_is_built_again(driver: Driver) -> None:
    """Deleting and restoring a spec would leave it unbuilt, or build it twice at a time."""
    assert stopped(driver.gone("digits")) == ["digits"]
    assert not started(driver.see("digits"))
    assert started(driver.finish("digits", failure("never"))) == ["digits"]


def test_a_spec_that_comes_back_comes_as_a_new_one(driver: Driver) -> None:
    """Whether a deleted spec is still paused when it is restored would depend on how long its build takes to stop."""
    driver.say("pause", "digits")
    driver.gone("digits")
    driver.see("digits")
    assert started(driver.finish("digits", failure("never"))) == ["digits"]


def test_an_engine_is_retired_after_the_last_build_of_it_has_ended() -> None:
    """A build of a deleted spec would publish the engine again, after the next owner retired it."""
    driver = Driver()
    facts = facts_of("digits", on_delete="unpublish")
    driver.scan(old={"facts": facts})
    driver.gone("old")
    driver.scan(new={"facts": facts})
    driver.gone("new")
    assert "Unpublish" not in kinds(list(driver.scan()))
    assert "Unpublish" in kinds(list(driver.finish("old", done(engine("digits", 1)))))
