"""Workers that fail in every way, as real processes: each becomes the error that says what to do."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trtd.errors import (
    DataError,
    EnvironmentMissing,
    SpecError,
    StageError,
    StorageError,
    TrtdError,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerSilent,
    WorkerTimeout,
)
from trtd.pipeline.job import Job
from trtd.pipeline.launch import launch

MakeJob = Callable[..., Job]
MEMORY_LIMIT_BYTES = 512 << 20

Failure = tuple[str, dict[str, Any], type[TrtdError], str]
FAILURES: list[Failure] = [
    ("send_signal", {"signal": signal.SIGSEGV}, WorkerCrashed, r"died of SIGSEGV \(invalid memory.* in send_signal \("),
    ("send_signal", {"signal": signal.SIGABRT}, WorkerCrashed, r"died of SIGABRT .* in send_signal \("),
    ("send_signal", {"signal": signal.SIGBUS}, WorkerCrashed, "SIGBUS"),
    ("send_signal", {"signal": signal.SIGILL}, WorkerCrashed, "SIGILL .*CPU"),
    ("send_signal", {"signal": signal.SIGFPE}, WorkerCrashed, "SIGFPE"),
    ("send_signal", {"signal": signal.SIGTERM}, WorkerCrashed, "SIGTERM .*somebody"),
    ("send_signal", {"signal": signal.SIGKILL}, WorkerCrashed, "SIGKILL .*kernel"),
    ("read_null", {}, WorkerCrashed, r"(?s)SIGSEGV .*in string_at \(.*ctypes.*\| about to read address 0$"),
    ("abort_for_memory", {}, WorkerOutOfMemory, r"(?s)ran out of memory and died of SIGABRT.*\| .*'std::bad_alloc'$"),
    ("exit_with", {"status": 0}, WorkerSilent, r"status 0 but left no result.*\(empty\)"),
    ("exit_with", {"status": 3}, WorkerCrashed, "status 3 without saying why"),
    ("tear_report", {}, WorkerSilent, "status 0 but left a torn result"),
    ("return_what_is_not_json", {}, StageError, "TypeError: .*PosixPath is not JSON"),
    ("fail", {"error": "value"}, StageError, r"ValueError: shape \(1, 3\) \(in fail, .*stand_in_stages.py:\d+\)"),
    ("fail", {"error": "memory"}, WorkerOutOfMemory, "RuntimeError: Failed to allocate"),
    ("fail", {"error": "engine memory"}, WorkerOutOfMemory, "cannot load it: std::bad_alloc"),
    ("fail", {"error": "disk"}, StorageError, "No space left"),
    ("import_absent", {}, EnvironmentMissing, "a_package_that_nobody_has"),
    ("no_such_function", {}, StageError, "AttributeError: .*no_such_function"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure[0]}-{failure[2].__name__}")
def test_every_failure_is_named(failure: Failure, make_job: MakeJob, tmp_path: Path) -> None:
    """A failure would be misnamed (the daemon retries what cannot work), or lack its log or its reproducing line."""
    function, inputs, kind, message = failure
    log = tmp_path / "build it" / "convert.log"
    with pytest.raises(TrtdError) as caught:
        launch(make_job(function, inputs), log=log)
    error = caught.value
    assert type(error) is kind
    assert re.search(message, error.message), error.message
    assert error.where == "convert"
    assert str(log) in error.message
    assert shlex.split(error.hint.splitlines()[-1])[1:] == [
        "-m",
        "trtd.pipeline.worker",
        str(tmp_path / "build it" / "convert.job.json"),
    ]


def test_a_memory_limit_holds(make_job: MakeJob, tmp_path: Path) -> None:
    """A stage would take the machine down, or its MemoryError would not say which limit it hit."""
    job = make_job("use_memory", {"bytes": 2 * MEMORY_LIMIT_BYTES}, memory_limit_bytes=MEMORY_LIMIT_BYTES)
    with pytest.raises(WorkerOutOfMemory, match=r"limit 512 MiB.*MemoryError") as caught:
        launch(job, log=tmp_path / "log")
    assert "build.memory_limit_bytes" in caught.value.hint
    below = job.model_copy(update={"inputs": {"bytes": MEMORY_LIMIT_BYTES // 4}})
    assert launch(below, log=tmp_path / "log").value == {"size": MEMORY_LIMIT_BYTES // 4}


@pytest.mark.parametrize("deaf", [False, True])
def test_a_deadline_holds(deaf: bool, make_job: MakeJob, tmp_path: Path) -> None:
    """A hanging stage, even one that ignores SIGTERM, would block its caller; nobody would know where it hung."""
    with pytest.raises(WorkerTimeout, match=r"deadline of 3 s") as caught:
        launch(make_job("hang", {"deaf": deaf}, deadline_s=3), log=tmp_path / "log")
    assert caught.value.retry == "backoff"
    if not deaf:
        assert re.search(r"killed, in hang \(.*stand_in_stages\.py:\d+\)", caught.value.message)


def test_errors_raised_on_purpose_cross_unchanged(make_job: MakeJob, tmp_path: Path) -> None:
    """An error's class, place and advice would be lost at the process boundary; terminal codes would pass."""
    with pytest.raises(DataError) as caught:
        launch(make_job("fail", {"error": "data"}), log=tmp_path / "log")
    assert (caught.value.message, caught.value.hint, caught.value.where) == ("0 images", "trtd check", "pages/a.png")
    with pytest.raises(DataError) as caught:
        launch(make_job("fail", {"error": "homeless"}), log=tmp_path / "log")
    assert caught.value.where == "convert"
    with pytest.raises(SpecError, match="write one") as spec:
        launch(make_job("fail", {"error": "spec"}), log=tmp_path / "log")
    assert spec.value.diagnostics[0].line == 3
    with pytest.raises(TrtdError, match="ours") as bug:
        launch(make_job("fail", {"error": "bare"}), log=tmp_path / "log")
    assert bug.value.exit_code == 70


def by_hand(error: TrtdError) -> subprocess.CompletedProcess[str]:
    """Run the last line of the hint as somebody at a shell would."""
    line = f"ulimit -c 0; {error.hint.splitlines()[-1]}"
    return subprocess.run(line, check=False, shell=True, capture_output=True, text=True, timeout=60)


def test_the_line_in_the_hint_reproduces_the_failure(make_job: MakeJob, tmp_path: Path) -> None:
    """The line would not run, or would do something else than the stage did."""
    with pytest.raises(WorkerCrashed) as crash:
        launch(make_job("read_null"), log=tmp_path / "read null.log")
    again = by_hand(crash.value)
    assert again.returncode in (-signal.SIGSEGV, 128 + signal.SIGSEGV)
    assert "about to read address 0" in again.stdout
    assert "read_null" in again.stderr

    with pytest.raises(StageError) as bug:
        launch(make_job("fail", {"error": "value"}), log=tmp_path / "value.log")
    again = by_hand(bug.value)
    assert again.returncode == 3
    assert "ValueError" in again.stderr
    assert json.loads(again.stdout)["error"]["code"] == "stage"


def test_by_hand_uses_a_fresh_folder_and_shows_progress(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeating a job would overwrite what the failed one left, or hide how far it is."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(WorkerTimeout) as hung:
        launch(make_job("hang", deadline_s=1.0), log=tmp_path / "hang.log")
    job_file = tmp_path / "hang.job.json"
    job_file.write_text(make_job("succeed").model_dump_json())
    run = by_hand(hung.value)
    assert run.returncode == 0
    assert json.loads(run.stdout)["result"]["out"].startswith(str(tmp_path / "trtd-stage-"))
    assert list((tmp_path / "out").iterdir()) == []
    job_file.write_text(make_job("count", {"items": 5}).model_dump_json())
    assert "convert: 5/5 counting" in by_hand(hung.value).stderr
