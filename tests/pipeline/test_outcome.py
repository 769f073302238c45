"""The table from a worker's end to a result or an error, without processes."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trtd.errors import StageError, TrtdError, WorkerCrashed, WorkerOutOfMemory, WorkerSilent, WorkerTimeout
from trtd.pipeline.job import Job
from trtd.pipeline.outcome import Ending, Result, encode_result, judge

RESULT = encode_result(Result({"a": [1]}, 7, 0.5))
GOOD = Ending(
    job=Job(stage="build", inputs={}, out=Path("/out"), deadline_s=5, memory_limit_bytes=1 << 30),
    exit_status=0,
    stopped="no",
    report=RESULT,
    log=Path("/logs/build.log"),
    log_tail="",
    oom_killed=False,
    reproduce="python -m trtd.pipeline.worker /logs/build.job.json",
)


def test_a_whole_report_is_the_result() -> None:
    """The value or the figures would change on the way."""
    assert judge(GOOD) == Result({"a": [1]}, 7, 0.5)


@pytest.mark.parametrize(
    ("observed", "kind"),
    [
        ({"exit_status": -signal.SIGKILL, "oom_killed": True}, WorkerOutOfMemory),
        ({"exit_status": -signal.SIGKILL, "log_tail": "MemoryError"}, WorkerOutOfMemory),
        ({"exit_status": -signal.SIGKILL}, WorkerCrashed),
        ({"exit_status": -signal.SIGABRT, "oom_killed": True}, WorkerCrashed),
        ({"exit_status": -signal.SIGABRT, "log_tail": "ResourceExhaustedError: 3 GB"}, WorkerOutOfMemory),
        ({"exit_status": -signal.SIGSEGV, "log_tail": "MemoryError, which was caught"}, WorkerCrashed),
        ({"exit_status": -63}, WorkerCrashed),
        ({"exit_status": -signal.SIGKILL, "stopped": "deadline"}, WorkerTimeout),
        ({"exit_status": 0, "stopped": "deadline"}, WorkerTimeout),
        ({"exit_status": -signal.SIGTERM, "stopped": "cancelled"}, StageError),
        ({"report": None}, WorkerSilent),
        ({"report": b""}, WorkerSilent),
        ({"report": RESULT[:-1]}, WorkerSilent),
        ({"report": b"[]"}, WorkerSilent),
        ({"report": b'{"result": {}}'}, WorkerSilent),
        ({"report": b"[" * 100_000}, WorkerSilent),
        ({"report": b"\xff"}, WorkerSilent),
        ({"exit_status": 1}, WorkerCrashed),
        ({"exit_status": 1, "report": None, "log_tail": "std::bad_alloc"}, WorkerOutOfMemory),
    ],
)
def test_every_end_has_one_name(observed: dict[str, Any], kind: type[TrtdError]) -> None:
    """An end would pass for a success or for another kind of failure."""
    with pytest.raises(TrtdError) as caught:
        judge(replace(GOOD, **observed))
    assert type(caught.value) is kind
    assert caught.value.where == "build"


def test_every_beginning_of_a_report_is_torn() -> None:
    """A report cut off at some place would be read as whole."""
    for length in range(len(RESULT)):
        with pytest.raises(WorkerSilent):
            judge(replace(GOOD, report=RESULT[:length]))


def test_a_result_must_be_a_dict_of_json_data() -> None:
    """A stage that returns None by mistake would pass for one that returned a result."""
    for value in (None, [1], {"a": object()}):
        with pytest.raises(TypeError, match="JSON"):
            encode_result(Result(value, 0, 0.0))  # type: ignore[arg-type]


def test_reported_text_is_cleaned() -> None:
    """A path or a message could recolour the terminal or forge lines of the tool's own."""
    error = {"code": "data", "message": "a\x1b[31m\x00b\u202ec", "hint": "x\x07", "where": "y\rz"}
    report = json.dumps({"error": error, "explained": True}).encode()
    with pytest.raises(TrtdError) as caught:
        judge(replace(GOOD, report=report, exit_status=3))
    assert (caught.value.message, caught.value.hint, caught.value.where) == ("abc", "x", "y\nz")
