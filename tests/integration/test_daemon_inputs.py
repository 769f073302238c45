"""What makes a running daemon build again: models, data, tools; and what becomes of names that two specs claim."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from tests.integration.onlooker import Onlooker
from tests.workshop import write_image, write_model
from trtd.pipeline.build import Request, calibrate

SETTLE_S = 0.2
NEVER_S = 3600
QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
PAUSE = 0.8  # of the settle time


def slowly(target: Path, content: bytes) -> None:
    """Copy with pauses that are shorter than the settle time, as over a bad network."""
    size = len(content) // 3 + 1
    with target.open("wb") as file:
        for start in range(0, len(content), size):
            file.write(content[start : start + size])
            file.flush()
            time.sleep(PAUSE * SETTLE_S)


def count(onlooker: Onlooker, kind: str, *keys: str) -> list[int]:
    return [len(onlooker.told(key, kind)) for key in keys]


def test_a_new_model_or_new_bytes_rebuild_those_who_use_them_and_new_dates_nobody(onlooker: Onlooker) -> None:
    """Engines would fall behind their models; or `touch` would keep the machine busy for a night."""
    host = onlooker.host
    shop, registry = host.workshop, host.registry
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    first = registry.models / "net" / "1"
    first.mkdir(parents=True)
    shutil.copy(shop.model, first / "net.onnx")
    keys = ("follower.toml", "pinned.toml")
    host.drop("follower", model='registry = "net"', precision='"fp16"')
    host.drop("pinned", model='registry = "net"\nversion = 1')
    onlooker.start()
    for key in keys:
        onlooker.until_phase(key, "ready")

    write_model(shop.folder / "new.onnx", seed=1)
    second = registry.models / "net" / "2"
    second.mkdir()
    slowly(second / "net.onnx", (shop.folder / "new.onnx").read_bytes())
    onlooker.until(lambda: registry.versions("follower") == (1, 2), "the new version was not followed")
    onlooker.until_phase("follower.toml", "ready")
    assert count(onlooker, "published", *keys) == [2, 1]
    assert count(onlooker, "failed", *keys) == [0, 0]  # it was not read before it was whole

    for file in [*shop.images.iterdir(), first / "net.onnx", second / "net.onnx"]:
        os.utime(file, (1_500_000_000, 1_500_000_000))
    onlooker.until(lambda: all(count(onlooker, "up-to-date", *keys)), "nobody looked at what was touched")
    for key in keys:
        onlooker.until_phase(key, "ready")
    assert count(onlooker, "published", *keys) == [2, 1]

    for number, file in enumerate(sorted(shop.images.iterdir())):  # one is calibrated with them, both are judged
        write_image(file, 900 + number)
    onlooker.until(lambda: count(onlooker, "published", *keys) == [3, 2], "other data built nothing")
    for key in keys:
        onlooker.until_phase(key, "ready")


def test_another_calibration_table_rebuilds_those_who_name_it(onlooker: Onlooker) -> None:
    """Engines would keep ranges that somebody has thrown away: a table is neither model nor data."""
    host = onlooker.host
    shop, table = host.workshop, host.workshop.folder / "ranges.json"
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    request = Request(host.registry, threads=1)
    tables = [
        calibrate(shop.spec("calibrated", calibration=f'data = "../images"\nsamples = {samples}'), request)[
            0
        ].read_bytes()
        for samples in (8, 12)
    ]
    table.write_bytes(tables[0])
    host.drop(calibration='table = "../ranges.json"', verify='data = "../images"')
    onlooker.start()
    onlooker.until_phase("tiny.toml", "ready")
    table.write_bytes(tables[1])
    onlooker.until(lambda: host.registry.versions("tiny") == (1, 2), "another table built nothing")
    onlooker.until_phase("tiny.toml", "ready")
    assert count(onlooker, "failed", "tiny.toml") == [0]


def test_a_model_whose_event_was_lost_in_a_flood_is_built_all_the_same(onlooker: Onlooker) -> None:
    """The kernel forgets what it cannot queue: the new model would be served an hour later, or never."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    model = host.registry.models / "net" / "1" / "net.onnx"
    model.parent.mkdir(parents=True)
    shutil.copy(host.workshop.model, model)
    host.drop("follower", model='registry = "net"', precision='"fp16"')
    pid = onlooker.start()
    onlooker.until_phase("follower.toml", "ready")
    os.kill(pid, signal.SIGSTOP)
    floods = [host.registry.models / name for name in ("flood", "deluge")]
    for flood in floods:
        flood.touch()
    for number in range(2 * int(QUEUE.read_text())):  # in turns: the kernel joins an event to an equal one before it
        os.utime(floods[number % 2])
    write_model(model, seed=1)
    os.kill(pid, signal.SIGCONT)
    onlooker.until(lambda: host.registry.versions("follower") == (1, 2), "the lost event was about this")
    assert onlooker.daemon.overflows


def test_an_upgrade_rebuilds_or_asks_and_says_why(onlooker: Onlooker, tmp_path: Path) -> None:
    """After an upgrade engines of the old runtime would go on serving; or a fleet would be rebuilt at noon, unasked."""
    host = onlooker.host
    host.configure(period_s=1, poll_s=1)
    site = tmp_path / "site"
    site.mkdir()
    host.drop("auto", precision='"fp16"', more='[build]\nrebuild = "auto"')
    host.drop("ask", precision='"fp16"', more='[build]\nrebuild = "ask"')
    onlooker.start(PYTHONPATH=str(site))
    for key in ("auto.toml", "ask.toml"):
        onlooker.until_phase(key, "ready")
    # A stand-in for an upgrade: what pip would say is installed. The code stays as it is.
    fresh = tmp_path / "onnxruntime-99.0.dist-info"
    fresh.mkdir()
    (fresh / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 99.0\n")
    fresh.rename(site / fresh.name)
    onlooker.until_phase("ask.toml", "stale")
    assert any("onnxruntime" in text and "99.0" in text for text in onlooker.told("ask.toml", "stale"))
    onlooker.until(lambda: host.registry.versions("auto") == (1, 2), "the upgrade rebuilt nothing")
    assert any("onnxruntime" in text and "99.0" in text for text in onlooker.told("auto.toml", "started"))
    assert onlooker.phase("ask.toml") == "stale"
    assert "trtd retry ask" in host.trtd("status", "ask").stdout
    assert host.registry.versions("ask") == (1,)
    assert host.trtd("retry", "ask").returncode == 0
    onlooker.until(lambda: host.registry.versions("ask") == (1, 2), "the approval built nothing")
    for key in ("auto.toml", "ask.toml"):
        onlooker.until_phase(key, "ready")


def test_two_specs_of_one_name_are_both_in_conflict_until_one_goes(onlooker: Onlooker) -> None:
    """The last writer would win, again and again; and what the loser published would be lost with its file."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    more = '[publish]\non_delete = "unpublish"'
    onlooker.start()
    host.drop("a", head='name = "same"', precision='"fp16"', more=more)
    onlooker.until_phase("a.toml", "ready")
    second = host.drop("b", head='name = "same"', precision='"fp16"', more=more)
    for key, other in (("a.toml", "b.toml"), ("b.toml", "a.toml")):
        onlooker.until_phase(key, "conflict")
        assert other in onlooker.said(key)
    second.unlink()
    onlooker.until_phase("a.toml", "ready")
    host.drop("b", head='name = "same"', precision='"fp16"', more=more)
    onlooker.until_phase("a.toml", "conflict")
    (host.registry.specs / "a.toml").unlink()
    onlooker.until_phase("b.toml", "ready")
    assert host.registry.versions("same") == (1,)  # taken over: nothing was built again, nothing was retired
    (host.registry.specs / "b.toml").unlink()
    onlooker.until(lambda: host.registry.versions("same") == (), "a deleted spec's engine is still published")
