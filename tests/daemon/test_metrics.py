"""Figures for Prometheus, read as Prometheus reads them."""

from __future__ import annotations

import os
import re
import socket
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trtd.daemon.counts import EVENT_KINDS, Counts, count, results
from trtd.daemon.messages import EngineOutcome, Failure, Outcome
from trtd.daemon.metrics import Metrics, NoMetrics, open_metrics
from trtd.daemon.prometheus import Prometheus
from trtd.daemon.settings import MetricsSection
from trtd.errors import TrtdError
from trtd.status import PHASES, Condition, DaemonStatus, EngineStatus, Event, EventKind, Phase, Problem, SubjectStatus

STATUS = DaemonStatus(
    pid=1,
    started_ticks=2,
    version="1.2",
    registry="/srv/SECRET",
    started_at=3.0,
    last_scan_at=1_700_000_000.5,
    scan_s=0.25,
    scans=9,
    overflows=4,
    degraded=("one", "two"),
)


def free_port(family: int = socket.AF_INET, host: str = "127.0.0.1") -> int:
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def subject(name: str, phase: Any, *versions: int | None, ready: bool = False) -> SubjectStatus:
    engines = tuple(EngineStatus(f"{name}-{i}", "int8", version) for i, version in enumerate(versions))
    conditions = (Condition("Ready", ready, "r", "m", 0.0),)
    return SubjectStatus(f"{name}.toml", name, "onnxruntime-cpu", phase, conditions, engines)


def outcome(*engines: tuple[str, bool, str | None], failure: str | None = None) -> Outcome:
    """Engines as (precision, built, code of its failure)."""

    def failed(code: str | None) -> Failure | None:
        return Failure(Problem(code, "m"), "never") if code else None

    made = [EngineOutcome(EngineStatus("SECRET", p), "sha256:1", built, failed(code)) for p, built, code in engines]
    return Outcome("sha256:2", tuple(made), failed(failure))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(text: str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Prometheus, Callable[[], str]]:
    """Metrics that go to a text file, and what stands in it after a final write."""
    metrics = open_metrics(MetricsSection(textfile=str(tmp_path / "trtd.prom")), version="1.2")
    assert isinstance(metrics, Prometheus)

    def text() -> str:
        metrics.close()
        return (tmp_path / "trtd.prom").read_text()

    return metrics, text


def test_nobody_counts_by_default() -> None:
    """A port would be open on every machine that nobody asked for."""
    metrics: Metrics = open_metrics(MetricsSection(), version="1")
    assert isinstance(metrics, NoMetrics)
    assert not metrics.wanted
    metrics.observe(Event(0.0, "failed", "", "", ""))
    metrics.finished("onnxruntime-cpu", outcome(), 1.0)
    metrics.update(STATUS, Counts())
    metrics.close()
    assert metrics.degraded == ()


def test_what_is_counted(written: tuple[Prometheus, Callable[[], str]]) -> None:
    """Alerts would rest on figures that say something else than they seem to."""
    metrics, text = written
    metrics.finished("onnxruntime-cpu", outcome(("int8", True, None), ("fp16", True, "gate")), 12.0)
    metrics.finished("onnxruntime-cpu", outcome(("int8", False, None)), 0.5)
    metrics.finished("onnxruntime-cpu", outcome(failure="model"), 0.5)
    for kind in ("published", "failed", "failed"):
        metrics.observe(Event(0.0, kind, "SECRET.toml", "SECRET", "SECRET"))
    subjects = [subject("a", "ready", 3, ready=True), subject("b", "queued", 2, None), subject("c", "queued")]
    metrics.update(STATUS, count(subjects, Counter({("webhook", "ok"): 5})))
    found = text()
    assert value(found, "trtd_build_info", version="1.2") == 1
    builds = {"published": 1, "gate": 1, "up-to-date": 1, "model": 1}
    for result, number in builds.items():
        assert value(found, "trtd_builds_total", backend="onnxruntime-cpu", result=result) == number
    labels = {"backend": "onnxruntime-cpu", "precision": "fp16+int8"}
    assert value(found, "trtd_build_duration_seconds_count", **labels) == 1
    assert value(found, "trtd_build_duration_seconds_sum", **labels) == 12
    assert value(found, "trtd_build_duration_seconds_bucket", le="10.0", **labels) == 0
    assert value(found, "trtd_build_duration_seconds_bucket", le="30.0", **labels) == 1
    durations = {labels for name, labels in samples(found) if name == "trtd_build_duration_seconds_count"}
    assert len(durations) == 1, "builds that did nothing are no builds of half a second"
    assert value(found, "trtd_events_total", kind="failed") == 2
    assert value(found, "trtd_events_total", kind="stale") == 0
    assert value(found, "trtd_queue_length") == 2
    assert value(found, "trtd_subjects", phase="queued") == 2
    assert value(found, "trtd_subjects", phase="stalled") == 0
    assert {state: value(found, "trtd_engines", state=state) for state in ("ready", "outdated", "unpublished")} == {
        "ready": 1,
        "outdated": 1,
        "unpublished": 1,
    }
    assert value(found, "trtd_watch_overflows_total") == 4
    assert value(found, "trtd_scans_total") == 9
    assert value(found, "trtd_scan_duration_seconds") == 0.25
    assert value(found, "trtd_last_scan_timestamp_seconds") == 1_700_000_000.5
    assert value(found, "trtd_degraded") == 2
    assert value(found, "trtd_notifications_total", receiver="webhook", result="ok") == 5


def test_no_label_grows_with_the_registry(written: tuple[Prometheus, Callable[[], str]]) -> None:
    """Ten thousand specs would be ten thousand series, and names of customers in everybody's dashboard."""
    metrics, text = written
    for number in range(50):
        metrics.observe(Event(0.0, "published", f"SECRET-{number}", f"SECRET-{number}", "SECRET"))
        metrics.finished("onnxruntime-cpu", outcome(("int8", True, None)), 1.0)
    metrics.update(STATUS, count([subject(f"SECRET-{number}", "ready", 1) for number in range(50)]))
    found = text()
    assert "SECRET" not in found
    assert {key for _, labels in samples(found) for key, _ in labels} <= {
        "version", "backend", "result", "precision", "kind", "phase", "state", "receiver", "le",
    }  # fmt: skip


def test_every_phase_and_kind_has_its_series() -> None:
    """A new phase would be counted nowhere."""
    assert set(PHASES) == set(get_args(Phase))
    assert set(EVENT_KINDS) == set(get_args(EventKind))


def test_results_of_a_build() -> None:
    """A plan that was not even tried would count as another failure."""
    assert results(outcome(("int8", True, None), ("fp16", False, None))) == Counter({"published": 1, "up-to-date": 1})
    untried = EngineOutcome(EngineStatus("n", "int8"), "sha256:1", False, Failure(Problem("gate", "m"), "never"), True)
    assert results(Outcome("", (untried,))) == Counter()
    codes = {TrtdError.code, *(kind.code for kind in TrtdError.__subclasses__())}
    assert all(re.fullmatch(r"[a-z-]+", code) for code in codes)


def get(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_endpoint_answers(family: int, host: str) -> None:
    """Prometheus would find nothing."""
    try:
        port = free_port(family, host)
    except OSError:
        pytest.skip(f"no {host} here")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    metrics = open_metrics(MetricsSection(listen=shown), version="1.2")
    assert isinstance(metrics, Prometheus)
    try:
        assert metrics.degraded == ()
        metrics.update(STATUS, Counts())
        assert value(get(f"http://{shown}/metrics"), "trtd_scans_total") == 9
        with socket.create_connection((host, port)) as rude:  # says nonsense and goes
            rude.sendall(b"\x16\x03\x01\0\n\n")
        assert value(get(f"http://{shown}/metrics"), "trtd_scans_total") == 9
    finally:
        metrics.close()
    with pytest.raises(OSError, match=r"[Rr]efused"):
        get(f"http://{shown}/metrics")


def test_a_taken_port_degrades_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would not start because of a figure; or would stay without figures for good."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        metrics = open_metrics(MetricsSection(listen=f"127.0.0.1:{port}"), version="1.2")
        assert isinstance(metrics, Prometheus)
        assert metrics.degraded == (f"no metrics on 127.0.0.1:{port}: Address already in use",)
    metrics.update(STATUS, Counts())
    assert metrics.port is None, "it is not tried again at once"
    now = time.monotonic() + 3600
    monkeypatch.setattr("trtd.daemon.prometheus.time.monotonic", lambda: now)
    metrics.update(STATUS, Counts())
    assert list(metrics.degraded) == []
    assert "trtd_scans_total" in get(f"http://127.0.0.1:{port}/")
    metrics.close()


def test_a_missing_folder_degrades(tmp_path: Path) -> None:
    """As above, for the text file."""
    metrics = open_metrics(MetricsSection(textfile=str(tmp_path / "absent" / "t.prom")), version="1.2")
    metrics.update(STATUS, Counts())
    assert metrics.degraded == (f"no metrics in {tmp_path}/absent/t.prom: No such file or directory",)
    (tmp_path / "absent").mkdir()
    metrics.close()
    assert list(metrics.degraded) == []


def test_the_text_file_is_never_half(tmp_path: Path) -> None:
    """node_exporter would read a torn file, or the leftovers of torn ones beside it."""
    file = tmp_path / "trtd.prom"
    metrics = open_metrics(MetricsSection(textfile=str(file)), version="1.2")
    metrics.update(STATUS, Counts())
    first = os.stat(file).st_ino
    metrics.close()
    assert os.stat(file).st_ino != first, "replaced, not rewritten"
    assert os.listdir(tmp_path) == ["trtd.prom"]


def test_an_unimportable_library_degrades(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation of a library that counts would keep the daemon from building."""
    monkeypatch.setitem(sys.modules, "trtd.daemon.prometheus", None)
    metrics = open_metrics(MetricsSection(listen="127.0.0.1:9464"), version="1.2")
    metrics.update(STATUS, Counts())
    assert "prometheus_client cannot be imported" in metrics.degraded[0]
