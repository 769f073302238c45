"""What people and programs put into specs/ that is no good: each is named, none of it disturbs the daemon or others."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.host import Host
from tests.integration.onlooker import Onlooker
from trtd.daemon.keys import key_of

NEVER_S = 3600
BURST = 30_000
BURST_SPECS = 1_000  # of them; the others are files of all kinds


def bind(path: Path) -> None:
    """A socket; its address may be short only, its name is what counts."""
    short = Path(f"/tmp/trtd-{os.getpid()}.sock")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short))
        shutil.move(short, path)


def forbid(path: Path) -> None:
    path.write_text("x = 1")
    path.chmod(0)


BAD: dict[str, Callable[[Path], object]] = {
    "pipe.toml": os.mkfifo,
    "socket.toml": bind,
    "device.toml": lambda path: path.symlink_to("/dev/zero"),
    "terminal.toml": lambda path: path.symlink_to("/dev/tty"),
    "folder.toml": lambda path: path.mkdir(),
    "nowhere.toml": lambda path: path.symlink_to("/nowhere/at/all"),
    "loop.toml": lambda path: path.symlink_to("loop.toml"),
    "forbidden.toml": forbid,
    "empty.toml": lambda path: path.touch(),
    "binary.toml": lambda path: path.write_bytes(bytes(range(256))),
    "huge.toml": lambda path: path.write_text("# filling\n" * 300_000),
    "deep.toml": lambda path: path.write_text(f"x = {'[' * 50_000}"),
    "number.toml": lambda path: path.write_text(f"x = {'9' * 5000}"),
    "a\nb.toml": lambda path: path.write_text("[model\n"),
    "\x1b[31mred\x1b]0;title\x07.toml": lambda path: path.write_text("[model\n"),
    "\u202etxet\u2066.toml": lambda path: path.write_text("[model\n"),
    os.fsdecode(b"\xff\xfe.toml"): lambda path: path.write_text("[model\n"),
    "n" * 250 + ".toml": lambda path: path.write_text('[model]\npath = "m.onnx"\n'),
    "back\\slash.toml": lambda path: path.write_text("[model\n"),
}
DEBRIS = (".tiny.toml.swp", "tiny.toml~", "#tiny.toml#", ".#tiny.toml", "4913", "tiny.toml.orig", "Thumbs.db", ".toml")
ONCE = 1
"""How often a fault is told."""


def start_without_privileges(host: Host) -> subprocess.Popen[bytes]:
    """A daemon to which a mode of 000 means something, even where the tests are run by root."""
    command = [sys.executable, "-m", "trtd", "run", "--registry", str(host.registry.root)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may read everything, and setpriv is not here")
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    with host.log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    host.processes.append(process)
    return process


def test_each_kind_of_bad_file_is_named_once_and_disturbs_nobody(onlooker: Onlooker) -> None:
    """A pipe would hang the daemon, a device would never end, and a bad name would write on the operator's terminal."""
    host, specs = onlooker.host, onlooker.host.registry.specs
    host.configure(period_s=1, poll_s=1)
    made = []
    for name, make in BAD.items():
        with suppress(OSError):  # a file system may not have such names
            make(specs / name)
            made.append(key_of(name))
    for name in DEBRIS:
        (specs / name).write_text("[model\n")
    daemon = start_without_privileges(host)
    onlooker.until(onlooker.is_up, "it did not start")
    host.drop(precision='"fp16"')
    onlooker.until_phase("tiny.toml", "ready")
    onlooker.until(lambda: onlooker.phases() == {"ready": 1, "invalid": len(made)}, "some bad file is not named")
    scans = onlooker.daemon.scans
    onlooker.until(lambda: onlooker.daemon.scans > scans + 3, "it scans no more")
    for key in made:
        subject = onlooker.subject(key)
        assert subject is not None
        assert subject.problem is not None, key
        assert subject.problem.message, key
        (stalled,) = [condition for condition in subject.conditions if condition.type == "Stalled"]
        assert stalled.status is (key != "forbidden.toml"), key  # that one is looked at again and again
        assert len(onlooker.told(key, "failed")) == ONCE, key
        assert onlooker.told(key, "started") == []
    assert len(onlooker.told("tiny.toml", "started")) == 1
    shown = host.trtd("status")
    assert shown.returncode == 0
    assert not set(shown.stdout) & {"\x1b", "\x07", "\u202e", "\u2066"}
    assert daemon.poll() is None
    (specs / "forbidden.toml").chmod(0o644)  # changes nothing but the mode
    onlooker.until(lambda: "x: unknown key" in onlooker.said("forbidden.toml"), "the mended mode was not noticed")


def test_the_same_bytes_touched_a_thousand_times_are_built_once(onlooker: Onlooker) -> None:
    """Backup tools, configuration managers and rsync touch everything every night."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    pid = onlooker.start()
    spec = host.drop(precision='"fp16"')
    onlooker.until_phase("tiny.toml", "ready")
    text = spec.read_text()
    for number in range(1000):
        if number % 3 == 0:
            os.utime(spec)
        elif number % 3 == 1:
            spec.write_text(text)
        else:
            beside = spec.with_name(".tiny.toml.new")
            beside.write_text(text)
            beside.replace(spec)
        os.utime(host.workshop.model)
    marker = host.registry.specs / "marker.toml"
    marker.write_text("x = 1")
    onlooker.until_phase("marker.toml", "invalid")  # all that came before it was seen
    onlooker.until(lambda: bool(onlooker.told("tiny.toml", "up-to-date")), "nobody looked at the touched model")
    onlooker.until_phase("tiny.toml", "ready")
    assert host.registry.versions("tiny") == (1,)
    assert len(onlooker.told("tiny.toml", "published")) == 1
    assert onlooker.daemon.pid == pid


def test_thirty_thousand_files_in_one_burst(onlooker: Onlooker) -> None:
    """A misdirected copy would hang the daemon, end it, or hide the one spec that came with it."""
    host, specs = onlooker.host, onlooker.host.registry.specs
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    pid = onlooker.start()
    for number in range(BURST):
        is_spec = number % (BURST // BURST_SPECS) == 0
        (specs / (f"{number}.toml" if is_spec else f"{number}.txt")).touch()
    host.drop(precision='"fp16"')
    onlooker.until_phase("tiny.toml", "ready")
    onlooker.until(lambda: onlooker.phases() == {"ready": 1, "invalid": BURST_SPECS}, "some are missing")
    for path in specs.iterdir():
        if path.name != "tiny.toml":
            path.unlink()
    onlooker.until(lambda: onlooker.phases() == {"ready": 1}, "what is gone is still shown")
    assert onlooker.daemon.pid == pid
    assert len(onlooker.told("tiny.toml", "started")) == 1


def test_a_spec_that_is_deleted_while_it_is_built(onlooker: Onlooker) -> None:
    """An engine would appear that nobody asks for any more, or a build would go on for ever."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    pid = onlooker.start()
    spec = host.drop("doomed")
    onlooker.until_phase("doomed.toml", "building")
    host.drop("other", precision='"fp16"')
    spec.unlink()
    onlooker.until(lambda: onlooker.phase("doomed.toml") is None, "the deleted spec is still shown")
    onlooker.until_phase("other.toml", "ready")
    assert host.registry.versions("doomed") == ()
    assert host.marked() == []
    assert len(onlooker.told("doomed.toml", "removed")) == 1
    assert onlooker.daemon.pid == pid
    host.drop("doomed")
    onlooker.until_phase("doomed.toml", "ready")
    assert host.registry.versions("doomed") == (1,)
