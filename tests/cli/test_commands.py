"""Each command against a real registry: what it does, what it prints, as text and as JSON."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.workshop import Workshop
from trtd.cli.main import COMMANDS
from trtd.registry.manifest import verify_files

Trtd = Callable[..., Any]

# What works on the workshop's registry, whatever its state.
WORKING: dict[str, Callable[[Workshop], list[str | Path]]] = {
    "init": lambda s: ["init", s.folder / "another"],
    "check": lambda s: ["check", s.folder / "specs" / "tiny.toml"],
    "plan": lambda s: ["plan", s.folder / "specs" / "tiny.toml", "--explain"],
    "build": lambda s: ["build", s.folder / "specs" / "tiny.toml"],
    "calibrate": lambda s: ["calibrate", s.folder / "specs" / "tiny.toml", "--out", s.folder / "table.json"],
    "table": lambda s: ["table", "show", "tiny-int8"],
    "verify": lambda s: ["verify", "tiny-int8"],
    "bench": lambda s: ["bench", "tiny-int8@1", "--runs", "3"],
    "show": lambda s: ["show", "tiny-int8"],
    "rollback": lambda s: ["rollback", "tiny-int8", "1"],
    "gc": lambda s: ["gc", "--dry-run"],
    "doctor": lambda s: ["doctor"],
    "schema": lambda s: ["schema"],
}
# Those that need a daemon, or are about one, have tests of their own: test_daemon_commands, test_config,
# test_install_service and tests/integration/test_daemon.py.
ABOUT_DAEMONS = {"run", "status", "logs", "pause", "resume", "retry", "cancel", "config", "install-service"}
# What fails, without harm.
FAILING: dict[str, tuple[Callable[[Workshop], list[str | Path]], int]] = {
    "init": (lambda s: ["init", s.model], 3),
    "check": (lambda s: ["check", s.folder / "absent.toml"], 2),
    "plan": (lambda s: ["plan", s.folder / "absent.toml"], 2),
    "build": (lambda s: ["build", s.folder / "absent.toml"], 2),
    "calibrate": (lambda s: ["calibrate", s.folder / "absent.toml"], 2),
    "table": (lambda s: ["table", "show", "tiny-fp16"], 2),
    "verify": (lambda s: ["verify", "tiny-int8@7"], 3),
    "bench": (lambda s: ["bench", "absent"], 3),
    "show": (lambda s: ["show", "tiny-int9"], 3),
    "rollback": (lambda s: ["rollback", "tiny-int8@1", "1"], 2),
    "gc": (lambda s: ["gc", "--registry", s.folder / "specs"], 3),
    "doctor": (lambda s: ["doctor", "well?"], 2),
    "schema": (lambda s: ["schema", "--write", s.folder / "absent" / "s.json"], 3),
}


@pytest.fixture(autouse=True)
def _in_registry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "shop" in request.fixturenames:
        monkeypatch.setenv("TRTD_REGISTRY", str(request.getfixturevalue("shop").registry.root))


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ABOUT_DAEMONS])
def test_json_is_one_document_on_success(command: str, shop: Workshop, trtd: Trtd) -> None:
    """Scripts would stumble over what else is printed, or not know which form of the document this is."""
    arguments = WORKING[command](shop)
    if command == "rollback":
        spec = shop.spec(precision='["int8"]', calibration='data = "../images"\nmethod = "minmax"')
        assert shop.build(spec)[0].version == 2
    ran = trtd(*arguments, "--json")
    assert (ran.status, ran.err) == (0, "")
    assert {key: ran.document[key] for key in ("schema_version", "command", "ok")} == {
        "schema_version": 1,
        "command": command,
        "ok": True,
    }
    assert ran.document["data"]
    assert ran.out.count("\n") == 1


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in ABOUT_DAEMONS])
def test_json_is_one_document_on_failure(command: str, shop: Workshop, trtd: Trtd) -> None:
    """A script would find no reason, or a reason that does not match the exit status."""
    make, status = FAILING[command]
    arguments = make(shop)
    ran = trtd(*arguments, "--json")
    assert (ran.status, ran.err) == (status, "")
    document = ran.document
    assert (document["schema_version"], document["command"], document["ok"]) == (1, command, False)
    assert document["exit_code"] == status
    assert document["error"]["message"]
    told = trtd(*arguments)
    assert (told.status, told.out) == (status, "")
    assert told.err.startswith(f"error[{document['error']['code']}]: ")


def test_json_of_a_whole_build_in_a_process_of_its_own(shop: Workshop) -> None:
    """Native libraries print to the same descriptor, behind Python's back."""
    spec = shop.spec("fresh")
    command = [sys.executable, "-m", "trtd", "build", str(spec), "--json", "--registry", str(shop.registry.root)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    (engine,) = json.loads(ran.stdout)["data"]
    assert (engine["name"], engine["version"], engine["built"], engine["published"]) == ("fresh", 1, True, True)
    assert engine["report"]["gates"]
    assert engine["spec"] == str(spec)
    assert set(engine["peak_rss_bytes"]) == {"verify"}


def test_build_tells_of_every_spec(shop: Workshop, trtd: Trtd) -> None:
    """One bad spec would keep the others from being built, or the exit status would hide it."""
    good = shop.spec("good", precision='"fp16"')
    missed = shop.spec("missed", gates="sqnr_db = 500.0", precision='"fp16"')
    broken = shop.spec("broken", model='path = "../models/absent.onnx"')
    wrong = shop.spec("wrong", more="colour = 1")
    ran = trtd("build", wrong, broken, missed, good, "--json")
    assert ran.status == 3
    found = {Path(entry["spec"]).stem: entry for entry in ran.document["data"]}
    assert {name: entry["error"] and entry["error"]["code"] for name, entry in found.items()} == {
        "wrong": "spec",
        "broken": "model",
        "missed": "gate",
        "good": None,
    }
    assert found["good"]["version"] == 1
    assert set(shop.registry.names()) == {"good", "tiny-fp16", "tiny-int8"}
    told = trtd("build", wrong, missed, good)
    assert told.status == 2
    assert "good@1 up to date; report: " in told.out
    assert "error[spec]: " in told.err
    assert "error[gate]: not published: sqnr_db of scores is " in told.err
    assert trtd("build", missed, good, "--quiet").status == 1


@pytest.mark.parametrize("command", ["build", "plan", "check"])
def test_two_specs_of_one_name_are_refused(command: str, shop: Workshop, trtd: Trtd) -> None:
    """Each build of the one would push the other's engine aside."""
    one, two = shop.spec("tiny"), shop.spec("two", head='name = "tiny"')
    ran = trtd(command, one, two, "--json")
    assert ran.status == 2
    (fault,) = ran.document["error"]["diagnostics"]
    assert (fault["file"], fault["line"], fault["key"]) == (str(two), 1, "name")
    assert fault["message"] == f"the engine would be called tiny, like that of {one}"
    assert "tiny" not in shop.registry.names()
    listed = shop.spec("three", head='name = "pair"', precision='["fp16"]')
    alike = shop.spec("four", head='name = "pair-fp16"', precision='"fp16"')
    assert trtd(command, listed, alike).status == 2


def test_one_spec_given_twice_is_one(shop: Workshop, trtd: Trtd) -> None:
    """Globs overlap."""
    spec = shop.folder / "specs" / "tiny.toml"
    ran = trtd("build", spec, spec.parent / ".." / "specs" / "tiny.toml", "--json")
    assert [entry["name"] for entry in ran.document["data"]] == ["tiny-int8", "tiny-fp16"]


def test_plan_explains(shop: Workshop, trtd: Trtd) -> None:
    """Nobody could see why a build starts, or would not."""
    spec = shop.folder / "specs" / "tiny.toml"
    assert "tiny-int8: int8 on onnxruntime-cpu: up to date" in trtd("plan", spec).out
    shop.spec(precision='["int8", "fp16"]', calibration='data = "../images"\nmethod = "entropy"')
    ran = trtd("plan", spec, "--explain")
    assert (
        "tiny-int8: int8 on onnxruntime-cpu: would be built (1 reason)\n  calibration.method: mse -> entropy" in ran.out
    )
    assert "tiny-fp16: fp16 on onnxruntime-cpu: up to date" in ran.out
    int8, fp16 = trtd("plan", spec, "--json").document["data"]
    assert (int8["up_to_date"], int8["reasons"]) == (False, ["calibration.method: mse -> entropy"])
    assert (fp16["up_to_date"], fp16["reasons"]) == (True, [])


def test_check_describes_what_it_found(shop: Workshop, trtd: Trtd) -> None:
    """A spec that is read in another way than it is meant would show only after the build."""
    spec = shop.folder / "specs" / "tiny.toml"
    assert trtd("check", spec).out.splitlines()[0] == (
        f"{spec}: ok: tiny-int8, tiny-fp16 from onnx model, 16 calibration items, 8 held out"
    )
    (found,) = trtd("check", spec, "--json").document["data"]
    assert found["inputs"]["x"]["opt"] == [1, 3, 8, 8]
    both = trtd("check", spec, shop.spec("bad", more="x = 1"), "--json")
    assert both.status == both.document["exit_code"] == 2
    assert [entry["ok"] for entry in both.document["data"]] == [True, False]
    broken = shop.spec("broken", model='path = "../models/absent.onnx"')
    worse = trtd("check", shop.spec("bad", more="x = 1"), broken, "--json")
    assert worse.status == worse.document["exit_code"] == 3
    assert trtd("check", spec, "--registry", shop.images).status == 3


def test_check_finds_models_in_the_registry_of_the_environment(shop: Workshop, trtd: Trtd, tmp_path: Path) -> None:
    """`check` would refuse what `build` builds."""
    shutil.copytree(shop.model.parent, shop.registry.models / "net" / "1")
    away = tmp_path / "away"
    away.mkdir()
    shutil.copytree(shop.images, away / "images")
    spec = away / "net.toml"
    spec.write_text('[model]\nregistry = "net"\n[calibration]\ndata = "images"\n')
    assert trtd("check", spec).status == 0


def test_show_tells_all_of_an_engine(shop: Workshop, trtd: Trtd) -> None:
    """People would have to read JSON to learn what is live and how it did."""
    listed = trtd("show").out
    assert "tiny-fp16" in listed
    assert "tiny-int8" in listed
    shown = trtd("show", "tiny-int8").out
    for words in ("tiny-int8@1, published 2", "versions: 1; live: 1", "report.html", "cosine", "✓ passed"):
        assert words in shown
    html = trtd("show", "tiny-int8@1", "--html").out
    assert Path(html.strip()).read_text().startswith("<!")
    (shop.registry.record("tiny-int8", 1) / "report.json").write_text("torn")
    assert trtd("show", "tiny-int8").status == 3


def test_show_of_a_name_with_escapes_is_harmless(shop: Workshop, trtd: Trtd) -> None:
    """A name from a script would move the cursor, or lead out of the registry."""
    for name in ("\x1b[2Jx", "../../etc", "tiny-int8/1", "TINY", "a" * 300, "tiny-int8@", "tiny-int8@01", "x@1@2"):
        ran = trtd("show", name)
        assert ran.status in (2, 3)
        assert "\x1b" not in ran.err


def test_rollback_and_gc_keep_a_whole_live_version(shop: Workshop, trtd: Trtd) -> None:
    """A server would be left without its engine."""
    spec = shop.spec(precision='["int8"]', calibration='data = "../images"\nmethod = "minmax"')
    assert shop.build(spec)[0].version == 2
    assert trtd("rollback", "tiny-int8@2").status == 3
    ran = trtd("rollback", "tiny-int8")
    assert ran.out == "tiny-int8@3 is live: version 1 once more, until its spec, model, data or tools change\n"
    engines = shop.registry.engines / "tiny-int8"
    assert (engines / "3" / "model.onnx").read_bytes() == (engines / "1" / "model.onnx").read_bytes()
    assert "rolled back from version 1" in trtd("show", "tiny-int8").out
    assert "version tiny-int8@1" in trtd("gc", "--keep", "1", "--dry-run").out
    assert shop.registry.versions("tiny-int8") == (1, 2, 3)
    freed = trtd("gc", "--keep", "1", "--json").document["data"]
    assert freed["bytes"] > 0
    assert shop.registry.versions("tiny-int8") == (3,)
    verify_files(shop.registry, "tiny-int8", 3)
    assert "tiny-int8@1 is not published any more" in trtd("show", "tiny-int8@1").err


def test_verify_exits_1_when_a_gate_is_missed_now(shop: Workshop, trtd: Trtd) -> None:
    """A nightly `trtd verify` would stay green while the engine no longer holds what it promised."""
    path = shop.registry.record("tiny-int8", 1) / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["spec"]["verify"]["gates"]["min_speedup"] = 1e6  # as if this machine had become slow
    path.write_text(json.dumps(manifest))
    ran = trtd("verify", "tiny-int8", "--json")
    assert ran.status == ran.document["exit_code"] == 1
    assert ran.document["data"]["passed"] is False
    assert ran.document["error"]["message"] == "published, and now misses: min_speedup"
    told = trtd("verify", "tiny-int8")
    assert told.status == 1
    assert "✗ MISSED" in told.out


def test_show_does_not_praise_an_engine_that_was_changed(shop: Workshop, trtd: Trtd) -> None:
    """Gates passed would stand over bytes that nobody has judged."""
    with (shop.registry.engine("tiny-int8", 1) / "model.onnx").open("ab") as file:
        file.write(b"!")
    shown = trtd("show", "tiny-int8", "--registry", shop.registry.root)
    assert shown.status == 3
    assert "tiny-int8@1 is torn" in shown.err


def test_what_missed_a_gate_is_named_where_it_is_asked_for(shop: Workshop, trtd: Trtd) -> None:
    """The author would read that there is no such engine, and not where its report lies."""
    spec = shop.spec("strict", precision='"fp16"', gates="sqnr_db = 190.0")
    assert trtd("build", spec, "--registry", shop.registry.root).status == 1
    shown = trtd("show", "strict", "--registry", shop.registry.root)
    assert "strict is not published: its last build missed a gate" in shown.err
    assert f"{shop.registry.failed('strict')}" in shown.err


def test_check_looks_for_the_table_that_a_spec_names(shop: Workshop, trtd: Trtd) -> None:
    spec = shop.spec("given", precision='"int8"', calibration='table = "../absent.json"', verify='data = "../images"')
    checked = trtd("check", spec)
    assert checked.status == 3
    assert "there is no such calibration table" in checked.err


def test_verify_refuses_a_tampered_engine(shop: Workshop, trtd: Trtd) -> None:
    """One changed byte would be judged as if it were the published engine."""
    engine = shop.registry.engine("tiny-int8", 1) / "model.onnx"
    content = bytearray(engine.read_bytes())
    content[100] ^= 1
    engine.write_bytes(content)
    ran = trtd("verify", "tiny-int8")
    assert ran.status == 3
    assert "tiny-int8@1 is torn: model.onnx" in ran.err


def test_doctor_exits_4_when_nothing_can_be_built(trtd: Trtd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation would pass for a sound one: even a probe that crashed said ok."""
    package = {"version": None, "purpose": "all", "error": "the worker died of SIGILL"}
    monkeypatch.setattr(
        "trtd.cli.doctor._probe", lambda: {"packages": [{"name": "imports", **package}], "paddle": None}
    )
    ran = trtd("doctor", "--json")
    assert ran.status == ran.document["exit_code"] == 4
    assert ran.document["data"]["ok"] is False
    monkeypatch.setattr(
        "trtd.cli.doctor._probe", lambda: {"packages": [{"name": "paddlepaddle", **package}], "paddle": None}
    )
    assert trtd("doctor", "--json").status == 0
    assert "pip install" in trtd("doctor").out


def test_schema_and_init_write_whole_files(trtd: Trtd, tmp_path: Path) -> None:
    """Editors would complete by a schema that is not this one."""
    assert trtd("schema", "--write", tmp_path / "s.json").status == 0
    assert json.loads((tmp_path / "s.json").read_bytes()) == json.loads(trtd("schema").out)
    assert trtd("init", tmp_path / "r").status == 0
    assert (tmp_path / "r" / "specs" / "spec.schema.json").read_bytes() == (tmp_path / "s.json").read_bytes()
    example = tmp_path / "r" / "specs" / "example.toml"
    (tmp_path / "r" / "specs" / "example.toml.txt").rename(example)
    told = trtd("check", example)
    assert told.status == 3  # valid, and its model is not there
    assert "models/NAME" in told.err


def test_calibrate_writes_where_it_is_told(shop: Workshop, trtd: Trtd, tmp_path: Path) -> None:
    """A folder that is not there was called a bug in trtd."""
    spec = shop.folder / "specs" / "tiny.toml"
    assert trtd("calibrate", spec, "--out", tmp_path / "t.json").status == 0
    assert json.loads((tmp_path / "t.json").read_bytes())["samples"] == 16
    ran = trtd("calibrate", spec, "--out", tmp_path / "absent" / "t.json")
    assert ran.status == 3
    assert "error[storage]" in ran.err


@pytest.fixture
def build_once(shop: Workshop) -> list[str]:
    spec = shop.spec("shown", precision='"fp16"')
    return [sys.executable, "-m", "trtd", "build", str(spec), "--registry", str(shop.registry.root)]


def test_a_pipe_gets_no_bars(build_once: list[str]) -> None:
    """CI logs would fill with control characters."""
    ran = subprocess.run(build_once, capture_output=True, timeout=120, env=os.environ | {"FORCE_COLOR": "1"})
    assert ran.returncode == 0
    assert not {b"\x1b", b"\r"} & {bytes([byte]) for byte in ran.stdout + ran.stderr}
    assert b"shown: verify started\nshown: verify finished in " in ran.stderr
    assert b"shown: convert cached\n" in ran.stderr
    assert b"started" not in ran.stdout


def test_a_terminal_gets_bars_and_then_the_table(build_once: list[str]) -> None:
    """Somebody who waits would not see how far it is."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(build_once, stdout=theirs, stderr=theirs, env=environment) as build:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        assert build.wait(120) == 0
    os.close(ours)
    text = shown.decode()
    assert "\x1b[" in text
    assert "━" in text
    assert "verify" in text.partition("━")[0].rpartition("\r")[2]  # the bar says what it is of
    assert text.rstrip().endswith("report.html")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""
