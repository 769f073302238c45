"""What is told about a subject in events: kind and text, one line each."""

from __future__ import annotations

from trtd.daemon.conditions import fault_of, stop_words
from trtd.daemon.memory import Basis
from trtd.daemon.messages import Observed
from trtd.daemon.needs import tool_changes
from trtd.daemon.outcomes import Absorbed
from trtd.daemon.phrases import conflict_problem, failed_text, listed, one_line, published_text
from trtd.daemon.subject import Running, Subject
from trtd.status import EventKind


def about_change(before: Basis | None, now: Basis) -> str:
    """What is not as it was when it was last told."""
    if before is None:
        return "a new spec"
    changes = ["the spec changed"] if before.spec_digest != now.spec_digest else []
    changes += ["the model or its data changed"] if before.inputs_digest != now.inputs_digest else []
    return one_line(listed([*changes, *tool_changes(before.tools, now.tools)]))


def about_outcome(name: str, running: Running, result: Absorbed) -> list[tuple[EventKind, str]]:
    """What became of a build. A failure of class ``wait`` that is like the one before is not told again."""
    told: list[tuple[EventKind, str]] = [("published", published_text(engine)) for engine in result.built]
    failure = result.memory.failure
    if result.succeeded is None:
        told.append(("stopped", f"the build was stopped: {stop_words(running.stop)}"))
    elif result.succeeded and not result.built:
        told.append(("up-to-date", one_line(f"nothing to build ({listed(running.reasons)})")))
    elif not result.succeeded and failure is not None and result.news:
        told.append(("failed", failed_text(name, failure, result.memory.failures)))
    elif not result.succeeded and failure is not None and failure.kind == "never":
        told.append(("up-to-date", one_line(f"nothing new to try: {failure.problem.message}")))
    return told


def about_trouble(subject: Subject, view: Observed) -> tuple[str, str]:
    """What people should be told of the state that a subject is in: a mark, to tell it once, and the text.

    Both are empty if there is nothing to tell. The mark stays while nothing is decided (settling, paused).
    """
    phase = subject.decision.phase
    if phase in ("settling", "paused"):
        return subject.memory.told, ""
    if phase == "invalid":
        fault = fault_of(view)
        hint = f" → {one_line(fault.hint)}" if fault.hint else ""
        return f"invalid {view.spec_digest} {fault.code}", f"{one_line(fault.message)}{hint}"
    if phase == "conflict":
        problem = conflict_problem(subject.decision.rivals)
        return "conflict", f"{one_line(problem.message)} → {problem.hint}"
    if phase == "stale":
        reasons = listed(subject.decision.needs.reasons)
        return f"stale {reasons}", f"{one_line(reasons)} → approve it: trtd retry {subject.name}"
    return "", ""


def removed_text(retired: tuple[str, ...], names: list[str]) -> str:
    """What becomes of the engines of a subject that is no more. ``names``: those that its policy would retire."""
    if retired:
        return f"no spec asks for it any more; no longer published: {', '.join(retired)}"
    if names:
        return "no spec asks for it any more; another spec has taken over what it published"
    return "no spec asks for it any more; what it published stays"
