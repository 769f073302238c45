"""Commands from end to end: a client in this process, a daemon's socket in a thread, and every way to get no answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon.stand_in_daemon import answering, serving
from trtd.daemon.client import ask
from trtd.daemon.control_line import SOCKET_NAME, socket_address
from trtd.daemon.messages import Answer
from trtd.errors import EXIT_ENVIRONMENT, EnvironmentMissing, RegistryBusy, TrtdError, UsageError
from trtd.registry.layout import Registry
from trtd.status import Problem


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    made = Registry(tmp_path / "registry")
    made.private.mkdir(parents=True)
    return made


def test_a_command_and_its_answer(registry: Registry) -> None:
    """Nothing that people type would reach the daemon."""
    with serving(registry, lambda request: Answer(f"{request.command} {request.name} is done")) as asked:
        assert ask(registry, "pause", "ppocr-det") == "pause ppocr-det is done"
        assert ask(registry, "ping") == "ping  is done"
    assert [(request.command, request.name) for request in asked] == [("pause", "ppocr-det"), ("ping", "")]


def test_names_arrive_as_keys(registry: Registry) -> None:
    """A spec whose name no terminal can show could not be paused, neither by its name nor by what status prints."""
    with serving(registry, lambda request: Answer(request.name)):
        for name in (os.fsdecode(b"\xff\x1b.toml"), "\\xff\\u001b.toml"):
            assert ask(registry, "pause", name) == "\\xff\\u001b.toml"


PROBLEMS: dict[str, tuple[type[TrtdError], int]] = {
    "usage": (UsageError, 2),
    "registry-busy": (RegistryBusy, 3),
    "spec": (UsageError, 2),
}


@pytest.mark.parametrize("code", PROBLEMS)
def test_problems_arrive_as_the_errors_that_they_are(registry: Registry, code: str) -> None:
    """A script would take a refused command for one that was obeyed, or could not tell why it was refused."""
    problem = Problem(code, "there is no spec x", "did you mean y?", "specs")
    with serving(registry, lambda request: Answer("no", problem)), pytest.raises(TrtdError) as caught:
        ask(registry, "retry", "x")
    kind, status = PROBLEMS[code]
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint, caught.value.where) == (problem.message, problem.hint, "specs")
    assert caught.value.exit_code == status


def left_by_a_dead_daemon(registry: Registry) -> None:
    left = socket.socket(socket.AF_UNIX)
    with socket_address(registry.private / SOCKET_NAME) as address:
        left.bind(address)
    left.close()


@pytest.mark.parametrize("leave", [lambda registry: None, left_by_a_dead_daemon, lambda r: r.private.rmdir()])
def test_without_a_daemon_the_way_to_start_one_is_told(registry: Registry, leave: Callable[[Registry], None]) -> None:
    """People would not learn that nothing runs, or what to do about it."""
    leave(registry)
    with pytest.raises(EnvironmentMissing, match="no daemon runs on this registry") as caught:
        ask(registry, "pause", "x")
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    assert f"trtd run --registry {registry.root}" in caught.value.hint


ANSWERS = {
    "nothing": (b"", "went away before it answered"),
    "half": (b'{"ok": true, "te', "makes no sense"),
    "no JSON": (b"hello\n", "makes no sense"),
    "no text": (b'{"ok": true}\n', "makes no sense"),
    "no problem": (b'{"ok": false, "problem": 7}\n', "makes no sense"),
    "deep": (b"[" * 100_000 + b"\n", "makes no sense"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_daemon_that_answers_badly(registry: Registry, what: str) -> None:
    """A daemon that dies in the middle of an answer would be reported as a bug of the command."""
    answer, message = ANSWERS[what]
    with answering(registry, answer), pytest.raises(EnvironmentMissing, match=message) as caught:
        ask(registry, "pause", "x")
    assert "trtd status --registry" in caught.value.hint


def test_a_daemon_that_hangs_does_not_hang_the_command(registry: Registry) -> None:
    """A script that pauses a spec would wait for ever for a stuck daemon, at the door too."""
    with answering(registry, None):
        for _ in range(4):  # the later ones find the queue at the door full
            with pytest.raises(EnvironmentMissing, match=r"did not answer within 0\.3 s"):
                ask(registry, "pause", "x", timeout_s=0.3)


def test_a_daemon_of_somebody_else(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message would be that none runs, and a second one would be started in vain."""

    def stand_in_for_another_user(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", stand_in_for_another_user)
    with pytest.raises(EnvironmentMissing, match="takes no commands from you") as caught:
        ask(registry, "pause", "x")
    assert "user" in caught.value.hint
