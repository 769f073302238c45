"""Files of a service: having systemd check the unit, and writing them without losing what somebody changed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trtd.errors import EnvironmentMissing, UsageError
from trtd.store.atomic import storage_errors, write_file

_DEADLINE_S = 60
_MODE = 0o644


@dataclass(frozen=True)
class UnitFile:
    """A file to install, and what it is for."""

    path: Path
    text: str
    purpose: str

    @property
    def state(self) -> Literal["absent", "unchanged", "differs"]:
        """What is at its path now."""
        try:
            return "unchanged" if self.path.read_text(encoding="utf-8") == self.text else "differs"
        except FileNotFoundError:
            return "absent"
        except (OSError, UnicodeDecodeError):
            return "differs"


def verify(unit: str, *, user: bool = False, force: bool = False) -> bool | None:
    """Have systemd read a unit. It exits 0 on misspelt keys, so its standard error must be empty as well.

    Args:
        unit: the text.
        user: it is for a user's service manager.
        force: complaints are no error.

    Returns:
        Whether systemd had nothing to say; ``None`` if it is not installed.

    Raises:
        EnvironmentMissing: it had.
    """
    with tempfile.TemporaryDirectory(prefix="trtd-unit-") as folder:
        file = Path(folder) / "trtd.service"
        file.write_text(unit, encoding="utf-8")
        command = ["systemd-analyze", "verify", "--man=no", *(["--user"] if user else []), str(file)]
        environment = {"XDG_RUNTIME_DIR": folder, **os.environ, "LC_ALL": "C"}  # without a session --user wants one
        try:
            ran = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=_DEADLINE_S
            )
        except FileNotFoundError:
            return None
        except (OSError, subprocess.TimeoutExpired) as error:
            if force:
                return None
            raise EnvironmentMissing(f"systemd-analyze could not be run: {error}", hint="--force goes on") from None
    said = [line for line in ran.stderr.splitlines() if line.strip() and not _of_another_unit(line, file)]
    if (said or ran.returncode) and not force:
        words = "\n".join(said) or f"exit status {ran.returncode}"
        hint = "an older systemd may not know a key; --force installs the unit all the same"
        raise EnvironmentMissing(f"systemd does not take the unit:\n{words}", hint=hint)
    return not said and ran.returncode == 0


def write(files: Sequence[UnitFile], *, force: bool = False, dry_run: bool = False) -> dict[Path, str]:
    """Write what is not there yet. Nothing at all is written if one of the files is there and differs.

    Args:
        force: replace those that differ.
        dry_run: only say what would be done.

    Returns:
        What was done, by path.

    Raises:
        UsageError: a file differs.
        StorageError: the disk refused.
    """
    states = {file.path: file.state for file in files}
    differing = [str(path) for path, state in states.items() if state == "differs"]
    if differing and not force and not dry_run:
        hint = "--dry-run shows what would be written, --force replaces them; `systemctl edit trtd` keeps your changes"
        raise UsageError(f"there are other files already: {', '.join(differing)}", hint=hint)
    for file in files:
        if states[file.path] != "unchanged" and not dry_run:
            with storage_errors("write the file", file.path):
                file.path.parent.mkdir(parents=True, exist_ok=True)
                write_file(file.path, file.text.encode())
                file.path.chmod(_MODE)  # whatever the umask of sudo is: systemd warns of others
    words = {"absent": "would be written" if dry_run else "written", "unchanged": "unchanged"}
    words["differs"] = "would be replaced" if dry_run else "replaced"
    return {path: words[state] for path, state in states.items()}


def _of_another_unit(line: str, ours: Path) -> bool:
    """Whether systemd complains about a unit file of somebody else's, which it read on the way."""
    return line.startswith("/") and not line.startswith(str(ours))
