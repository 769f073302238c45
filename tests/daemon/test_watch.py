"""Watching with the real watchdog: hints come, reading gives none, and whatever breaks is noticed."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from watchdog.observers import inotify_c

from tests.daemon.scene import PERIOD_S, Scene, replace_atomically
from trtd.daemon import mounts
from trtd.daemon.hints import MOST_FOLDERS, Gathering, Hints
from trtd.daemon.observer import IN_Q_OVERFLOW, Hear, Observer
from trtd.daemon.watch import GRACE_S, LONGEST_RETRY_S, RETRY_S, Watcher

DEADLINE_S = 30.0
QUIET_S = 0.7  # watchdog holds moves back for half a second


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


@dataclass
class Post:
    """A watcher on a clock that the test turns, and what came of it."""

    folder: Path
    wakes: int = 0
    now: float = 1000.0
    heard: set[Path] = field(default_factory=set)
    trees: tuple[Path, ...] = ()
    limit: int = 64

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.wake, trees=self.trees, limit=self.limit, clock=lambda: self.now)

    def wake(self) -> None:
        self.wakes += 1

    def follow(self, *folders: Path) -> None:
        """Watch these, and forget the hints that this gives."""
        self.watcher.follow(folders)
        for _ in range(2):  # the first scans may find what is older than the watch
            self.watcher.checked([], self.now)
        self.watcher.take()
        self.heard.clear()

    def hears(self, folder: Path) -> None:
        """Wait for a hint at a folder."""

        def has_come() -> bool:
            self.heard |= self.watcher.take().folders
            return folder in self.heard

        eventually(has_come)

    def quiet(self) -> None:
        """Let everything that is under way arrive, and forget it."""
        time.sleep(QUIET_S)
        self.watcher.take()
        self.heard.clear()

    def mode(self, folder: Path) -> tuple[str, str]:
        return next((status.mode, status.reason) for status in self.watcher.status() if status.folder == str(folder))


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    (tmp_path / "specs").mkdir()
    made = Post(tmp_path / "specs")
    yield made
    made.watcher.close()


CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda folder: (folder / "new.toml").write_text("x"),
    "write": lambda folder: (folder / "a.toml").write_text("y"),
    "append": lambda folder: (folder / "a.toml").open("a").close(),
    "replace": lambda folder: replace_atomically(folder / "a.toml", "z"),
    "remove": lambda folder: (folder / "a.toml").unlink(),
    "rename": lambda folder: (folder / "a.toml").rename(folder / "b.toml"),
    "move in": lambda folder: (folder.parent / "outside.toml").rename(folder / "c.toml"),
    "move out": lambda folder: (folder / "a.toml").rename(folder.parent / "d.toml"),
    "make readable": lambda folder: os.chmod(folder / "a.toml", 0o600),
    "swap a link": lambda folder: os.replace(folder / "..data_tmp", folder / "..data"),
    "make a folder": lambda folder: (folder / "sub").mkdir(),
    "remove itself": shutil.rmtree,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_hinted_at(post: Post, change: str) -> None:
    """A change would wait for the next scan, half a minute later."""
    (post.folder / "a.toml").write_text("x")
    (post.folder.parent / "outside.toml").write_text("x")
    (post.folder / "..data").symlink_to("..1")
    (post.folder / "..data_tmp").symlink_to("..2")
    post.follow(post.folder)
    CHANGES[change](post.folder)
    post.hears(post.folder)


def test_reading_is_not_hinted_at(post: Post) -> None:
    """The scan reads: it would wake itself for ever."""
    (post.folder / "a.toml").write_text("x")
    post.follow(post.folder)
    wakes = post.wakes
    for _ in range(10):
        (post.folder / "a.toml").read_text()
        (post.folder / "a.toml").stat()
        list(post.folder.iterdir())
    time.sleep(QUIET_S)
    assert (post.wakes, post.watcher.take().any) == (wakes, False)


def test_one_wake_is_enough_until_it_is_taken(post: Post) -> None:
    """Thirty thousand files would write thirty thousand bytes into a pipe that holds fewer."""
    post.follow(post.folder)
    wakes = post.wakes
    code = "import os, sys\nfor n in range(30000): os.close(os.open(f'{sys.argv[1]}/{n}', os.O_CREAT | os.O_WRONLY))"
    subprocess.run([sys.executable, "-c", code, str(post.folder)], check=True)
    eventually(lambda: post.wakes > wakes)
    time.sleep(QUIET_S)
    assert post.wakes == wakes + 1
    assert post.watcher.take().folders == {post.folder}


def test_a_new_watch_is_hinted_at_once(post: Post) -> None:
    """What changed between the listing and the watch would be missed."""
    post.watcher.follow([post.folder])
    assert post.watcher.take().folders == {post.folder}
    post.watcher.follow([post.folder])
    assert not post.watcher.take().any


def test_of_a_tree_the_folder_below_is_named(tmp_path: Path) -> None:
    """A new version of one model would make the scanner list all models."""
    models = tmp_path / "models"
    (models / "net" / "1").mkdir(parents=True)
    post = Post(models, trees=(models,))
    try:
        post.follow(models, models / "net")
        assert len(post.watcher.status()) == 1  # what is below it is watched with it
        (models / "net" / "2").mkdir()
        post.hears(models / "net")
        post.quiet()
        (models / "net" / "2" / "net.onnx").write_text("x")
        post.hears(models / "net" / "2")
    finally:
        post.watcher.close()


def test_a_folder_that_is_not_followed_any_more_is_quiet(post: Post) -> None:
    """Data that no spec reads would wake the daemon."""
    other = post.folder.parent / "other"
    other.mkdir()
    post.follow(post.folder, other)
    post.follow(post.folder)
    (other / "x").write_text("x")
    (post.folder / "x").write_text("x")
    post.hears(post.folder)
    assert other not in post.heard
    post.follow(other)
    (other / "y").write_text("x")
    post.hears(other)


@pytest.mark.parametrize("way", ["removed", "moved away"])
def test_a_folder_that_is_replaced_is_watched_again(post: Post, way: str) -> None:
    """watchdog goes on with the old one and hears nothing, while it says that it is alive."""
    post.follow(post.folder)
    if way == "removed":
        shutil.rmtree(post.folder)
    else:
        post.folder.rename(post.folder.with_name("old"))
    post.watcher.follow([post.folder])
    assert (*post.mode(post.folder), post.watcher.degraded) == ("polling", "it is not there", True)
    post.folder.mkdir()
    post.follow(post.folder)
    assert (*post.mode(post.folder), post.watcher.degraded) == ("events", "", False)
    (post.folder / "a.toml").write_text("x")
    post.hears(post.folder)


def test_a_folder_that_is_swapped_between_two_looks_is_watched_again(post: Post) -> None:
    """Nothing was ever missing, and yet the watch is on something else."""
    post.follow(post.folder)
    new = post.folder.with_name("new")
    new.mkdir()
    post.folder.rename(post.folder.with_name("old"))
    new.rename(post.folder)
    post.follow(post.folder)
    (post.folder / "a.toml").write_text("x")
    post.hears(post.folder)


@pytest.mark.parametrize("which", range(4))
def test_a_dead_thread_is_replaced(post: Post, which: int) -> None:
    """A thread that died of an exception would leave the daemon deaf until it is started anew."""
    post.follow(post.folder)
    observer = post.watcher._observer
    assert observer is not None
    threads = observer.threads
    dead = threads[min(which, len(threads) - 1)]
    dead.stop()  # type: ignore[attr-defined]  # all of them are watchdog's
    (post.folder / "stirs").write_text("x")
    eventually(lambda: not dead.is_alive())
    post.follow(post.folder)
    assert post.watcher._observer is not observer
    (post.folder / "a.toml").write_text("x")
    post.hears(post.folder)


def test_an_exception_in_hearing_ends_no_thread(tmp_path: Path) -> None:
    """A full pipe would make the watch deaf."""
    heard: list[frozenset[Path]] = []

    def failing_stand_in(folders: frozenset[Path]) -> None:
        heard.append(folders)
        raise RuntimeError("the pipe is full")

    observer = Observer()
    try:
        observer.watch(tmp_path, failing_stand_in, tree=False)
        for name in ("a", "b", "c"):
            before = len(heard)
            (tmp_path / name).write_text("x")
            eventually(lambda: len(heard) > before)  # noqa: B023  # it is over before the loop goes on
        assert all(thread.is_alive() for thread in observer.threads)
    finally:
        observer.retire()


def deafen(post: Post) -> None:
    """Make the observer deaf while all its threads live on, as an overflow or a lost watch does."""
    observer = post.watcher._observer
    assert observer is not None
    for emitter in observer._observer.emitters:
        emitter.queue_event = lambda event: None  # type: ignore[method-assign]


def test_a_blind_watch_is_replaced_and_then_polled(post: Post) -> None:
    """It would say that all is well, and each change would take half a minute."""
    post.follow(post.folder)
    for round_ in (1, 2):
        deafen(post)
        post.watcher.checked([post.folder], post.now)  # a scan found something and nothing was heard
        post.now += GRACE_S / 2
        post.watcher.checked([], post.now)
        assert post.watcher.overflows == round_ - 1  # the event may still be on its way
        post.now += GRACE_S / 2
        post.watcher.checked([], post.now)
        assert post.watcher.overflows == round_
        for _ in range(2):
            post.watcher.checked([], post.now)
    assert post.mode(post.folder) == ("polling", "changes came without events")
    assert post.watcher.degraded
    post.now += LONGEST_RETRY_S
    post.follow(post.folder)
    assert post.mode(post.folder) == ("events", "")
    (post.folder / "a.toml").write_text("x")
    post.hears(post.folder)


def test_one_overflow_is_forgiven(post: Post) -> None:
    """A watch that lost events in one burst would be polled from then on."""
    post.follow(post.folder)
    for _ in range(3):
        deafen(post)
        post.watcher.checked([post.folder], post.now)
        post.now += GRACE_S
        post.watcher.checked([], post.now)
        post.follow(post.folder)
        (post.folder / "a.toml").write_text(str(post.now))
        post.hears(post.folder)
        post.watcher.checked([post.folder], post.now)
    assert post.watcher.overflows == 3
    assert post.mode(post.folder) == ("events", "")


def test_events_that_the_kernel_dropped_may_have_meant_anything(post: Post) -> None:
    """watchdog goes on as if nothing had happened: what they were about would stay unknown for an hour."""
    post.follow(post.folder)
    post.quiet()
    reader = vars(inotify_c).get("InotifyFD") or vars(inotify_c)["Inotify"]
    overflow = struct.pack("iIII", -1, IN_Q_OVERFLOW, 0, 0)  # as inotify(7) has it
    assert len(list(reader._parse_event_buffer(overflow))) == 1
    assert post.watcher.take() == Hints(any=True, lost=True)
    assert post.watcher.overflows == 1
    assert post.watcher.take() == Hints()


def test_hints_at_more_folders_than_are_kept_mean_anything() -> None:
    """A copied tree of models would be hinted at in part, and the rest be found by chance."""
    wakes: list[None] = []
    gathering = Gathering(lambda: wakes.append(None))
    for number in range(MOST_FOLDERS + 1):
        gathering.add({Path(f"/models/{number}")})
    taken = gathering.take()
    assert (taken.lost, taken.any, len(taken.folders)) == (True, True, MOST_FOLDERS)
    assert gathering.take() == Hints()
    gathering.lose()
    assert gathering.take() == Hints(any=True, lost=True)
    assert len(wakes) == 2


def test_an_event_before_or_soon_after_the_scan_is_no_overflow(post: Post) -> None:
    """Each burst would count as lost events, and replace the observer."""
    post.follow(post.folder)
    (post.folder / "a.toml").write_text("x")
    post.hears(post.folder)
    post.watcher.checked([], post.now)  # this scan did not list the folder: it was settling
    post.now += PERIOD_S
    post.watcher.checked([post.folder], post.now)
    post.now += PERIOD_S
    post.watcher.checked([], post.now)
    post.quiet()
    post.watcher.checked([post.folder], post.now)  # this one was faster than the event
    (post.folder / "b.toml").write_text("x")
    post.hears(post.folder)
    post.now += PERIOD_S
    post.watcher.checked([], post.now)
    assert post.watcher.overflows == 0


def test_changes_older_than_the_watch_are_no_overflow(post: Post) -> None:
    """Each start would count one."""
    post.watcher.follow([post.folder])
    for changed in ([], [post.folder], [], []):  # the second scan is the one that the new watch hinted at
        post.watcher.checked(changed, post.now)
        post.now += PERIOD_S
    assert post.watcher.overflows == 0


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances")])
def test_without_inotify_the_folder_is_polled_until_there_is_some(
    post: Post, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    """The daemon would end on a machine where an editor uses up all watches."""

    def refusing_stand_in(self: Observer, folder: Path, hear: Hear, *, tree: bool) -> None:
        raise OSError(number, "inotify limit reached")

    with monkeypatch.context() as full:
        full.setattr(Observer, "watch", refusing_stand_in)
        post.follow(post.folder)
        mode, reason = post.mode(post.folder)
        assert mode == "polling"
        assert says in reason
        post.now += RETRY_S
        post.follow(post.folder)
    post.follow(post.folder)
    assert post.mode(post.folder)[0] == "polling"  # it does not ask each time
    post.now += 2 * RETRY_S
    post.follow(post.folder)
    assert post.mode(post.folder) == ("events", "")


LIMITED = """
import sys
from pathlib import Path
from trtd.daemon.watch import Watcher
watcher = Watcher(lambda: None)
watcher.follow([Path(folder) for folder in sys.argv[1:]])
for status in watcher.status():
    print(status.mode, status.reason)
watcher.close()
"""


@pytest.mark.parametrize(("limit", "watched"), [("max_inotify_watches=2", 2), ("max_inotify_instances=0", 0)])
def test_the_kernels_own_limits(tmp_path: Path, limit: str, watched: int) -> None:
    """What a stand-in raises may not be what the kernel does. In a user namespace the limits can be lowered."""
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
    name, _, value = limit.partition("=")
    script = f'echo {value} > /proc/sys/user/{name} || exit 77; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    try:
        done = subprocess.run(
            [*command, sys.executable, "-c", LIMITED, *map(str, folders)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if done.returncode in (1, 77) and "trtd" not in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert [line.strip() for line in lines[:watched]] == ["events"] * watched
    assert all(line.startswith("polling no inotify") for line in lines[watched:])


def test_a_network_file_system_is_polled(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine writes there, this one is never told."""
    mountinfo = post.folder.parent / "stand-in-mountinfo"
    monkeypatch.setattr(mounts, "MOUNTS", mountinfo)
    escaped = str(post.folder).replace(" ", "\\040")
    for kind, mode in (("nfs4", "polling"), ("fuse.sshfs", "polling"), ("ext4", "events"), ("virtiofs", "polling")):
        mountinfo.write_text(
            f"22 27 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw\n30 22 0:40 / {escaped} rw - {kind} server:/x rw\n"
        )
        post.now += RETRY_S
        post.watcher.follow([])
        post.follow(post.folder)
        assert post.mode(post.folder)[0] == mode
        assert (kind in post.mode(post.folder)[1]) == (mode == "polling")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", None),
        ("/mnt/my data", "nfs"),
        ("/mnt/my data/a/b", "nfs"),
        ("/mnt/my database", None),
        ("/mnt/over", None),
    ],
)
def test_the_nearest_and_latest_mount_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, kind: str | None
) -> None:
    """A local folder would be polled because its neighbour is on a server."""
    (tmp_path / "mountinfo").write_text(
        "22 27 0:21 / / rw - ext4 /dev/vda rw\n"
        "30 22 0:40 / /mnt/my\\040data rw master:1 - nfs server:/x rw\n"
        "31 22 0:41 / /mnt/over rw - cifs //server/x rw\n"
        "32 22 0:42 / /mnt/over rw - tmpfs tmpfs rw\n"
        "torn line\n"
    )
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "mountinfo")
    assert mounts.remote_type(folder) == kind


def test_this_machine_is_known() -> None:
    """/proc of a real kernel has more fields than one thinks of."""
    assert mounts.remote_type("/proc") is None


def test_no_more_folders_are_watched_than_allowed(tmp_path: Path) -> None:
    """A thread for each of a thousand folders would not be small."""
    folders = [tmp_path / str(number) for number in range(10)]
    for folder in folders:
        folder.mkdir()
    post = Post(tmp_path, limit=3)
    try:
        post.watcher.follow(folders)
        *watched, rest = post.watcher.status()
        assert [status.folder for status in watched] == [str(folder) for folder in folders[:3]]
        assert (rest.folder, rest.mode) == ("7 more folders", "polling")
        assert post.watcher.degraded
        post.watcher.follow(folders[5:8])
        assert not post.watcher.degraded
    finally:
        post.watcher.close()


def test_closing_leaves_no_thread_and_no_file(tmp_path: Path) -> None:
    """Each reload would leave some behind."""
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    post = Post(tmp_path)
    post.watcher.follow([tmp_path])
    post.watcher.close()
    eventually(lambda: (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files))
    post.watcher.close()


def test_a_scan_finds_what_a_dead_observer_did_not_tell(tmp_path: Path) -> None:
    """Specs, models and data that come while nobody hears would never be built."""
    scene = Scene(tmp_path)
    scene.spec("before.toml")
    scene.settle()
    post = Post(scene.registry.specs, trees=(scene.registry.models,))
    try:
        post.follow(*scene.scan().folders)
        deafen(post)
        scene.spec("new.toml")
        (scene.registry.specs / "before.toml").unlink()
        (scene.data / "new.png").write_bytes(b"x")
        result = scene.scan(PERIOD_S)
        assert result.changed == {scene.registry.specs, scene.data}
        post.watcher.checked(result.changed, scene.now)
        scene.settle()
        assert scene.gone == ["before.toml"]
        assert scene.known["new.toml"].settled
        post.watcher.checked([], scene.now)
        assert post.watcher.overflows == 2
        assert not post.watcher.degraded
        (scene.registry.specs / "new.toml").unlink()
        post.hears(scene.registry.specs)
    finally:
        post.watcher.close()
