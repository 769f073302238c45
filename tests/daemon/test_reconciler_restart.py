"""What survives the daemon, and what clocks can do to it; the conditions that people see."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tests.daemon.driver import (
    Driver,
    about_to_build,
    facts_of,
    failure,
    observed,
    published,
    started,
    stopped,
)
from trtd.daemon.messages import Drain, Scanned, Seen, Tick


@pytest.fixture
def driver() -> Driver:
    return about_to_build()


@pytest.fixture
def ready() -> Driver:
    return published()


def test_a_restart_remembers_everything(ready: Driver) -> None:
    """A restart would build everything again, or write everything anew."""
    before = ready.status("digits")
    heir = ready.restart()
    heir.wall_s += 500
    assert heir.rescan() == []  # nothing to do, nothing to write
    assert heir.status("digits") == before


def test_a_build_that_ran_at_the_crash_is_needed_again(driver: Driver) -> None:
    """Interrupted work would be lost, or counted as a failure."""
    heir = driver.restart()
    assert started(heir.rescan()) == ["digits"]
    assert heir.status("digits").failures == 0


@pytest.mark.parametrize("jump_s", [0.0, -1e9, 1e9, -30.0])
def test_a_backoff_survives_a_restart_and_no_clock_makes_it_longer(driver: Driver, jump_s: float) -> None:
    """A restart would forget that a build keeps crashing; or a clock set back would hold it for years."""
    for _ in range(4):
        driver.finish("digits", failure("backoff"))
        driver.wait(100)
    driver.finish("digits", failure("backoff"))
    wake = driver.reconciler.next_wake()
    assert wake is not None
    left_s = wake - driver.mono_s
    heir = driver.restart(wall_jump_s=jump_s)
    assert started(heir.rescan()) == (["digits"] if jump_s == 1e9 else [])
    assert heir.status("digits").failures == 5
    wake = heir.reconciler.next_wake()
    if jump_s == 1e9:
        assert wake is None
    else:
        assert wake is not None
        assert wake - heir.mono_s <= left_s + 1e-6
        next_try_at = heir.status("digits").next_try_at
        assert next_try_at is not None
        assert next_try_at <= heir.wall_s + left_s + 1e-6
        again = heir.restart()
        again.rescan()
        assert again.status("digits").next_try_at == next_try_at


def test_a_clock_that_jumps_while_the_daemon_runs_changes_nothing(driver: Driver) -> None:
    """Setting the clock would start a storm of retries, or none for years."""
    driver.finish("digits", failure("backoff"))
    driver.wall_s += 1e8
    assert not started(driver.step(Tick()))
    driver.wall_s -= 2e8
    assert not started(driver.step(Tick()))
    assert started(driver.wait(12)) == ["digits"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"memory": 3}',
        '{"memory": {"failures": "many"}}',
        "[" * 100_000,
        '{"memory": null}',
    ],
)
def test_an_unreadable_memory_is_forgotten(driver: Driver, text: str) -> None:
    """A torn state database would keep the daemon from starting."""
    heir = driver.restart()
    heir.reconciler = Driver().reconciler
    heir.reconciler.restore([("digits.toml", text)], heir.now)
    assert started(heir.rescan()) == ["digits"]


def test_a_memory_with_absurd_numbers_does_no_harm(driver: Driver) -> None:
    """A bit that flipped on the disk would stop a spec for ever, or crash the daemon."""
    driver.finish("digits", failure("backoff"))
    for count, at in ((10**6, math.nan), (-5, math.inf), (3, 1e300), (1, -math.inf)):
        saved = json.loads(driver.memories["digits.toml"])
        saved["memory"]["backoffs"] = count
        saved["memory"]["failure"] |= {"next_try_at": at, "delay_s": abs(at)}
        heir = Driver()
        heir.reconciler.restore([("digits.toml", json.dumps(saved))], heir.now)
        heir.scan(digits={})
        heir.wait(3600)
        heir.finish("digits", failure("backoff"))
        wake = heir.reconciler.next_wake()
        assert wake is not None
        assert wake - heir.mono_s <= 3600


def test_ending_stops_everything_and_starts_nothing() -> None:
    """SIGTERM would leave processes, or start new ones; or would count as a failure."""
    driver = Driver()
    driver.scan(a={}, b={})
    assert stopped(driver.step(Drain())) == ["a"]
    out = driver.finish("a", failure("never", "was stopped"))
    assert driver.told() == [("stopped", "the build was stopped: the daemon is ending")]
    assert not started(out + driver.see("c") + driver.scan() + driver.wait(1e5))
    assert driver.reconciler.next_wake() is None
    heir = driver.restart()
    assert started(heir.rescan()) == ["a"]
    assert heir.status("a").failures == 0


def test_conditions_keep_the_date_of_their_last_change(ready: Driver) -> None:
    """People would not see since when a spec is not ready; a restart would make all dates today's."""
    published = ready.condition("digits", "Published")
    ready.wait(100)
    ready.see("digits", spec_digest="spec-2")
    assert ready.condition("digits", "Published") == published
    assert ready.condition("digits", "Ready").since == ready.wall_s
    ready.wait(50)
    ready.finish("digits", failure("never"))
    heir = ready.restart()
    heir.wait(1000)
    heir.rescan()
    assert heir.condition("digits", "Published").since == published.since
    assert heir.condition("digits", "Ready").since == ready.wall_s - 50
    assert heir.condition("digits", "Stalled").since == ready.wall_s


def test_every_condition_is_there_with_a_word_for_programs(driver: Driver) -> None:
    """A program that reads the status would have to parse sentences."""
    for change in ({}, {"settled": False}, {"settled": True, "facts": None, "fault": failure("never", code="spec")}):
        driver.see("digits", **change)
        conditions = driver.status("digits").conditions
        assert [c.type for c in conditions] == [
            "SpecValid", "Settled", "Building", "Published", "Fresh", "Stalled", "Ready"
        ]  # fmt: skip
        assert all(c.reason.isalnum() and c.reason[0].isupper() and c.message for c in conditions)


def test_odd_names_and_messages_stay_on_one_line_and_survive_a_restart() -> None:
    """A spec's name or a crash log would break the log's lines, or make the memory unreadable."""
    driver = Driver()
    driver.step(Seen(replace(observed("x"), key="a\nb\x1b[31m.toml", facts=facts_of("x"))))
    driver.step(Seen(replace(observed("y"), key="y.toml", facts=facts_of("x"))))
    driver.step(Scanned())
    driver.step(Seen(replace(observed("z"), key="z.toml")))
    driver.finish("z", failure("never", "it broke\n  | line \udcff two\n" * 100, hint="try\nthis"))
    assert all("\n" not in text and len(text) < 1000 for _, text in driver.told())
    heir = driver.restart()
    heir.step(Seen(replace(observed("z"), key="z.toml")))
    assert not started(heir.step(Scanned()))
    assert heir.status("z").phase == "stalled"
