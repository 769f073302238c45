"""Stand-in stages: each does on purpose, in a real worker process, what real stages do by accident."""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtd.errors import DataError, Diagnostic, EngineError, SpecError, TrtdError
from trtd.pipeline.progress import Progress

Inputs = dict[str, Any]


def succeed(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    (out / "model.onnx").write_bytes(b"stand-in")
    return {"inputs": inputs, "out": str(out), "nan": float("nan")}


def describe_process(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "path": sys.path,
        "temporary_folder": os.environ.get("TMPDIR"),
        "omp_threads": os.environ.get("OMP_NUM_THREADS"),
        "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "data_limit": resource.getrlimit(resource.RLIMIT_DATA)[0],
        "stdin": sys.stdin.read(),
        "heavy": sorted({"numpy", "paddle", "onnx", "onnxruntime"} & sys.modules.keys()),
    }


def send_signal(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    os.kill(os.getpid(), inputs["signal"])
    time.sleep(60)
    return {}


def abort_for_memory(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    progress.log("terminate called after throwing an instance of 'std::bad_alloc'")
    os.abort()


def read_null(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    print("about to read address 0")
    ctypes.string_at(0)
    return {}


def use_memory(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    return {"size": len(bytearray(inputs["bytes"]))}


def hang(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    if inputs.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "pid_file" in inputs:
        _tell(Path(inputs["pid_file"]), os.getpid())
    progress(0, 1, "hanging")
    time.sleep(600)
    return {}


def exit_with(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    os._exit(inputs["status"])


def tear_report(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    report = Path(sys.argv[sys.argv.index("--report") + 1])
    report.write_text('{"result": {"a": 1}, "peak_rss_by')
    os._exit(0)


def return_what_is_not_json(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    return {"path": out}


ERRORS: dict[str, Callable[[], Exception]] = {
    "data": lambda: DataError("0 images\x1b[31m", hint="trtd check", where="pages/a.png"),
    "homeless": lambda: DataError("0 images"),
    "spec": lambda: SpecError([Diagnostic("a.toml", 3, "model.path", "missing", "write one")]),
    "value": lambda: ValueError("shape \x1b[2J(1, 3)"),
    "memory": lambda: RuntimeError("Failed to allocate memory for requested buffer of size 9"),
    "engine memory": lambda: EngineError("onnxruntime 1.32.0 cannot load it: std::bad_alloc", where="model.onnx"),
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device", "/x"),
    "bare": lambda: TrtdError("ours"),
}


def fail(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    raise ERRORS[inputs["error"]]()


def import_absent(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    importlib.import_module("a_package_that_nobody_has")
    return {}


def spam(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    line = b"\xff\x1b[31mspam\x07" * 100 + b"\n"
    for _ in range(inputs["bytes"] // len(line) // 2):
        os.write(1, line)
        os.write(2, line)
    if "signal" in inputs:
        os.kill(os.getpid(), inputs["signal"])
    return {}


def count(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    if "pid_file" in inputs:
        _tell(Path(inputs["pid_file"]), os.getpid())
    for _ in progress.track(range(inputs["items"]), note="counting"):
        pass
    progress(1, 1, "done")
    return {}


def close_pipe(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    fd = int(sys.argv[sys.argv.index("--progress-fd") + 1])
    os.write(fd, b'{"done": 1, "total": 2, "note": "before"}\nnot json\n{"done": 9')
    os.close(fd)
    progress(2, 2, "after")
    return {"lived": True}


def leave_grandchild(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    # The shell and its child inherit the pipe, so that its end never comes by itself.
    fd = int(sys.argv[sys.argv.index("--progress-fd") + 1])
    stray = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], pass_fds=[fd])
    return {"pid": stray.pid}


def hang_beside_stray(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    # In a session of its own: neither the death of the stage nor a signal to its group reaches it.
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    return hang(inputs, out, progress)


def leave_thread(inputs: Inputs, out: Path, progress: Progress) -> dict[str, Any]:
    threading.Thread(target=time.sleep, args=(600,)).start()
    return {}


def _tell(file: Path, pid: int) -> None:
    part = file.with_name(file.name + ".part")
    part.write_text(str(pid))
    part.replace(file)
