"""The daemon under a service manager: what it says to it on a real socket, and how it ends."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.host import PATIENCE_S, Host
from tests.integration.receivers import Manager, drop_unbuildable, phase, service_manager, start_holdable
from trtd.errors import RegistryError

FAST = "200000"  # microseconds: fed every 0.1 s


@pytest.fixture
def manager() -> Iterator[Manager]:
    with service_manager() as made:
        yield made


def is_ready(message: dict[str, str]) -> bool:
    return message.get("READY") == "1"


def is_fed(message: dict[str, str]) -> bool:
    return message.get("WATCHDOG") == "1"


def is_configuration_fault(message: dict[str, str]) -> bool:
    return "the configuration is faulty" in message.get("STATUS", "")


def test_ready_comes_after_the_first_scan(host: Host, manager: Manager, tmp_path: Path) -> None:
    """Units that are ordered after the service would start before it knows its specs; nor may a reload announce it."""
    held = tmp_path / "held"
    held.touch()
    host.drop("broken", precision='"fp99"')
    daemon = start_holdable(host, held, "trtd.daemon.inventory:Inventory", "watch", NOTIFY_SOCKET=manager.address)
    host.wait(held.with_suffix(".reached").exists, "it did not start")
    daemon.send_signal(signal.SIGHUP)
    manager.catch_up()
    assert manager.told == []
    held.unlink()
    manager.until(is_ready, "it never was ready")
    assert not any("RELOADING" in message for message in manager.told)
    line = manager.until(lambda message: "STATUS" in message, "it said nothing of itself")
    assert line["STATUS"].startswith("1 ")  # the first scan has seen the spec


def test_a_loop_that_hangs_feeds_no_watchdog_and_says_where(host: Host, manager: Manager, tmp_path: Path) -> None:
    """Fed by a thread, the watchdog would never bite; without a trace nobody would know what hung."""
    held = tmp_path / "held"
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": FAST}
    daemon = start_holdable(host, held, "trtd.daemon.inventory:Inventory", "look", **environment)
    manager.until(is_ready, "it never was ready")
    for _ in range(3):
        manager.until(is_fed, "the watchdog was not fed")
    held.touch()
    host.wait(held.with_suffix(".reached").exists, "the loop does not turn")
    manager.catch_up()
    assert not manager.listen(5 * int(FAST) / 1e6)
    daemon.send_signal(signal.SIGABRT)  # what systemd does then
    assert daemon.wait(PATIENCE_S) == -signal.SIGABRT
    assert "in _reconcile" in host.log.read_text()


def test_a_stopped_daemon_feeds_no_watchdog(host: Host, manager: Manager) -> None:
    """A daemon that the kernel does not let run would count as well."""
    daemon = host.start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=FAST)
    manager.until(is_fed, "the watchdog was not fed")
    daemon.send_signal(signal.SIGSTOP)
    os.waitpid(daemon.pid, os.WUNTRACED)
    manager.catch_up()
    assert not manager.listen(5 * int(FAST) / 1e6)
    daemon.send_signal(signal.SIGCONT)
    manager.until(is_fed, "the watchdog was not fed again")


def test_a_reload_is_told_and_a_bad_one_changes_nothing(host: Host, manager: Manager) -> None:
    """systemctl reload would hang or lie; a typo would stop the daemon, or bring the defaults, roots and all."""
    config = host.registry.root / "trtd.toml"
    good = config.read_text()
    daemon = host.start(NOTIFY_SOCKET=manager.address)
    manager.until(is_ready, "it never was ready")
    config.write_text(good.replace("builds = 2", "build = 2") + "[watc]\nperiod_s = 20\n")
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    daemon.send_signal(signal.SIGHUP)
    reloading = manager.until(lambda message: message.get("RELOADING") == "1", "it told of no reload")
    assert before_us <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.until(is_ready, "the reload did not end")
    line = manager.until(is_configuration_fault, "the fault is not told")["STATUS"]
    for fault in ('watc: unknown key (did you mean "watch"?)', 'limits.build: unknown key (did you mean "builds"?)'):
        assert fault in line
    host.wait(lambda: bool(host.status()["data"]["daemon"]["degraded"]), "status does not tell")
    (degraded,) = host.status()["data"]["daemon"]["degraded"]
    assert f"{config}:{good.count(chr(10)) + 1}: watc" in degraded
    assert '"level": "warning", "message": "the configuration is faulty' in host.log.read_text()
    drop_unbuildable(host)  # its model lies in [access] roots, and those of the old file hold: else it were invalid
    host.wait(lambda: phase(host, "tiny.toml") == "stalled", "nothing is built any more")
    config.write_text(good.replace("[watch]\n", "[watch]\nperiod_s = 20\n"))
    daemon.send_signal(signal.SIGHUP)
    manager.until(lambda message: message.get("RELOADING") == "1", "it told of no reload")
    manager.until(is_ready, "the reload did not end")
    line = manager.until(lambda message: "STATUS" in message, "the status stays at the fault")["STATUS"]
    assert line == "1 stalled"
    assert "watch.period_s: 30.0 -> 20.0" in host.log.read_text()
    host.wait(lambda: not host.status()["data"]["daemon"]["degraded"], "the fault is still told")
    assert daemon.poll() is None


def test_sigterm_ends_a_build_that_does_not_want_to_end(cold_host: Host, manager: Manager) -> None:
    """`systemctl stop` would take as long as the build, or leave processes that write on."""
    with (cold_host.registry.root / "trtd.toml").open("a") as config:
        config.write("[shutdown]\ndrain_s = 1.0\n")
    daemon = cold_host.start(NOTIFY_SOCKET=manager.address)
    manager.until(is_ready, "it never was ready")
    cold_host.drop(precision='"int8"')
    cold_host.wait(lambda: len(cold_host.marked()) > 1, "no stage was started")
    working_folders = set()
    for pid in cold_host.marked():
        with suppress(OSError):
            working_folders.add(os.readlink(f"/proc/{pid}/cwd"))
            os.kill(pid, signal.SIGSTOP)  # it takes no SIGTERM any more
    assert working_folders == {str(cold_host.registry.root)}
    daemon.terminate()
    stopping = manager.until(lambda message: message.get("STOPPING") == "1", "it did not tell that it ends")
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) == 11_000_000
    assert daemon.wait(PATIENCE_S) == 0
    assert cold_host.marked() == []
    assert cold_host.log.read_text().rstrip().endswith('"message": "ended"}')


def test_who_may_write_specs_may_steer_them(host: Host) -> None:
    """Under systemd nobody but root could pause or retry; or, where specs/ is closed, everybody could."""
    control = host.registry.private / "control.sock"
    for mode, wanted in ((0o2770, 0o660), (0o755, 0o600)):
        host.registry.specs.chmod(mode)
        daemon = host.start()
        host.wait(lambda: control.exists() and host.trtd("pause", "x").returncode == 2, "it takes no commands")
        assert stat.S_IMODE(control.lstat().st_mode) == wanted
        assert control.lstat().st_gid == host.registry.specs.stat().st_gid
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0


def test_a_folder_that_is_no_registry_is_not_taken(tmp_path: Path) -> None:
    """A typo in --registry would make a new registry somewhere, and nothing would ever be built."""
    command = [sys.executable, "-m", "trtd", "run", "--registry", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ran.returncode == RegistryError.exit_code
    assert f"trtd init {tmp_path}" in ran.stderr
    assert list(tmp_path.iterdir()) == []
