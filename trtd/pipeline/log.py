"""The log of a worker: its tail, made fit to be shown in a message, and what it gives away about an end."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

TAIL_BYTES = 65536
LINE_CHARACTERS = 200

_TERMINAL_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-Z\\^-~])",
)
_MEMORY = re.compile(
    r"std::bad_alloc|\bMemoryError\b|failed to allocate memory|cannot allocate memory|out of memory"
    r"|memory allocation (?:still )?failed|failed to map segment|resource_?exhausted"
    # What Python, glibc and OpenBLAS say when it runs out where they did not expect it.
    r"|error return without exception set|libgcc_s\.so\.1 must be installed|pthread_create failed",
    re.IGNORECASE,
)
# As faulthandler writes it: the thread that died, innermost frame first.
_CRASH_SITE = re.compile(
    r'^(?:Current thread|Stack)\b[^\n]*\(most recent call first\):\n +File "([^"\n]+)", line (\d+) in ([^\n]+)$',
    re.MULTILINE,
)
_CRASH_DUMP = re.compile(
    r"^(?:Fatal Python error: .*|Extension modules: .*|.*\(most recent call first\):(?:\n  .*)*)$", re.MULTILINE
)


def read_tail(log: Path, start: int = 0, limit_bytes: int = TAIL_BYTES) -> str:
    """The last ``limit_bytes`` of what follows offset ``start``, cleaned. Bytes that are not UTF-8 show as ``\\xff``.

    A log may be of any size, since nothing caps what a stage prints; never more than the tail is read.
    """
    try:
        with log.open("rb") as file:
            first = max(start, file.seek(0, 2) - limit_bytes)
            file.seek(first)
            data = file.read(limit_bytes)
    except OSError as error:
        return f"(the log could not be read: {error.strerror})"
    if first > start:
        data = data[data.find(b"\n") + 1 :]
    return clean(data.decode("utf-8", "backslashreplace"))


def clean(text: str) -> str:
    """``text`` without terminal sequences, control and invisible formatting characters; line ends are kept.

    What a child printed must not be able to move the cursor, hide text or forge lines of its own elsewhere.
    """
    text = _TERMINAL_SEQUENCE.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def last_lines(tail: str, count: int = 8) -> list[str]:
    """The last lines that are not blank, each cut to a bearable length.

    faulthandler's dump is left out: it comes last and buries what the library said; :func:`crash_site` tells its gist.
    """
    lines = [line.rstrip() for line in _CRASH_DUMP.sub("", tail).split("\n") if line.strip()]
    return [line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + " …" for line in lines[-count:]]


def speaks_of_memory(text: str) -> bool:
    """Whether ``text`` says, in the words of any of the libraries in use, that memory ran out."""
    return _MEMORY.search(text) is not None


def crash_site(tail: str) -> str:
    """The innermost Python frame of the last faulthandler dump, as ``function (file:line)``; empty if there is none."""
    sites = _CRASH_SITE.findall(tail)
    if not sites:
        return ""
    file, line, function = sites[-1]
    return f"{function} ({file}:{line})"
