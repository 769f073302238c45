"""The systemd unit of one installation: the shipped one with this machine's paths put in.

Source of the syntax: systemd.syntax(7), systemd.service(5) for command lines, systemd.exec(5) for paths.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trtd.daemon.config import Config
from trtd.daemon.setting_values import address
from trtd.errors import EnvironmentMissing, TrtdError, UsageError

Network = Literal["none", "loopback", "any"]

UNIT_FILE = "trtd.service"
SYSUSERS_FILE = "trtd.sysusers"
TMPFILES_FILE = "trtd.tmpfiles"
USER = "trtd"
DEFAULT_REGISTRY = Path("/var/lib/trtd")

_LEAST_STOP_S = 60
_STOP_MARGIN_S = 30
_USER_UNIT_FILE = "trtd-user.service"
_PACKAGE = Path(__file__).parents[1]
_HOMES = tuple(map(Path, ("/home", "/root", "/run/user")))  # what ProtectHome= covers
_TEMPORARY = tuple(map(Path, ("/tmp", "/var/tmp")))  # what PrivateTmp= covers
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\"'\\\ud800-\udfff]")


@dataclass(frozen=True)
class Installation:
    """What a unit is to say.

    Attributes:
        command: that runs trtd: a path, or an interpreter with arguments.
        registry: its root, absolute, free of symbolic links.
        config: file of the configuration, if it is not the registry's own.
        writable: further folders that the daemon writes to; they may be missing.
        drain_s: what it takes to stop, at most.
        reads_homes: whether something that it needs lies in somebody's home.
    """

    command: tuple[str, ...]
    registry: Path
    config: Path | None = None
    network: Network = "none"
    writable: tuple[Path, ...] = ()
    drain_s: float = 0.0
    reads_homes: bool = False


def shipped(name: str) -> str:
    """The text of a file of ``packaging/``.

    Raises:
        EnvironmentMissing: the installation lacks it.
    """
    for folder in (_PACKAGE / "packaging", _PACKAGE.parent / "packaging"):  # a wheel; a checkout
        file = folder / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise EnvironmentMissing(f"this installation lacks packaging/{name}", hint="pip install --force-reinstall trtd")


def system_unit(wanted: Installation) -> str:
    """The text of the unit for the system's service manager. Raises ``UsageError`` for paths that no unit can hold."""
    text = _installed(shipped(UNIT_FILE), wanted)
    if wanted.registry != DEFAULT_REGISTRY:
        text = _without(text, "StateDirectoryMode")
        text = _with(text, "StateDirectory", None, [f"ReadWritePaths={quoted(wanted.registry)}"])
        text = _with(text, "StartLimitIntervalSec", "0", [f"RequiresMountsFor={quoted(wanted.registry)}"])
    more = [f"ReadWritePaths={quoted(f'-{path}')}" for path in wanted.writable]  # "-": it may be missing
    text = _with(text, "CacheDirectoryMode", "0750", more)
    if wanted.reads_homes or _lies_in(wanted.registry, _HOMES):
        text = _with(text, "ProtectHome", "read-only")
    if wanted.network != "none":
        text = _with(text, "PrivateNetwork", "no")
        text = _with(text, "RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6")
        text = (
            _with(text, "IPAddressDeny", "any", ["IPAddressAllow=localhost"])
            if wanted.network == "loopback"
            else _without(text, "IPAddressDeny")
        )
    return text


def user_unit(wanted: Installation) -> str:
    """The text of the unit for a user's service manager. Raises ``UsageError`` for paths that no unit can hold."""
    return _installed(shipped(_USER_UNIT_FILE), wanted)


def tmpfiles(registry: Path) -> str:
    """The text of the tmpfiles.d file for a registry."""
    text = shipped(TMPFILES_FILE)
    return re.sub(
        rf"^(d +){DEFAULT_REGISTRY}(/[a-z]+)?",
        lambda found: found[1] + quoted(Path(f"{registry}{found[2] or ''}")),
        text,
        flags=re.MULTILINE,
    )


def network_of(config: Config) -> Network:
    """The network that the configuration needs."""
    if config.notify.webhook is not None:
        return "any"
    if config.metrics.listen is None:
        return "none"
    host, _ = address(config.metrics.listen)
    return "loopback" if ipaddress.ip_address(host).is_loopback else "any"


def in_home(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that the unit's ``ProtectHome=yes`` would hide."""
    return [path for path in paths if _lies_in(path, _HOMES)]


def in_temporary(path: Path) -> bool:
    """Whether the unit's ``PrivateTmp=yes`` would hide it."""
    return _lies_in(path, _TEMPORARY)


def closed_folders(paths: Iterable[Path]) -> list[Path]:
    """Folders above these files that other users cannot enter, by their mode; without repeats."""
    folders = dict.fromkeys(folder for path in paths for folder in reversed(Path(os.path.realpath(path)).parents))
    return [folder for folder in folders if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH]


def quoted(path: Path | str) -> str:
    """A path as a unit file spells it: percent signs doubled, in quotes if it holds spaces.

    Raises:
        UsageError: it holds characters that not every setting can spell.
    """
    text = str(path)
    if _FORBIDDEN.search(text):
        hint = "use a path without quotes, backslashes, control characters and undecodable bytes"
        raise UsageError(f"a unit file cannot spell the path {text!r}", hint=hint)
    text = text.replace("%", "%%")
    return f'"{text}"' if re.search(r"[\s;#]", text) else text


def _installed(text: str, wanted: Installation) -> str:
    """The unit with the commands of this installation, and time enough for them to end."""
    run = [*wanted.command, "run", "--registry", str(wanted.registry)]
    if wanted.config is not None:
        run += ["--config", str(wanted.config)]
    text = _with(text, "ExecStartPre", _command([*wanted.command, "init", "--json", str(wanted.registry)]))
    text = _with(text, "ExecStart", _command(run))
    return _with(text, "TimeoutStopSec", f"{max(_LEAST_STOP_S, math.ceil(wanted.drain_s) + _STOP_MARGIN_S)}")


def _command(words: Sequence[str]) -> str:
    return " ".join(quoted(word).replace("$", "$$") for word in words)


def _with(text: str, key: str, value: str | None, more: Sequence[str] = ()) -> str:
    """The unit with the one line of ``key`` replaced, and lines added behind it; ``None`` leaves those alone."""
    lines = [*([] if value is None else [f"{key}={value}"]), *more]
    made, times = re.subn(rf"^{key}=.*$", lambda _: "\n".join(lines), text, flags=re.MULTILINE)
    if times != 1:
        raise TrtdError(f"the shipped unit has {times} lines of {key}=", hint="pip install --force-reinstall trtd")
    return made


def _without(text: str, key: str) -> str:
    return re.sub(rf"^{key}=.*\n", "", text, flags=re.MULTILINE)


def _lies_in(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
