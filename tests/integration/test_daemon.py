"""The daemon as people run it: a real process, real specs, real signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.integration.host import PATIENCE_S, Host, whole
from trtd.store.lock import hold


def test_a_dropped_spec_becomes_an_engine_and_an_edited_one_another(host: Host) -> None:
    """The whole promise: nobody types build."""
    host.start()
    spec = host.drop(precision='"fp16"')
    host.wait(lambda: host.registry.versions("tiny") == (1,), "nothing was published")
    host.wait(lambda: host.phase("tiny.toml") == "ready", "it never became ready")
    assert whole(host.registry, "tiny")
    for _ in range(20):
        spec.touch()
    fresh = spec.read_text().replace('"fp16"', '"fp32"')
    assert fresh != spec.read_text()
    spec.write_text(fresh)
    host.wait(lambda: host.registry.versions("tiny") == (1, 2), "the edit was not built")
    spec.unlink()
    host.wait(lambda: host.phase("tiny.toml") is None, "the deleted spec is still shown")
    assert host.registry.versions("tiny") == (1, 2)  # on_delete = "keep"


def test_bad_specs_are_named_and_disturb_nobody(host: Host) -> None:
    """One author's mistake would stop everybody's builds, or the daemon."""
    daemon = host.start()
    specs = host.registry.specs
    (specs / "broken.toml").write_text("[model\n")
    os.mkfifo(specs / "pipe.toml")
    (specs / "loop.toml").symlink_to("loop.toml")
    (specs / "folder.toml").mkdir()
    with suppress(OSError):
        (specs / os.fsdecode(b"r\xff\x1b[31m\n.toml")).write_text("x = 1")
    host.drop(precision='"fp16"')
    host.wait(lambda: host.registry.versions("tiny") == (1,), "the good spec was not built")
    for key in ("broken.toml", "pipe.toml", "loop.toml", "folder.toml"):
        assert host.phase(key) == "invalid"
    shown = host.trtd("status")
    assert shown.returncode == 0
    assert "\x1b[31m" not in shown.stdout
    assert daemon.poll() is None


def test_killed_at_any_moment_it_goes_on_where_it_was(cold_host: Host) -> None:
    """A power cut would leave orphans, torn versions, or an engine that is never built."""
    cold_host.drop(precision='["fp16", "int8"]')
    for pause_s in (0.5, 1.5, 3.0):
        daemon = cold_host.start()
        time.sleep(pause_s)
        daemon.kill()
        daemon.wait()
        cold_host.wait(lambda: not cold_host.marked(), "orphans are left")
    cold_host.start()
    cold_host.wait(lambda: cold_host.phase("tiny.toml") == "ready", "it never became ready")
    for name in ("tiny-fp16", "tiny-int8"):
        assert cold_host.registry.versions(name)
        assert whole(cold_host.registry, name)
    assert list(cold_host.registry.staging.iterdir()) == []


def test_a_lost_state_database_costs_no_build(host: Host) -> None:
    """Each spec would start a process to find that nothing is to do, and what waits for approval would be built."""
    host.drop("auto", precision='"fp16"')
    spec = host.drop("edited", precision='"fp32"')
    daemon = host.start()
    host.wait(lambda: host.phase("auto.toml") == host.phase("edited.toml") == "ready", "they never became ready")
    before = {s["key"]: s["engines"] for s in host.status()["data"]["subjects"]}
    daemon.kill()
    daemon.wait()
    for file in host.registry.private.glob("state.db*"):
        file.unlink()
    spec.write_text(spec.read_text() + "# edited\n")
    host.log.write_text("")
    host.start()
    host.wait(lambda: host.phase("auto.toml") == host.phase("edited.toml") == "ready", "they never became ready again")
    started = [line for line in host.log.read_text().splitlines() if '"event": "started"' in line]
    assert [json.loads(line)["message"] for line in started] == ["edited: started: the spec changed"]
    after = {s["key"]: s["engines"] for s in host.status()["data"]["subjects"]}
    assert after == before


def test_a_killed_worker_is_told_and_tried_again(cold_host: Host) -> None:
    """The out-of-memory killer would end a spec for good."""
    cold_host.start()
    cold_host.drop(precision='"int8"')
    cold_host.wait(lambda: bool(cold_host.marked()), "no build was started")
    for pid in cold_host.marked():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cold_host.wait(lambda: cold_host.registry.versions("tiny") == (1,), "it was not tried again")
    assert "WARNING" in cold_host.log.read_text().upper()


def test_a_second_daemon_names_the_first(host: Host) -> None:
    """Two daemons on one registry would build everything twice, against each other."""
    first = host.start()
    host.wait(lambda: host.trtd("status").returncode == 0, "it did not start")
    second = host.trtd("run")
    assert second.returncode == 3
    assert str(first.pid) in second.stderr


def test_sigterm_leaves_no_process(cold_host: Host) -> None:
    """`systemctl stop` would hang, or leave a build that writes on."""
    daemon = cold_host.start()
    cold_host.drop(precision='"int8"')
    cold_host.wait(lambda: bool(cold_host.marked()), "no build was started")
    daemon.terminate()
    assert daemon.wait(timeout=PATIENCE_S) == 0
    assert cold_host.marked() == []
    assert cold_host.trtd("pause", "tiny").returncode == 4  # nobody is there to take the command


def test_it_tells_the_service_manager(host: Host, tmp_path: Path) -> None:
    """Type=notify: without READY the service never counts as started, without WATCHDOG it is restarted for ever."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        address = f"/tmp/trtd-notify-{os.getpid()}"  # pytest's folders are too deep for a socket
        Path(address).unlink(missing_ok=True)
        manager.bind(address)
        manager.settimeout(PATIENCE_S)
        try:
            daemon = host.start(NOTIFY_SOCKET=address, WATCHDOG_USEC="1000000")
            told: list[str] = []
            while not any("READY=1" in text for text in told) or not any("WATCHDOG=1" in text for text in told):
                told.append(manager.recv(4096).decode())
            daemon.send_signal(signal.SIGHUP)
            while not any("RELOADING=1" in text for text in told):
                told.append(manager.recv(4096).decode())
            daemon.terminate()
            while not any("STOPPING=1" in text for text in told):
                told.append(manager.recv(4096).decode())
            assert daemon.wait(timeout=PATIENCE_S) == 0
        finally:
            Path(address).unlink(missing_ok=True)


def test_pause_cancel_retry(host: Host) -> None:
    """Whoever wants the machine for an hour would have to stop the daemon."""
    host.start()
    host.wait(lambda: host.trtd("status").returncode == 0, "it did not start")
    host.drop(precision='"int8"')
    host.wait(lambda: host.phase("tiny.toml") == "building", "no build was started")
    assert host.trtd("cancel", "tiny").returncode == 0
    host.wait(lambda: host.phase("tiny.toml") == "stalled", "it was not cancelled")
    assert host.registry.versions("tiny") == ()
    assert host.trtd("pause", "tiny").returncode == 0
    assert host.phase("tiny.toml") == "paused"
    assert host.trtd("resume", "tiny").returncode == 0
    assert host.trtd("retry", "tiny").returncode == 0
    host.wait(lambda: host.registry.versions("tiny") == (1,), "retry did not build")


def test_an_engine_that_was_locked_when_its_spec_went_is_unpublished_by_the_next_daemon(host: Host) -> None:
    """Only the daemon that saw the spec go would know of it: killed while it waits, the engine would serve for ever."""
    daemon = host.start()
    spec = host.drop(precision='"fp16"', more='[publish]\non_delete = "unpublish"')
    host.wait(lambda: host.phase("tiny.toml") == "ready", "it never became ready")
    with hold(host.registry.lock("tiny"), "test"):
        spec.unlink()
        host.wait(lambda: "still published" in host.log.read_text(), "nobody tried")
        daemon.kill()
        daemon.wait()
        assert host.registry.versions("tiny") == (1,)
    host.start()
    host.wait(lambda: host.registry.versions("tiny") == (), "the engine was forgotten")
    host.wait(lambda: host.phase("tiny.toml") is None, "the deleted spec is still shown")
