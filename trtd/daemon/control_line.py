"""How people's commands are written: on a Unix socket, ``.trtd/control.sock``, one line of JSON and one as its answer.

::

    {"command": "pause", "name": "ppocr-det"}      {"ok": true, "text": "ppocr-det is paused …"}
    {"command": "ping"}                            {"ok": false, "problem": {"code": …, "message": …, "hint": …}}
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from trtd.errors import TrtdError, UsageError, from_json
from trtd.status import Problem, fields_of

ControlCommand = Literal["pause", "resume", "retry", "cancel", "reload", "ping"]
COMMANDS: tuple[ControlCommand, ...] = get_args(ControlCommand)
WITHOUT_A_NAME: tuple[ControlCommand, ...] = ("reload", "ping")

SOCKET_NAME = "control.sock"
LINE_BYTES = 65_536
ANSWER_BYTES = 1 << 20


class NotACommand(ValueError):
    """What came in makes no sense, and why."""


@contextlib.contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """A name for a socket file that fits the 107 bytes that the kernel has for one (unix(7)), however deep it lies.

    Raises:
        OSError: the folder is not there, or not accessible.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def write_command(command: ControlCommand, name: str) -> bytes:
    return json.dumps({"command": command, "name": name}).encode() + b"\n"


def read_command(line: bytes) -> tuple[ControlCommand, str]:
    """Command and name, the latter empty if none is needed. Raises ``NotACommand``."""
    try:
        wanted = json.loads(line)
    except (ValueError, RecursionError):
        wanted = None
    if not isinstance(wanted, dict):
        raise NotACommand("a command is one line of JSON: an object with command and name")
    command, name = wanted.get("command"), wanted.get("name", "")
    if not isinstance(command, str) or command not in COMMANDS:
        raise NotACommand(f"there is no command {command!r:.80}; there are {', '.join(COMMANDS)}")
    if not isinstance(name, str) or not name.isprintable():
        raise NotACommand(f"{name!r:.80} cannot be a name")
    if not name and command not in WITHOUT_A_NAME:
        raise NotACommand(f"{command} wants a name")
    return command, name


def write_answer(text: str, problem: Problem | None) -> bytes:
    told = {"text": text} if problem is None else {"problem": fields_of(problem)}
    answer = {"ok": problem is None, **told}
    return json.dumps(answer).encode() + b"\n"


def read_answer(line: bytes) -> str:
    """What the daemon said.

    Raises:
        ValueError: it is no answer.
        TrtdError: what the daemon has against it, as the error that its code names.
    """
    try:
        found = json.loads(line)
        if found["ok"]:
            return str(found["text"])
        problem = {key: str(text) for key, text in found["problem"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no answer") from error
    raise _as_error(problem)


def _as_error(problem: dict[str, str]) -> TrtdError:
    if problem.get("code") == "spec":  # this one wants its faults one by one, which a problem does not hold
        return UsageError(problem.get("message", ""), hint=problem.get("hint", ""), where=problem.get("where", ""))
    return from_json(problem)
