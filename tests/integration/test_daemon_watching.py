"""What a running daemon notices, and when: specs however they are saved, folders that come and go, no events at all.

Most specs here are at fault on purpose. A fault that names a marker shows which bytes were read, and nothing is built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.host import Host
from tests.integration.onlooker import Onlooker

SETTLE_S = 0.2
NEVER_S = 3600


def marked(marker: str) -> str:
    """A spec that is at fault in one key, which a message about it names. Half of it is at fault in another way."""
    filling = "# filling\n" * 40
    return f'{filling}model.path = "m.onnx"\nengine.precision = "fp16"\nverify.data = "m"\n{filling}{marker} = 1\n'


def reads(onlooker: Onlooker, key: str, marker: str) -> Callable[[], bool]:
    return lambda: f"{marker}: unknown key" in onlooker.said(key)


# ------------------------------------------------------------------------------------------- with events, and without


def test_with_events_no_scan_is_waited_for(onlooker: Onlooker) -> None:
    """Every edit would wait for the next full scan."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    onlooker.start()
    spec = host.registry.specs / "a.toml"
    for marker in ("first", "second"):
        spec.write_text(marked(marker))
        onlooker.until(reads(onlooker, "a.toml", marker), f"{marker} was not noticed")
    spec.unlink()
    onlooker.until(lambda: onlooker.phase("a.toml") is None, "nobody noticed that it is gone")
    assert onlooker.mode(host.registry.specs)[0] == "events"


def without_inotify(host: Host) -> subprocess.Popen[bytes]:
    """A daemon whose kernel gives it no inotify instance: in a user namespace of its own, where none are allowed."""
    script = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$0" "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script]
    command += [sys.executable, "-m", "trtd", "run", "--registry", str(host.registry.root)]
    with host.log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    host.processes.append(process)
    return process


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = "echo 0 > /proc/sys/user/max_inotify_instances"
    ran = subprocess.run(["unshare", "--user", "--map-root-user", "sh", "-c", probe], capture_output=True)
    return ran.returncode == 0


@pytest.mark.skipif(not _has_namespaces(), reason="this kernel lets nobody limit inotify")
def test_without_a_single_event_everything_is_noticed_and_status_says_how(onlooker: Onlooker) -> None:
    """On a machine without inotify instances nothing would be built, and nobody would know why."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=1)
    daemon = without_inotify(host)
    onlooker.until(onlooker.is_up, "it did not start")
    spec = host.registry.specs / "a.toml"
    for marker in ("first", "second"):
        spec.write_text(marked(marker))
        onlooker.until(reads(onlooker, "a.toml", marker), f"{marker} was not noticed")
    spec.unlink()
    onlooker.until(lambda: onlooker.phase("a.toml") is None, "nobody noticed that it is gone")
    mode, reason = onlooker.mode(host.registry.specs)
    assert mode == "polling"
    assert "max_user_instances" in reason
    assert f"polling {host.registry.specs}" in host.trtd("status").stdout
    assert daemon.poll() is None


def test_a_blind_observer_is_noticed_replaced_and_in_the_end_not_trusted(onlooker: Onlooker, tmp_path: Path) -> None:
    """A file system that sends no events looks like one on which nothing happens."""
    host = onlooker.host
    host.configure(period_s=1, poll_s=1)
    site = tmp_path / "site"
    site.mkdir()
    # A stand-in for such a file system: the kernel's events are read and thrown away.
    (site / "sitecustomize.py").write_text(
        "from trtd.daemon.observer import _Ear\n_Ear.dispatch = lambda self, event: None\n"
    )
    pid = onlooker.start(PYTHONPATH=os.pathsep.join([str(site), str(Path(__file__).parents[2])]))
    spec = host.registry.specs / "a.toml"
    give_up_s = time.monotonic() + 60
    number = 0
    while onlooker.mode(host.registry.specs)[0] != "polling":
        assert time.monotonic() < give_up_s, "a blind observer was trusted"
        number += 1
        spec.write_text(marked(f"edit{number}"))
        onlooker.until(reads(onlooker, "a.toml", f"edit{number}"), f"edit {number} was not noticed")
    assert onlooker.mode(host.registry.specs) == ("polling", "changes came without events")
    assert onlooker.daemon.overflows >= 2
    assert "events were lost" in host.trtd("status").stdout
    assert onlooker.daemon.pid == pid


# ---------------------------------------------------------------------------------------------- folders come and go


def moved_away_and_back(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    time.sleep(2 * SETTLE_S)
    folder.with_name("elsewhere").rename(folder)


def replaced(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("new"))
    folder.rename(folder.with_name("old"))
    folder.with_name("new").rename(folder)


def removed_and_made_again(folder: Path) -> None:
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    shutil.rmtree(folder)
    time.sleep(2 * SETTLE_S)
    folder.mkdir()
    for name, content in kept.items():
        (folder / name).write_bytes(content)


def became_a_link(folder: Path) -> None:
    folder.rename(folder.with_name("target"))
    folder.symlink_to("target")


def test_specs_folder_may_come_and_go(onlooker: Onlooker) -> None:
    """A daemon would go on watching a folder that nobody sees any more; or take all specs for deleted."""
    host = onlooker.host
    specs = host.registry.specs
    host.configure(period_s=1, poll_s=1)
    for name in ("a", "b", "c"):
        (specs / f"{name}.toml").write_text(marked("first"))
    pid = onlooker.start()
    onlooker.until(lambda: onlooker.phases() == {"invalid": 3}, "not all were read")
    for way in (moved_away_and_back, replaced, removed_and_made_again, became_a_link):
        way(specs)
        marker = way.__name__
        # The next scan must find that it is another folder, and watch that one.
        for edit in (marker, f"{marker}2"):
            (specs / "a.toml").write_text(marked(edit))
            onlooker.until(reads(onlooker, "a.toml", edit), f"after it {marker}, {edit} was not noticed")
        onlooker.until(lambda: onlooker.mode(specs.resolve())[0] == "events", "it is not watched any more")
        assert onlooker.daemon.degraded == ()
    assert {key: onlooker.told(key, "removed") for key in ("a.toml", "b.toml", "c.toml")} == {
        "a.toml": [],
        "b.toml": [],
        "c.toml": [],
    }
    assert onlooker.daemon.pid == pid


def test_a_missing_specs_folder_is_told_and_keeps_what_is_published(onlooker: Onlooker) -> None:
    """An unmounted disk would unpublish every engine."""
    host = onlooker.host
    host.configure(period_s=1, poll_s=1)
    (host.registry.specs / "a.toml").write_text(marked("first"))
    onlooker.start()
    onlooker.until(reads(onlooker, "a.toml", "first"), "it was not read")
    away = host.registry.root / "away"
    host.registry.specs.rename(away)
    onlooker.until(lambda: bool(onlooker.daemon.degraded), "nobody noticed")
    assert "is not there" in onlooker.daemon.degraded[0]
    assert f"mkdir {host.registry.specs}" in host.trtd("status").stdout
    assert onlooker.phase("a.toml") == "invalid"
    away.rename(host.registry.specs)
    onlooker.until(lambda: not onlooker.daemon.degraded, "nobody noticed that it is back")
    assert onlooker.told("a.toml", "removed") == []


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="only root may mount")
def test_a_disk_that_is_mounted_over_specs_is_seen_and_so_is_its_end(onlooker: Onlooker) -> None:
    """Specs on a disk that is mounted late, or again, would not be built until a restart."""
    host = onlooker.host
    specs = host.registry.specs
    host.configure(period_s=2, poll_s=1)
    (specs / "below.toml").write_text(marked("below"))
    onlooker.start()
    onlooker.until(reads(onlooker, "below.toml", "below"), "it was not read")
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(specs)], capture_output=True).returncode:
        pytest.skip("nobody may mount here")
    try:
        (specs / "above.toml").write_text(marked("above"))
        onlooker.until(reads(onlooker, "above.toml", "above"), "what was mounted was not seen")
        onlooker.until(lambda: onlooker.phase("below.toml") is None, "what is hidden by the mount is still shown")
        (specs / "above.toml").write_text(marked("edited"))
        onlooker.until(reads(onlooker, "above.toml", "edited"), "an edit on it was not seen")
    finally:
        subprocess.run(["umount", "--lazy", str(specs)], check=True)
    onlooker.until(reads(onlooker, "below.toml", "below"), "what was hidden was not seen again")
    onlooker.until(lambda: onlooker.phase("above.toml") is None, "what was mounted is still shown")


def test_the_whole_registry_may_be_moved_away_and_back(onlooker: Onlooker) -> None:
    """Whoever moves a registry to look at something would have to restart its daemon."""
    host = onlooker.host
    root = host.registry.root
    host.configure(period_s=1, poll_s=1)
    (host.registry.specs / "a.toml").write_text(marked("first"))
    (host.registry.models / "net" / "1").mkdir(parents=True)
    shutil.copy(host.workshop.model, host.registry.models / "net" / "1")
    host.drop("built", model='registry = "net"', precision='"fp16"')
    daemon = host.start()
    onlooker.until(onlooker.is_up, "it did not start")
    onlooker.until(reads(onlooker, "a.toml", "first"), "it was not read")
    onlooker.until_phase("built.toml", "ready")
    root.rename(root.with_name("elsewhere"))
    time.sleep(1.5)
    assert daemon.poll() is None
    root.with_name("elsewhere").rename(root)
    (host.registry.specs / "a.toml").write_text(marked("second"))
    onlooker.until(reads(onlooker, "a.toml", "second"), "nothing was noticed after it came back")
    onlooker.until(lambda: not onlooker.daemon.degraded, "it still says that something is wrong")
    assert host.trtd("pause", "a").returncode == 0  # it can be spoken to
    assert onlooker.told("a.toml", "removed") == []
    assert host.trtd("retry", "built").returncode == 0
    onlooker.until(lambda: bool(onlooker.told("built.toml", "up-to-date")), "what was moved is not what it was")
    assert onlooker.told("built.toml", "failed") == []
    assert len(onlooker.told("built.toml", "started")) == 2


# ------------------------------------------------------------------------------------------- how files are saved

SLOW_SETTLE_S = 1.0
PAUSE = 0.8  # of the settle time


def in_pieces(spec: Path, text: str, *, held_open: bool) -> None:
    """As a slow copy does. One that was held up for longer than the settle time by a busy machine begins again."""
    size = len(text) // 3 + 1
    spec.write_text("")
    with spec.open("a") as held:
        for start in range(0, len(text), size):
            if held_open:
                held.write(text[start : start + size])
                held.flush()
            else:
                held.close()
                with spec.open("a") as again:
                    again.write(text[start : start + size])
            time.sleep(PAUSE * SLOW_SETTLE_S)


def by_a_slow_copy(spec: Path, text: str) -> None:
    in_pieces(spec, text, held_open=True)


def by_appending(spec: Path, text: str) -> None:
    in_pieces(spec, text, held_open=False)


def by_vim(spec: Path, text: str) -> None:
    probe = spec.with_name("4913")
    probe.touch()
    probe.unlink()
    spec.rename(f"{spec}~")
    spec.write_text(text)
    Path(f"{spec}~").unlink()


def by_emacs(spec: Path, text: str) -> None:
    lock, draft = spec.with_name(f".#{spec.name}"), spec.with_name(f"#{spec.name}#")
    lock.symlink_to("someone@somewhere.1234:1700000000")
    draft.write_text(text[:100])
    shutil.copy2(spec, f"{spec}~")
    spec.write_text(text)
    draft.unlink()
    lock.unlink()


def by_nano(spec: Path, text: str) -> None:
    swap = spec.with_name(f".{spec.name}.swp")
    swap.write_text("")
    with spec.open("r+") as file:
        file.truncate()
        file.write(text)
    swap.unlink()


def by_rsync(spec: Path, text: str) -> None:
    temporary = spec.with_name(f".{spec.name}.AbCdEf")
    temporary.write_text(text[:100])
    os.utime(temporary, (1, 1))
    temporary.write_text(text)
    temporary.rename(spec)
    os.utime(spec, (1_000_000_000, 1_000_000_000))


def by_rsync_in_place(spec: Path, text: str) -> None:
    with spec.open("r+") as file:
        for line in text.splitlines(keepends=True):
            file.write(line)
            file.flush()
        file.truncate()
    os.utime(spec, (1_000_000_000, 1_000_000_000))


WAYS = (by_a_slow_copy, by_appending, by_vim, by_emacs, by_nano, by_rsync, by_rsync_in_place)


def test_however_a_spec_is_saved_only_the_whole_of_it_is_read(onlooker: Onlooker) -> None:
    """Half a spec would be built, or told to be at fault; and a save would look like a deletion."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    text = (host.registry.root / "trtd.toml").read_text()
    slow = text.replace("settle_spec_s = 0.2", f"settle_spec_s = {SLOW_SETTLE_S}")
    assert slow != text
    (host.registry.root / "trtd.toml").write_text(slow)
    specs = {way: host.registry.specs / f"{way.__name__}.toml" for way in WAYS}
    for spec in specs.values():
        spec.write_text(marked("before"))
    onlooker.start()
    for spec in specs.values():
        onlooker.until(reads(onlooker, spec.name, "before"), f"{spec.name} was not read")
    for way, spec in specs.items():
        way(spec, marked("after"))
    for spec in specs.values():
        onlooker.until(reads(onlooker, spec.name, "after"), f"{spec.name} was not read again")
        said = onlooker.told(spec.name, "failed")
        assert [("before" in text, "after" in text) for text in said] == [(True, False), (False, True)], spec.name
        assert onlooker.told(spec.name, "removed") == []
    assert set(onlooker.phases()) == {"invalid"}
    assert sum(onlooker.phases().values()) == len(WAYS)  # nothing that was left beside them counts


def test_a_configmap_may_be_swapped_any_number_of_times(onlooker: Onlooker) -> None:
    """On Kubernetes the files never change: a link to their folder does."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    specs = host.registry.specs
    for number in range(3):
        folder = specs / f"..2026_11_24.{number}"
        folder.mkdir()
        for name in ("a", "b"):
            (folder / f"{name}.toml").write_text(marked(f"swap{number}"))
        (specs / "..data_tmp").symlink_to(folder.name)
        (specs / "..data_tmp").rename(specs / "..data")
        if number:
            shutil.rmtree(specs / f"..2026_11_24.{number - 1}")
        else:
            for name in ("a.toml", "b.toml"):
                (specs / name).symlink_to(f"..data/{name}")
            onlooker.start()
        for key in ("a.toml", "b.toml"):
            onlooker.until(reads(onlooker, key, f"swap{number}"), f"swap {number} of {key} was not noticed")
    for key in ("a.toml", "b.toml"):
        assert [f"swap{number}" in text for number, text in enumerate(onlooker.told(key, "failed"))] == [True] * 3
        assert onlooker.told(key, "removed") == []


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_checkout_replaces_many_specs_at_once(onlooker: Onlooker) -> None:
    """Whoever keeps specs in git would have to touch those that were not noticed."""
    host = onlooker.host
    host.configure(period_s=NEVER_S, poll_s=NEVER_S)
    specs, count = host.registry.specs, 100

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=first"]
        subprocess.run(["git", *identity, *arguments], cwd=specs, check=True, capture_output=True, timeout=60)

    git("init")
    for branch in ("first", "second"):
        git("checkout", "-B", branch)
        for number in range(count):
            (specs / f"{number}.toml").write_text(marked(branch))
        (specs / f"{branch}-alone.toml").write_text(marked(branch))
        git("add", ".")
        git("commit", "-m", branch)
    onlooker.start()
    for branch in ("second", "first"):
        git("checkout", branch)
        for number in range(count):
            onlooker.until(reads(onlooker, f"{number}.toml", branch), f"{number}.toml of {branch} was not read")
        for key in (f"{number}.toml" for number in range(count)):
            assert onlooker.told(key, "removed") == []
    onlooker.until(lambda: onlooker.phase("second-alone.toml") is None, "a spec that git removed is still shown")
    onlooker.until(lambda: onlooker.phases() == {"invalid": count + 1}, "not all are there")
