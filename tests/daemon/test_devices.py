"""Devices are read from the kernel's own files, and a GPU is one build's at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtd.daemon.devices import CPU, LOCK_DIR, SHARED_LOCKS, devices, lock_file, occupy
from trtd.errors import RegistryBusy, StorageError

# As the driver 580 writes it, tabs included.
INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 41
GPU UUID: \t {uuid}
Video BIOS: \t 96.00.da.00.0c
Bus Type: \t PCIe
DMA Size: \t 52 bits
DMA Mask: \t 0xfffffffffffff
Bus Location: \t 0000:00:06.0
Device Minor: \t 0
GPU Firmware: \t 580.159.04
GPU Excluded:\t {excluded}
"""
UUID = "GPU-c017f233-2f2c-bb66-d31e-55eb6c2edced"


def add_gpu(root: Path, address: str, uuid: str = UUID, excluded: str = "No") -> None:
    folder = root / "proc/driver/nvidia/gpus" / address
    folder.mkdir(parents=True)
    (folder / "information").write_text(INFORMATION.format(uuid=uuid, excluded=excluded))


def test_the_cpu_is_always_there(tmp_path: Path) -> None:
    """A machine without a GPU would have nothing to build on."""
    (cpu,) = devices(tmp_path)
    assert (cpu.id, cpu.cores) == (CPU, len(os.sched_getaffinity(0)))
    assert cpu.name
    assert devices()[0] == cpu


def test_gpus_are_known_by_uuid_and_name(tmp_path: Path) -> None:
    """Two GPUs of one kind would be one; a lock would hold the wrong one after cards were swapped."""
    add_gpu(tmp_path, "0000:0a:00.0", "GPU-b")
    add_gpu(tmp_path, "0000:00:06.0", UUID)
    assert [(d.id, d.name, d.cores) for d in devices(tmp_path)[1:]] == [
        (UUID, "NVIDIA H100 80GB HBM3", 0),
        ("GPU-b", "NVIDIA H100 80GB HBM3", 0),
    ]


def test_odd_gpus_end_nothing(tmp_path: Path) -> None:
    """A driver that is being loaded, or a card that fell off the bus, would end the daemon."""
    add_gpu(tmp_path, "0000:01:00.0", "GPU-????????-????-????-????-????????????")
    add_gpu(tmp_path, "0000:02:00.0", excluded="Yes")
    add_gpu(tmp_path, "0000:03:00.0")
    (tmp_path / "proc/driver/nvidia/gpus/0000:03:00.0/information").write_bytes(b"\xff\n:\n")
    (tmp_path / "proc/driver/nvidia/gpus/0000:04:00.0").mkdir()
    (tmp_path / "proc/driver/nvidia/gpus/stray").write_text("")
    assert [(d.id, d.name) for d in devices(tmp_path)[1:]] == [
        ("0000:01:00.0", "NVIDIA H100 80GB HBM3"),
        ("0000:03:00.0", "NVIDIA GPU"),
    ]


def test_a_gpu_is_one_processs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two daemons of one machine would build on one GPU, and each would time the other."""
    monkeypatch.setenv(LOCK_DIR, str(tmp_path))
    code = (
        "import sys; from trtd.daemon.devices import occupy\n"
        f"with occupy({UUID!r}): print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(RegistryBusy, match=rf"(?s)process {other.pid} .*{UUID}"), occupy(UUID):
            pass
        with occupy("GPU-other"), occupy(CPU), occupy(CPU):
            pass
        other.kill()
    with occupy(UUID):  # the lock went with its holder
        pass


def test_lock_files_stay_in_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name out of a driver's file could make a file anywhere."""
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
        with occupy(UUID):
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
        "import os, sys; from trtd.daemon.devices import occupy\n"
        "os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        f"with occupy({UUID!r}): print('mine')"
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
    with pytest.raises(StorageError, match="lock"), occupy(UUID):
        pass
