"""``trtd install-service``: writes the systemd unit, has systemd check it, and says what to type next."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trtd.cli.options import REGISTRY_VARIABLE, Once
from trtd.errors import RegistryError, UsageError

if TYPE_CHECKING:
    from trtd.daemon.config import Config
    from trtd.daemon.unit import Installation
    from trtd.daemon.unit_files import UnitFile

EXAMPLE = """\
  sudo trtd install-service --registry /srv/engines
  trtd install-service --user --dry-run"""

SYSTEM_UNITS = Path("/etc/systemd/system")
SYSUSERS = Path("/etc/sysusers.d/trtd.conf")
TMPFILES = Path("/etc/tmpfiles.d/trtd.conf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", action="store_true", help="a service of yours, not of the system; needs no root")
    parser.add_argument(
        "--registry",
        type=Path,
        action=Once,
        metavar="DIR",
        help=f"the registry; default: ${REGISTRY_VARIABLE}, or /var/lib/trtd, with --user ~/.local/share/trtd",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the daemon's configuration, if not in the registry"
    )
    parser.add_argument(
        "--network", action="store_true", help="let the service use the network; decided by trtd.toml otherwise"
    )
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="write below DIR in place of /, for packages and images"
    )
    parser.add_argument("--force", action="store_true", help="replace files that differ, and take what systemd refuses")
    parser.add_argument("--dry-run", action="store_true", help="check and show everything, write nothing")


def run(args: argparse.Namespace) -> int:
    from trtd.daemon.unit_files import verify, write
    from trtd.ui.machine import emit

    if args.user and args.root:
        raise UsageError("--root is for system services", hint="leave out --user or --root")
    if not (args.user or args.root or args.dry_run) and os.geteuid() != 0:
        hint = "sudo trtd install-service, or trtd install-service --user for a service of yours"
        raise UsageError("only root can install a system service", hint=hint)
    registry = _registry(args)
    config, config_file = _config(args, registry)
    wanted, notes = _plan(args, registry, config, config_file)
    files = _files(args, wanted)
    verified = verify(files[0].text, user=args.user, force=args.force)
    done = write(files, force=args.force, dry_run=args.dry_run)
    following = _next_steps(args, registry)
    removal = _removal(args, files)
    notes += [] if verified is not None else ["systemd-analyze is not here: the unit was not checked"]
    if args.json:
        told = [{"path": f.path, "purpose": f.purpose, "action": done[f.path], "text": f.text} for f in files]
        steps = {"next": following, "remove": removal}
        emit("install-service", {"files": told, "verified": verified, "notes": notes, **steps})
    else:
        _show(args, files, done, verified, notes, following)
        _print_steps("to remove it again, and leave the registry as it is:", removal)
    return 0


def _registry(args: argparse.Namespace) -> Path:
    from trtd.daemon.unit import DEFAULT_REGISTRY, in_temporary

    named = args.registry or os.environ.get(REGISTRY_VARIABLE)
    if named is None:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        named = Path(data) / "trtd" if args.user else DEFAULT_REGISTRY
    registry = Path(os.path.realpath(named))
    if registry.exists() and not registry.is_dir():
        raise RegistryError("a registry is a folder", where=str(registry), hint="name another one with --registry")
    if not args.user and in_temporary(registry):
        hint = "the service has a /tmp of its own (PrivateTmp=yes); name a folder elsewhere with --registry"
        raise UsageError("the service could not see this registry", where=str(registry), hint=hint)
    return registry


def _config(args: argparse.Namespace, registry: Path) -> tuple[Config, Path | None]:
    """The configuration, and its file if the unit must name it."""
    from trtd.daemon.config import VARIABLE, load_config

    config = load_config(args.config, registry)
    named = args.config is not None or os.environ.get(VARIABLE)  # the service has another environment than we
    return config, config.file if named else None


def _plan(
    args: argparse.Namespace, registry: Path, config: Config, config_file: Path | None
) -> tuple[Installation, list[str]]:
    """What the unit is to say, and what the reader should know about it."""
    from trtd.daemon.unit import Installation, closed_folders, in_home, network_of

    script = Path(sys.executable).with_name("trtd")
    command = (str(script),) if os.access(script, os.X_OK) else (sys.executable, "-m", "trtd")
    program = [Path(sys.executable), Path(os.path.realpath(sys.executable)), Path(__file__)]
    reads = [*program, *config.roots, *([config_file] if config_file else [])]
    reads += [Path(config.notify.command[0])] if config.notify.command else []
    wanted = Installation(
        command=command,
        registry=registry,
        config=config_file,
        network="any" if args.network else network_of(config),
        writable=(Path(config.metrics.textfile).parent,) if config.metrics.textfile else (),
        drain_s=config.shutdown.drain_s,
        reads_homes=bool(in_home(reads)),
    )
    if args.user:
        return wanted, []
    notes = [
        f"the user trtd may not be able to enter {folder}, which trtd is installed below: "
        "install it elsewhere, for example in /opt/trtd, or open that folder with chmod o+x"
        for folder in closed_folders(program)
    ]
    if wanted.reads_homes or in_home([registry]):
        notes.append("home folders stay readable for the service (ProtectHome=read-only): something it needs is there")
    reasons = {
        "none": "the service has no network: nothing in trtd.toml needs one; after a change there run this again",
        "loopback": "the service may use the loopback network alone: metrics.listen needs it",
        "any": "the service may use the network: notify.webhook, metrics.listen or --network asks for it",
    }
    return wanted, [*notes, reasons[wanted.network]]


def _files(args: argparse.Namespace, wanted: Installation) -> list[UnitFile]:
    from trtd.daemon.unit import SYSUSERS_FILE, UNIT_FILE, shipped, system_unit, tmpfiles, user_unit
    from trtd.daemon.unit_files import UnitFile

    if args.user:
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return [UnitFile(settings / "systemd" / "user" / UNIT_FILE, user_unit(wanted), "the service")]
    root = Path(os.path.abspath(args.root or "/"))
    return [
        UnitFile(root / SYSTEM_UNITS.relative_to("/") / UNIT_FILE, system_unit(wanted), "the service"),
        UnitFile(root / SYSUSERS.relative_to("/"), shipped(SYSUSERS_FILE), "the user it runs as"),
        UnitFile(root / TMPFILES.relative_to("/"), tmpfiles(wanted.registry), "the registry's folders"),
    ]


def _next_steps(args: argparse.Namespace, registry: Path) -> list[dict[str, str]]:
    if args.user:
        return [
            {"type": "systemctl --user daemon-reload", "why": "systemd reads the unit"},
            {"type": "systemctl --user enable --now trtd", "why": "it starts, now and whenever you log in"},
            {"type": "loginctl enable-linger", "why": "it also runs while you are not logged in"},
            {"type": "journalctl --user -u trtd -f", "why": "its log"},
        ]
    steps = [
        (f"systemd-sysusers {SYSUSERS}", "makes the user and group trtd"),
        (f"systemd-tmpfiles --create {TMPFILES}", "makes the registry's folders"),
        *(
            [(f"chown -R trtd:trtd {shlex.quote(str(registry))}", "hands over what is in the registry already")]
            if (registry / ".trtd").is_dir() and args.root is None
            else []
        ),
        ("systemctl daemon-reload", "systemd reads the unit"),
        ("systemctl enable --now trtd", "it starts, now and at every boot; `restart` if it runs already"),
        ("usermod -aG trtd $USER", "you may add specs and models, and read engines, after the next login"),
        ("journalctl -u trtd -f", "its log"),
    ]
    return [{"type": "sudo " + command, "why": why} for command, why in steps]


def _removal(args: argparse.Namespace, files: Sequence[UnitFile]) -> list[dict[str, str]]:
    """What undoes all of it. The registry, and the user that owns it, stay."""
    sudo, control = ("", "systemctl --user") if args.user else ("sudo ", "systemctl")
    root = Path(os.path.abspath(args.root or "/"))
    paths = shlex.join(str(Path("/", file.path.relative_to(root))) for file in files)
    steps = [
        (f"{control} disable --now trtd", "it stops, and starts no more"),
        (f"rm {paths}", "what was written here"),
        (f"{control} daemon-reload", "systemd forgets the unit"),
    ]
    return [{"type": sudo + command, "why": why} for command, why in steps]


def _show(
    args: argparse.Namespace,
    files: Sequence[UnitFile],
    done: dict[Path, str],
    verified: bool | None,
    notes: Sequence[str],
    following: Sequence[dict[str, str]],
) -> None:
    from trtd.ui.literal import encodable, visible
    from trtd.ui.text import Screen

    screen = Screen(sys.stdout)
    for file in files:
        screen.line(f"{file.path}: {done[file.path]}: {file.purpose}")
        if args.dry_run:
            for line in file.text.splitlines():
                print(encodable(visible(f"    {line}"), screen.encoding))
    if verified:
        screen.line("systemd-analyze verify: nothing to complain about")
    for note in notes:
        screen.line(f"note: {note}")
    _print_steps("next:", following)


def _print_steps(title: str, steps: Sequence[dict[str, str]]) -> None:
    from trtd.ui.text import Screen

    screen = Screen(sys.stdout)
    screen.line(title)
    for step in steps:
        screen.line(f"  {step['type']:<50}  # {step['why']}")
