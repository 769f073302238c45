"""What others learn of a running daemon: from its log, from Prometheus, and by being told."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import socket
import stat
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.host import PATIENCE_S, Host
from tests.integration.receivers import WebServer, drop_unbuildable, free_port, has_scanned, phase
from trtd.daemon.snapshot import SnapshotReader

SECRET = "T0PSECRET"


@pytest.fixture
def server() -> Iterator[WebServer]:
    made = WebServer()
    yield made
    made.close()


def configure(host: Host, text: str) -> None:
    with (host.registry.root / "trtd.toml").open("a") as config:
        config.write(text)


def log_lines(host: Host) -> list[dict[str, Any]]:
    """All of the log; whatever is no JSON fails."""
    return [json.loads(line) for line in host.log.read_text().splitlines()]


def listening_sockets(pid: int) -> int:
    """TCP sockets that a process listens on."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        inodes |= {f"socket:[{line.split()[9]}]" for line in lines if line.split()[3] == "0A"}
    links = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            links.add(os.readlink(descriptor))
    return len(inodes & links)


def refuse_constant(text: str) -> NoReturn:
    raise AssertionError(f"{text} is not JSON")


def test_every_line_about_a_build_says_which(cold_host: Host) -> None:
    """Of two builds at a time nobody could tell whose line it is; nor which state of the spec it was."""
    daemon = cold_host.start()
    spec = cold_host.drop(precision='["fp32", "int8"]')
    seen: set[str] = set()

    def is_ready() -> bool:
        reader.read()
        seen.add(Path(reader.running_log("tiny.toml")).name)
        return "tiny-int8@1" in cold_host.log.read_text()

    cold_host.wait((cold_host.registry.private / "state.db").exists, "it did not start")
    reader = SnapshotReader(cold_host.registry)
    cold_host.wait(is_ready, "nothing was published")
    reader.close()
    assert any(name.startswith("tiny-int8-") for name in seen)  # what `trtd logs --follow` shows meanwhile
    assert listening_sockets(daemon.pid) == 0  # no endpoint that nobody asked for
    cold_host.wait(lambda: phase(cold_host, "tiny.toml") == "ready", "it never became ready")
    daemon.terminate()
    assert daemon.wait(PATIENCE_S) == 0
    lines = log_lines(cold_host)
    about = [line for line in lines if line.get("event") in ("started", "stage", "published")]
    digest = "sha256:" + hashlib.sha256(spec.read_bytes()).hexdigest()
    assert {(line["subject"], line["attempt"], line["digest"]) for line in about} == {("tiny.toml", 1, digest)}
    stages = [(line["engine"], line["stage"]) for line in about if line["event"] == "stage"]
    assert ("tiny-int8", "calibrate") in stages
    assert ("tiny-fp32", "verify") in stages
    assert len(stages) == len(set(stages))  # one line a stage, however often it tells of progress
    assert all(line["stage"] for line in about if line["event"] == "published")
    assert re.fullmatch(r"trtd \S+ starts on .*registry, configured by .*trtd.toml", lines[0]["message"])
    assert lines[-1]["message"] == "ended"
    commands = (["status"], ["status", "tiny"], ["logs", "tiny"], ["config"], ["show", "tiny-fp32"])
    for command in commands:  # the FP32 engine is exact: its SQNR is infinite
        ran = cold_host.trtd(*command, "--json")
        assert ran.returncode == 0
        json.loads(ran.stdout, parse_constant=refuse_constant)
    assert '"Infinity"' in cold_host.trtd("status", "--json").stdout


def test_prometheus_reads_what_happened(host: Host, tmp_path: Path) -> None:
    """Alerts would rest on figures that nobody has seen; a label per path would fill the server's memory."""
    port, textfile = free_port(), tmp_path / "prom" / "trtd.prom"
    textfile.parent.mkdir()
    configure(host, f'[metrics]\nlisten = "127.0.0.1:{port}"\ntextfile = "{textfile}"\n')
    daemon = host.start()
    host.drop("good", precision='"fp32"')
    drop_unbuildable(host, "missed")
    (host.registry.specs / "broken.toml").write_text("[model\n")
    host.wait(lambda: (phase(host, "good.toml"), phase(host, "missed.toml")) == ("ready", "stalled"), "not built")
    assert listening_sockets(daemon.pid) == 1

    def read(text: str) -> dict[str, float]:
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                for value in sample.labels.values():
                    assert not re.search(r"/|good|missed|broken|toml", value)
                labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}"] = sample.value
        return found

    def served() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
            return read(answer.read().decode())

    host.wait(lambda: served()["trtd_subjects{phase=stalled}"] == 1, "the endpoint does not tell")
    now = served()
    backend = "backend=onnxruntime-cpu"
    assert now[f"trtd_builds_total{{{backend},result=published}}"] == 1
    assert now[f"trtd_builds_total{{{backend},result=model}}"] == 1
    assert now[f"trtd_build_duration_seconds_count{{{backend},precision=fp32}}"] == 1
    assert now[f"trtd_build_duration_seconds_sum{{{backend},precision=fp32}}"] > 0
    phases = {"ready": 1, "stalled": 1, "invalid": 1, "building": 0}
    assert {phase: now[f"trtd_subjects{{phase={phase}}}"] for phase in phases} == phases
    states = {"ready": 1, "unpublished": 1, "outdated": 0}
    assert {state: now[f"trtd_engines{{state={state}}}"] for state in states} == states
    assert (now["trtd_queue_length{}"], now["trtd_watch_overflows_total{}"], now["trtd_degraded{}"]) == (0, 0, 0)
    status = host.status()["data"]["daemon"]
    assert now["trtd_last_scan_timestamp_seconds{}"] == pytest.approx(status["last_scan_at"])
    assert now["trtd_scans_total{}"] == status["scans"]
    assert now[f"trtd_build_info{{version={status['version']}}}"] == 1
    daemon.terminate()
    assert daemon.wait(PATIENCE_S) == 0
    written = read(textfile.read_text())
    assert {key: value for key, value in written.items() if "trtd_build" in key} == {
        key: value for key, value in now.items() if "trtd_build" in key
    }
    assert stat.S_IMODE(textfile.stat().st_mode) & 0o044  # node_exporter is another user


def test_metrics_that_cannot_be_had_are_told_and_end_nothing(host: Host, tmp_path: Path) -> None:
    """A second service on the port would stop all builds; or nobody would learn that the figures are missing."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port, textfile = other.getsockname()[1], tmp_path / "absent" / "trtd.prom"
        configure(host, f'[metrics]\nlisten = "127.0.0.1:{port}"\ntextfile = "{textfile}"\n')
        daemon = host.start()
        drop_unbuildable(host)
        host.wait(lambda: phase(host, "tiny.toml") == "stalled", "nothing is built")
    degraded = " ".join(host.status()["data"]["daemon"]["degraded"])
    assert f"no metrics on 127.0.0.1:{port}: Address already in use" in degraded
    assert f"no metrics in {textfile}: No such file or directory" in degraded
    assert f"no metrics on 127.0.0.1:{port}" in host.trtd("status").stdout
    assert daemon.poll() is None


def test_receivers_are_told_once_and_never_delay_a_build(host: Host, server: WebServer, tmp_path: Path) -> None:
    """A dead pager would hold up all builds, or ring again after each restart; its secret would be in every log."""
    got = tmp_path / "got"
    program = tmp_path / "tell"
    program.write_text(f"#!/bin/sh\ncat >> {got}\n")
    program.chmod(0o755)
    url = f"http://127.0.0.1:{server.port}/hooks/{SECRET}"
    configure(host, f'[notify]\ncommand = ["{program}"]\nwebhook = "{url}"\ntimeout_s = 60\n')
    server.answer = None  # it takes the event and says nothing
    daemon = host.start()
    host.drop("first", precision='"fp32"')
    host.wait(lambda: len(server.got) == 1, "the webhook was not told")
    arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children(daemon.pid)]
    assert any(b"webhook.py" in line for line in arguments)  # it hangs there
    assert SECRET.encode() not in b"".join(arguments)
    host.drop("second", precision='"fp32"')
    host.wait(lambda: phase(host, "second.toml") == "ready", "the build waits for the receiver")
    assert len(server.got) == 1
    daemon.kill()
    daemon.wait()
    server.answer = 500
    daemon = host.start()
    drop_unbuildable(host, "third")
    host.wait(lambda: "the answer was 500" in host.log.read_text(), "the refusal was not logged")
    daemon.terminate()
    assert daemon.wait(PATIENCE_S) == 0
    events = [json.loads(line) for line in got.read_text().splitlines()]
    assert [(event["kind"], event["name"]) for event in events] == [("published", "first"), ("failed", "third")]
    path, body = server.got[-1]
    assert (path, body) == (f"/hooks/{SECRET}", events[-1])
    assert set(body) == {"schema_version", "at", "kind", "subject", "name", "text", "registry", "host"}
    assert body["subject"] == "third.toml"
    assert body["registry"] == str(host.registry.root)
    assert "bad.onnx" in body["text"]
    told = [
        host.log.read_text(),
        *(host.trtd(*c).stdout for c in (["config"], ["config", "--json"], ["status", "--json"])),
    ]
    assert SECRET not in "".join(told)
    assert "http://127.0.0.1/…" in told[1]


def test_what_became_stale_is_told_once(host: Host, tmp_path: Path) -> None:
    """After an upgrade of the tools nobody would approve what nobody knows of; or the pager rings at each restart."""
    got = tmp_path / "got"
    configure(
        host, f'[policy]\nrebuild = "ask"\n[notify]\non = ["stale"]\ncommand = ["/bin/sh", "-c", "cat >> {got}"]\n'
    )
    host.drop(precision='"fp32"', more='[build]\nrebuild = "auto"')  # the operator's word counts
    daemon = host.start()
    host.wait(lambda: phase(host, "tiny.toml") == "ready", "it never became ready")
    daemon.kill()
    daemon.wait()
    upgrade = tmp_path / "upgrade" / "onnxruntime-99.0.dist-info"
    upgrade.mkdir(parents=True)
    (upgrade / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 99.0\n")
    for _ in range(2):
        daemon = host.start(PYTHONPATH=str(upgrade.parent))
        host.wait(functools.partial(has_scanned, host, daemon.pid), "it does not scan")
        host.wait(lambda: phase(host, "tiny.toml") == "stale", "the upgrade was not noticed")
        host.wait(got.exists, "nobody was told")
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0
    (line,) = got.read_text().splitlines()
    event = json.loads(line)
    assert (event["kind"], event["name"]) == ("stale", "tiny")
    assert "99.0" in event["text"]
    assert host.registry.versions("tiny") == (1,)


def children(pid: int) -> list[int]:
    ran = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in ran.stdout.split() if Path(f"/proc/{line}/cmdline").exists()]
