"""Installing the service: what is written, what is left alone, and what is told."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtd.cli import install_service
from trtd.daemon.config import ConfigError
from trtd.errors import EnvironmentMissing, RegistryError, StorageError, UsageError

Install = Callable[..., str]

pytestmark = pytest.mark.usefixtures("_clean")

UNIT = "etc/systemd/system/trtd.service"
ALL = {UNIT, "etc/sysusers.d/trtd.conf", "etc/tmpfiles.d/trtd.conf"}

STAND_IN_SYSTEMD = """#!/bin/sh
echo "/lib/systemd/system/other.service:3: Unknown key name" >&2
test "$COMPLAINT" = "" || echo "$COMPLAINT" >&2
exit ${STATUS:-0}
"""


@pytest.fixture
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("TRTD_REGISTRY", "TRTD_CONFIG", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def install(capsys: pytest.CaptureFixture[str]) -> Install:
    """Runs the command; gives what it printed."""

    def run(*arguments: str | Path) -> str:
        parser = argparse.ArgumentParser()
        install_service.add_arguments(parser)
        parser.add_argument("--json", action="store_true")
        capsys.readouterr()
        assert install_service.run(parser.parse_args(list(map(str, arguments)))) == 0
        return capsys.readouterr().out

    return run


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def setting(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def test_everything_is_written_and_explained(install: Install, tmp_path: Path) -> None:
    """The operator would have to know systemd to get a service going."""
    root = tmp_path / "root"
    told = install("--root", root)
    assert files(root) == ALL
    unit = (root / UNIT).read_text()
    script = Path(sys.executable).with_name("trtd")
    assert setting(unit, "ExecStart") == [f"{script} run --registry /var/lib/trtd"]
    assert setting(unit, "ExecStartPre") == [f"{script} init --json /var/lib/trtd"]
    assert all(oct((root / file).stat().st_mode & 0o777) == "0o644" for file in ALL)
    for words in (
        "systemctl daemon-reload",
        "systemctl enable --now trtd",
        "journalctl -u trtd",
        "systemd-sysusers /etc/",
    ):
        assert words in told
    assert "written: the service" in told


def test_a_second_time_changes_nothing(install: Install, tmp_path: Path) -> None:
    """Every run of a provisioning tool would restart the service."""
    install("--root", tmp_path)
    before = {file: (tmp_path / file).stat().st_ino for file in ALL}
    assert install("--root", tmp_path).count("unchanged:") == len(ALL)
    assert {file: (tmp_path / file).stat().st_ino for file in ALL} == before


def test_a_file_that_differs_is_not_replaced(install: Install, tmp_path: Path) -> None:
    """An operator's work would be lost; or half of the files would be new and half old."""
    unit = tmp_path / UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("# mine\n")
    with pytest.raises(UsageError, match=re.escape(f"there are other files already: {unit}")):
        install("--root", tmp_path)
    assert files(tmp_path) - {"home"} == {UNIT}
    assert unit.read_text() == "# mine\n"
    assert "would be replaced: the service" in install("--root", tmp_path, "--dry-run")
    assert unit.read_text() == "# mine\n"
    assert "replaced: the service" in install("--root", tmp_path, "--force")
    assert "Type=notify" in unit.read_text()
    assert files(tmp_path) == ALL


@pytest.mark.parametrize("odd", ["folder", "bytes"])
def test_whatever_is_in_the_way_is_no_bug(odd: str, install: Install, tmp_path: Path) -> None:
    """A folder or binary file of that name would end in a trace."""
    unit = tmp_path / UNIT
    unit.parent.mkdir(parents=True)
    if odd == "folder":
        unit.mkdir()
    else:
        unit.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="other files already"):
        install("--root", tmp_path)
    if odd == "folder":
        with pytest.raises(StorageError):
            install("--root", tmp_path, "--force")


def test_a_dry_run_shows_all_and_writes_nothing(install: Install, tmp_path: Path) -> None:
    """Nobody installs what he has not seen."""
    told = install("--root", tmp_path / "root", "--dry-run")
    assert not (tmp_path / "root").exists()
    assert "    ExecReload=/bin/kill -HUP $MAINPID\n" in told
    assert "    d /var/lib/trtd/specs " in told
    assert told.count("would be written") == len(ALL)


def test_json_tells_the_same(install: Install, tmp_path: Path) -> None:
    """A provisioning tool could not tell whether anything changed."""
    data = json.loads(install("--root", tmp_path, "--json"))["data"]
    assert {
        Path(file["path"]).relative_to(tmp_path).as_posix(): file["action"] for file in data["files"]
    } == dict.fromkeys(ALL, "written")
    assert data["verified"] is (True if shutil.which("systemd-analyze") else None)
    assert data["next"][0] == {
        "type": "sudo systemd-sysusers /etc/sysusers.d/trtd.conf",
        "why": "makes the user and group trtd",
    }
    for file in data["files"]:
        assert Path(file["path"]).read_text() == file["text"]


def test_another_registry_and_configuration(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service would watch the wrong folder, or run without its limits."""
    config = tmp_path / "my.toml"
    config.write_text(f'[shutdown]\ndrain_s = 300\n[metrics]\ntextfile = "{tmp_path}/prom/trtd.prom"\n')
    root = tmp_path / "root"
    install("--root", root, "--registry", "/srv/engines", "--config", config)
    unit = (root / UNIT).read_text()
    assert setting(unit, "ExecStart")[0].endswith(f" run --registry /srv/engines --config {config}")
    assert setting(unit, "ReadWritePaths") == ["/srv/engines", f"-{tmp_path}/prom", "-/run/lock"]
    assert setting(unit, "TimeoutStopSec") == ["330"]
    assert "d /srv/engines/specs " in (root / "etc/tmpfiles.d/trtd.conf").read_text()
    monkeypatch.setenv("TRTD_CONFIG", str(config))
    monkeypatch.setenv("TRTD_REGISTRY", "/srv/engines")
    assert install("--root", root).count("unchanged:") == len(ALL)


def test_the_network_follows_the_configuration(install: Install, tmp_path: Path) -> None:
    """A webhook would be configured, and fail for a reason that is written nowhere near it."""
    config = tmp_path / "my.toml"
    seen = {}
    for text, words in (
        ("", "no network"),
        ('[metrics]\nlisten = "127.0.0.1:9464"', "the loopback network alone"),
        ('[notify]\nwebhook = "https://h/SECRET"', "may use the network"),
    ):
        config.write_text(text)
        told = install("--root", tmp_path / "root", "--config", config, "--force")
        assert words in told
        assert "SECRET" not in told
        seen[text] = setting((tmp_path / "root" / UNIT).read_text(), "PrivateNetwork")
    assert list(seen.values()) == [["yes"], ["no"], ["no"]]
    config.write_text("")
    assert "may use the network" in install("--root", tmp_path / "root", "--config", config, "--force", "--network")


def test_a_bad_configuration_is_told_now(install: Install, tmp_path: Path) -> None:
    """The service would be installed and then not start."""
    config = tmp_path / "my.toml"
    config.write_text("[limits]\nbuild = 3\n")
    with pytest.raises(ConfigError, match=r'my\.toml:2: limits\.build: unknown key \(did you mean "builds"\?\)'):
        install("--root", tmp_path / "root", "--config", config)
    assert not (tmp_path / "root").exists()


def test_a_users_service(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not root could not run it at all."""
    told = install("--user")
    unit = (tmp_path / "home/.config/systemd/user/trtd.service").read_text()
    assert setting(unit, "ExecStart")[0].endswith(f" run --registry {tmp_path}/home/.local/share/trtd")
    assert files(tmp_path) == {"home/.config/systemd/user/trtd.service"}
    assert "systemctl --user enable --now trtd" in told
    assert "sudo" not in told
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    install("--user", "--registry", tmp_path / "here")
    assert f"--registry {tmp_path}/here" in (tmp_path / "config/systemd/user/trtd.service").read_text()
    install("--user", "--force")
    assert f"--registry {tmp_path}/data/trtd" in (tmp_path / "config/systemd/user/trtd.service").read_text()


def test_what_cannot_work_is_refused(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service would be installed, and its failure told in systemd's words alone."""
    with pytest.raises(UsageError, match="could not see this registry"):
        install("--root", tmp_path / "root", "--registry", "/tmp/engines")
    (tmp_path / "file").touch()
    with pytest.raises(RegistryError, match="a registry is a folder"):
        install("--user", "--registry", tmp_path / "file")
    with pytest.raises(UsageError, match="cannot spell the path"):
        install("--root", tmp_path / "root", "--registry", '/srv/a"b')
    with pytest.raises(UsageError, match="--root is for system services"):
        install("--root", tmp_path / "root", "--user")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="only root can install a system service"):
        install()
    assert not (tmp_path / "root").exists()


def test_a_registry_that_is_there_is_handed_over(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's user could not write into a registry that was made by hand."""
    registry = tmp_path / "my engines"
    (registry / ".trtd").mkdir(parents=True)
    monkeypatch.setattr("trtd.daemon.unit._TEMPORARY", ())  # where tests keep theirs
    steps: list[dict[str, Any]] = json.loads(install("--dry-run", "--registry", registry, "--json"))["data"]["next"]
    assert f"sudo chown -R trtd:trtd '{registry}'" in [step["type"] for step in steps]


@pytest.fixture
def stand_in_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "systemd-analyze"
    program.parent.mkdir()
    program.write_text(STAND_IN_SYSTEMD)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("stand_in_systemd")
def test_complaints_of_systemd_stop_it(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd exits 0 on keys that it does not know, and then ignores them: a hole in the sandbox."""
    root = tmp_path / "root"
    assert "nothing to complain about" in install("--root", root, "--dry-run")  # another unit is no fault of ours
    for variable, value, words in (
        ("COMPLAINT", "trtd.service:9: Unknown key name 'X'", "Unknown key name 'X'"),
        ("STATUS", "1", "exit status 1"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with pytest.raises(EnvironmentMissing, match=words):
                install("--root", root)
            assert not root.exists()
            assert json.loads(install("--root", root, "--force", "--dry-run", "--json"))["data"]["verified"] is False


def test_without_systemd_the_files_are_written_all_the_same(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image is often built in a container that has no systemd."""
    monkeypatch.setenv("PATH", str(tmp_path))
    told = install("--root", tmp_path / "root")
    assert files(tmp_path / "root") == ALL
    assert "the unit was not checked" in told
