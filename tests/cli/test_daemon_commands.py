"""The commands that look at a daemon's work and talk to it: with a daemon, without one, and after it died."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trtd
from tests.daemon.stand_in_daemon import serving
from trtd.cli.build_log import LINE_BYTES, Follower
from trtd.cli.main import COMMANDS
from trtd.daemon.build_logs import BuilderFiles
from trtd.daemon.messages import Answer, Save
from trtd.daemon.state import State
from trtd.errors import EXIT_ENVIRONMENT, EXIT_STAGE, EXIT_USAGE
from trtd.registry.layout import Registry
from trtd.status import Condition, DaemonStatus, EngineStatus, Event, Phase, Problem, StageStatus, SubjectStatus
from trtd.store.process import start_ticks

TELLING = ("pause", "resume", "retry", "cancel")
SLOW = {"numpy", "onnx", "onnxruntime", "paddle", "PIL", "pydantic", "pydantic_core", "rich", "jinja2", "watchdog"}
IMPORTED = """
import sys
from trtd.cli.main import main
status = main(sys.argv[2:])
print(status, sorted(set(sys.argv[1].split(",")) & sys.modules.keys()), file=sys.stderr)
"""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry(tmp_path / "registry")
    made.init()
    monkeypatch.setenv("TRTD_REGISTRY", str(made.root))
    return made


def subject(name: str, phase: Phase = "ready", **more: Any) -> SubjectStatus:
    ready = Condition("Ready", phase == "ready", "Word", f"{name} is {phase}", time.time() - 90)
    engines = (EngineStatus(f"{name}-int8", "int8", more.pop("version", None), 0.9991, 31.2, 2.1, 31_000, 98_000),)
    return SubjectStatus(f"{name}.toml", name, "onnxruntime-cpu", phase, (ready,), engines, **more)


FAILED = subject("ocr", "stalled", problem=Problem("model", "the model \x1b[2Jis torn", "copy it again", "/m"))


@pytest.fixture
def state(registry: Registry) -> Iterator[State]:
    """What a daemon wrote that looks alive: it is this process."""
    opened = State.open(registry)
    pid = os.getpid()
    opened.describe(DaemonStatus(pid, start_ticks(pid) or 0, "1", str(registry.root), time.time() - 5, scans=3))
    for one in (subject("digits", version=3), FAILED):
        opened.save(Save(one, ""))
    opened.tell(Event(time.time(), "failed", "ocr.toml", "ocr", "the model is torn"))
    opened.flush()
    yield opened
    opened.close()


def die(state: State, registry: Registry) -> None:
    state.describe(DaemonStatus(os.getpid(), 1, "1", str(registry.root), time.time() - 5))
    state.flush()


# ------------------------------------------------------------------------------------------------------------ status


def test_status_shows_every_spec_and_what_failed(trtd: Trtd, state: State) -> None:
    """The first thing that people type would not answer what they ask."""
    ran = trtd("status")
    assert (ran.status, ran.err) == (0, "")
    assert f"process {os.getpid()}" in ran.out
    assert "digits-int8@3" in ran.out
    assert "the model \\x1b[2Jis torn\n  where: /m\n  next:  copy it again\n" in ran.out


@pytest.mark.parametrize("name", ["ocr", "ocr.toml", "ocr-int8"])
def test_status_of_one_spec_by_any_of_its_names(trtd: Trtd, state: State, name: str) -> None:
    """People would have to find out which of the names the command wants."""
    out = trtd("status", name).out
    assert out.startswith("ocr (ocr.toml): stalled\n")
    assert "failed: the model is torn" in out
    assert "digits" not in out


def test_status_as_json(trtd: Trtd, state: State) -> None:
    """Scripts would have to take the table apart."""
    state.progress("digits.toml", StageStatus("digits-int8", "convert", 1.0, 1, 3), "")
    state.flush()
    document = trtd("status", "--json").document
    assert {key: document[key] for key in ("schema_version", "command", "ok")} == {
        "schema_version": 1,
        "command": "status",
        "ok": True,
    }
    found = document["data"]
    assert (found["alive"], found["daemon"]["scans"]) == (True, 3)
    assert [(s["key"], s["phase"]) for s in found["subjects"]] == [("digits.toml", "ready"), ("ocr.toml", "stalled")]
    assert found["subjects"][1]["problem"]["hint"] == "copy it again"
    assert found["live"]["digits.toml"]["total"] == 3
    assert found["events"][0]["subject"] == "ocr.toml"
    one = trtd("status", "ocr", "--json").document["data"]
    assert one["alive"] is True
    assert one["subject"] == found["subjects"][1]
    assert one["events"] == found["events"]
    assert (one["stage"], one["log"]) == (None, None)


def test_status_of_a_dead_daemon_tells_what_it_knew(trtd: Trtd, registry: Registry, state: State) -> None:
    """When it matters most, after a crash, there would be nothing to see."""
    die(state, registry)
    ran = trtd("status")
    assert ran.status == 0
    assert "not running" in ran.out
    assert "digits-int8@3" in ran.out
    assert trtd("status", "--json").document["data"]["alive"] is False
    assert "the daemon is not running" in trtd("status", "ocr").out


def test_status_where_no_daemon_ever_ran(trtd: Trtd, registry: Registry) -> None:
    """An empty table would look like a daemon that has nothing to do."""
    for ran in (trtd("status"), trtd("status", "digits")):
        assert (ran.status, ran.out) == (EXIT_ENVIRONMENT, "")
        assert f"trtd run --registry {registry.root}" in ran.err
    document = trtd("status", "--json").document
    assert (document["exit_code"], document["error"]["code"]) == (EXIT_ENVIRONMENT, "environment")


def test_status_only_looks(trtd: Trtd, registry: Registry, state: State) -> None:
    """Asking how things stand would write into the registry, or fail where one may not."""
    state.close()
    (registry.logs).rmdir()
    before = sorted(os.walk(registry.root))
    assert trtd("status").status == 0
    after = [
        (at, folders, [f for f in files if not f.startswith("state.db-")])
        for at, folders, files in os.walk(registry.root)
    ]
    assert sorted(after) == before


def test_names_that_are_not_there(trtd: Trtd, state: State) -> None:
    """A slip of the finger would end without a word of help."""
    ran = trtd("status", "digit")
    assert ran.status == EXIT_USAGE
    assert "did you mean digits" in ran.err
    assert "`trtd status` lists them all" in trtd("logs", "xyzzy").err
    assert "\x1b" not in trtd("status", "\x1b[2J").err


def test_a_name_that_two_specs_claim(trtd: Trtd, state: State) -> None:
    """One of them would be shown for the other."""
    for key in ("b.toml", "c.toml"):
        state.save(Save(replace(subject("twin", "conflict"), key=key), ""))
    state.flush()
    for command in ("status", "logs"):
        ran = trtd(command, "twin")
        assert ran.status == EXIT_USAGE
        assert "several specs claim the name twin: b.toml, c.toml" in ran.err
    assert trtd("status", "b.toml").status == 0


def test_a_spec_whose_name_no_terminal_shows(trtd: Trtd, state: State) -> None:
    """It could be seen in the table, and not asked about."""
    state.save(Save(replace(subject("odd"), key="\\xff.toml", name="\\xff"), ""))
    state.flush()
    for name in (os.fsdecode(b"\xff.toml"), "\\xff.toml"):
        assert trtd("status", name).out.startswith("\\xff (\\xff.toml): ready")


def test_status_of_a_spoilt_database(trtd: Trtd, registry: Registry) -> None:
    """It would be called a bug of trtd, or an empty registry."""
    (registry.private / "state.db").write_text("spoilt " * 1000)
    ran = trtd("status")
    assert ran.status == EXIT_STAGE
    assert "damaged" in ran.err
    assert "daemon" in ran.err


def test_status_starts_in_a_blink(state: State) -> None:
    """A shell prompt or a health check that asks for the status would pay for libraries that it does not use."""
    for command in (
        ["status"],
        ["status", "ocr"],
        ["status", "--json"],
        ["logs", "x", "--json"],
        ["pause", "x", "--json"],
    ):
        asked = [sys.executable, "-c", IMPORTED, ",".join(SLOW), *command]
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=60)
        assert ran.stderr.split(" ", 1)[1] == "[]\n", command


def on_a_terminal(*arguments: str, columns: int = 100, term: str = "xterm", keys: bytes = b"") -> tuple[int, str]:
    """Exit status of a command on a terminal, and what it wrote; ``keys`` are pressed once there is something."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": term}
    command = [sys.executable, "-m", "trtd", *arguments]
    written = b""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        hanging = threading.Timer(60, process.kill)
        hanging.start()
        while piece := _read(ours):
            written += piece
            if keys and b"digits" in written:
                os.write(ours, keys)
                keys = b""
        hanging.cancel()
    os.close(ours)
    return process.returncode, written.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""


def test_on_a_terminal_the_table_fits(state: State) -> None:
    """Rows would wrap."""
    status, out = on_a_terminal("status", columns=60)
    assert status == 0
    head = next(line for line in out.split("\r\n") if line.startswith("Spec"))
    assert len(head) <= 60
    assert "Cosine" not in head


def test_watch_is_full_screen_on_a_terminal(state: State) -> None:
    """The dashboard could not be started, or not be left."""
    status, out = on_a_terminal("status", "--watch", keys=b"q")
    assert status == 0
    assert "\x1b[?1049h" in out
    assert "digits" in out


def test_watch_elsewhere_is_one_snapshot(trtd: Trtd, state: State) -> None:
    """A pipe, a log or a simple terminal would fill with control sequences, or the command would never end."""
    assert "\x1b" not in trtd("status", "--watch").out
    assert trtd("status", "--watch", "--json").document["data"]["alive"] is True
    status, out = on_a_terminal("status", "--watch", term="dumb")
    assert status == 0
    assert "\x1b" not in out
    assert "digits-int8@3" in out
    assert trtd("status", "--watch", "ocr").status == EXIT_USAGE


# ----------------------------------------------------------------------------------------- pause, resume, retry, cancel


@pytest.mark.parametrize("command", TELLING)
def test_commands_reach_the_daemon(trtd: Trtd, registry: Registry, command: str) -> None:
    """Nothing that people say would happen."""
    with serving(registry, lambda request: Answer(f"{request.command} of {request.name}\x1b[2J")) as asked:
        ran = trtd(command, "ppocr-det")
        assert (ran.status, ran.out) == (0, f"{command} of ppocr-det\\x1b[2J\n")
        document = trtd(command, "ppocr-det", "--json").document
    assert document["data"] == {"name": "ppocr-det", "text": f"{command} of ppocr-det\x1b[2J"}
    assert [(request.command, request.name) for request in asked] == [(command, "ppocr-det")] * 2


@pytest.mark.parametrize("command", TELLING)
def test_refusals_and_a_missing_daemon_are_told(trtd: Trtd, registry: Registry, command: str) -> None:
    """A script would go on as if it had been obeyed."""
    problem = Problem("usage", "there is no x", "did you mean y?")
    with serving(registry, lambda request: Answer("", problem)):
        ran = trtd(command, "x", "--json")
    assert (ran.status, ran.document["error"]["hint"]) == (EXIT_USAGE, "did you mean y?")
    ran = trtd(command, "x", "--json")
    assert ran.status == ran.document["exit_code"] == EXIT_ENVIRONMENT
    assert "trtd run" in ran.document["error"]["hint"]


@pytest.mark.parametrize("command", [*TELLING, "status", "logs"])
def test_what_is_no_registry_is_said_to_be_none(trtd: Trtd, tmp_path: Path, command: str) -> None:
    """The message would be about a daemon, and lead nowhere."""
    ran = trtd(command, "x", "--registry", tmp_path)
    assert ran.status == EXIT_STAGE
    assert "this is not a registry" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*TELLING, "status", "logs"])
def test_every_command_has_help_with_an_example(command: str, trtd: Trtd, capsys: pytest.CaptureFixture[str]) -> None:
    """A newcomer would have to guess at the arguments."""
    with pytest.raises(SystemExit) as caught:
        trtd(command, "--help")
    assert caught.value.code == 0
    assert f"example:\n  trtd {command}" in capsys.readouterr().out


def test_a_command_with_a_dash_finds_its_module() -> None:
    """`trtd install-service` would be called a bug."""
    for command in COMMANDS:
        assert (Path(__file__).parents[2] / "trtd" / "cli" / f"{command.replace('-', '_')}.py").is_file()


# -------------------------------------------------------------------------------------------------------------- logs


def test_logs_of_the_build_that_runs_and_of_the_last_one(trtd: Trtd, registry: Registry, state: State) -> None:
    """People would read the log of another build than they think."""
    old, running, own = registry.logs / "old.log", registry.logs / "new.log", BuilderFiles.of(registry, "ocr.toml").log
    old.write_text("old\n")
    running.write_text("new\n")
    own.write_text("begun\n")
    state.save(Save(replace(FAILED, log=str(old)), ""))
    state.flush()
    assert trtd("logs", "ocr").out == "old\n"
    state.save(Save(replace(FAILED, phase="building", log=str(old)), ""))
    state.flush()
    assert trtd("logs", "ocr").out == "begun\n"
    state.progress("ocr.toml", StageStatus("ocr-int8", "convert", 1.0), str(running))
    state.flush()
    assert trtd("logs", "ocr-int8").out == "new\n"
    assert trtd("status", "ocr", "--json").document["data"]["log"] == str(running)
    die(state, registry)
    assert trtd("logs", "ocr").out == "begun\n"


def test_logs_of_what_is_published(trtd: Trtd, registry: Registry, state: State) -> None:
    """The log of a good build would be out of reach, with a daemon and without one."""
    for version in (2, 3):
        registry.record("digits-int8", version).mkdir(parents=True)
        (registry.record("digits-int8", version) / "build.log").write_text(f"version {version}\n")
        registry.engine("digits-int8", version).mkdir(parents=True)
    assert trtd("logs", "digits").out == "version 3\n"
    assert trtd("logs", "digits-int8@2").out == "version 2\n"
    state.forget("digits.toml")
    state.flush()
    assert trtd("logs", "digits-int8").out == "version 3\n"
    assert trtd("logs", "../../etc").status == EXIT_USAGE
    ran = trtd("logs", "ocr")
    assert ran.status == EXIT_STAGE
    assert "there is no log of ocr" in ran.err


def test_logs_cannot_act_on_the_terminal(trtd: Trtd, registry: Registry, state: State) -> None:
    """What a library prints would clear the screen, or hide what went wrong."""
    log = registry.logs / "x.log"
    log.write_bytes(b"a\x1b[2J\x1b]0;title\x07b\rc\r\n\xff\xe2\x80\xae end\n" + b"y" * (3 * LINE_BYTES) + b"\nlast")
    state.save(Save(replace(FAILED, log=str(log)), ""))
    state.flush()
    out = trtd("logs", "ocr").out
    assert out.startswith("ab\nc\n\\xff end\n")
    assert out.endswith("\nlast\n")
    assert out.count("y") == 3 * LINE_BYTES
    document = trtd("logs", "ocr", "--json").document["data"]
    assert document["path"] == str(log)
    assert document["cut"] is False
    assert document["text"].startswith("ab\nc\n")
    assert trtd("logs", "ocr", "--json", "--follow").status == EXIT_USAGE


class Follow:
    """A follower in a test's hands: what it printed since the last look, names of logs in angle brackets."""

    def __init__(self, path: Callable[[], Path | None]) -> None:
        self.follower = Follower(path)

    def new(self) -> list[str]:
        found = list(self.follower.poll())
        return [f"<{each.name}>" if isinstance(each, Path) else each.decode() for each in found]


def test_following_a_log(tmp_path: Path) -> None:
    """Lines would be lost, doubled, torn, or never come: as the log grows, is begun anew, and gives way to the next."""
    at: list[Path | None] = [None]
    follow = Follow(lambda: at[0])
    assert follow.new() == []
    first, second = tmp_path / "first", tmp_path / "second"
    at[0] = first
    assert follow.new() == [], "it is not there yet"
    first.write_text("one\ntw")
    assert follow.new() == ["<first>", "one"]
    with first.open("a") as file:
        file.write("o\n")
        file.flush()
        assert follow.new() == ["two"]
        assert follow.new() == []
        second.write_text("next\n")
        file.write("three\nhalf")
    at[0] = second
    assert follow.new() == ["three", "half", "<second>", "next"]
    second.write_text("")  # the next attempt writes into the same file
    assert follow.new() == ["<second>"]
    second.write_text("again\n")
    assert follow.new() == ["again"]
    replaced = tmp_path / "replaced"
    replaced.write_text("another file\n")
    os.replace(replaced, second)
    assert follow.new() == ["<second>", "another file"]
    second.unlink()
    assert follow.new() == []
    at[0] = None
    assert follow.new() == []
    follow.follower.close()


def test_the_last_line_of_an_attempt_is_not_lost(tmp_path: Path) -> None:
    """Of all lines the one that says why it failed: written while the follower was just looking for the next log."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("one\n")
    second.write_text("two\n")
    at = [first]

    def path() -> Path:
        if at[0] == second:
            first.write_text("one\nlast\n")
        return at[0]

    follow = Follow(path)
    assert follow.new() == ["<first>", "one"]
    at[0] = second
    assert follow.new() == ["last", "<second>", "two"]
    follow.follower.close()


def test_a_log_that_moves_into_the_record_is_not_printed_twice(tmp_path: Path) -> None:
    """At the end of every good build all of its log would run through the terminal a second time."""
    log, record = tmp_path / "digits-77.log", tmp_path / "build.log"
    at = [log]
    follow = Follow(lambda: at[0])
    log.write_text("one\ntwo\nth")
    assert follow.new() == ["<digits-77.log>", "one", "two"]
    record.write_text("one\ntwo\nthree\nfour\n")
    log.unlink()
    assert follow.new() == []
    at[0] = record
    assert follow.new() == ["three", "four"]
    at[0] = tmp_path / "other"
    at[0].write_text("one\ntwo\nTHREE and something else\n")
    assert follow.new() == ["<other>", "one", "two", "THREE and something else"]
    follow.follower.close()


def test_follow_goes_on_until_somebody_has_seen_enough(registry: Registry, state: State) -> None:
    """`--follow` would end with the attempt, or Ctrl-C would look like a failure."""
    first, second = registry.logs / "first.log", registry.logs / "second.log"
    first.write_text("one\n")
    state.save(Save(replace(FAILED, log=str(first)), ""))
    state.flush()
    command = [sys.executable, "-m", "trtd", "logs", "ocr", "--follow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follow:
        assert follow.stdout is not None
        hanging = threading.Timer(60, follow.kill)
        hanging.start()
        assert follow.stdout.readline() == "one\n"
        second.write_text("two \x1b[2J\nun")
        state.save(Save(replace(FAILED, log=str(second)), ""))
        state.flush()
        assert follow.stdout.readline() == "two \n"
        follow.send_signal(signal.SIGINT)
        out, err = follow.communicate()
        hanging.cancel()
    assert (follow.returncode, out) == (0, "un\n")
    assert err == f"==> {first} <==\n==> {second} <==\n"


@pytest.mark.parametrize("command", [["status"], ["status", "ocr"], ["logs", "ocr"], ["pause", "ocr"]])
def test_json_is_one_line_for_a_pipe(command: list[str], registry: Registry, state: State) -> None:
    """Scripts would stumble over what else is printed."""
    log = registry.logs / "x.log"
    log.write_text("x\n")
    state.save(Save(replace(FAILED, log=str(log)), ""))
    state.flush()
    with serving(registry, lambda request: Answer("done")):
        asked = [sys.executable, "-m", "trtd", *command, "--json"]
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr, ran.stdout.count("\n")) == (0, "", 1)
    document = json.loads(ran.stdout)
    assert (document["command"], document["ok"]) == (command[0], True)
