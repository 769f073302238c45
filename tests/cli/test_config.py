"""Showing the configuration: what holds, where it comes from, and that it can be copied."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from trtd.cli import config as command
from trtd.daemon.config import Config, ConfigError, config_from_text, load_config
from trtd.daemon.settings import AccessSection, NotifySection
from trtd.registry.layout import Registry

Show = Callable[..., str]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Show:
    """Runs the command; gives what it printed."""
    monkeypatch.delenv("TRTD_CONFIG", raising=False)
    monkeypatch.delenv("TRTD_REGISTRY", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> str:
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        parser.add_argument("--json", action="store_true")
        capsys.readouterr()
        assert command.run(parser.parse_args(list(map(str, arguments)))) == 0
        return capsys.readouterr().out

    return run


def test_each_value_says_where_it_comes_from(show: Show, tmp_path: Path) -> None:
    """Nobody could tell whether the file that he edited is the one that holds."""
    assert show().startswith("# no configuration file: these are the defaults\n")
    registry = Registry(tmp_path / "registry")
    registry.init()
    file = registry.root / "trtd.toml"
    file.write_text('[limits]\nbuilds = 3\n[notify]\nwebhook = "https://h.example.org/SECRET"\n')
    told = show("--registry", registry.root).splitlines()
    assert told[0] == f"# {file}"
    assert [line.split() for line in told if line.startswith("builds")] == [["builds", "=", "3", "#", "file"]]
    assert [line.split()[-1] for line in told if line.startswith("threads")] == ["default"]
    assert "# stage_deadline_s is not set" in told
    assert "SECRET" not in "".join(told)
    data = json.loads(show("--registry", registry.root, "--json"))["data"]
    assert data["file"] == str(file)
    assert data["keys"]["limits.builds"] == {"value": 3, "from": "file"}
    assert data["keys"]["notify.webhook"]["value"] == "https://h.example.org/…"


def test_what_is_shown_can_be_the_start_of_a_file(show: Show) -> None:
    """A copied value would be refused, or mean something else."""
    assert config_from_text(show(), file="trtd.toml") == Config()


@given(words=st.lists(st.text(), max_size=3), folder=st.text())
def test_any_text_survives_being_shown(words: list[str], folder: str) -> None:
    """A word with quotes, escapes or an umlaut would be shown as another one, or act on the terminal."""
    try:
        notify = NotifySection(command=["/bin/tell", *words])
        access = AccessSection(roots=[f"/{folder}"])
    except ValidationError:
        assume(False)
    text = f"[notify]\ncommand = {command._toml(notify.command)}\n[access]\nroots = {command._toml(access.roots)}\n"
    read = config_from_text(text, file="trtd.toml")
    assert (read.notify.command, read.access.roots) == (notify.command, access.roots)
    assert "\x1b" not in text


def test_faults_are_told(show: Show, tmp_path: Path) -> None:
    """The command is how an operator checks a file before a reload."""
    file = tmp_path / "my.toml"
    file.write_text("[watch]\nperiod = 3\n")
    with pytest.raises(ConfigError, match=r'my\.toml:2: watch\.period: unknown key \(did you mean "period_s"\?\)'):
        show("--config", file)
    file.write_text("[watch]\nperiod_s = 3\n")
    assert "period_s = 3.0" in show("--config", file)
    assert load_config(file, None).watch.period_s == 3
