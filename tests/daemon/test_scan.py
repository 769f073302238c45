"""The full scan: what is told of specs, when, and what never is."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemon.scene import INPUTS_S, PERIOD_S, SPEC_S, Scene, replace_atomically, spec_text
from trtd.daemon import installed, spec_file, spec_folder
from trtd.daemon.keys import key_of
from trtd.daemon.messages import Observed
from trtd.spec.fields import TARGETS
from trtd.status import file_of


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# ------------------------------------------------------------------------------------------------------------ specs


def test_a_new_spec_settles_and_then_says_what_it_publishes(scene: Scene) -> None:
    """The reconciler would not know what to build, or would call a spec invalid that is still being copied."""
    sections = '[build]\npriority = 7\nrebuild = "ask"\nmemory_limit_bytes = 1000000000\n'
    sections += '[publish]\non_delete = "unpublish"\n[engine]\nprecision = ["fp16", "int8"]\n'
    (scene.registry.specs / "a.toml").write_text(spec_text(head='name = "det"') + sections)
    [first] = scene.scan().seen
    assert (first.facts, first.fault, first.settled) == (None, None, False)
    assert scene.scan(SPEC_S / 2).seen == []
    [second] = scene.scan(SPEC_S / 2).seen
    assert second.facts is not None
    assert second.facts.engines == (("det-fp16", "fp16"), ("det-int8", "int8"))
    assert (second.facts.name, second.facts.target, second.facts.device) == ("det", "onnxruntime-cpu", "cpu")
    assert (second.facts.priority, second.facts.rebuild, second.facts.on_delete) == (7, "ask", "unpublish")
    assert second.facts.memory_bytes == 10**9
    assert not second.settled  # its model and data were never seen before
    [third] = scene.scan(INPUTS_S).seen
    assert third.settled
    assert third.spec_digest == second.spec_digest
    assert ("onnxruntime", version("onnxruntime")) in third.tools
    assert any(name.startswith("device.") for name, _ in third.tools)


def test_the_scan_says_when_something_will_have_settled(scene: Scene) -> None:
    """A change would wait for the next period, half a minute later."""
    scene.spec()
    assert scene.scan().next_due_mono_s == scene.now + SPEC_S
    assert scene.scan(SPEC_S).next_due_mono_s == scene.now + INPUTS_S
    assert scene.scan(INPUTS_S).next_due_mono_s is None


def test_a_changed_spec_keeps_what_its_inputs_settled_to(scene: Scene) -> None:
    """Each edit would cost ten seconds, though neither model nor data changed."""
    scene.spec()
    [before] = scene.settled()
    scene.spec(head="# edited")
    assert scene.scan().seen == []  # what was known stands until the new bytes are still
    [after] = scene.scan(SPEC_S).seen
    assert after.settled
    assert after.spec_digest != before.spec_digest
    assert after.inputs_digest == before.inputs_digest


def test_a_fault_that_is_mended_costs_no_settling_of_inputs(scene: Scene) -> None:
    """An author who mistyped would wait ten seconds for each try."""
    scene.spec()
    scene.settle()
    scene.spec(head="precison = 1")
    [wrong] = scene.settled()
    assert wrong.facts is None
    assert wrong.fault is not None
    assert (wrong.fault.problem.code, wrong.fault.retry) == ("spec", "never")
    assert wrong.fault.problem.message.startswith("line 1: ")
    assert wrong.fault.problem.where.endswith("/a.toml")
    scene.spec()
    scene.scan()
    [mended] = scene.scan(SPEC_S).seen
    assert mended.facts is not None
    assert mended.settled


def test_the_same_bytes_touched_a_thousand_times_are_no_news(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backup tools and configuration managers rewrite what they find: each time would be a rebuild."""
    file = scene.spec()
    scene.settle()
    told = scene.told
    monkeypatch.setattr(spec_file, "spec_from_text", None)  # whoever calls it is told so as a fault of the spec
    for number in range(1000):
        if number % 2:
            os.utime(file)
        else:
            replace_atomically(file, file.read_text())
        scene.scan(1.0)
    scene.settle()
    assert scene.told == told


def test_what_is_written_in_pieces_is_read_when_it_is_whole(scene: Scene) -> None:
    """Half a spec can be valid, and be built."""
    file = scene.registry.specs / "a.toml"
    for end in range(10, len(spec_text()), 10):
        file.write_text(spec_text()[:end])
        result = scene.scan(SPEC_S * 0.9)
        assert all(observed.facts is None and observed.fault is None for observed in result.seen)
    file.write_text(spec_text())
    assert scene.settled()[0].facts is not None


def test_a_spec_that_is_held_open_for_writing_is_not_read(scene: Scene) -> None:
    """A program that pauses while it writes a spec would have the first half built."""
    with (scene.registry.specs / "a.toml").open("w") as file:
        file.write(spec_text())
        file.flush()
        for _ in range(10):
            scene.scan(SPEC_S)
        assert scene.known["a.toml"].facts is None
        file.write("[publish]\nkeep = 5\n")
    assert scene.settled()[0].facts is not None


@pytest.mark.parametrize("way", ["rename over", "rename away and write anew", "write in place"])
def test_every_way_to_save_is_one_change(scene: Scene, way: str) -> None:
    """A spec would be deleted and created by an editor: its build stopped, its engine unpublished."""
    file = scene.spec()
    [before] = scene.settled()
    text = spec_text(head="# edited")
    if way == "rename over":
        replace_atomically(file, text)
    elif way == "rename away and write anew":
        file.rename(file.with_name("a.toml~"))
        assert scene.scan(0.1).gone == []  # looked at in the very moment when it is not there
        file.write_text(text)
    else:
        file.write_text(text)
    told = scene.told
    [after] = scene.settled()
    assert after.spec_digest != before.spec_digest
    assert scene.told == told + 1
    assert scene.gone == []


def test_a_configmap_swap_changes_what_a_link_leads_to(scene: Scene) -> None:
    """In Kubernetes nothing in the listing of specs/ changes when a ConfigMap does."""
    specs = scene.registry.specs

    def publish(version: str, text: str) -> None:
        (specs / f"..{version}").mkdir()
        (specs / f"..{version}" / "a.toml").write_text(text)
        os.symlink(f"..{version}", specs / "..data_tmp")
        os.replace(specs / "..data_tmp", specs / "..data")

    publish("1", spec_text())
    os.symlink("..data/a.toml", specs / "a.toml")
    [before] = scene.settled("a.toml")
    assert before.facts is not None
    publish("2", spec_text(head="# edited"))
    shutil.rmtree(specs / "..1")
    [after] = scene.settled("a.toml")
    assert list(scene.known) == ["a.toml"]
    assert after.spec_digest != before.spec_digest
    assert specs / "..2" in scene.scan().folders


def test_debris_of_editors_is_not_seen(scene: Scene) -> None:
    """Each save would show specs that nobody wrote."""
    for name in (
        ".a.toml.swp",
        ".#a.toml",
        "a.toml~",
        "#a.toml#",
        "a.toml.swp",
        "4913",
        "a.tmp",
        "a.toml.tmp",
        ".toml",
    ):
        (scene.registry.specs / name).write_text("not TOML")
    os.symlink("somebody@somewhere.123:456", scene.registry.specs / ".#b.toml")  # how Emacs locks
    scene.settle()
    assert scene.told == 0


def make_odd(kind: str, path: Path, elsewhere: Path) -> None:
    """Something at ``path`` that is no file."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's path must be short
            try:
                bound.bind(path.name)
            finally:
                os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere.toml")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link to a FIFO":
        os.mkfifo(elsewhere)
        path.symlink_to(elsewhere)
    elif kind == "not UTF-8":
        path.write_bytes(b"name = \xff")
    elif kind == "too large":
        path.write_bytes(b"#" * (1 << 21))
    elif kind == "empty":
        path.touch()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("FIFO", "named pipe"),
        ("socket", "socket"),
        ("folder", "directory"),
        ("dangling link", "leads nowhere"),
        ("link to itself", "back to itself"),
        ("link to a device", "device"),
        ("link to a FIFO", "named pipe"),
        ("not UTF-8", "UTF-8"),
        ("too large", "1 MiB"),
        ("empty", "empty"),
    ],
)
def test_what_is_no_spec_has_a_name_and_a_fault_and_stops_nobody(scene: Scene, kind: str, says: str) -> None:
    """One odd file would block the daemon, end it, or keep the other specs from being built."""
    scene.spec("good.toml")
    make_odd(kind, scene.registry.specs / "odd.toml", scene.folder / "elsewhere")
    good, odd = scene.settled("good.toml", "odd.toml")
    assert good.facts is not None
    assert odd.fault is not None
    assert odd.settled
    assert (odd.facts, odd.fault.retry, odd.fault.problem.code) == (None, "never", "spec")
    assert says in odd.fault.problem.message
    told = scene.told
    for _ in range(5):
        assert scene.scan(PERIOD_S).next_due_mono_s is None
    assert scene.told == told


def test_an_odd_file_that_becomes_a_spec_is_a_spec(scene: Scene) -> None:
    """A fault would stick to a name."""
    file = scene.registry.specs / "a.toml"
    os.mkfifo(file)
    scene.settle()
    file.unlink()
    scene.spec()
    assert scene.settled()[0].facts is not None


def test_a_spec_that_may_not_be_read_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so a stand-in refuses. A chmod changes neither size nor mtime."""
    file = scene.spec()
    real_open, refused = os.open, True

    def stand_in_open(path: str | Path, flags: int) -> int:
        if refused and Path(path) == file:
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", stand_in_open)
    [observed] = scene.settled()
    assert observed.fault is not None
    assert (observed.fault.problem.code, observed.fault.retry) == ("storage", "backoff")
    assert "permission denied" in observed.fault.problem.message
    told = scene.told
    scene.scan(PERIOD_S)
    assert scene.told == told
    refused = False
    scene.scan(PERIOD_S)
    assert scene.settled()[0].facts is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_mode_000_is_a_fault_until_it_is_changed() -> None:
    """A spec that became readable would stay at fault for ever: a chmod changes neither size nor mtime."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # unlike pytest's, it lets others in
        scene = Scene(Path(folder))
        scene.spec("good.toml")
        scene.spec("wrong.toml", head="nonsense = 1")
        file = scene.spec()
        os.chmod(file, 0)
        scene.settle()  # as root, who may read all: whatever must be imported is
        scene.start()
        os.seteuid(65534)
        try:
            good, refused = scene.settled("good.toml", "a.toml")
        finally:
            os.seteuid(0)
        assert good.facts is not None
        assert refused.fault is not None
        assert (refused.fault.problem.code, refused.fault.retry) == ("storage", "backoff")
        os.chmod(file, 0o644)
        os.seteuid(65534)
        try:
            [readable] = scene.settled("a.toml")
        finally:
            os.seteuid(0)
        assert readable.facts is not None


@pytest.mark.parametrize(
    "raw",
    [
        b"a\nb",
        b"\x1b[31mred",
        "\u202etfel".encode(),
        b"\xff\xfe",
        b"back\\slash",
        b"-rf *",
        b"x" * 250,
        "größe".encode(),
        b" ",
        b"[bold]",
    ],
)
def test_any_file_name_works(scene: Scene, raw: bytes) -> None:
    """A name would break the terminal, the database or the daemon."""
    name = os.fsdecode(raw + b".toml")
    (scene.registry.specs / name).write_text(spec_text(head='name = "det"'))
    [observed] = scene.settled()
    assert observed.facts is not None
    assert observed.key == key_of(name)
    assert observed.key.isprintable()
    assert scene.scanner.path(observed.key).read_text() == spec_text(head='name = "det"')
    json.loads(scene.scanner.memory(observed.key))


def test_a_name_that_cannot_name_an_engine_is_a_fault(scene: Scene) -> None:
    """The spec would be built under a name that breaks the registry."""
    (scene.registry.specs / "a\nb.toml").write_text(spec_text())
    [observed] = scene.settled()
    assert observed.fault is not None
    assert "cannot name an engine" in observed.fault.problem.message
    assert "\n b" not in observed.fault.problem.message


# ---------------------------------------------------------------------------------------------------- coming, going


def test_a_deleted_spec_is_gone_once(scene: Scene) -> None:
    """Its build would go on, or be stopped again and again."""
    file = scene.spec()
    scene.settle()
    file.unlink()
    scene.scan()
    assert scene.scan(SPEC_S).gone == ["a.toml"]
    scene.settle()
    assert scene.gone == ["a.toml"]


def test_a_renamed_spec_goes_and_comes_in_one_scan(scene: Scene) -> None:
    """Both would claim the engine's name for a while: a conflict that nobody made."""
    file = scene.spec(head='name = "det"')
    scene.settle()
    file.rename(file.with_name("b.toml"))
    [announced] = scene.scan().seen
    assert (announced.key, announced.facts) == ("b.toml", None)
    result = scene.scan(SPEC_S)
    assert result.gone == ["a.toml"]
    assert [(seen.key, seen.facts is not None, seen.settled) for seen in result.seen] == [("b.toml", True, True)]


def test_specs_of_a_folder_that_is_not_there_stay_as_they_were(scene: Scene) -> None:
    """An unmounted volume would retire every engine."""
    scene.spec()
    scene.settle()
    away = scene.registry.specs.with_name("away")
    scene.registry.specs.rename(away)
    for _ in range(10):
        result = scene.scan(PERIOD_S)
        assert "is not there" in result.problem
        assert scene.registry.root in result.folders
        assert result.next_due_mono_s is not None
    away.rename(scene.registry.specs)
    told = scene.told
    scene.settle()
    assert (scene.gone, scene.told) == ([], told)
    assert scene.scan().problem == ""


def test_a_registry_that_is_away_is_no_news(scene: Scene) -> None:
    """Without engines and models every spec would be built, and fail, because somebody moved a folder for a minute."""
    (scene.registry.engines / "a" / "1").mkdir(parents=True)
    scene.spec()
    scene.settle()
    told, away = scene.told, scene.registry.root.with_name("away")
    scene.registry.root.rename(away)
    for _ in range(3):
        assert scene.scan(PERIOD_S).problem
    away.rename(scene.registry.root)
    scene.model.write_bytes(b"other weights")
    scene.settle()
    assert scene.gone == []
    assert scene.told - told == 2  # the model alone: settling, and settled


@pytest.mark.parametrize("made_again", [False, True])
def test_a_folder_that_is_empty_at_the_start_may_be_filled_yet(scene: Scene, made_again: bool) -> None:
    """A disk that is mounted a moment after the daemon has started would have all engines retired."""
    for name in ("a.toml", "b.toml"):
        scene.spec(name, head=f'name = "{name[0]}"')
    scene.settle()
    kept = scene.registry.specs.with_name("kept")
    scene.registry.specs.rename(kept)
    scene.restart()
    if made_again:
        assert scene.scan().problem
    scene.registry.specs.mkdir()
    scene.scan()
    scene.scan(INPUTS_S / 2)
    assert scene.gone == []
    scene.registry.specs.rmdir()
    kept.rename(scene.registry.specs)
    scene.settle()
    assert (scene.gone, len(scene.known)) == ([], 2)


def test_a_folder_that_is_made_again_may_be_filled_again(scene: Scene) -> None:
    """Remove, make, copy: between the last two, everything would be retired."""
    scene.spec()
    [before] = scene.settled()
    shutil.rmtree(scene.registry.specs)
    scene.scan(PERIOD_S)
    scene.registry.specs.mkdir()
    scene.scan(1.0)
    scene.scan(INPUTS_S / 2)
    assert scene.gone == []
    scene.spec()
    [after] = scene.settled()
    assert (scene.gone, after) == ([], before)
    shutil.rmtree(scene.registry.specs)
    scene.registry.specs.mkdir()
    scene.settle()
    assert scene.gone == ["a.toml"]


def test_a_folder_that_cannot_be_listed_is_a_problem(scene: Scene) -> None:
    """The daemon would end, or take every spec for deleted."""
    scene.spec()
    scene.settle()
    away = scene.registry.specs.with_name("away")
    scene.registry.specs.rename(away)
    scene.registry.specs.write_text("a file")
    assert "cannot be listed" in scene.scan(PERIOD_S).problem
    assert scene.gone == []


def test_a_burst_is_read_in_pieces_and_in_full(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of specs at once would keep the daemon from everything else, or some would be forgotten."""
    monkeypatch.setattr(spec_folder, "READING_S", 0.001)
    for number in range(300):
        scene.spec(f"s{number}.toml")
    scene.scan()
    first = scene.scan(SPEC_S)
    assert 0 < len(first.seen) < 300
    assert first.next_due_mono_s == scene.now
    monkeypatch.setattr(spec_folder, "READING_S", 1.0)
    assert all(observed.facts and observed.settled for observed in scene.settled())
    assert len(scene.known) == 300


def test_names_by_the_ten_thousand_that_are_no_specs_stop_nobody(scene: Scene) -> None:
    """A copy into the wrong folder would stop the daemon."""
    for number in range(30_000):
        os.close(os.open(scene.registry.specs / f"{number}.png", os.O_CREAT | os.O_WRONLY))
    scene.spec()
    assert scene.settled()[0].facts is not None
    assert list(scene.known) == ["a.toml"]


# ---------------------------------------------------------------------------------------------------------- restart


def test_a_restart_reads_nothing_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand specs would be read and settle anew after each restart."""
    for name in ("a.toml", "b.toml"):
        scene.spec(name)
    scene.spec("wrong.toml", head="nonsense = 1")
    scene.settle()
    before = dict(scene.known)
    scene.restart()
    monkeypatch.setattr(spec_file, "spec_from_text", None)  # whoever calls it is told so as a fault of the spec
    result = scene.scan()
    assert scene.known == before
    assert result.next_due_mono_s is None


def test_what_changed_while_nobody_looked_is_found(scene: Scene) -> None:
    """A daemon that was down for a night would miss the night."""
    for name in ("changed.toml", "deleted.toml", "same.toml"):
        scene.spec(name)
    scene.settle()
    before = dict(scene.known)
    scene.spec("changed.toml", head="# edited")
    (scene.registry.specs / "deleted.toml").unlink()
    scene.restart()
    result = scene.scan()
    assert result.gone == ["deleted.toml"]
    assert scene.known["same.toml"] == before["same.toml"]
    changed = scene.known["changed.toml"]  # as it was, but nothing must be started of it
    assert (changed.facts, changed.settled) == (before["changed.toml"].facts, False)
    scene.settle()
    assert scene.known["changed.toml"].settled
    assert scene.known["changed.toml"].spec_digest != before["changed.toml"].spec_digest


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"trtd":1}', "\x00", '{"counted":[1],"inputs_digest":2}'])
def test_a_torn_memory_is_found_out_anew(scene: Scene, text: str) -> None:
    """A damaged database would end the daemon."""
    scene.spec()
    [before] = scene.settled()
    scene.start()
    scene.scanner.restore([("a.toml", text), ("no such.toml", text)])
    scene.known.clear()
    assert scene.settled() == [before]
    assert scene.gone == ["no such.toml"]


def test_what_another_version_wrote_is_read_anew(scene: Scene) -> None:
    """A newer trtd may know keys that the older one refused."""
    scene.spec()
    [before] = scene.settled()
    memory = json.loads(scene.scanner.memory("a.toml")) | {"trtd": "0.0"}
    memory["reading"]["facts"][0][1]["target"] = "what nobody builds for any more"
    scene.start()
    scene.known.clear()
    scene.scanner.restore([("a.toml", json.dumps(memory))])
    assert scene.settled() == [before]


def test_the_memory_does_not_grow_with_the_data(scene: Scene) -> None:
    """Data sets have a million files."""
    scene.spec()
    scene.settle()
    small = scene.scanner.memory("a.toml")
    for number in range(1000):
        (scene.data / f"{number}.png").touch()
    scene.settle()
    assert len(scene.scanner.memory("a.toml")) == len(small)
    assert small.isascii()


# ---------------------------------------------------------------------------------------- engines, tools, the daemon


def live_versions(scene: Scene) -> dict[str, int | None]:
    return dict(scene.known["a.toml"].versions)


def test_a_published_version_is_news_for_its_spec_alone(scene: Scene) -> None:
    """What is live would be shown wrongly, and never be rebuilt when it vanishes."""
    scene.spec("a.toml")
    scene.spec("b.toml")
    scene.settle()
    assert live_versions(scene) == {"a": None}
    for live in (1, 2, 10):
        (scene.registry.engines / "a" / str(live)).mkdir(parents=True)
        os.utime(scene.registry.engines / "a", ns=(0, live))  # the kernel's own dates may be too coarse for a test
        assert [seen.key for seen in scene.scan(PERIOD_S).seen] == ["a.toml"]
        assert live_versions(scene) == {"a": live}
    shutil.rmtree(scene.registry.engines / "a" / "10")
    scene.scan(PERIOD_S)
    assert live_versions(scene) == {"a": 2}


def test_two_changes_within_one_date_are_both_seen(scene: Scene) -> None:
    """A folder's date may be as coarse as the clock that the kernel dates files by."""
    scene.spec()
    folder = scene.registry.engines / "a"
    (folder / "1").mkdir(parents=True)
    date = folder.stat().st_mtime_ns
    scene.settle()
    scene.start()
    scene.known.clear()
    scene.scan()
    scene.scan(SPEC_S)
    (folder / "2").mkdir()
    os.utime(folder, ns=(date, date))
    scene.scan(SPEC_S)
    assert live_versions(scene) == {"a": 2}


def test_an_upgrade_is_news_once_it_is_complete(scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Engines of the old tools would never be marked stale; or be rebuilt with a package that is half there."""
    scene.spec()
    before = dict(scene.settled()[0].tools)
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    half = site / "fast_histogram-99.0.dist-info"
    half.mkdir()
    scene.scan(PERIOD_S)
    (half / "METADATA").write_text("Metadata-Version: 2.1\nName: fast-histogram\nVersion: 99.0\n")
    os.utime(site)
    assert scene.scan(INPUTS_S / 2).seen == []
    [observed] = scene.settled()
    assert dict(observed.tools) == before | {"fast-histogram": "99.0"}


def test_no_package_is_asked_while_none_changes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the metadata of a dozen packages at each scan would be felt."""
    scene.spec()
    scene.settle()
    monkeypatch.setattr(installed, "tool_versions", None)  # whoever calls it fails
    for _ in range(5):
        scene.scan(PERIOD_S)


def test_the_scanner_is_light() -> None:
    """The daemon's idle memory would triple."""
    code = (
        "import sys, trtd.daemon.scan, trtd.daemon.watch\n"
        "heavy = {'numpy', 'PIL', 'onnx', 'onnxruntime', 'paddle', 'rich', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --------------------------------------------------------------------------------------------------- level-triggered

NAMES = ("a.toml", "b.toml", "c\n.toml")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["write", "list", "wrong", "delete", "link", "folder", "model", "data", "publish", "restart", "wait"]
        ),
        st.sampled_from(NAMES),
        st.sampled_from([0.0, 0.2, 0.6, 4.0, 11.0]),
    ),
    max_size=25,
)


def step(scene: Scene, what: str, name: str, number: int) -> None:
    """Change something."""
    path = scene.registry.specs / name
    if what in ("write", "list", "wrong", "delete", "link", "folder"):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    if what == "write":
        path.write_text(spec_text(head=f'name = "e{number % 2}"\n#' + "#" * number))  # sizes differ if dates do not
    elif what == "list":
        targets = [TARGETS[index] for index in range(3) if (1 + number % 7) >> index & 1]
        path.write_text(spec_text(head="#" * number, engine=f"target = {targets[:: 1 - number % 2 * 2]}"))
    elif what == "wrong":
        path.write_text("nonsense = 1")
    elif what == "link":
        path.symlink_to("nowhere")
    elif what == "folder":
        path.mkdir()
    elif what == "model":
        scene.model.write_bytes(b"w" * number)
    elif what == "data":
        (scene.data / f"{number}.png").touch()
    elif what == "publish":
        engine = scene.registry.engines / ("a-tensorrt" if number % 3 else f"e{number % 2}")
        (engine / str(number + 1)).mkdir(parents=True)
        os.utime(engine, ns=(0, number))
    elif what == "restart":
        scene.restart()


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_the_end_only_what_is_there_counts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, float]]
) -> None:
    """What the daemon believes would depend on when it looked."""
    scene = Scene(tmp_path_factory.mktemp("scene"))
    for number, (what, name, after_s) in enumerate(steps):
        step(scene, what, name, number)
        scene.scan(after_s)
    scene.settle()
    believed = dict(scene.known)
    scene.start()
    scene.known.clear()
    scene.settle()
    assert without_history(believed) == without_history(scene.known)
    assert {file_of(key) for key in believed} == {key_of(name) for name in os.listdir(scene.registry.specs)}
    shutil.rmtree(scene.folder)


def without_history(known: dict[str, Observed]) -> dict[str, Observed]:
    """What is at fault is shown under the targets that it had, which a scanner that comes later cannot know."""
    faulty = {file_of(key): replace(seen, key="") for key, seen in known.items() if seen.facts is None}
    valid = {key: seen for key, seen in known.items() if seen.facts is not None}
    assert faulty.keys().isdisjoint(map(file_of, valid)), "a file is at fault and is not"
    return faulty | valid
