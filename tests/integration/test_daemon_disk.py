"""The disk refuses while the daemon works: what is published stays whole, and everything converges when it gives in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.host import Host, whole
from tests.integration.onlooker import Onlooker
from tests.workshop import Workshop

WORDS = {
    "ENOSPC": "disk is full",
    "EIO": "disk failed",
    "EROFS": "file system is read-only",
    "EACCES": "permission denied",
}


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("store.synced", "EIO"),
        ("publish.staged", "ENOSPC"),
        ("publish.record-renamed", "EACCES"),
        ("publish.synced", "EROFS"),
    ],
)
def test_a_build_that_the_disk_refuses_is_tried_again_later(cold_host: Host, place: str, error: str) -> None:
    """A torn version, a build every second, or one that is never tried again."""
    onlooker = Onlooker(cold_host)
    daemon = cold_host.start(TRTD_FAILPOINT=f"{place}:error={error}")
    cold_host.drop(precision='"fp16"')
    onlooker.until_phase("tiny.toml", "backoff")
    message, _, advice = onlooker.said("tiny.toml").split(" | ")
    assert WORDS[error] in message
    assert advice
    assert whole(cold_host.registry, "tiny")
    assert "backoff" in cold_host.trtd("status").stdout
    daemon.terminate()
    assert daemon.wait(60) == 0
    onlooker.close()
    cold_host.start()
    cold_host.wait(lambda: cold_host.phase("tiny.toml") == "ready", "it never recovered")
    assert whole(cold_host.registry, "tiny")
    assert list(cold_host.registry.staging.iterdir()) == []


@pytest.mark.parametrize(("place", "error"), [("state.before-commit", "ENOSPC"), ("state.begin", "EIO")])
def test_builds_go_on_while_the_state_cannot_be_written(host: Host, place: str, error: str) -> None:
    """A full disk under the state database would stop what is published elsewhere."""
    host.start()
    host.wait(lambda: host.status().get("ok", False), "it did not start")
    host.processes[-1].terminate()
    host.processes[-1].wait(60)
    daemon = host.start(TRTD_FAILPOINT=f"{place}:error={error}")
    host.drop(precision='"fp16"')
    host.wait(lambda: host.registry.versions("tiny") == (1,), "nothing was published")
    host.wait(lambda: "state database: " in host.log.read_text(), "nobody was told")
    assert daemon.poll() is None
    daemon.terminate()
    daemon.wait(60)
    host.start()
    host.wait(lambda: host.phase("tiny.toml") == "ready", "it never recovered")
    assert host.registry.versions("tiny") == (1,), "it was built twice"


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """Of a stand-in for a full disk nobody knows whether it is like one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)], capture_output=True).returncode
    ):
        pytest.skip("nobody may mount here")
    host = None
    try:
        shop = Workshop(disk)
        shop.furnish()
        host = Host(shop, tmp_path / "daemon.log")
        onlooker = Onlooker(host)
        host.start()
        onlooker.until(onlooker.is_up, "it did not start")
        spec = host.drop(precision='"fp16"')
        onlooker.until_phase("tiny.toml", "ready")
        filling = disk / "filling"
        with pytest.raises(OSError, match="No space left"):
            filling.write_bytes(bytes(8 << 20))
        text = spec.read_text().replace('"fp16"', '"fp32"')
        os.truncate(filling, filling.stat().st_size - 8192)  # a spec can be written, an engine cannot
        spec.write_text(text)
        # The log alone can tell of it: the state database lies on the same disk.
        onlooker.until(lambda: "failed: " in host.log.read_text(), "the full disk was not told")
        assert "the disk is full" in host.log.read_text()
        assert host.registry.versions("tiny") == (1,)
        assert whole(host.registry, "tiny")
        assert host.processes[-1].poll() is None
        filling.unlink()
        host.wait(lambda: host.registry.versions("tiny") == (1, 2), "it never recovered")
        assert whole(host.registry, "tiny")
        onlooker.close()
    finally:
        if host is not None:
            host.close()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)
