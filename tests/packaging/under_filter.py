"""Runs a command under the system-call filter of a unit, as systemd would: ``under_filter.py UNIT COMMAND ...``.

Only what seccomp does is done here (SystemCallFilter=, SystemCallErrorNumber=EPERM, RestrictAddressFamilies=,
NoNewPrivileges=), on x86-64. Source: seccomp(2), systemd.exec(5); the named sets are those that ``systemd-analyze
syscall-filter`` lists.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_AT_NUMBER, _AT_ARCHITECTURE, _AT_FIRST_ARGUMENT = 0, 4, 16
_ARCHITECTURE = 0xC000003E
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EPERM, _EAFNOSUPPORT = 1, 97


def settings(unit: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)


def numbers() -> dict[str, int]:
    """System calls of this architecture."""
    return {name: int(n) for name, n in re.findall(r"#define __NR_(\w+) (\d+)", HEADER.read_text())}


def sets() -> dict[str, list[str]]:
    """systemd's named sets; a set may name others."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True)
    found: dict[str, list[str]] = {}
    name = ""
    for line in re.sub(r"\x1b\[[0-9;]*m", "", listed.stdout).splitlines():
        if line.startswith("@"):
            name = line.strip()
            found[name] = []
        elif line.strip() and not line.strip().startswith("#") and name:
            found[name].append(line.strip())
    return found


def allowed_calls(unit: str) -> set[str]:
    """What the unit's filter lets through: allow lists first, deny lists (``~``) taken away."""
    known = sets()

    def expand(word: str) -> set[str]:
        return {word} if not word.startswith("@") else {call for inner in known[word] for call in expand(inner)}

    calls = expand("@default")
    for line in settings(unit, "SystemCallFilter"):
        listed = {call for word in line.removeprefix("~").split() for call in expand(word)}
        calls = calls - listed if line.startswith("~") else calls | listed
    return calls


def program(unit: str) -> bytes:
    """The filter in BPF."""

    def statement(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    known = numbers()
    families = [getattr(socket, name) for line in settings(unit, "RestrictAddressFamilies") for name in line.split()]
    lines = [
        statement(_LOAD, _AT_ARCHITECTURE),
        statement(_JUMP_IF_EQUAL, _ARCHITECTURE, yes=1),
        statement(_RETURN, _ERRNO | _EPERM),
        statement(_LOAD, _AT_NUMBER),
        statement(_JUMP_IF_EQUAL, known["socket"], no=2 + len(families)),
        statement(_LOAD, _AT_FIRST_ARGUMENT),
    ]
    lines += [statement(_JUMP_IF_EQUAL, family, yes=len(families) - i) for i, family in enumerate(families)]
    lines += [statement(_RETURN, _ERRNO | _EAFNOSUPPORT), statement(_LOAD, _AT_NUMBER)]
    for call in sorted(allowed_calls(unit) & known.keys()):
        lines += [statement(_JUMP_IF_EQUAL, known[call], no=1), statement(_RETURN, _ALLOW)]
    return b"".join([*lines, statement(_RETURN, _ERRNO | _EPERM)])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def main() -> None:
    raw = program(Path(sys.argv[1]).read_text(encoding="utf-8"))
    buffer = ctypes.create_string_buffer(raw, len(raw))
    wanted = _Program(len(raw) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(wanted), 0, 0),
    ):
        if libc.prctl(*map(ctypes.c_ulong, arguments)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
