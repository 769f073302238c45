"""Devices are read from the kernel's own files."""

from __future__ import annotations

import os
from pathlib import Path

from trtd.daemon.devices import CPU, devices

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
