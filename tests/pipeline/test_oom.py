"""Reading the kernel's counters of out-of-memory kills, from files laid out as the kernel lays them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtd.pipeline.oom import oom_kills


@pytest.mark.parametrize(
    ("groups", "counters", "text"),
    [
        ("0::/system.slice/trtd.service\n", "system.slice/trtd.service/memory.events", "oom 9\noom_kill 4\n"),
        ("0::/docker/abc\n", "memory.events", "low 0\noom_kill 4\noom_group_kill 1\n"),
        ("5:cpu:/\n4:memory:/a\n0::/\n", "memory/a/memory.oom_control", "under_oom 0\noom_kill 4\n"),
    ],
)
def test_the_own_control_group_counts(groups: str, counters: str, text: str, tmp_path: Path) -> None:
    """A stage that the kernel killed for memory would be reported as a mystery, or the wrong counter be read."""
    for name, content in {
        "proc/self/cgroup": groups,
        f"sys/fs/cgroup/{counters}": text,
        "proc/vmstat": "oom_kill 77\n",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert oom_kills(tmp_path) == 4


def test_the_machines_counter_stands_in(tmp_path: Path) -> None:
    """Outside of any control group there would be no evidence; without /proc the launcher would fail."""
    assert oom_kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 1\noom_kill 77\n")
    assert oom_kills(tmp_path) == 77
    assert oom_kills() >= 0
