"""One spec file: when it must be read, and what reading it gives."""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import shlex
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from trtd.daemon.inputs import Use, inputs_of
from trtd.daemon.messages import Failure, SpecFacts
from trtd.daemon.settle import is_open_for_writing
from trtd.errors import Diagnostic, SpecError, TrtdError
from trtd.spec.load import LIMIT_BYTES, load_spec, spec_from_text
from trtd.spec.paths import FixedRoots, resolve
from trtd.spec.schema import Spec
from trtd.spec.toml_file import KINDS
from trtd.spec.values import printable
from trtd.status import Problem
from trtd.store.atomic import storage_error
from trtd.store.digest import PREFIX

BYTE_ORDER_MARK = "\ufeff"


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What a spec file said.

    Attributes:
        digest: of its bytes; empty if they cannot be read.
        facts: of each target, by the part of the subject's key that names it; none if it is at fault, and ``fault``
            says how.
        uses: what it reads beside itself.
        lasting: whether the file must change before reading it again can give anything else.
    """

    digest: str
    facts: tuple[tuple[str, SpecFacts], ...] = ()
    fault: Failure | None = None
    uses: tuple[Use, ...] = ()
    lasting: bool = True


def failure_of(error: TrtdError) -> Failure:
    """An error as the reconciler takes it. Of a spec's faults, the file is told once and not with each of them."""
    found = error.diagnostics if isinstance(error, SpecError) else ()
    if len({fault.file for fault in found}) != 1:
        return Failure(Problem(error.code, error.message, error.hint, error.where), error.retry)
    if len(found) == 1:
        return Failure(Problem(error.code, _said(found[0]), error.hint or found[0].hint, found[0].file), error.retry)
    lines = [f"{_said(fault)} ({fault.hint})" if fault.hint else _said(fault) for fault in found]
    message = "\n".join([f"{len(found)} faults in the spec", *lines])
    return Failure(Problem(error.code, message, error.hint, found[0].file), error.retry)


def _said(fault: Diagnostic) -> str:
    """``line 3: engine.precision: must be …``"""
    line = [f"line {fault.line}"] if fault.line else []
    return ": ".join([*line, *([fault.key] if fault.key else []), fault.message])


def look_at(entry: os.DirEntry[str]) -> Signature | OSError:
    """The signature of a spec as it lies in ``specs/``, or why there is none."""
    try:
        return Signature.of(entry.stat())
    except OSError as error:
        return error


def check_link(path: Path, roots: Sequence[Path]) -> None:
    """Raise ``SpecError`` if a spec is a link that leads out of ``roots``: faults tell what stands in a file."""
    if os.path.islink(path):
        resolve(path, os.readlink(path), FixedRoots((*roots, path.parent)))


def read_spec(path: Path, signature: Signature, known: Reading | None, roots: Sequence[Path]) -> Reading | None:
    """Read a spec file.

    Args:
        signature: of the file as it was last looked at.
        known: what it said before; returned as it is if the bytes are still the same.
        roots: folders that a link may lead to, besides ``specs/``.

    Returns:
        ``None`` if the file is being written, or is not the one of ``signature`` any more: look at it again.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return _refused(path, mode)
        check_link(path, roots)
        data = _bytes(path, signature)
    except SpecError as error:
        return Reading("", fault=failure_of(error), lasting=False)  # the roots may change
    except FileNotFoundError:
        return None
    except OSError as error:
        return unreadable(path, error)
    if data is None:
        return None
    digest = PREFIX + hashlib.sha256(data).hexdigest()
    if known is not None and known.digest == digest and known.lasting:
        return known
    reading = _parsed(path, data, digest)
    try:
        return reading if Signature.of(os.stat(path)) == signature else None
    except OSError:
        return None


def unreadable(path: Path, error: OSError) -> Reading:
    """What is to be said of a spec that cannot be looked at or opened."""
    where, name = printable(str(path)), shlex.quote(printable(path.name))
    if error.errno in (errno.ENOENT, errno.ELOOP):
        message = f"is a link that leads {'nowhere' if error.errno == errno.ENOENT else 'back to itself'}"
        target = printable(_target(path))
        if error.errno == errno.ENOENT and target:
            message += f": {target} is not there"
        hint = f"put a spec there, or remove the link: rm specs/{name}"
        return Reading("", fault=Failure(Problem(SpecError.code, message, hint, where), SpecError.retry))
    failure = failure_of(storage_error(error, "read the spec", where))
    if error.errno == errno.EACCES:
        hint = f"let the daemon's user ({_user()}) read it: chmod a+r specs/{name}. It is looked at again and again"
        failure = replace(failure, problem=replace(failure.problem, hint=hint))
    return Reading("", fault=failure, lasting=False)


def _refused(path: Path, mode: int) -> Reading:
    """What is to be said of what is no file: it is never opened, since that alone may block or act."""
    what = KINDS.get(stat.S_IFMT(mode), "no regular file")
    target = _target(path)
    message = f"is a link to {printable(target)}, which is {what}, not a spec" if target else f"is {what}, not a spec"
    hint = f"it was not opened. Remove it: rm specs/{shlex.quote(printable(path.name))}"
    if stat.S_ISDIR(mode) and not target:
        hint = "specs lie in specs/ itself, not in folders in it: move them there, then rename or remove this folder"
    return Reading("", fault=Failure(Problem(SpecError.code, message, hint, printable(str(path))), SpecError.retry))


def _target(path: Path) -> str:
    """What a link says; empty if it is none."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except (KeyError, OSError):
        return str(os.geteuid())


def _bytes(path: Path, signature: Signature) -> bytes | None:
    """At most one more than a spec may have; ``None`` if somebody writes to the file or it is not the one expected."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:
        if Signature.of(os.fstat(handle)) != signature or is_open_for_writing(handle):
            return None
        size = min(signature.size, LIMIT_BYTES)
        data = file.read(size + 1)  # not of the limit: memory is taken for all that is asked for
        return data if len(data) >= size and Signature.of(os.fstat(handle)) == signature else None


def _parsed(path: Path, data: bytes, digest: str) -> Reading:
    try:
        spec = _spec(path, data)
    except TrtdError as error:
        return Reading(digest, fault=failure_of(error))
    except Exception as error:  # noqa: BLE001  # a fault in reading one spec must not keep the daemon from the others
        message = f"reading it failed, which is a fault of trtd's: {type(error).__name__}: {error}"[:500]
        problem = Problem("bug", message, "report it together with the file, and take it away", printable(str(path)))
        return Reading(digest, fault=Failure(problem, "never"))
    return Reading(digest, tuple((part, _facts(one)) for part, one in by_part(spec).items()), uses=inputs_of(spec))


def by_part(spec: Spec) -> dict[str, Spec]:
    """One spec for each subject, by the part of its key that names the target: see :mod:`trtd.daemon.keys`."""
    if not isinstance(spec.engine.target, list):
        return {"": spec}
    return {one.engine.only_target: one for one in spec.per_target()}


def _spec(path: Path, data: bytes) -> Spec:
    """The spec that these bytes are. Of those that are no text, the loader says what they are."""
    with suppress(UnicodeDecodeError):
        text, file = data.decode(), str(path)
        if len(data) <= LIMIT_BYTES and not text.startswith(BYTE_ORDER_MARK):
            return spec_from_text(text, file=file if file.isprintable() else printable(file), stem=path.stem)
    return load_spec(path)


def _facts(spec: Spec) -> SpecFacts:
    return SpecFacts(
        name=spec.name,
        engines=tuple((name, precision) for precision, name in spec.engine_names.items()),
        target=spec.engine.only_target,
        priority=spec.build.priority,
        rebuild=spec.build.rebuild,
        on_delete=spec.publish.on_delete,
        memory_bytes=spec.build.memory_limit_bytes,
        capabilities=tuple(spec.engine.compute_capabilities),
    )
