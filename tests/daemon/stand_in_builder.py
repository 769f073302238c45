"""A stand-in for the builder: does, by the name of its spec, what a build process must not do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trtd.pipeline.child import die_with
from trtd.pipeline.oom import oom_kills

job = json.loads(Path(sys.argv[1]).read_bytes())
pipe = int(sys.argv[sys.argv.index("--events-fd") + 1])
OUTCOME: dict[str, Any] = {"spec_digest": "sha256:" + "a" * 64, "engines": [], "failure": None}


def tell(event: str, **fields: Any) -> None:
    os.write(pipe, (json.dumps({"event": event} | fields) + "\n").encode())


def tell_outcome() -> None:
    tell("outcome", outcome=OUTCOME)


def succeed() -> None:
    tell_outcome()


def describe() -> None:
    """Its outcome's digest is what it found itself to be."""
    facts = {
        "session": os.getsid(0) == os.getpid(),
        "nice": os.nice(0),
        "environment": dict(os.environ),
        "stdin": sys.stdin.read(),
    }
    tell("outcome", outcome=OUTCOME | {"spec_digest": json.dumps(facts)})


def segfault() -> None:
    tell("spec", digest="sha256:" + "b" * 64)
    print("about to touch address 0", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def bad_alloc() -> None:
    print("terminate called after throwing an instance of 'std::bad_alloc'", flush=True)
    os.abort()


def exit_3() -> None:
    sys.exit(3)


def silent() -> None:
    pass


def garbage() -> None:
    os.write(pipe, b'\xff\xfe\0\n[1]\n{"event": 7}\n{"event": "progress", "stage": 1}\n{"event": "stage", "engine"')


def torn_outcome() -> None:
    tell("outcome", outcome={"spec_digest": 7})


def garbage_then_outcome() -> None:
    os.write(pipe, b"certainly no event\n")
    tell_outcome()


def flood() -> None:
    line = json.dumps({"event": "progress", "engine": "e", "stage": "s", "done": 1, "total": 2, "note": "x" * 200})
    while True:
        os.write(pipe, (line + "\n").encode() * 100)


def flood_of_line_ends() -> None:
    while True:
        os.write(pipe, b"\n" * 65536)


def flood_without_end_of_line() -> None:
    while True:
        os.write(pipe, b"x" * 65536)


def outcome_then_hang() -> None:
    tell_outcome()
    time.sleep(600)


def outcome_then_segfault() -> None:
    tell_outcome()
    os.kill(os.getpid(), signal.SIGSEGV)


def hang() -> None:
    tell("stage", engine="e", stage="convert", state="started", seconds=0.0, cached=False)
    time.sleep(600)


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hang()


def leave_strays() -> None:
    """One in the group, one in a session of its own; both hold the pipe open."""
    for session in (False, True):
        subprocess.Popen(["sleep", "600"], pass_fds=[pipe], start_new_session=session)
    tell_outcome()


def join() -> None:
    (Path(sys.argv[sys.argv.index("--group") + 1]) / "cgroup.procs").write_text("0")


def take_memory() -> None:
    join()
    bytearray(b"x") * (1 << 30)


def let_a_stage_take_memory(size: str = "1 << 30") -> None:
    """What became of the stage, and how often the killer struck where this process is, is its outcome's digest."""
    join()
    before = oom_kills()
    stage = subprocess.run([sys.executable, "-c", f"bytearray(b'x') * ({size})"], start_new_session=True)
    end = f"killed by {signal.Signals(-stage.returncode).name}" if stage.returncode else "survived"
    tell("outcome", outcome=OUTCOME | {"spec_digest": f"{end}, of {oom_kills() - before}"})


def take_little_memory() -> None:
    let_a_stage_take_memory("1 << 20")


def leave_unmarked_strays() -> None:
    """In its control group, but without the marks in their environment."""
    join()
    subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
    tell_outcome()


if __name__ == "__main__":
    die_with(int(sys.argv[sys.argv.index("--parent") + 1]))
    behaviour: Callable[[], None] = globals()[Path(job["spec"]).stem]
    behaviour()
