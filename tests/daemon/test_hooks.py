"""Telling others: real programs and a real web server, quick, slow, broken and hostile ones."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trtd.daemon import log as logs
from trtd.daemon.hooks import QUEUE_LIMIT, Hooks, Messenger, NoHooks, open_hooks
from trtd.daemon.settings import NotifySection
from trtd.status import Event

DEADLINE_S = 60.0
REGISTRY = Path("/srv/engines")


def event(kind: Any = "published", text: str = "det@3 is published", subject: str = "det.toml") -> Event:
    return Event(at=1_700_000_000.25, kind=kind, subject=subject, name="det", text=text, id=7)


def wait_for(condition: Callable[[], Any]) -> None:
    """Wait until something holds; fail if it never does."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged so far."""
    stream = io.StringIO()
    handler = logs.set_up("debug", "json", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    import logging

    logging.captureWarnings(False)
    logging.getLogger().removeHandler(handler)
    threading.excepthook = threading.__excepthook__


@contextmanager
def messenger(**section: Any) -> Iterator[Hooks]:
    hooks = open_hooks(NotifySection(**section), registry=REGISTRY)
    try:
        yield hooks
    finally:
        hooks.close()


def script(folder: Path, body: str) -> list[str]:
    file = folder / "hook"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return [str(file)]


def total(hooks: Hooks) -> int:
    return sum(hooks.counts.values())


def test_nobody_is_told_by_default() -> None:
    """A machine would start programs, or speak to the network, that nobody asked for."""
    hooks = open_hooks(NotifySection(), registry=REGISTRY)
    assert isinstance(hooks, NoHooks)
    hooks.tell(event())
    hooks.close()
    assert not hooks.counts


def test_a_command_reads_the_event(tmp_path: Path) -> None:
    """The receiver would not know what happened, where, and to what."""
    body = f'cat > {tmp_path}/got; echo "$#:$1" >> {tmp_path}/args'
    command = [*script(tmp_path, body), "--to x;y"]
    with messenger(command=command) as hooks:
        hooks.tell(event(text="a\nb; $(touch /tmp/no) \x1b \udcff"))
        wait_for(lambda: total(hooks))
        assert hooks.counts == Counter({("command", "ok"): 1})
    assert json.loads((tmp_path / "got").read_text()) == {
        "schema_version": 1,
        "at": "2023-11-14T22:13:20.250+00:00",
        "kind": "published",
        "subject": "det.toml",
        "name": "det",
        "text": "a\nb; $(touch /tmp/no) \x1b \\udcff",
        "registry": "/srv/engines",
        "host": socket.gethostname(),
    }
    assert (tmp_path / "args").read_text() == "1:--to x;y\n"


def test_only_what_was_asked_for_is_told(tmp_path: Path) -> None:
    """A pager would ring for each success."""
    with messenger(command=script(tmp_path, f"cat >> {tmp_path}/got"), on=["failed", "stale"]) as hooks:
        for kind in ("published", "failed", "started", "up-to-date", "stale", "daemon"):
            hooks.tell(event(kind))
        wait_for(lambda: total(hooks) == 2)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "got").read_text().splitlines()]
    assert kinds == ["failed", "stale"]


def test_a_slow_receiver_delays_nobody_and_is_killed(
    tmp_path: Path, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """One hanging pager would stop all builds, or leave a process behind for each event."""
    command = script(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/parent; wait")
    with messenger(command=command, timeout_s=0.5) as hooks:
        hooks.tell(event("failed"))
        wait_for(lambda: hooks.counts["command", "timeout"] == 1)
        for name in ("parent", "child"):
            pid = int((tmp_path / name).read_text())
            wait_for(lambda pid=pid: not is_running(pid))  # type: ignore[misc]
    (line,) = [line for line in log_lines() if line["level"] == "warning"]
    assert (line["receiver"], line["result"], line["subject"]) == ("command", "timeout", "det.toml")
    assert line["reason"] == "it took longer than 0.5 s and was killed"


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def test_telling_returns_at_once(tmp_path: Path) -> None:
    """Telling happens in the loop that does everything else: were it to wait here, this test would never end."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with messenger(command=script(tmp_path, f"cat {gate}"), timeout_s=600) as hooks:
        for _ in range(QUEUE_LIMIT + 50):
            hooks.tell(event())
        assert hooks.counts["command", "ok"] == 0


def test_a_flood_drops_the_oldest_and_says_so(tmp_path: Path, log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    """Memory would grow without bound behind a dead receiver, or the newest failure would be the one that is lost."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = script(
        tmp_path, f"test -e {tmp_path}/open || cat {gate}; cat >> {tmp_path}/got; echo x >> {tmp_path}/began"
    )
    with messenger(command=command, timeout_s=600) as hooks:
        hooks.tell(event(text="first"))
        wait_for(lambda: isinstance(hooks, Messenger) and not hooks._waiting)
        for number in range(QUEUE_LIMIT + 3):
            hooks.tell(event(text=str(number)))
        assert hooks.counts["command", "dropped"] == 3
        (tmp_path / "open").touch()
        gate.write_text("")
        wait_for(lambda: hooks.counts["command", "ok"] == QUEUE_LIMIT + 1)
    texts = [json.loads(line)["text"] for line in (tmp_path / "got").read_text().splitlines()]
    assert texts == ["first", *map(str, range(3, QUEUE_LIMIT + 3))]
    dropped = [line for line in log_lines() if line.get("result") == "dropped"]
    assert len(dropped) == 3


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("echo out of order >&2; exit 3", "it exited with status 3: out of order"),
        ("kill -9 $$", "it was killed by signal 9"),
        ("head -c 5000000 /dev/zero | tr '\\0' x; exit 1", "it exited with status 1: xxx"),
        ("exec 0<&-; exit 1", "it exited with status 1"),
    ],
)
def test_a_failing_receiver_is_logged(
    body: str, reason: str, tmp_path: Path, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """Nobody would notice that the pager has not worked for weeks; or its output would fill the memory."""
    with messenger(command=script(tmp_path, body)) as hooks:
        hooks.tell(event(text="x" * 500_000))
        wait_for(lambda: total(hooks))
        assert hooks.counts == Counter({("command", "failed"): 1})
    (line,) = [line for line in log_lines() if line["level"] == "warning"]
    assert line["reason"].startswith(reason)
    assert len(line["reason"]) < 4096


def test_a_receiver_that_cannot_start_is_logged(tmp_path: Path, log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    """An uninstalled program would take the delivering thread with it, and all later events."""
    with messenger(command=[str(tmp_path / "absent")]) as hooks:
        hooks.tell(event())
        hooks.tell(event())
        wait_for(lambda: hooks.counts["command", "failed"] == 2)
    assert "it could not be started" in log_lines()[-1]["reason"]


def test_a_child_that_keeps_the_pipe_open_holds_nothing_up(tmp_path: Path) -> None:
    """A receiver that starts a background process would count as hanging until that ends."""
    body = f"setsid sleep 1000 & echo $! > {tmp_path}/child; exit 0"
    with messenger(command=script(tmp_path, body), timeout_s=600) as hooks:
        hooks.tell(event())
        wait_for(lambda: hooks.counts["command", "ok"] == 1)
    with suppress(OSError, ValueError):
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_closing_waits_as_long_as_it_is_told(tmp_path: Path) -> None:
    """The last events before a shutdown would be lost, or a hanging receiver would hold the shutdown up."""
    body = f"cat >> {tmp_path}/got"
    hooks = open_hooks(NotifySection(command=script(tmp_path, body)), registry=REGISTRY)
    for number in range(5):
        hooks.tell(event(text=str(number)))
    hooks.close(DEADLINE_S)
    assert len((tmp_path / "got").read_text().splitlines()) == 5
    hooks.tell(event())
    assert hooks.counts == Counter({("command", "ok"): 5})
    hanging = open_hooks(NotifySection(command=script(tmp_path, "sleep 1000"), timeout_s=600), registry=REGISTRY)
    for _ in range(3):
        hanging.tell(event())
    hanging.close(0.1)
    assert not [thread for thread in threading.enumerate() if thread.name == "hooks"]


# ------------------------------------------------------------------------------------------------------------ webhooks


class Receiver:
    """A web server that answers as it is told and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.location = ""
        self.stall = threading.Event()
        self.stall.set()
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), body))
                while not outer.stall.wait(0.05):  # one byte now and then: no single wait is long
                    with suppress(OSError):
                        self.wfile.write(b"H")
                self.send_response(outer.status)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.end_headers()

            def do_GET(self) -> None:
                outer.got.append((self.path, dict(self.headers), b"redirected"))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/SECRET"

    def close(self) -> None:
        self.stall.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made = Receiver()
    yield made
    made.close()


def test_a_webhook_gets_the_event(receiver: Receiver) -> None:
    """The receiving service would refuse the request, or show nothing."""
    with messenger(webhook=receiver.url) as hooks:
        hooks.tell(event(text="größer"))
        wait_for(lambda: total(hooks))
        assert hooks.counts == Counter({("webhook", "ok"): 1})
    ((path, headers, body),) = receiver.got
    assert path == "/services/SECRET"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)["text"] == "größer"


@pytest.mark.parametrize("status", [301, 307, 404, 500])
def test_an_answer_other_than_success_is_a_failure(
    status: int, receiver: Receiver, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    """A mistyped address would look like success; a redirect would hand events to a stranger."""
    receiver.status, receiver.location = status, receiver.url + "/elsewhere"
    with messenger(webhook=receiver.url) as hooks:
        hooks.tell(event())
        wait_for(lambda: total(hooks))
        assert hooks.counts == Counter({("webhook", "failed"): 1})
    assert len(receiver.got) == 1
    (line,) = [line for line in log_lines() if line["level"] == "warning"]
    assert line["reason"].endswith(f"the answer was {status}")
    assert "SECRET" not in json.dumps(log_lines())


def test_an_answer_that_drips_is_ended_at_the_deadline(receiver: Receiver) -> None:
    """A timeout of the network library begins anew with each byte: a hostile receiver could hold a slot for ever."""
    receiver.stall.clear()
    with messenger(webhook=receiver.url, timeout_s=1.0) as hooks:
        hooks.tell(event())
        wait_for(lambda: hooks.counts["webhook", "timeout"] == 1)


def test_nobody_listening_is_a_failure_without_the_secret(log_lines: Callable[[], list[dict[str, Any]]]) -> None:
    """The log would hold the password of the operator's chat."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        with messenger(webhook=f"http://127.0.0.1:{taken.getsockname()[1]}/SECRET") as hooks:
            hooks.tell(event())
            wait_for(lambda: total(hooks))
    told = json.dumps(log_lines())
    assert "Connection refused" in told
    assert "SECRET" not in told


def test_the_secret_is_no_argument(receiver: Receiver) -> None:
    """Whoever may list processes would read it."""
    receiver.stall.clear()
    with messenger(webhook=receiver.url) as hooks:
        hooks.tell(event())
        wait_for(lambda: receiver.got)
        assert isinstance(hooks, Messenger)
        assert hooks._running is not None
        pid = hooks._running.pid
        for public in ("cmdline", "environ"):
            assert b"SECRET" not in Path(f"/proc/{pid}/{public}").read_bytes()
        receiver.stall.set()
        wait_for(lambda: total(hooks))


def test_both_receivers_are_told(tmp_path: Path, receiver: Receiver) -> None:
    """The second of two would never hear of anything."""
    with messenger(command=script(tmp_path, f"cat >> {tmp_path}/got"), webhook=receiver.url) as hooks:
        hooks.tell(event())
        wait_for(lambda: total(hooks) == 2)
        assert hooks.counts == Counter({("webhook", "ok"): 1, ("command", "ok"): 1})
    assert (tmp_path / "got").read_bytes() == receiver.got[0][2]
