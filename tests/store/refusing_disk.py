"""A disk that refuses the n-th change that is asked of it, whoever asks: Python, SQLite or the C library.

The kernel asks a supervising process about every system call of one thread that changes a file system, and that one
says to go on or to fail. Source: seccomp_unotify(2). A real disk fails at the same place; a patched ``os.fsync`` would
leave out what C code does.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import itertools
import mmap
import os
import platform
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.store.children import fork

# x86_64, aarch64. -1: the processor's table has no such call, the ...at variant is all there is.
_NUMBERS = {
    "open": (2, -1), "openat": (257, 56), "openat2": (437, 437), "creat": (85, -1),
    "write": (1, 64), "pwrite64": (18, 68), "writev": (20, 66), "pwritev": (296, 70), "pwritev2": (328, 287),
    "sendfile": (40, 71), "copy_file_range": (326, 285),
    "fsync": (74, 82), "fdatasync": (75, 83), "sync_file_range": (277, 84),
    "ftruncate": (77, 46), "truncate": (76, 45), "fallocate": (285, 47),
    "rename": (82, -1), "renameat": (264, 38), "renameat2": (316, 276),
    "link": (86, -1), "linkat": (265, 37), "symlink": (88, -1), "symlinkat": (266, 36),
    "mkdir": (83, -1), "mkdirat": (258, 34), "unlink": (87, -1), "rmdir": (84, -1), "unlinkat": (263, 35),
    "utimensat": (280, 88), "chmod": (90, -1), "fchmod": (91, 52), "fchmodat": (268, 53),
}  # fmt: skip
_OF_DESCRIPTORS = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "fsync", "fdatasync", "sync_file_range",
                   "ftruncate", "fallocate", "fchmod", "sendfile")  # fmt: skip
_OPENS = {"open": 1, "openat": 2}  # which argument holds the flags
_PATHS = {"openat": 1, "renameat2": 3, "renameat": 3, "linkat": 3, "mkdirat": 1, "unlinkat": 1, "utimensat": 1}
_MACHINES = {"x86_64": (0, 0xC000003E, 317), "aarch64": (1, 0xC00000B7, 277)}  # column, AUDIT_ARCH, seccomp(2)

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFY, _ALLOW, _CONTINUE = 0x7FC00000, 0x7FFF0000, 1
_NAME_BYTES = 400


NUMBERS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES)
each_error = pytest.mark.parametrize(
    "numbers",
    [(number,) for number in NUMBERS] if "TRTD_SOAK" in os.environ else [NUMBERS],
    ids=lambda numbers: "-".join(errno.errorcode[number] for number in numbers),
)
"""Changes are refused with one of them in turn; with ``TRTD_SOAK`` each with each, which takes four times as long."""


@dataclass(frozen=True)
class Refusal:
    """The ``which``-th change of an attempt, refused with ``number``.

    Attributes:
        change: the system call and the path that it is about, as far as they are known.
        raised: by the attempt; ``None`` if it did its work all the same.
    """

    which: int
    number: int
    change: str
    raised: Exception | None

    def __str__(self) -> str:
        return f"change {self.which}, {self.change}: {errno.errorcode[self.number]}"


class RefusingDisk:
    """What the thread and its supervisor share: which change to refuse, how, and how many there were."""

    _FORM = struct.Struct("iii")  # refuse which, counted from 1, 0: none; errno; seen so far

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 4096)

    def arm(self, which: int, number: int) -> None:
        """Refuse one change with ``errno`` ``number``, the ``which``-th from now on."""
        self._shared[self._FORM.size :] = bytes(4096 - self._FORM.size)
        self._FORM.pack_into(self._shared, 0, which, number, 0)

    def disarm(self) -> str:
        """Refuse nothing any more; what was refused, empty if there were not that many changes."""
        self._FORM.pack_into(self._shared, 0, 0, 0, 0)
        return self._shared[self._FORM.size :].rstrip(b"\0").decode(errors="replace")

    def judge(self, name: Callable[[], str]) -> int:
        """The supervisor's: the ``errno`` for the change that is asked for now; 0: let it be done."""
        which, number, seen = self._FORM.unpack_from(self._shared)
        self._FORM.pack_into(self._shared, 0, which, number, seen + 1)
        if seen + 1 != which:
            return 0
        told = name().encode()[:_NAME_BYTES]
        self._shared[self._FORM.size : self._FORM.size + len(told)] = told
        return int(number)

    def every_refusal(
        self, numbers: Sequence[int], attempt: Callable[[], object], prepare: Callable[[], object] = lambda: None
    ) -> Iterator[Refusal]:
        """Make the attempt again and again, with its first change refused, its second, and so on, until all succeed.

        Args:
            numbers: ``errno`` of the refusals, in turn.
            prepare: called before each attempt; nothing is refused to it.
        """
        for which, number in enumerate(itertools.cycle(numbers), 1):
            raised = None
            prepare()
            self.arm(which, number)
            try:
                attempt()
            except Exception as error:  # noqa: BLE001  # judged by who asked
                raised = error
            refused = self.disarm()
            if not refused:
                assert raised is None, "nothing was refused"
                return
            yield Refusal(which, number, refused, raised)


def on_refusing_disk(body: Callable[[RefusingDisk], None]) -> None:
    """Run ``body`` in a thread whose changes of file systems can be refused. It must start no process.

    Skips the test where the kernel cannot do it, or a container does not let it.
    """
    if platform.machine() not in _MACHINES:
        pytest.skip(f"system calls of {platform.machine()} are not known")
    disk, failures, unable = RefusingDisk(), list[BaseException](), list[str]()
    ours, theirs = socket.socketpair()

    def supervised() -> None:
        try:
            listener = _install()
        except OSError as error:
            unable.append(f"the kernel supervises no system calls here: {error}")
            return
        try:
            socket.send_fds(ours, [b"L"], [listener])
            os.close(listener)
            body(disk)
        except BaseException as error:  # noqa: BLE001  # told in the test's own thread
            failures.append(error)

    supervisor = fork(lambda: _supervise(theirs, disk, os.getppid()))
    try:
        thread = threading.Thread(target=supervised)
        thread.start()
        thread.join()
    finally:
        with suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGKILL)
        os.waitpid(supervisor, 0)
        ours.close()
        theirs.close()
    if unable:
        pytest.skip(unable[0])
    if failures:
        raise failures[0]


def _install() -> int:
    """Have this thread's calls supervised from now on, until it ends; the supervisor's descriptor."""
    column, architecture, seccomp = _MACHINES[platform.machine()]
    numbers = [row[column] for row in _NUMBERS.values() if row[column] >= 0]
    load, equal, give = 0x20, 0x15, 0x06
    program = [(load, 0, 0, 4), (equal, 0, len(numbers) + 1, architecture), (load, 0, 0, 0)]
    program += [(equal, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    program += [(give, 0, 0, _ALLOW), (give, 0, 0, _NOTIFY)]
    # If it is another architecture, all the comparisons are jumped over, to what allows.
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, *(ctypes.c_ulong(value) for value in (1, 0, 0, 0)))
    listener = libc.syscall(ctypes.c_long(seccomp), _SET_MODE_FILTER, _NEW_LISTENER, head)
    if listener < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(listener)


def _supervise(channel: socket.socket, disk: RefusingDisk, process: int) -> None:
    _, (listener,), _, _ = socket.recv_fds(channel, 1, 1)
    column = _MACHINES[platform.machine()][0]
    names = {row[column]: name for name, row in _NUMBERS.items()}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while not any(event & select.POLLHUP for _, event in poll.poll()):
        asked = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, asked)
            mark, thread, _, number, _, _, *arguments = struct.unpack("QIIiIQ6Q", asked)
            refusal = _refusal(disk, f"/proc/{process}/task/{thread}", names[number], arguments)
            fcntl.ioctl(listener, _SEND, struct.pack("QqiI", mark, 0, -refusal, 0 if refusal else _CONTINUE))
        except FileNotFoundError:  # a signal came, and the call is made anew
            continue


def _refusal(disk: RefusingDisk, process: str, call: str, arguments: list[int]) -> int:
    """The ``errno`` for a call; 0 if it is to be made, for one because it changes no file system."""
    if call in _OPENS:
        if not arguments[_OPENS[call]] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return 0
    elif call in _OF_DESCRIPTORS:
        place = os.readlink(f"{process}/fd/{arguments[0]}")
        if not place.startswith("/") or place.startswith("/dev/pts"):
            return 0  # a pipe, a socket, a terminal
        return disk.judge(lambda: f"{call} {place}")
    return disk.judge(lambda: f"{call} {_path(process, arguments[_PATHS[call]]) if call in _PATHS else ''}")


def _path(process: str, address: int) -> str:
    """A path as the call names it; a question mark where one process may not read another's memory."""
    try:
        with open(f"{process}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return os.fsdecode(memory.read(256).split(b"\0")[0])
    except OSError:
        return "?"
