"""The build process itself, run by hand as its log tells one to, and through the daemon's side of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.nursery import Nursery, nursery
from tests.workshop import Workshop, taken, write_image
from trtd.daemon import building
from trtd.daemon.build_logs import KEPT, prune
from trtd.daemon.cancel import Cancel, Cancelled
from trtd.daemon.ending import CANCELLED
from trtd.daemon.evidence import Evidence, find
from trtd.daemon.inputs import Inputs, InputSet
from trtd.daemon.messages import Outcome
from trtd.daemon.wire import BuilderJob, outcome_from
from trtd.errors import DataError
from trtd.pipeline.build import Request
from trtd.registry.manifest import read_manifest, verify_files
from trtd.store.digest import file_digest

StandIn = Callable[[str, str], None]
SHAPES = "".join(f"{key} = [{batch}, 3, 8, 8]\n" for key, batch in (("min", 1), ("opt", 2), ("max", 8)))
SHAPES = f"[model.inputs.x]\n{SHAPES}"


def tiny(shop: Workshop, **changes: str) -> Path:
    """The spec that the workshop's registry was built from, changed."""
    return shop.spec(**{"precision": '["int8", "fp16"]', **changes})


def job(shop: Workshop, spec: Path, **changes: Any) -> BuilderJob:
    return replace(BuilderJob(spec, shop.registry.root, roots=(shop.folder,), threads=1), **changes)


def by_hand(shop: Workshop, job: BuilderJob) -> tuple[list[dict[str, Any]], Outcome]:
    """Run the build process as a person would; its events and its outcome."""
    file = shop.folder / "job.json"
    file.write_bytes(job.to_json())
    done = subprocess.run([sys.executable, "-m", "trtd.daemon.builder", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines()]
    return events, outcome_from(events[-1]["outcome"])


@pytest.fixture
def made(shop: Workshop) -> Iterator[Nursery]:
    with nursery(shop.registry) as children:
        yield children


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[BuilderJob], Outcome]:
    """Runs a job in the test's process, so that the test can spoil something on the way."""
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "tempdir", None)

    def run(job: BuilderJob) -> Outcome:
        folder = Path(tempfile.mkdtemp())
        (folder / "job.json").write_bytes(job.to_json())
        read_fd, write_fd = os.pipe()
        with os.fdopen(read_fd) as events:
            building.run(folder / "job.json", write_fd, Cancel(), limited=False)
            os.close(write_fd)
            return outcome_from(json.loads(events.readlines()[-1])["outcome"])

    return run


def test_by_hand_it_builds_and_tells_what_it_does(own: Workshop) -> None:
    """The line that an error advises to type would do nothing, or something else than the daemon did."""
    spec = own.spec("hand", precision='"fp16"')
    events, outcome = by_hand(own, job(own, spec))
    digest = file_digest(spec)
    assert events[0] == {"event": "spec", "digest": digest}
    assert outcome.spec_digest == digest
    stages = [(e["stage"], e["state"]) for e in events if e["event"] == "stage"]
    ran = [
        (stage, state) for stage in ("convert", "reference", "quantize", "verify") for state in ("started", "finished")
    ]
    assert stages == [("intake", "started"), *ran]
    assert {e["event"] for e in events} == {"spec", "log", "stage", "progress", "outcome"}
    (engine,) = outcome.engines
    assert engine.failure is None
    assert engine.built
    assert engine.status.version == 1
    assert list(own.registry.staging.iterdir()) == []
    assert list(own.registry.logs.iterdir()) == []


def test_figures_are_those_of_the_live_version(made: Nursery, shop: Workshop) -> None:
    """`trtd status` would praise an engine by another one's figures."""
    data = InputSet("data", "../images")
    digest = Inputs(shop.registry, [shop.registry.root]).list(data).digest
    listings, tools = ((data, digest),), (("onnxruntime", "1"),)
    outcome = made.run(tiny(shop), listings=listings, tools=tools).outcome
    int8, fp16 = outcome.engines
    report = json.loads((shop.registry.record("tiny-int8", 1) / "report.json").read_bytes())
    assert [engine.built for engine in outcome.engines] == [False, False]
    assert (int8.status.name, int8.status.precision, int8.status.version) == ("tiny-int8", "int8", 1)
    assert int8.status.cosine == min(f["cosine"] for f in report["fidelity"].values())
    assert int8.status.sqnr_db == min(f["sqnr_db"] for f in report["fidelity"].values())
    assert int8.status.speedup == report["speedup"]
    assert (int8.status.engine_bytes, int8.status.fp32_bytes) == (report["engine_bytes"], report["fp32_bytes"])
    assert int8.status.published_at is not None
    assert abs(int8.status.published_at - time.time()) < 86400
    assert int8.plan_digest == read_manifest(shop.registry, "tiny-int8", 1).build_digest
    assert fp16.plan_digest != int8.plan_digest
    left = find(shop.registry, {"tiny-int8": 1, "tiny-fp16": 1})
    assert left == (Evidence(outcome.spec_digest, listings, tools), (int8.status, fp16.status))
    verify_files(shop.registry, "tiny-int8", 1)  # it belongs there
    changed = ((data, "1" * 64),)  # since the daemon had looked: the build may have read either
    made.run(tiny(shop), listings=changed, tools=(("onnxruntime", "2"),))
    assert find(shop.registry, {"tiny-int8": 1, "tiny-fp16": 1}) == left


def test_a_missed_gate_tells_its_figures_where_nothing_is_published(made: Nursery, shop: Workshop) -> None:
    """The author would see no figures of the first engine that fails; or a live one's replaced by a failed one's."""
    first = made.run(shop.spec("strict", precision='"int8"', gates="sqnr_db = 150.0")).outcome.engines[0]
    assert first.failure is not None
    assert (first.failure.problem.code, first.failure.retry) == ("gate", "never")
    assert first.status.version is None
    assert first.status.sqnr_db is not None
    assert first.status.sqnr_db < 150
    assert first.plan_digest
    live = made.run(tiny(shop)).outcome.engines[0].status
    missed = made.run(tiny(shop, gates="sqnr_db = 150.0"))
    assert [engine.failure is None for engine in missed.outcome.engines] == [False, False]
    assert missed.outcome.engines[0].status == live
    assert missed.log is not None
    assert "verify: finished" in Path(missed.log).read_text()


def test_a_plan_that_failed_for_good_is_not_tried_again(made: Nursery, shop: Workshop) -> None:
    """A touched file would cost a whole build that must fail like the one before."""
    spec = shop.spec("strict", precision='"int8"', gates="sqnr_db = 150.0")
    (failed,) = made.run(spec).outcome.engines
    made.progress.clear()
    (engine,) = made.run(spec, stalled_plans=(failed.plan_digest, "sha256:other")).outcome.engines
    assert engine.unchanged
    assert (engine.failure, engine.built, engine.plan_digest) == (None, False, failed.plan_digest)
    assert {p.stage.stage for p in made.progress} <= {"intake"}
    write_image(shop.images / "99.png", 99)
    (other,) = made.run(spec, stalled_plans=(failed.plan_digest,)).outcome.engines
    assert not other.unchanged
    assert other.failure is not None


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (b"", "spec", "says nothing"),
        (b"[model]\npath = 7\n", "spec", "model.path"),
        (b'[model]\npath = "../models/absent.onnx"\n[verify]\ndata = "../images"\n[engine]\nprecision = "fp16"\n',
         "model", "absent.onnx"),
        (b'[model]\npath = "../../../etc"\n[verify]\ndata = "../images"\n[engine]\nprecision = "fp16"\n',
         "spec", "outside the folders"),
    ],
)  # fmt: skip
def test_faults_of_a_spec_are_told_with_its_digest(
    shop: Workshop, in_process: Callable[[BuilderJob], Outcome], text: bytes, code: str, message: str
) -> None:
    """The fault would be held against bytes that somebody has mended since, or be tried for ever."""
    spec = shop.folder / "specs" / "faulty.toml"
    spec.write_bytes(text)
    outcome = in_process(job(shop, spec))
    assert outcome.spec_digest == file_digest(spec)
    assert outcome.engines == ()
    assert outcome.failure is not None
    assert (outcome.failure.problem.code, outcome.failure.retry) == (code, "never")
    assert message in outcome.failure.problem.message + outcome.failure.problem.where
    assert "\x1b" not in outcome.failure.problem.message


@pytest.mark.parametrize("lost", ["spec", "model"])
def test_what_was_not_there_for_a_moment_is_tried_again(
    shop: Workshop, in_process: Callable[[BuilderJob], Outcome], lost: str
) -> None:
    """A disk is away for a minute, and its specs would be given up for good: what comes back has the same bytes."""
    spec = tiny(shop)
    inputs = Inputs(shop.registry, [shop.folder])
    sets = [InputSet("model", str(shop.model))]
    listings = tuple((one, inputs.list(one).digest) for one in sets)
    away = spec if lost == "spec" else shop.model
    away.rename(away.with_name("away"))
    outcome = in_process(job(shop, spec, roots=(shop.folder,), listings=listings))
    assert outcome.failure is not None
    assert outcome.failure.retry == "backoff"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("a bug \x1b[31m in red"), "bug"),
        (MemoryError(), "worker-out-of-memory"),
        (OSError(28, "No space left on device", "/x"), "storage"),
        (OSError(2, "No such file", "/x"), "bug"),
        (RecursionError("too deep"), "bug"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_whatever_is_raised_becomes_an_outcome(
    shop: Workshop,
    in_process: Callable[[BuilderJob], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: str,
) -> None:
    """A bug in a corner would look like a process that died for no reason."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("trtd.pipeline.build.prepare", fail)
    outcome = in_process(job(shop, tiny(shop)))
    assert outcome.failure is not None
    assert (outcome.failure.problem.code, outcome.failure.retry) == (code, "backoff")
    assert "\x1b" not in outcome.failure.problem.message
    assert list(shop.registry.staging.iterdir()) == []


def test_a_missing_registry_is_told(tmp_path: Path, shop: Workshop, made: Nursery) -> None:
    """A registry whose disk is not mounted would end in a traceback."""
    started = made.start(tiny(shop))
    finished = made.finish(started)
    assert finished.outcome.failure is None
    _, outcome = by_hand(shop, job(shop, tiny(shop), registry=tmp_path / "nowhere"))
    assert outcome.failure is not None
    assert outcome.failure.problem.code == "registry"


def test_a_name_of_any_bytes_is_built_or_told(shop: Workshop) -> None:
    """A file name that is no UTF-8 would break the job's file, and the daemon with it."""
    spec = tiny(shop, head='name = "tiny"')
    odd = spec.rename(spec.with_name(os.fsdecode(b"caf\xe9 \x1b.toml")))
    wanted = job(shop, odd)
    assert BuilderJob.from_json(wanted.to_json()) == wanted
    _, outcome = by_hand(shop, wanted)
    assert [engine.status.version for engine in outcome.engines] == [1, 1]


def test_a_job_is_one_target_of_those_that_a_spec_lists(shop: Workshop, made: Nursery) -> None:
    """Every target's build would build them all; or one that is listed no more be built after all."""
    precision = '"fp32"\ntarget = ["onnxruntime-cpu", "tensorrt"]'
    spec = shop.spec("both", precision=precision, more="[publish]\nkeep = 1")
    outcome = made.run(spec, part="onnxruntime-cpu").outcome
    assert [(engine.status.name, engine.failure) for engine in outcome.engines] == [("both-onnxruntime-cpu", None)]
    assert "both-tensorrt" not in shop.registry.names()
    for part, said in (("tensorrt-rtx", "tensorrt-rtx is not listed"), ("", "is a list now")):
        failure = made.run(spec, part=part).outcome.failure
        assert failure is not None
        assert (failure.problem.code, failure.retry) == ("spec", "never")
        assert said in failure.problem.message


# ---------------------------------------------------------------------------------------- what the operator has fixed


def test_the_operators_bounds_reach_the_stages(shop: Workshop, made: Nursery, stand_in: StandIn) -> None:
    """A spec could take more time and memory than the operator gives."""
    spec = shop.spec("slow", precision='"fp16"', more="[build]\ndeadline_s = 3000.0\nmemory_limit_bytes = 9000000000")
    (engine,) = made.run(spec, memory_limit_bytes=1 << 26).outcome.engines
    assert engine.failure is not None
    assert engine.failure.problem.code == "worker-out-of-memory"
    assert "limit 64 MiB" in engine.failure.problem.message
    stand_in("verify", "stand_in_stages:hang")
    (engine,) = made.run(spec, stage_deadline_s=2.0).outcome.engines
    assert engine.failure is not None
    assert engine.failure.problem.code == "worker-timeout"
    assert "deadline of 2 s" in engine.failure.problem.message


@pytest.mark.parametrize(("limited", "limit"), [(True, None), (False, 1 << 30)])
def test_a_limit_is_kept_once(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: bool, limit: int | None
) -> None:
    """A stage would be cut off early by what it reserves and never uses, or have no limit at all without a group."""
    asked: list[Request] = []

    def note(spec: Any, spec_file: Path, request: Request) -> None:
        asked.append(request)
        raise DataError("that will do")

    monkeypatch.setattr("trtd.pipeline.build.prepare", note)
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "job.json").write_bytes(job(shop, tiny(shop), memory_limit_bytes=1 << 30, threads=3).to_json())
    with open("/dev/null", "wb") as nobody:
        building.run(tmp_path / "job.json", nobody.fileno(), Cancel(), limited=limited)
    assert [request.bounds.memory_limit_bytes for request in asked] == [limit]
    assert asked[0].used_threads == 3


HOOK = 'metric = "metrics.py:always"\ndata = "../images"'


def test_hooks_are_the_operators_to_allow(shop: Workshop, made: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can write a spec could run code as the daemon; or allowed hooks would fail in the last stage."""
    (shop.folder / "specs" / "metrics.py").write_text("def always(outputs, expected):\n    return 1.0\n")
    spec = shop.spec("hooked", precision='"fp16"', calibration="", verify=HOOK)
    monkeypatch.setenv("TRTD_ALLOW_HOOKS", "1")
    refused = made.run(spec, hooks_allowed=False).outcome.failure
    assert refused is not None
    assert refused.problem.code == "spec"
    assert "the operator forbids" in refused.problem.message
    monkeypatch.delenv("TRTD_ALLOW_HOOKS")
    (engine,) = made.run(spec, hooks_allowed=True).outcome.engines
    assert engine.failure is None, engine.failure


def test_only_the_given_roots_may_be_read(shop: Workshop, made: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that the daemon was started in, or the specs' neighbourhood, would be open to every spec."""
    monkeypatch.chdir(shop.folder)
    monkeypatch.setenv("TRTD_ALLOWED_ROOTS", str(shop.folder))
    failure = made.run(tiny(shop), roots=()).outcome.failure
    assert failure is not None
    assert "outside the folders" in failure.problem.message
    assert made.run(tiny(shop), roots=(shop.folder,)).outcome.failure is None


# ------------------------------------------------------------------------------------------------ locks, logs, signals


def test_a_build_that_waits_for_a_gpu_says_so_and_can_be_stopped(
    made: Nursery, shop: Workshop, gpus_here: Callable[..., None]
) -> None:
    """A build beside another's measurement would look hung, and hold up the daemon's end."""
    gpus_here("8.9")
    spec = shop.spec("cnn", model=f'path = "../models/tiny.onnx"\n{SHAPES}', precision='"fp16"\ntarget = "tensorrt"')
    with taken():
        start = made.start(spec)
        made.until(lambda: any("waits" in p.stage.note for p in made.progress), "it waits")
        waiting = made.progress[-1].stage
        assert waiting.stage == "build"
        assert f"cannot use GPU-stand-in-0 to build cnn now: process {os.getpid()} " in waiting.note
        made.children.stop(start.key, start.attempt, time.monotonic())
        (engine,) = made.finish(start).outcome.engines
    assert engine.failure == CANCELLED
    assert made.run(spec).outcome.engines[0].failure is None


def test_sigterm_breaks_off_what_only_reads() -> None:
    """Hashing a terabyte of data would hold up a stop until its grace is over; a rename must not be broken off."""
    cancel = Cancel()
    former = signal.getsignal(signal.SIGTERM)
    cancel.listen()
    try:
        os.kill(os.getpid(), signal.SIGTERM)  # outside: only noted
        assert cancel.event.is_set()
        with pytest.raises(Cancelled), cancel.breakable():
            raise AssertionError("an earlier signal was forgotten")
        cancel.event.clear()
        with pytest.raises(Cancelled), cancel.breakable():
            signal.raise_signal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)


def test_a_stop_while_reading_is_a_cancelled_build(shop: Workshop, made: Nursery) -> None:
    """A stop in the first second would be told as a crash, or wait for all data to be read."""
    start = made.start(shop.spec("early", precision='"fp16"'))
    made.until(lambda: made.progress, "it began")
    made.children.stop(start.key, start.attempt, time.monotonic())
    outcome = made.finish(start).outcome
    failures = [outcome.failure, *(engine.failure for engine in outcome.engines)]
    assert {failure.problem.code for failure in failures if failure} == {"cancelled"}
    assert "early" not in shop.registry.names()


def test_logs_of_failed_builds_do_not_pile_up(shop: Workshop) -> None:
    """A build that fails every hour would fill the disk in a year; a running build's log would vanish."""
    logs = shop.registry.logs
    for age, pid in enumerate(range(4_200_000, 4_200_010)):  # above the kernel's highest process number
        for name in (f"tiny-int8-{pid}.log", f"tiny-int8-{pid}.job.json", f"tiny-int8-x-{pid}.log"):
            (logs / name).write_text("log")
            os.utime(logs / name, (age, age))
    running = logs / f"tiny-int8-{os.getpid()}.log"
    running.write_text("log")
    os.utime(running, (0, 0))
    prune(shop.registry, "tiny-int8")
    left = {file.name for file in logs.iterdir()}
    newest = {f"tiny-int8-{pid}" for pid in range(4_200_010 - KEPT, 4_200_010)}
    assert {name.removesuffix(".log") for name in left if ".job" not in name and "-x-" not in name} == {
        *newest,
        f"tiny-int8-{os.getpid()}",
    }
    assert {name.removesuffix(".job.json") for name in left if ".job" in name} == newest
    assert len([name for name in left if "-x-" in name]) == 10


def test_a_build_sweeps_up_after_one_that_was_killed(shop: Workshop, made: Nursery) -> None:
    """Every killed build would leave its temporary files until the daemon is started anew."""
    litter = shop.registry.staging / "4200000-1-0123456789ab-build"
    litter.mkdir()
    (litter / "file").write_bytes(b"x" * 1000)
    made.run(tiny(shop))
    assert list(shop.registry.staging.iterdir()) == []


def test_nothing_heavy_is_imported_to_run_builds() -> None:
    """The daemon would take hundreds of megabytes to wait for files."""
    code = (
        "import sys; import trtd.daemon.children, trtd.daemon.orphans, trtd.daemon.cgroup, trtd.daemon.devices, "
        "trtd.registry.unpublish; "
        "print(sorted({'numpy', 'onnx', 'onnxruntime', 'paddle', 'PIL', 'rich', 'jinja2', 'trtd.pipeline.build', "
        "'trtd.pipeline.job', 'trtd.pipeline.contracts'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_job_survives_its_file() -> None:
    """A bound of the operator's would be lost on the way to the process that is to keep it."""
    full = BuilderJob(
        spec=Path("/r/specs/a.toml"),
        registry=Path("/r"),
        part="tensorrt",
        deadline_s=1.5,
        stage_deadline_s=2.5,
        memory_limit_bytes=3,
        roots=(Path("/a"), Path(os.fsdecode(b"/b\xff"))),
        hooks_allowed=False,
        unverified_allowed=False,
        threads=4,
        stalled_plans=("sha256:1",),
        listings=((InputSet("registry", os.fsdecode(b"\xff"), 3), "1" * 64),),
        tools=(("onnxruntime", "1"),),
    )
    least = BuilderJob(Path("/r/specs/a.toml"), Path("/r"))
    assert all(value != asdict(least)[key] for key, value in asdict(full).items() if key not in ("spec", "registry"))
    for wanted in (full, least):
        assert BuilderJob.from_json(wanted.to_json()) == wanted
