"""A GPU is one process's at a time, on the whole machine, and others wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtd.errors import RegistryBusy, StorageError
from trtd.store.device_lock import LOCK_DIR, SHARED_LOCKS, lock_file, occupy

UUID = "GPU-c017f233-2f2c-bb66-d31e-55eb6c2edced"
HOLDER = """\
import sys
from trtd.store.device_lock import occupy
with occupy([{uuid!r}], "time det-int8", print):
    print("mine", flush=True)
    sys.stdin.read()
"""


class GivenUp(Exception):
    """Somebody does not want to wait any more."""


def refuse(busy: RegistryBusy) -> None:
    raise GivenUp(busy.message)


def test_a_gpu_is_one_processs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two builds would share a GPU: both run out of memory, or time each other instead of the engine."""
    monkeypatch.setenv(LOCK_DIR, str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDER.format(uuid=UUID)], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        who = f"cannot use {UUID} to verify x now: process {other.pid} .* to use {UUID} to time det-int8"
        with pytest.raises(GivenUp, match=f"(?s){who}"), occupy([UUID], "verify x", refuse):
            pass
        with occupy(["GPU-other"], "verify x", refuse), occupy([], "verify x", refuse):
            pass
        heard: list[str] = []

        def end_it(busy: RegistryBusy) -> None:
            heard.append(busy.message)
            other.kill()

        with occupy([UUID], "verify x", end_it):  # the lock goes with its holder, and the wait with the lock
            pass
        assert heard


def test_two_who_want_the_same_two_gpus_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has the first and one that has the second would wait for ever."""
    monkeypatch.setenv(LOCK_DIR, str(tmp_path))
    with occupy(["GPU-a"], "hold it", refuse):
        for order in (["GPU-a", "GPU-b"], ["GPU-b", "GPU-a"]):
            with pytest.raises(GivenUp, match="GPU-a"), occupy(order, "build x", refuse):
                pass
            with occupy(["GPU-b"], "look", refuse):  # whoever waits for the first holds no second
                pass


def test_lock_files_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name out of a driver's answer could make a file anywhere."""
    monkeypatch.setenv(LOCK_DIR, str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "a build's own"))
    assert lock_file("../../etc/x").parent == tmp_path
    assert lock_file("0000:01:00.0") == tmp_path / "trtd-0000_01_00_0.lock"
    monkeypatch.delenv(LOCK_DIR)
    assert lock_file(UUID).parent in SHARED_LOCKS


def test_a_lock_is_open_to_all_who_build_on_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever came first would keep everybody else from the GPU until the machine is started anew."""
    monkeypatch.setenv(LOCK_DIR, str(tmp_path / "locks"))
    umask = os.umask(0o027)
    try:
        with occupy([UUID], "verify x", refuse):
            assert lock_file(UUID).stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(umask)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_another_user_takes_the_lock_that_the_first_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files stay; in a sticky folder an open that might create one is refused to all but its owner."""
    folder = Path("/run/lock/trtd-test")
    folder.mkdir(mode=0o1777, exist_ok=True)
    folder.chmod(0o1777)
    monkeypatch.setenv(LOCK_DIR, str(folder))
    code = (
        "import os, sys; from trtd.store.device_lock import occupy\n"
        "os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        f"with occupy([{UUID!r}], 'verify x', print): print('mine')"
    )
    try:
        for user in ("64001", "64002"):
            ran = subprocess.run([sys.executable, "-c", code, user], capture_output=True, text=True)
            assert ran.stdout == "mine\n", ran.stderr
    finally:
        lock_file(UUID).unlink(missing_ok=True)
        folder.rmdir()


def test_a_lock_folder_that_cannot_be_used_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare OSError would read as a bug, and give no hint where to look."""
    (tmp_path / "file").touch()
    monkeypatch.setenv(LOCK_DIR, str(tmp_path / "file" / "locks"))
    with pytest.raises(StorageError, match="lock"), occupy([UUID], "verify x", refuse):
        pass
