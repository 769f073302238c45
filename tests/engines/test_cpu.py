"""What this machine's CPU can do."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from trtd.engines.cpu import CpuFacts, cpu_facts
from trtd.engines.table import BACKENDS

ON_LINUX_X86 = platform.system() == "Linux" and platform.machine() == "x86_64"


def test_cores_are_those_this_process_may_use() -> None:
    """In a container with two of 64 cores, 64 threads would be slower than one."""
    assert cpu_facts().cores == len(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " \
        "from trtd.engines.cpu import cpu_facts; print(cpu_facts().cores)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"


@pytest.mark.skipif(not ON_LINUX_X86, reason="reads the flags of an x86 CPU")
def test_vnni_is_what_the_kernel_says() -> None:
    """Weights are cut to 7 bits without it: a wrong no costs accuracy, a wrong yes overflows."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next(line for line in file if line.startswith("flags")).split()
    assert cpu_facts().vnni == ("avx512_vnni" in flags or "avx_vnni" in flags)
    assert cpu_facts().model


def test_the_fingerprint_changes_with_what_changes_the_engine() -> None:
    """It is part of what an engine is built from; it must name VNNI, and be text."""
    fingerprint = BACKENDS["onnxruntime-cpu"].fingerprint(())
    assert fingerprint == {"machine": platform.machine(), "vnni": "yes" if cpu_facts().vnni else "no"}
    assert isinstance(cpu_facts(), CpuFacts)
    assert BACKENDS["onnxruntime-cpu"].device() == cpu_facts().model


def test_the_table_of_backends_imports_none_of_them() -> None:
    """``trtd check`` reads it, and has 300 ms."""
    code = "import sys, trtd.engines.table; print(*{'onnxruntime', 'onnx', 'paddle'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "")
