"""``trtd``: finds the command, runs it, turns whatever it raises into a message and an exit code.

Start-up is kept cheap: only the module of the command that was asked for is imported, and commands import what is
heavy inside ``run``.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol

from trtd.errors import EXIT_BUG, TrtdError, UsageError

COMMANDS: dict[str, str] = {
    "init": "make a registry",
    "run": "run the daemon: build what the specs of a registry say, for as long as it runs",
    "status": "show what the daemon does, and how every spec stands",
    "logs": "show the log of a build",
    "pause": "build a spec no more, until resume",
    "resume": "build a paused spec again",
    "retry": "try a failed or stale spec again now",
    "cancel": "stop the build of a spec, or take it out of the queue",
    "check": "check specs, models and data without building",
    "plan": "show what a build would do, and why",
    "build": "build, verify and publish the engines of specs",
    "calibrate": "make the calibration table of a spec",
    "table": "show a calibration table, or exchange it with TensorRT's calibration caches",
    "verify": "judge a published engine again",
    "bench": "time a published engine beside FP32",
    "show": "show a published engine: gates, fidelity, speed",
    "rollback": "publish an older version again",
    "gc": "remove what retention does not keep",
    "config": "show the daemon's configuration as it is in force",
    "install-service": "install the daemon as a systemd service",
    "doctor": "say what this machine can build, and what is missing",
    "schema": "print the JSON Schema of specs, for editors",
}

EXIT_INTERRUPTED = 130


class Command(Protocol):
    """What each module of this package offers."""

    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help shows the usage")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(50_000)  # imports make many objects and no garbage: the default costs a tenth of a light command
    command = next((a for a in arguments if not a.startswith("-")), "")
    try:
        status = _dispatch(arguments, command)
        sys.stdout.flush()
        return status
    except TrtdError as error:
        _tell(command, error, as_json="--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # the reader of our output went away
        _drop_output()
        return 0
    except OSError as error:  # what no room has mapped, a full disk behind our output included
        from trtd.store.atomic import storage_error

        if error.filename is None:
            _drop_output()
        mapped = storage_error(error, f"finish trtd {command}".rstrip(), error.filename or "standard output")
        _tell(command, mapped, as_json="--json" in arguments)
        return mapped.exit_code
    except Exception as error:  # the last line of defence: a bug of ours
        if "KeyboardInterrupt" in str(error):  # pydantic wraps one that comes while it calls back into Python
            return _interrupted()
        import traceback

        traceback.print_exc()
        _tell(
            command,
            TrtdError(f"a bug in trtd: {type(error).__name__}: {error}", hint="please report it with the text above"),
            as_json="--json" in arguments,
        )
        return EXIT_BUG


def _interrupted() -> int:
    print("interrupted; nothing half-done was published", file=sys.stderr)
    return EXIT_INTERRUPTED


def _dispatch(arguments: list[str], command: str) -> int:
    if command not in COMMANDS:
        return _top_level(arguments, command)
    module: Command = import_module(f"trtd.cli.{command.replace('-', '_')}")
    parser = _Parser(
        prog=f"trtd {command}",
        description=COMMANDS[command][:1].upper() + COMMANDS[command][1:] + ".",
        epilog=f"example:\n{module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments.remove(command)
    return module.run(parser.parse_args(arguments))


def _top_level(arguments: list[str], command: str) -> int:
    if command:
        raise UsageError(f"there is no command {command!r}", hint=_command_hint(arguments, command))
    if "--version" in arguments:
        print(f"trtd {_version()}")
        return 0
    if arguments and not {"-h", "--help"} & set(arguments):
        what = "no command was given" if arguments == ["--json"] else f"there is no option {arguments[0]!r}"
        raise UsageError(what, hint="trtd --help lists the commands")
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    print(
        "usage: trtd COMMAND [options]\n\n"
        "Turns TOML specs into low-precision inference engines that are proved against FP32.\n\n"
        f"commands:\n{listed}\n\n"
        "trtd COMMAND --help shows a command's options and an example. Every command has --json.\n"
        "exit codes: 0 ok, 1 a gate said no, 2 bad spec or usage, 3 a stage failed, 4 environment missing, 70 a bug"
    )
    return 0


def _command_hint(arguments: Sequence[str], command: str) -> str:
    from difflib import get_close_matches

    if near := get_close_matches(command, COMMANDS, n=1):
        return f"did you mean trtd {near[0]}?"
    later = next((argument for argument in arguments if argument in COMMANDS), None)
    return f"the command comes first: trtd {later} ..." if later else "trtd --help lists them"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trtd")
    except PackageNotFoundError:
        return "(not installed: run from its source)"


def _drop_output() -> None:
    """Keep Python from flushing at exit what nobody can take, and from complaining about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(command: str, error: TrtdError, *, as_json: bool) -> None:
    if as_json:
        from trtd.ui.machine import emit_error

        emit_error(command, error)
    else:
        from trtd.ui.text import Screen

        Screen(sys.stderr).error(error)
