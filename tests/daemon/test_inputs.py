"""Models and data: what is listed, when a listing counts, and how often it is made."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.daemon.scene import INPUTS_S, PERIOD_S, SPEC_S, Scene
from trtd.calibrate.listing import list_files
from trtd.daemon.inputs import Inputs, InputSet, inputs_of
from trtd.daemon.listing import MAX_FOLDERS, Listing
from trtd.daemon.messages import Observed
from trtd.errors import DataError, SpecError
from trtd.registry.layout import Registry
from trtd.spec.load import spec_from_text
from trtd.spec.paths import default_roots


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    registry = Registry(tmp_path / "registry")
    registry.init()
    return Inputs(registry, default_roots(registry.specs / "any.toml", registry.root, []))


def write(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


# --------------------------------------------------------------------------------------------------- what is listed


def test_all_that_a_build_reads_is_an_input() -> None:
    """A change of labels or of the hook would go unnoticed."""
    text = """
        [model]
        path = "net.onnx"
        [engine]
        precision = "fp32"
        [calibration]
        data = "pages/*.png"
        [verify]
        data = "held"
        labels = "labels.txt"
        metric = "judge.py:iou"
    """
    assert inputs_of(spec_from_text(text, file="a.toml", stem="a")) == (
        (InputSet("model", "net.onnx"), ("model", "path")),
        (InputSet("data", "pages/*.png"), ("calibration", "data")),
        (InputSet("data", "held"), ("verify", "data")),
        (InputSet("file", "labels.txt"), ("verify", "labels")),
        (InputSet("file", "judge.py"), ("verify", "metric")),
    )
    text = '[model]\nregistry = "net"\nversion = 3\n[calibration]\ndata = "d"\n[verify]\nlabels = "l"\nmetric = "top1"'
    assert inputs_of(spec_from_text(text, file="a.toml", stem="a")) == (
        (InputSet("registry", "net", 3), ("model", "registry")),
        (InputSet("data", "d"), ("calibration", "data")),
        (InputSet("file", "l"), ("verify", "labels")),
    )
    text = """
        [model]
        path = "net.onnx"
        [engine]
        quantized_model = "slim"
        [calibration]
        table = "old.cache"
        [verify]
        data = "held"
    """
    assert inputs_of(spec_from_text(text, file="a.toml", stem="a"))[1:3] == (
        (InputSet("model", "slim"), ("engine", "quantized_model")),
        (InputSet("file", "old.cache"), ("calibration", "table")),
    )


DATA_NAMES = [
    ".hidden.png",
    "Thumbs.db",
    "a.png",
    "B.PNG",
    "b.jpg",
    "c.npy",
    "labels.txt",
    "notes.MD",
    "x.weird",
    "sub",
]


@given(st.sets(st.sampled_from(DATA_NAMES[:-1]), min_size=1), st.sampled_from(["", "/*.png", "/**/*.png", "/[ab]*"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_data_is_what_calibration_takes_for_it(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], pattern: str
) -> None:
    """A note beside the data would rebuild engines; an image that counts would not."""
    registry = Registry(tmp_path_factory.mktemp("data") / "registry")
    registry.init()
    inputs = Inputs(registry, [registry.root])
    folder = registry.root / "data"
    for name in ("0.png", "a0.png"):
        write(folder / name)
    write(folder / "sub" / "inner.png")
    for name in sorted(names):

        def listed() -> tuple[str, ...]:
            try:
                return list_files(f"{folder}{pattern}").files
            except DataError as error:  # of no known kind, or of two: it counts, and a build will say so
                return (str(error),)

        before = listed(), digest(inputs, f"../data{pattern}")
        write(folder / name)
        after = listed(), digest(inputs, f"../data{pattern}")
        assert (before[0] == after[0]) == (before[1] == after[1]), name


def digest(inputs: Inputs, text: str) -> str:
    return inputs.list(InputSet("data", text)).digest


@pytest.mark.parametrize(
    "change",
    [
        "write",
        "touch",
        "replace by one of the same size and date",
        "add",
        "remove",
        "rename",
        "replace the folder",
    ],
)
def test_every_change_of_a_file_changes_the_listing(inputs: Inputs, tmp_path: Path, change: str) -> None:
    """An engine would stay as it is though its data changed."""
    folder = tmp_path / "registry" / "data"
    file = write(folder / "a.png", b"one")
    write(folder / "b.png", b"two")
    before = digest(inputs, "../data")
    if change == "write":
        file.write_bytes(b"three")
    elif change == "touch":
        os.utime(file, ns=(0, 0))
    elif change == "replace by one of the same size and date":
        status = file.stat()
        new = write(folder / ".new", b"ONE")
        os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
        new.rename(file)
    elif change == "add":
        write(folder / "c.png")
    elif change == "remove":
        file.unlink()
    elif change == "rename":
        file.rename(folder / "c.png")
    else:
        folder.rename(folder.with_name("old"))
        shutil.copytree(folder.with_name("old"), folder)
    assert digest(inputs, "../data") != before


def test_reading_and_order_change_no_listing(inputs: Inputs, tmp_path: Path) -> None:
    """Each build reads its data: it would cause the next one."""
    folder = tmp_path / "registry" / "data"
    for name in "abc":
        write(folder / f"{name}.png", name.encode())
    before = digest(inputs, "../data")
    for name in "abc":
        (folder / f"{name}.png").read_bytes()
    (folder / "d.png").touch()
    (folder / "d.png").unlink()
    assert digest(inputs, "../data") == before


def test_data_that_is_not_there_is_empty_and_watched_for(inputs: Inputs, tmp_path: Path) -> None:
    """A spec may come before its data."""
    root = tmp_path / "registry"
    empty = inputs.list(InputSet("data", "../data/pages/*.png"))
    assert empty.folders == (str(root),)
    (root / "data").mkdir()
    assert inputs.list(InputSet("data", "../data/pages/*.png")).folders == (str(root / "data"),)
    write(root / "data" / "pages" / "1.png")
    found = inputs.list(InputSet("data", "../data/pages/*.png"))
    assert found.digest != empty.digest
    assert found.folders == (str(root / "data" / "pages"),)


def test_links_that_lead_in_a_circle_end(inputs: Inputs, tmp_path: Path) -> None:
    """Two links to their own folder keep a glob busy for longer than the universe has existed."""
    folder = tmp_path / "registry" / "data"
    write(folder / "sub" / "1.png")
    for name in ("one", "two"):
        (folder / name).symlink_to(".")
    before = digest(inputs, "../data/**/*.png")
    write(folder / "sub" / "2.png")
    assert digest(inputs, "../data/**/*.png") != before


def test_of_many_folders_only_some_are_to_be_watched(inputs: Inputs, tmp_path: Path) -> None:
    """A thread for each of a thousand folders of data would not be small."""
    for number in range(2 * MAX_FOLDERS):
        write(tmp_path / "registry" / "data" / str(number) / "1.png")
    for pattern in ("*/*.png", "**/*.png"):
        assert len(inputs.list(InputSet("data", f"../data/{pattern}")).folders) == MAX_FOLDERS


@pytest.mark.parametrize(
    ("path", "counts", "does_not"),
    [
        ("m/net.onnx", ["net.onnx.data", "weights.bin", "net_parts/layer1"], ["other.onnx", "notes.txt", "1.png"]),
        ("m/net.json", ["net.pdiparams"], ["other.json", "net2.pdiparams", "weights.bin"]),
        ("m/net.pdmodel", ["net.pdiparams", "net.json"], ["other.pdmodel"]),
        ("m", ["net.onnx", "sub/weights", "sub/sub/w"], [".hidden", "a/b/c/d"]),
    ],
)
def test_files_of_a_model(inputs: Inputs, tmp_path: Path, path: str, counts: list[str], does_not: list[str]) -> None:
    """New weights beside the same graph would not count; another model in the folder would."""
    folder = tmp_path / "registry" / "m"
    write(folder / "any")
    for name in counts:
        before = inputs.list(InputSet("model", f"../{path}")).digest
        write(folder / name)
        assert inputs.list(InputSet("model", f"../{path}")).digest != before, name
    for name in does_not:
        before = inputs.list(InputSet("model", f"../{path}")).digest
        write(folder / name)
        assert inputs.list(InputSet("model", f"../{path}")).digest == before, name


def test_the_format_of_a_model_decides_which_tools_count(inputs: Inputs, tmp_path: Path) -> None:
    """An upgrade of Paddle would mark engines stale that never saw it."""
    root = tmp_path / "registry"
    write(root / "one" / "net.onnx")
    write(root / "one" / "config.json")
    write(root / "two" / "inference.json")
    write(root / "two" / "inference.pdiparams")
    formats = {name: inputs.list(InputSet("model", f"../{name}")).format for name in ("one", "two", "one/net.onnx")}
    assert formats == {"one": "onnx", "two": "paddle", "one/net.onnx": "onnx"}


def test_a_path_out_of_the_roots_is_the_specs_fault(scene: Scene, tmp_path: Path) -> None:
    """A spec could make the daemon list what its author may not see."""
    (tmp_path / "secret").mkdir()
    scene.spec(data=str(tmp_path / "secret"))
    [observed] = scene.settled()
    assert observed.facts is None
    assert observed.fault is not None
    assert (observed.fault.problem.code, observed.fault.retry) == ("spec", "never")
    assert observed.fault.problem.message.startswith("line 5: calibration.data: ")
    assert observed.fault.problem.where.endswith("/a.toml")
    (scene.registry.root / "link").symlink_to(tmp_path / "secret")
    scene.spec(data="../link")
    [observed] = scene.settled()
    assert observed.fault is not None
    assert "symbolic link" in observed.fault.problem.message
    (scene.registry.root / "link").unlink()
    (scene.registry.root / "link").symlink_to("data")
    scene.settle()
    assert scene.known["a.toml"].facts is not None


# ------------------------------------------------------------------------------------------------------ when it counts


def ready(scene: Scene) -> Observed:
    scene.spec()
    return scene.settled()[0]


@pytest.mark.parametrize("held_open", [False, True])
def test_a_slow_copy_counts_when_it_is_complete(scene: Scene, held_open: bool) -> None:
    """1 MB at a time, with 8 s between: a build would start from a part of the model."""
    before = ready(scene)
    folder = scene.registry.models / "net" / "2"
    folder.mkdir()
    with (folder / "net.onnx").open("ab", buffering=0) if held_open else nullcontext() as held:
        for _ in range(5):
            if held is not None:
                held.write(b"w" * 10**6)
            else:
                with (folder / "net.onnx").open("ab") as file:
                    file.write(b"w" * 10**6)
            for _ in range(4):
                scene.scan(2.0, hinted=folder)
                observed = scene.known["a.toml"]
                assert not observed.settled
                assert observed.inputs_digest == before.inputs_digest
        if held is not None:  # and then it hangs for an hour
            scene.scan(3600.0)
            scene.scan(PERIOD_S)
            assert not scene.known["a.toml"].settled
    [after] = scene.settled()
    assert after.settled
    assert after.inputs_digest != before.inputs_digest


def test_a_date_of_long_ago_does_not_make_a_file_settled(scene: Scene) -> None:
    """cp -p and rsync -t bring the dates along: a half copied set would look a year old."""
    ready(scene)
    new = write(scene.data / "new.png")
    os.utime(new, ns=(0, 0))
    scene.scan(PERIOD_S)
    assert not scene.known["a.toml"].settled
    scene.scan(INPUTS_S)
    assert scene.known["a.toml"].settled


def test_changes_of_a_listing_are_told_once_until_it_is_still(scene: Scene) -> None:
    """A copy of an hour would write to the database at each scan."""
    ready(scene)
    told = scene.told
    for number in range(100):
        write(scene.data / f"new{number}.png")
        scene.scan(INPUTS_S / 2, hinted=scene.data)
    assert scene.told == told + 1
    scene.settle()
    assert scene.told == told + 2


def test_what_is_again_as_it_was_counts_at_once(scene: Scene) -> None:
    """A file that came and went would hold up the next build."""
    before = ready(scene)
    new = write(scene.data / "new.png")
    scene.scan(PERIOD_S)
    new.unlink()
    scene.scan(INPUTS_S)
    assert scene.known["a.toml"] == before


def test_of_a_spec_that_is_being_written_nothing_is_told(scene: Scene) -> None:
    """What it said before would be built once more while somebody edits it."""
    ready(scene)
    told = scene.told
    write(scene.data / "new.png")
    for number in range(20):
        scene.spec(head=f"# {number:>{number + 1}}")
        scene.scan(SPEC_S / 2, hinted=scene.data)
    assert scene.told == told
    assert scene.settled()[0].settled


def test_a_new_version_is_followed_by_those_who_follow_the_latest(scene: Scene) -> None:
    """A spec pinned to a version would be rebuilt; one that follows the latest would not."""
    scene.spec("latest.toml")
    scene.spec("pinned.toml", model='registry = "net"\nversion = 1')
    scene.spec("later.toml", model='registry = "net"\nversion = 10')
    before = dict(
        zip(("latest", "pinned", "later"), scene.settled("latest.toml", "pinned.toml", "later.toml"), strict=True)
    )
    write(scene.registry.models / "net" / "9" / "net.onnx")
    write(scene.registry.models / "net" / "10" / "net.onnx")
    write(scene.registry.models / "net" / "011" / "net.onnx")
    after = dict(
        zip(("latest", "pinned", "later"), scene.settled("latest.toml", "pinned.toml", "later.toml"), strict=True)
    )
    assert after["pinned"] == before["pinned"]
    assert after["latest"].inputs_digest != before["latest"].inputs_digest
    assert after["later"].inputs_digest != before["later"].inputs_digest
    shutil.rmtree(scene.registry.models / "net" / "10")
    assert scene.settled("latest.toml")[0].inputs_digest != after["latest"].inputs_digest


def test_a_restart_in_the_middle_of_a_copy_still_waits(scene: Scene) -> None:
    """A daemon that was killed meanwhile would build from half."""
    before = ready(scene)
    write(scene.data / "new.png")
    scene.scan(PERIOD_S)
    scene.restart()
    scene.scan()
    observed = scene.known["a.toml"]
    assert (observed.settled, observed.inputs_digest) == (False, before.inputs_digest)
    assert scene.settled()[0].inputs_digest != before.inputs_digest


def test_a_restart_does_not_wait_for_what_had_settled(scene: Scene) -> None:
    """Each restart would hold up every build for ten seconds."""
    before = ready(scene)
    scene.restart()
    scene.scan()
    assert scene.known["a.toml"] == before


# ------------------------------------------------------------------------------------------------- how often it is made


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts listings by the text of their set."""
    counts: Counter[str] = Counter()
    real = Inputs.list

    def counting(self: Inputs, input_set: InputSet, *, newest: int = 0) -> Listing:
        counts[input_set.text] += 1
        return real(self, input_set, newest=newest)

    monkeypatch.setattr(Inputs, "list", counting)
    return counts


def test_a_set_that_many_specs_share_is_listed_once(scene: Scene, made: Counter[str]) -> None:
    """A thousand specs on one data set of a million files would never be done."""
    for number in range(50):
        scene.spec(f"s{number}.toml")
    scene.scan()
    scene.scan(SPEC_S)
    assert made == {"net": 1, "../data": 1}


def test_without_a_budget_only_hints_lead_to_listings(scene: Scene, made: Counter[str]) -> None:
    """An idle daemon would read folders all day."""
    scene.budget = 0.0
    scene.start()
    before = ready(scene)
    made.clear()
    write(scene.data / "new.png")
    for _ in range(10):
        scene.scan(PERIOD_S)
    assert not made
    scene.scan(1.0, hinted=scene.data)
    assert made == {"../data": 1}
    assert not scene.known["a.toml"].settled
    assert scene.settled()[0].inputs_digest != before.inputs_digest


def test_with_a_budget_every_set_has_its_turn(scene: Scene, made: Counter[str]) -> None:
    """Where no events come, a change would never be found."""
    scene.budget = 1e-6  # far less than one listing takes: one at a time, and then a pause
    scene.start()
    for number in range(20):
        write(scene.registry.root / f"data{number}" / "1.png")
        scene.spec(f"s{number}.toml", data=f"../data{number}")
    for after_s in (0.0, SPEC_S, INPUTS_S):
        scene.scan(after_s)
    assert all(observed.settled for observed in scene.known.values())
    made.clear()
    write(scene.registry.root / "data7" / "2.png")
    scans = 0
    while scene.known["s7.toml"].settled:
        assert scans < 20_000, "its turn never came"
        scene.scan(PERIOD_S)
        scans += 1
    assert max(made.values()) <= 2
    assert sum(made.values()) < scans


def test_a_folder_that_never_rests_is_not_listed_at_each_event(scene: Scene, made: Counter[str]) -> None:
    """A log beside the data would cost a listing of a million files each second."""
    ready(scene)
    made.clear()
    for _ in range(100):
        write(scene.data / "new.png", os.urandom(8))
        scene.scan(1.0, hinted=scene.data)
    assert made["../data"] <= 12  # once when it began to change, then whenever it might have settled


def test_folders_to_watch_begin_with_those_of_most_specs(scene: Scene) -> None:
    """Where only so many can be watched, the useful ones would be left out."""
    for name in ("one", "two"):
        write(scene.registry.root / name / "1.png")
    scene.spec("a.toml", data="../one")
    scene.spec("b.toml", data="../two")
    scene.spec("c.toml", data="../two")
    scene.settle()
    root = scene.registry.root
    specs, models, top, *rest = scene.scan().folders
    assert (specs, models, top) == (root / "specs", root / "models", root)
    assert [folder for folder in rest if not folder.is_relative_to(models)] == [root / "two", root / "one"]


def test_changes_are_told_with_the_folder_that_a_watch_should_have_told(scene: Scene) -> None:
    """A blind watch would never be noticed; one that cannot see past a link would be taken for blind."""
    ready(scene)
    file = write(scene.data / "new.png")
    assert scene.scan(PERIOD_S).changed == {scene.data}
    scene.settle()
    (scene.data / "link.png").symlink_to(file)
    scene.settle()
    elsewhere = write(scene.registry.root / "elsewhere.png")
    (scene.data / "far.png").symlink_to(elsewhere)
    scene.settle()
    write(elsewhere, b"changed")
    result = scene.scan(PERIOD_S)
    assert result.changed == set()
    assert not scene.known["a.toml"].settled
    scene.settle()
    scene.spec(data="../data/*.png")
    scene.settle()
    write(elsewhere, b"changed again")
    assert scene.scan(PERIOD_S).changed == set()
    (scene.registry.root / "link").symlink_to("data")
    write(scene.registry.root / "other" / "1.png")
    scene.spec(data="../link")
    scene.settle()
    (scene.registry.root / "link").unlink()
    (scene.registry.root / "link").symlink_to("other")
    assert scene.scan(PERIOD_S).changed == set()  # the folders are what they were; the link is another
    assert not scene.known["a.toml"].settled
    scene.settle()
    write(scene.registry.models / "net" / "2" / "net.onnx")
    assert scene.scan(PERIOD_S).changed == {scene.registry.models}
    scene.spec("b.toml")
    assert scene.scan().changed == {scene.registry.specs}


def test_thirty_thousand_files_in_one_burst_settle(scene: Scene) -> None:
    """A data set is copied at once, and is one change."""
    before = ready(scene)
    for number in range(30_000):
        os.close(os.open(scene.data / f"{number}.png", os.O_CREAT | os.O_WRONLY))
        if number % 5000 == 0:
            scene.scan(1.0, hinted=scene.data)
    [after] = scene.settled()
    assert after.settled
    assert after.inputs_digest != before.inputs_digest


def test_a_disk_that_fails_changes_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is away for a moment would look like data that was deleted."""
    before = ready(scene)
    told = scene.told

    def failing_stand_in(self: Inputs, input_set: InputSet, *, newest: int = 0) -> Listing:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(Inputs, "list", failing_stand_in)
        for _ in range(3):
            scene.scan(PERIOD_S, hinted=scene.data)
    assert (scene.told, scene.settled()) == (told, [before])


def test_check_names_the_line(inputs: Inputs, tmp_path: Path) -> None:
    """The author would not know which path is meant."""
    spec = tmp_path / "registry" / "specs" / "a.toml"
    spec.write_text('[model]\npath = "/etc/passwd"\n')
    with pytest.raises(SpecError, match=r"a\.toml:2: model\.path"):
        inputs.check(spec, [(InputSet("model", "/etc/passwd"), ("model", "path"))])


def test_what_was_lost_in_a_burst_is_looked_for_everywhere(tmp_path: Path) -> None:
    """A model whose event was dropped would be built an hour later: sets without a hint are listed in turns."""
    scene = Scene(tmp_path, budget=0.0)
    scene.spec()
    [before] = scene.settled()
    (scene.data / "1.png").write_bytes(b"more")
    assert scene.scan(PERIOD_S).seen == []
    result = scene.scanner.scan(scene.now, anything=True)
    assert [observed.settled for observed in result.seen] == [False]
    assert scene.settled()[0].inputs_digest != before.inputs_digest
