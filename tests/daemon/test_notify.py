"""What the service manager is told, on a real socket."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trtd.daemon.notify import LONGEST_STATUS, VARIABLES, Notifier


class Manager:
    """The receiving end, as systemd opens it: a datagram socket that asks for the sender's credentials."""

    def __init__(self, address: str | bytes, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(10)

    def received(self) -> list[str]:
        """The lines of the next message, once it was sent by this process."""
        data, ancillary, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        assert int.from_bytes(ancillary[0][2][:4], "little") == os.getpid()
        return data.decode().split("\n")

    def is_silent(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(10)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"trtd-test-{os.getpid()}-{time.monotonic_ns()}"
    path = str(tmp_path / "notify")
    made = Manager(path, path) if request.param == "path" else Manager(f"\0{name}", f"@{name}")
    yield made
    made.socket.close()


def test_each_message_is_as_documented(manager: Manager) -> None:
    """systemd ignores what it does not know: the service would never be ready, or be killed by its watchdog."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    assert notifier.connected
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    for sent, lines in (
        (notifier.ready("3 specs"), ["READY=1", "STATUS=3 specs"]),
        (notifier.ready(), ["READY=1"]),
        (notifier.status("2 builds"), ["STATUS=2 builds"]),
        (notifier.watchdog(), ["WATCHDOG=1"]),
        (notifier.main_pid(42), ["MAINPID=42"]),
        (notifier.extend(1.5), ["EXTEND_TIMEOUT_USEC=1500000"]),
        (notifier.stopping("bye", within_s=20), ["STOPPING=1", "EXTEND_TIMEOUT_USEC=20000000", "STATUS=bye"]),
        (notifier.stopping(), ["STOPPING=1"]),
    ):
        assert sent
        assert manager.received() == lines
    assert notifier.reloading()
    reloading, stamp = manager.received()
    assert reloading == "RELOADING=1"
    found = re.fullmatch(r"MONOTONIC_USEC=(\d+)", stamp)
    assert found is not None
    assert before <= int(found[1]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_cannot_say_anything_else(manager: Manager) -> None:
    """The name of a spec could say READY=1 or MAINPID=1 in the daemon's name."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    assert notifier.status("building a\nMAINPID=1\n\x1b[2J\udcff" + "x" * 9999)
    (line,) = manager.received()
    assert line.startswith("STATUS=building a\\nMAINPID=1\\n\\x1b[2J\\udcff")
    assert len(line) == len("STATUS=") + LONGEST_STATUS


def test_children_do_not_speak_for_the_daemon(manager: Manager) -> None:
    """A library in a build that knows sd_notify would report the daemon as ready, or feed its watchdog."""
    environ = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier.take(environ)
    assert environ == {"HOME": "/"}
    assert notifier.interval_s == 0.5
    assert notifier.watchdog()
    assert manager.received() == ["WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_how_often_the_watchdog_is_fed(environ: dict[str, str], interval_s: float | None, tmp_path: Path) -> None:
    """Too seldom, and a healthy daemon is killed; fed for another process, and its loop wakes for nothing."""
    assert Notifier({"NOTIFY_SOCKET": str(tmp_path / "s"), **environ}).interval_s == interval_s
    assert Notifier(environ).interval_s is None


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "@", "/" + "x" * 200, "/a\0b", "/nowhere/at/all"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    """`trtd run` in a terminal, or under another supervisor, would fail."""
    for notifier in (Notifier({"NOTIFY_SOCKET": address}), Notifier({})):
        sent = [
            notifier.ready("x"),
            notifier.status(""),
            notifier.watchdog(),
            notifier.reloading(),
            notifier.stopping(),
        ]
        assert not any(sent)


def test_a_manager_that_went_away_ends_nothing(manager: Manager) -> None:
    """A restart of systemd itself would take the daemon with it."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    manager.socket.close()
    assert not notifier.watchdog()


def test_a_manager_that_does_not_read_costs_a_moment(manager: Manager) -> None:
    """The loop would stand still while systemd is busy."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    sent = 0
    while notifier.watchdog():  # until the socket's queue is full
        sent += 1
        assert sent < 100_000
    assert sent > 0


def test_an_empty_status_is_not_sent(manager: Manager) -> None:
    """An empty datagram is noise in systemd's debug log."""
    notifier = Notifier({"NOTIFY_SOCKET": manager.name})
    assert not notifier.status("")
    assert manager.is_silent()


def test_the_variables_are_those_of_systemd() -> None:
    """One that is not taken out would be inherited."""
    assert set(VARIABLES) == {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
