"""What people say to the daemon about one subject: pause, resume, retry, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from difflib import get_close_matches

from trtd.daemon.conditions import fault_of
from trtd.daemon.keys import is_of_file, several
from trtd.daemon.memory import LastFailure, basis_of
from trtd.daemon.messages import Answer, CommandName, Observed
from trtd.daemon.phrases import conflict_problem, one_line
from trtd.daemon.subject import Subject
from trtd.status import Phase, Problem, file_of

_CANCELLABLE: tuple[Phase, ...] = ("queued", "waiting", "backoff")
_MOST_COMPARED = 20_000


def find(name: str, subjects: Mapping[str, Subject]) -> Subject | Problem:
    """The subject of a key, of a spec's name, of an engine's name, or of a file, ``.toml`` or not; the first that fits.

    Returns:
        The problem if there is none, with close matches, or if several fit.
    """
    if name in subjects:
        return subjects[name]
    by_name, by_engine, by_file = [], [], []
    for subject in subjects.values():
        facts = subject.facts or subject.memory.facts
        if facts is not None and facts.name == name:
            by_name.append(subject)
        elif facts is not None and any(engine == name for engine, _ in facts.engines):
            by_engine.append(subject)
        elif is_of_file(subject.key, name):
            by_file.append(subject)
    found = by_name or by_engine or by_file
    if len(found) == 1:
        return found[0]
    if found:
        return Problem("usage", *several(name, {subject.key: subject.name for subject in found}))
    return _unknown(name, subjects.values())


def _unknown(name: str, subjects: Iterable[Subject]) -> Problem:
    known: dict[str, None] = {}
    for subject in subjects:
        known |= dict.fromkeys([subject.name, subject.key])
        facts = subject.facts or subject.memory.facts
        known |= dict.fromkeys(engine for engine, _ in (facts.engines if facts else ()))
        if len(known) > _MOST_COMPARED:
            break
    near = get_close_matches(name[:255], known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`trtd status` lists them all"
    return Problem("usage", f"there is no spec or engine by the name {one_line(name)}", hint)


def obey(command: CommandName, subject: Subject, view: Observed) -> Answer:
    """Change a subject as told; what follows from that is decided afterwards."""
    return _ORDERS[command](subject, view)


def _pause(subject: Subject, _: Observed) -> Answer:
    if subject.memory.paused:
        return Answer(f"{subject.name} is paused already")
    subject.memory = replace(subject.memory, paused=True)
    if subject.running is not None:
        return Answer(f"{subject.name} is paused; the build that runs goes on: trtd cancel {subject.name} stops it")
    return Answer(f"{subject.name} is paused: nothing is built until `trtd resume {subject.name}`")


def _resume(subject: Subject, _: Observed) -> Answer:
    if not subject.memory.paused:
        return Answer(f"{subject.name} is not paused")
    subject.memory = replace(subject.memory, paused=False)
    return Answer(f"{subject.name} goes on")


def _retry(subject: Subject, view: Observed) -> Answer:
    phase, name = subject.decision.phase, subject.name
    if phase == "invalid":
        fault = fault_of(view)
        hint = f"mend {file_of(subject.key)}, it is read again when it changes: trtd check FILE"
        return _refused(f"{name} cannot be built: {fault.message}", fault.hint or hint, fault.where or subject.key)
    if phase == "conflict":
        rivals = conflict_problem(subject.decision.rivals)
        return _refused(f"{name} cannot be built: {rivals.message}", rivals.hint, subject.key)
    running = subject.running
    if running is not None and not running.stop:
        return Answer(f"{name} is being built now")
    failure = subject.memory.failure
    if failure is not None and failure.kind == "cancelled":
        failure = None
    subject.memory = replace(subject.memory, asked=True, approved=view.tools, failure=failure)
    if running is not None:
        running.again = True
        return Answer(f"{name} is being stopped, and is built again after that")
    if subject.memory.paused:
        return Answer(f"{name} is paused: it will be tried when you say `trtd resume {name}`")
    if not view.settled:
        return Answer(f"the files of {name} are still changing: it will be tried when they are still")
    return Answer(f"{name} will be tried now")


def _cancel(subject: Subject, view: Observed) -> Answer:
    phase, name, running = subject.decision.phase, subject.name, subject.running
    if running is not None and running.stop == "cancelled" and not running.again:
        return Answer(f"the build of {name} is being stopped already")
    if running is None and phase not in _CANCELLABLE:
        return _refused(f"there is nothing to cancel: {name} is {phase}", f"trtd status {name}", subject.key)
    problem = Problem("cancelled", "somebody cancelled the build", f"trtd retry {name}")
    cancelled = LastFailure("cancelled", problem, basis_of(view))
    subject.memory = replace(subject.memory, asked=False, failure=cancelled)
    if running is None:
        return Answer(f"{name} will not be built until its files change or you say `trtd retry {name}`")
    running.again = False
    running.stop = running.stop or "cancelled"
    return Answer(f"the build of {name} is being stopped")


def _refused(message: str, hint: str, where: str) -> Answer:
    return Answer(one_line(message), Problem("usage", message, hint, where))


_ORDERS: dict[CommandName, Callable[[Subject, Observed], Answer]] = {
    "pause": _pause,
    "resume": _resume,
    "retry": _retry,
    "cancel": _cancel,
}
