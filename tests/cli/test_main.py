"""Finding the command, and what becomes of whatever it raises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workshop import Workshop
from trtd.cli.main import COMMANDS

Trtd = Callable[..., Any]

HEAVY = {"paddle", "paddle2onnx", "onnx", "onnx_ir", "onnxruntime", "tensorrt"}
LIGHT_ENOUGH = HEAVY | {"numpy", "PIL", "pydantic", "rich", "jinja2", "fast_histogram", "google"}

IMPORTED = """
import sys
from trtd.cli.main import main
status = main(sys.argv[2:])
found = sorted(set(sys.argv[1].split(",")) & sys.modules.keys())
print(status, found, file=sys.stderr)
"""


def imported(names: set[str], *arguments: str | Path) -> str:
    """Exit status of a command in a fresh process, and which of ``names`` it imported."""
    command = [sys.executable, "-c", IMPORTED, ",".join(names), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return ran.stderr.splitlines()[-1]


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trtd", *map(str, arguments)]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    return subprocess.run(command, text=True, timeout=120, env=buffered, **{"capture_output": True, **options})


def test_help_imports_nothing_heavy() -> None:
    """`trtd --help` would take seconds."""
    assert imported(LIGHT_ENOUGH, "--help") == "0 []"


def test_check_and_show_import_no_backend(shop: Workshop) -> None:
    """`trtd check` would take seconds, and a broken Paddle would keep people from looking at what is published."""
    registry = shop.folder / "registry"
    assert imported(HEAVY, "check", shop.folder / "specs" / "tiny.toml") == "0 []"
    assert imported(HEAVY, "show", "tiny-int8", "--registry", registry) == "0 []"
    assert imported(HEAVY, "plan", shop.folder / "specs" / "tiny.toml", "--registry", registry) == "0 []"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_the_overview_lists_every_command(arguments: tuple[str, ...], trtd: Trtd) -> None:
    """A command that is not listed is not there for anybody."""
    ran = trtd(*arguments)
    assert ran.status == 0
    assert all(f"  {name} " in ran.out for name in COMMANDS)
    assert "exit codes" in ran.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_by_an_example(command: str, trtd: Trtd, capsys: Any) -> None:
    """A newcomer would have to guess at the arguments."""
    with pytest.raises(SystemExit) as caught:
        trtd(command, "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "--json" in shown
    assert f"trtd {command}" in shown.partition("example:\n")[2]


def test_version_needs_no_installation(trtd: Trtd) -> None:
    """Run from its source, trtd has no metadata: the question for its version was answered with a bug."""
    ran = trtd("--version")
    assert ran.status == 0
    assert ran.out.startswith("trtd ")


WRONG = {
    "no command": (["--json"], "no command was given", ""),
    "unknown option": (["--bogus"], "there is no option '--bogus'", "trtd --help"),
    "misspelt command": (["bild"], "there is no command 'bild'", "did you mean trtd build?"),
    "unknown command": (["xyzzy"], "there is no command 'xyzzy'", "trtd --help"),
    "options first": (
        ["--registry", "somewhere", "show"],
        "no command 'somewhere'",
        "the command comes first: trtd show",
    ),
    "missing argument": (["build"], "required: SPEC", "trtd build --help"),
    "abbreviated option": (["show", "--js"], "unrecognized arguments: --js", "trtd show --help"),
    "option given twice": (["show", "--registry", "a", "--registry", "b"], "--registry is given twice", ""),
    "threads": (["build", "a.toml", "--threads", "-2"], "whole number from 1, got '-2'", ""),
    "runs": (["bench", "a", "--runs", "0"], "whole number from 1, got '0'", ""),
    "version 0": (["rollback", "a", "0"], "whole number from 1, got '0'", ""),
    "keep": (["gc", "--keep", "0"], "whole number from 1, got '0'", ""),
    "days": (["gc", "--unused-days", "nan"], "number of days from 0, got 'nan'", ""),
    "html of all": (["show", "--html"], "--html and --layers want the name of an engine", ""),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_usage_is_told_and_exits_2(what: str, trtd: Trtd) -> None:
    """A slip of the finger would do something else than was meant, or print a traceback."""
    arguments, message, hint = WRONG[what]
    ran = trtd(*arguments, *(["--json"] if "--json" not in arguments else []))
    assert ran.status == ran.document["exit_code"] == 2
    assert ran.err == ""
    assert message in ran.document["error"]["message"]
    assert hint in ran.document["error"]["hint"]
    if "--json" not in arguments:
        ran = trtd(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert message in ran.err


def test_without_a_registry_the_way_to_make_one_is_told(
    trtd: Trtd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first command of most newcomers would end in an error without a way out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRTD_REGISTRY", raising=False)
    ran = trtd("show")
    assert ran.status == 2
    assert "trtd init registry" in ran.err
    assert trtd("init", "registry").status == 0
    assert trtd("show", "--registry", "registry").out == "nothing is published yet; trtd build SPEC publishes\n"
    monkeypatch.setenv("TRTD_REGISTRY", str(tmp_path / "elsewhere"))
    assert trtd("show").status == 3
    monkeypatch.setenv("TRTD_REGISTRY", str(tmp_path / "registry"))
    assert trtd("show").status == 0


def test_a_bug_is_called_a_bug(trtd: Trtd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own faults would be taken for bad input, or would have no trace to mend them by."""
    monkeypatch.setattr("trtd.cli.schema.run", lambda args: 1 / 0)
    ran = trtd("schema", "--json")
    assert ran.status == ran.document["exit_code"] == 70
    assert "ZeroDivisionError" in ran.document["error"]["message"]
    assert "Traceback" in ran.err


def test_an_interrupt_leaves_nothing_behind(shop: Workshop) -> None:
    """Ctrl-C would leave workers, staging folders or half a version."""
    spec = shop.spec("late", precision='"fp16"')
    command = [sys.executable, "-m", "trtd", "build", str(spec), "--registry", str(shop.registry.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as build:
        assert build.stderr is not None
        while "verify started" not in build.stderr.readline():
            assert build.poll() is None
        build.send_signal(signal.SIGINT)
        out, err = build.communicate(timeout=60)
    assert build.returncode == 130, err
    assert out == ""
    assert err.endswith("interrupted; nothing half-done was published\n")
    assert "late" not in shop.registry.names()
    assert list(shop.registry.staging.iterdir()) == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`trtd schema | head` would end in a traceback."""
    read, write = os.pipe()
    os.close(read)
    ran = run("schema", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["schema"], ["--help"], ["schema", "--json"]])
def test_output_to_a_full_disk_is_an_error_and_no_bug(arguments: list[str]) -> None:
    """A script would take a cut-off document for the whole, or the user would report a bug."""
    with open("/dev/full", "w") as full:
        ran = run(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode == 3
    assert "Traceback" not in ran.stderr
    assert "the disk is full" in ran.stderr or "--json" in arguments
