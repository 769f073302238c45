"""What the operator fixed in trtd.toml holds in a running daemon, whatever specs ask for."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.host import Host
from tests.integration.receivers import phase
from trtd.daemon.snapshot import read_snapshot
from trtd.status import SubjectStatus

ENDED = ("ready", "stalled", "invalid", "backoff", "waiting")


def reconfigure(host: Host, old: str, new: str) -> None:
    config = host.registry.root / "trtd.toml"
    text = config.read_text()
    assert text.count(old) == 1
    config.write_text(text.replace(old, new))


def ended(host: Host, *keys: str) -> dict[str, SubjectStatus]:
    """The subjects, once nothing happens to them any more."""
    host.wait(lambda: all(phase(host, key) in ENDED for key in keys), f"{keys} did not end")
    return {subject.key: subject for subject in read_snapshot(host.registry).subjects}


def problem(subject: SubjectStatus) -> str:
    assert subject.problem is not None
    return f"{subject.problem.code}: {subject.problem.message} → {subject.problem.hint}"


def test_specs_get_no_further_than_the_operator_lets_them(host: Host, tmp_path: Path) -> None:
    """Whoever may drop a file into a folder could read every file of the service's user, and run code as it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.onnx").write_bytes(host.workshop.model.read_bytes())
    (host.workshop.model.parent / "link.onnx").symlink_to(elsewhere / "model.onnx")
    ran = tmp_path / "ran"
    hook = host.workshop.folder / "hook.py"
    hook.write_text(f"open({str(ran)!r}, 'w')\ndef judge(*args): return 1.0\n")
    environment = {"TRTD_ALLOWED_ROOTS": str(tmp_path), "TRTD_ALLOW_HOOKS": "1"}  # for `trtd build` alone
    (elsewhere / "secret.toml").write_text('hunter2 = "password"\n')
    (host.registry.specs / "secret.toml").symlink_to(elsewhere / "secret.toml")
    host.drop("outside", model=f'path = "{elsewhere}/model.onnx"', precision='"fp32"')
    host.drop("linked", model='path = "../models/link.onnx"', precision='"fp32"')
    host.drop("data", calibration=f'data = "{elsewhere}"', precision='"fp32"')
    host.drop("hook", verify='metric = "../hook.py:judge"', precision='"fp32"')
    host.drop("unverified", more="[publish]\nunverified = true", precision='"fp32"')
    host.start(**environment)
    keys = ("outside.toml", "linked.toml", "data.toml", "hook.toml", "unverified.toml")
    found = ended(host, *keys)
    assert {key: found[key].phase for key in keys} == dict.fromkeys(keys[:3], "invalid") | dict.fromkeys(
        keys[3:], "stalled"
    )
    for key in keys[:3]:
        assert "outside the folders that this spec may read" in problem(found[key])
        assert f'add "{elsewhere}" to [access] roots in the daemon\'s trtd.toml' in problem(found[key])
        assert "allow-root" not in problem(found[key])
        assert "TRTD_ALLOWED_ROOTS" not in problem(found[key])
    secret = ended(host, "secret.toml")["secret.toml"]
    assert secret.phase == "invalid"
    assert f'add "{elsewhere}" to [access] roots' in problem(secret)
    assert "hunter2" not in host.log.read_text() + host.trtd("status").stdout
    assert "[access] python_hooks = true in trtd.toml" in problem(found["hook.toml"])
    assert "[access] unverified = true in trtd.toml" in problem(found["unverified.toml"])
    assert not ran.exists()
    assert list(host.registry.engines.iterdir()) == []


def test_a_root_that_is_added_lets_the_spec_in(host: Host, tmp_path: Path) -> None:
    """The hint would not help; or the spec would have to be touched as well."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "model.onnx").write_bytes(b"no model")
    (elsewhere / "linked.toml").write_text("x = 1")
    (host.registry.specs / "linked.toml").symlink_to(elsewhere / "linked.toml")
    daemon = host.start()
    host.drop(model=f'path = "{elsewhere}/model.onnx"', precision='"fp32"')
    ended(host, "tiny.toml", "linked.toml")
    reconfigure(host, 'roots = ["', f'roots = ["{elsewhere}", "')
    daemon.send_signal(signal.SIGHUP)
    host.wait(lambda: phase(host, "tiny.toml") == "stalled", "it was not let in")  # read, and no model
    assert "access.roots: " in host.log.read_text()
    host.wait(lambda: "x: unknown key" in problem(ended(host, "linked.toml")["linked.toml"]), "the link was not let in")


LIMITS: dict[str, tuple[str, str, str]] = {
    "stage deadline": ("stage_deadline_s = 0.05", "deadline_s = 86400", "deadline of 0.05 s"),
    "build deadline": ("build_deadline_s = 0.05", "deadline_s = 86400", "deadline of 0.05 s"),
    "memory": ("stage_memory_limit_bytes = 67_108_864", "memory_limit_bytes = 64_000_000_000", "limit 64 MiB"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_no_spec_takes_more_than_the_operator_gives(host: Host, limit: str) -> None:
    """One spec could keep the machine busy for a month, or have the kernel kill what else runs on it."""
    operator, author, told = LIMITS[limit]
    reconfigure(host, "builds = 2\n", f"{operator}\n")
    host.drop(precision='"fp32"', more=f"[build]\n{author}")
    host.start()
    found = ended(host, "tiny.toml")["tiny.toml"]
    assert found.phase in ("backoff", "stalled")
    assert told in problem(found)
    assert host.registry.versions("tiny") == ()


def test_threads_are_the_operators(host: Host) -> None:
    """A build would time its engine on cores that another build uses; no key of a spec can change that."""
    reconfigure(host, "builds = 2\n", "threads = 3\n")
    host.start()
    host.drop("greedy", precision='"fp32"', more="[build]\nthreads = 64")
    assert "build.threads: unknown key" in problem(ended(host, "greedy.toml")["greedy.toml"])
    jobs: list[dict[str, Any]] = []

    def has_job() -> bool:
        for file in host.registry.logs.glob("**/*.json"):
            try:
                jobs.append(json.loads(file.read_bytes()))
            except (OSError, ValueError):  # gone again, or half
                continue
        return any("stage" in job for job in jobs)

    host.drop("tiny", precision='"fp32"')
    host.wait(has_job, "no stage was started")
    assert {job["threads"] for job in jobs} == {3}


def test_the_operator_decides_what_a_deleted_spec_leaves(host: Host) -> None:
    """Who may delete a file could take an engine out of service."""
    with (host.registry.root / "trtd.toml").open("a") as config:
        config.write('[policy]\non_delete = "keep"\n')
    host.start()
    spec = host.drop(precision='"fp32"', more='[publish]\non_delete = "unpublish"')
    host.wait(lambda: phase(host, "tiny.toml") == "ready", "it never became ready")
    spec.unlink()
    host.wait(lambda: phase(host, "tiny.toml") is None, "the deleted spec is still shown")
    assert host.registry.versions("tiny") == (1,)


def test_the_configuration_is_shown_with_its_sources(host: Host, tmp_path: Path) -> None:
    """Nobody would know which of three files holds, nor whether a value was meant; faults would come one by one."""
    own = host.registry.root / "trtd.toml"

    def shown(*arguments: str, code: int = 0) -> dict[str, Any]:
        ran = host.trtd("config", "--json", *arguments)
        assert ran.returncode == code
        told = json.loads(ran.stdout)
        assert isinstance(told, dict)
        return told

    keys = shown()["data"]["keys"]
    assert shown()["data"]["file"] == str(own)
    assert keys["retry.backoff_s"] == {"value": 1.0, "from": "file"}
    assert keys["watch.period_s"] == {"value": 30.0, "from": "default"}
    other = tmp_path / "other.toml"
    other.write_text("[watch]\nperiod_s = 60\n")
    assert shown("--config", str(other))["data"]["keys"]["watch.period_s"] == {"value": 60.0, "from": "file"}
    other.write_text('[watch]\nperiod = 60\n[accesss]\n[limits]\nbuilds = "many"\n[metrics]\nlisten = "localhost:1"\n')
    faults = shown("--config", str(other), code=2)["error"]["diagnostics"]
    assert [(fault["line"], fault["key"]) for fault in faults] == [
        (2, "watch.period"),
        (3, "accesss"),
        (5, "limits.builds"),
        (7, "metrics.listen"),
    ]
    assert [fault["hint"] for fault in faults[:2]] == ['did you mean "period_s"?', 'did you mean "access"?']
    assert {fault["file"] for fault in faults} == {str(other)}
    started = host.trtd("run", "--config", str(other))  # and the daemon refuses it the same way
    assert started.returncode == 2
    assert all(f"{other}:{fault['line']}" in started.stderr for fault in faults)
