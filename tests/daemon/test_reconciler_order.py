"""What is built first, and what there is room for."""

from __future__ import annotations

from tests.daemon.driver import (
    Driver,
    facts_of,
    started,
)


def test_priority_then_first_come_first_served() -> None:
    """Urgent specs would wait behind the others; or those who came first would come last."""
    driver = Driver()
    order = ["a", "b", "c"]
    driver.scan(first={}, **{name: {} for name in order})
    driver.see("urgent", facts=facts_of("urgent", priority=5))
    driver.see("c", facts=facts_of("c", priority=1))
    done_in_order = []
    for _ in range(4):
        (running,) = driver.reconciler.running
        driver.succeed(running.removesuffix(".toml"))
        done_in_order += [key.removesuffix(".toml") for key in driver.reconciler.running]
    assert done_in_order == ["urgent", "c", "a", "b"]


def test_each_device_has_its_slots() -> None:
    """A busy GPU would keep the CPU idle, or two builds would share a GPU."""
    driver = Driver()
    driver.limit(("cpu", 2), ("GPU-1", 1))
    gpu = {name: {"facts": facts_of(name, device="GPU-1", priority=9)} for name in ("g1", "g2")}
    out = driver.scan(**gpu, a={}, b={}, c={})
    assert started(out) == ["g1", "a", "b"]
    assert (driver.reconciler.occupied("GPU-1"), driver.reconciler.occupied("cpu")) == (1, 2)
    assert driver.reconciler.queued == 2
    driver.limit(("cpu", 3), ("GPU-1", 1))
    assert started(driver.out) == ["c"]


def test_a_large_build_is_not_overtaken_for_ever() -> None:
    """A build that needs much memory would never start while small ones keep coming."""
    driver = Driver()
    driver.limit(("cpu", 8), memory_bytes=100, build_memory_bytes=40)
    assert started(driver.scan(a={}, b={}, c={})) == ["a", "b"]
    driver.see("large", facts=facts_of("large", memory_bytes=500))  # more than all: may run alone
    driver.succeed("a")
    assert started(driver.out) == ["c"]  # it came before
    driver.see("late", facts=facts_of("late", memory_bytes=1))
    assert not driver.see("b") or not started(driver.out)
    driver.succeed("b")
    assert driver.reconciler.running.keys() == {"c.toml"}
    driver.succeed("c")
    assert started(driver.out) == ["large"]
    driver.succeed("large")
    assert started(driver.out) == ["late"]


def test_small_builds_on_another_device_do_not_overtake_either() -> None:
    """Builds for a GPU would take the memory that a large one for the CPU waits for."""
    driver = Driver()
    driver.limit(("cpu", 2), ("GPU-1", 1), memory_bytes=100)
    large, small = facts_of("large", memory_bytes=90), facts_of("small", memory_bytes=20, device="GPU-1")
    driver.scan(a={"facts": facts_of("a", memory_bytes=50)}, large={"facts": large}, small={"facts": small})
    assert driver.reconciler.running.keys() == {"a.toml"}
    driver.succeed("a")
    assert driver.reconciler.running.keys() == {"large.toml"}


def test_a_device_that_nobody_has_listed_takes_one_build_at_a_time() -> None:
    """A GPU that has come since, or a part of one, would block its specs for ever, or take all of them at once."""
    driver = Driver()
    driver.limit(("cpu", 2))
    gpu = {name: {"facts": facts_of(name, device="MIG-1")} for name in ("g1", "g2")}
    assert started(driver.scan(**gpu)) == ["g1"]
    driver.succeed("g1")
    assert started(driver.out) == ["g2"]


def test_what_is_queued_for_a_gpu_that_went_is_built_where_it_can_be() -> None:
    """It would wait for a slot of a GPU that is not there."""
    driver = Driver()
    driver.limit(("cpu", 2), ("GPU-1", 1))
    gpu = {name: {"facts": facts_of(name, device="GPU-1")} for name in ("g1", "g2")}
    assert started(driver.scan(**gpu)) == ["g1"]
    assert started(driver.see("g2", facts=facts_of("g2", device="cpu"))) == ["g2"]
