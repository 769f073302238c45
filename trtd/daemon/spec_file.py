"""One spec file: when it must be read, and what reading it gives."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from trtd.daemon.inputs import Use, inputs_of
from trtd.daemon.messages import Failure, SpecFacts
from trtd.daemon.settle import is_open_for_writing
from trtd.errors import Diagnostic, SpecError, TrtdError
from trtd.spec.load import LIMIT_BYTES, load_spec
from trtd.spec.schema import Spec
from trtd.spec.values import printable
from trtd.status import Problem
from trtd.store.atomic import storage_error
from trtd.store.digest import PREFIX


class Signature(NamedTuple):
    """What tells one state of a file from another without reading it, links followed.

    ``ctime_ns`` is among it for files that were unreadable: a change of mode shows nowhere else.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    dev: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev)


@dataclass(frozen=True)
class Reading:
    """What a spec file said.

    Attributes:
        digest: of its bytes; empty if they cannot be read.
        facts: ``None`` if it is at fault, and ``fault`` says how.
        uses: what it reads beside itself.
        lasting: whether the file must change before reading it again can give anything else.
    """

    digest: str
    facts: SpecFacts | None = None
    fault: Failure | None = None
    uses: tuple[Use, ...] = ()
    lasting: bool = True


def failure_of(error: TrtdError) -> Failure:
    """An error as the reconciler takes it."""
    return Failure(Problem(error.code, error.message, error.hint, error.where), error.retry)


def look_at(entry: os.DirEntry[str]) -> Signature | OSError:
    """The signature of a spec as it lies in ``specs/``, or why there is none."""
    try:
        return Signature.of(entry.stat())
    except OSError as error:
        return error


def read_spec(path: Path, signature: Signature, known: Reading | None) -> Reading | None:
    """Read a spec file.

    Args:
        signature: of the file as it was last looked at.
        known: what it said before; returned as it is if the bytes are still the same.

    Returns:
        ``None`` if the file is being written, or is not the one of ``signature`` any more: look at it again.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return _parsed(path, "")  # refuses to open it and says what it is
        digest = _digest(path, signature)
    except FileNotFoundError:
        return None
    except OSError as error:
        return unreadable(path, error)
    if digest is None:
        return None
    if known is not None and known.digest == digest and known.lasting:
        return known
    reading = _parsed(path, digest)
    try:
        return reading if Signature.of(os.stat(path)) == signature else None
    except OSError:
        return None


def unreadable(path: Path, error: OSError) -> Reading:
    """What is to be said of a spec that cannot be looked at or opened."""
    if error.errno in (errno.ENOENT, errno.ELOOP):
        where = "nowhere" if error.errno == errno.ENOENT else "back to itself"
        fault = Diagnostic(printable(str(path)), None, "", f"is a link that leads {where}", "remove or mend the link")
        return Reading("", fault=failure_of(SpecError([fault])))
    return Reading("", fault=failure_of(storage_error(error, "read the spec", printable(str(path)))), lasting=False)


def _digest(path: Path, signature: Signature) -> str | None:
    """Digest of a regular file's bytes; ``None`` if somebody writes to it or it is not the one expected."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:
        if Signature.of(os.fstat(handle)) != signature or is_open_for_writing(handle):
            return None
        state = hashlib.sha256()
        left = LIMIT_BYTES + 1
        while left > 0 and (piece := file.read(left)):
            state.update(piece)
            left -= len(piece)
        return PREFIX + state.hexdigest() if Signature.of(os.fstat(handle)) == signature else None


def _parsed(path: Path, digest: str) -> Reading:
    try:
        spec = load_spec(path)
    except TrtdError as error:
        return Reading(digest, fault=failure_of(error))
    except Exception as error:  # noqa: BLE001  # a fault in reading one spec must not keep the daemon from the others
        problem = Problem("bug", f"reading it failed: {type(error).__name__}: {error}"[:500], "", printable(str(path)))
        return Reading(digest, fault=Failure(problem, "never"))
    return Reading(digest, facts=_facts(spec), uses=inputs_of(spec))


def _facts(spec: Spec) -> SpecFacts:
    return SpecFacts(
        name=spec.name,
        engines=tuple((name, precision) for precision, name in spec.engine_names.items()),
        target=spec.engine.target,
        priority=spec.build.priority,
        rebuild=spec.build.rebuild,
        on_delete=spec.publish.on_delete,
        memory_bytes=spec.build.memory_limit_bytes,
    )
