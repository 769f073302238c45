"""What the dashboard shows: every size, hostile names, poor terminals, and what keys change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.ui.dashboard.samples import NOW, hostile, is_exact, make_snapshot, many, ordinary, plain, shown, subject
from trtd.status import Snapshot
from trtd.ui.dashboard import Context, View, draw, on_key
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.scene import Scene
from trtd.ui.dashboard.view import SORTS, TABS

SIZES = ((80, 24), (200, 60), (120, 40), (100, 30), (60, 15), (40, 10), (20, 5), (10, 2), (1, 1))
IMAGES = Path(__file__).parents[3] / "docs" / "images"


def press(view: View, snapshot: Snapshot, *keys: str) -> View:
    """As the loop does: what a drawing learned of the window goes into the next key."""
    for key in keys:
        view = on_key(draw(snapshot, view, (120, 40), NOW).view, key, snapshot)
    return view


def text(snapshot: Snapshot, view: View | None = None, size: tuple[int, int] = (120, 40)) -> str:
    return shown(draw(snapshot, view or View(), size, NOW))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [ordinary, hostile, make_snapshot, many])
def test_the_picture_has_the_size_of_the_terminal(make: object, size: tuple[int, int]) -> None:
    """One column too many wraps, and scrolls everything away."""
    snapshot = make()  # type: ignore[operator]
    views = [View(), View(help=True), View(typing=True, text="x")]
    if snapshot.subjects:
        views += [View(selected=snapshot.subjects[0].key, opened=snapshot.subjects[0].key, tab=tab) for tab in TABS]
    for view in views:
        assert is_exact(draw(snapshot, view, size, NOW), size), view


@pytest.mark.parametrize("size", SIZES[:3])
def test_names_and_errors_are_shown_literally(size: tuple[int, int]) -> None:
    """A spec's name could write on the terminal, or what it likes into the dashboard."""
    for view in (View(), View(selected=(key := hostile().subjects[3].key), opened=key, tab="conditions")):
        for line in draw(hostile(), view, size, NOW).lines:
            assert all(char.isprintable() for char in line.plain), line.plain


def test_what_a_person_must_know_is_on_the_smallest_usual_terminal() -> None:
    """Whoever has 80 columns would not see what failed, nor what to do about it."""
    seen = text(ordinary(), size=(80, 24))
    words = ("4 need you", "stalled", "invalid", "building", "ppocr-rec", "yolox", "cosine of out is 0.9632", "daemon")
    for word in words:
        assert word in seen, word


def test_all_that_is_of_interest_is_on_a_large_one() -> None:
    """The view that people leave open would lack what they open other views for."""
    seen = text(ordinary(), size=(200, 60))
    for word in (
        "try method = mse",  # the next step
        "1.89×", "27.9 dB", "4.7 → 1.5 MB",  # the last results: speedup, fidelity, size
        "verify", "100/200", "left", "1:36 min",  # the stage, its progress, what remains, what it took
        "NVIDIA L4", "1/2",  # devices
        "priority 10", "waits 44 s",  # the queue
        "digits-int8@2: cosine 0.9931",  # an event
        "find", "sort", "quit",  # keys
    ):  # fmt: skip
        assert word in seen, word


def test_without_a_daemon_it_says_how_to_start_one() -> None:
    """An empty screen looks like a hung program."""
    seen = shown(draw(Snapshot(daemon=None, alive=False), View(), (80, 24), NOW, Context(registry="/srv/registry")))
    assert "trtd run" in seen


def test_a_poor_terminal_gets_ascii() -> None:
    """Question marks instead of frames and signs."""
    context = Context(Look("ascii", unicode=False, deep=False))
    for size in SIZES:
        picture = draw(ordinary(), View(), size, NOW, context)
        assert is_exact(picture, size)
        assert all(line.isascii() for line in plain(picture)), size


def test_keys_select_open_and_leave() -> None:
    """The report, the log and the history of a subject would be out of reach."""
    snapshot = ordinary()
    first, second = (press(View(), snapshot, *keys).selected for keys in (["down", "up"], ["down"]))
    assert first != second
    opened = press(View(), snapshot, "enter")
    assert opened.opened is not None
    tabs = {press(opened, snapshot, *["tab"] * times).tab for times in range(len(TABS))}
    assert tabs == set(TABS)
    assert press(opened, snapshot, "esc").opened is None
    assert press(View(), snapshot, "?").help
    assert press(View(), snapshot, "q").left
    assert press(View(), snapshot, "ctrl-c").left


def test_keys_filter_and_sort() -> None:
    """Among thousands nobody would find the one."""
    snapshot = make_snapshot(subject("alpha"), subject("beta", "stalled"), subject("gamma"))
    found = press(View(), snapshot, "/", "e", "t", "a", "enter")
    assert [row.name for row in Scene.of(snapshot, found, NOW, Context()).rows] == ["beta"]
    assert press(found, snapshot, "/", "q").left is False  # a letter to look for, not a command
    sorts = {press(View(), snapshot, *["s"] * times).sort for times in range(len(SORTS))}
    assert sorts == set(SORTS)
    assert press(View(), snapshot, "f").show != "all"


def test_the_selection_stays_with_its_subject() -> None:
    """Between two looks another row would slide under the cursor, and Enter would open that."""
    before = make_snapshot(*(subject(name) for name in "bcd"))
    view = press(View(sort="name"), before, "down")
    after = make_snapshot(*(subject(name) for name in "abcd"))
    assert draw(after, view, (120, 40), NOW).view.selected == view.selected == "c.toml"


def test_the_picture_in_the_readme_is_what_the_code_draws(tmp_path: Path) -> None:
    """It would show a dashboard that nobody has."""
    made = tmp_path / "dashboard.svg"
    subprocess.run([sys.executable, str(IMAGES / "dashboard.py"), str(made)], check=True, timeout=120)
    assert made.read_bytes() == (IMAGES / "dashboard.svg").read_bytes(), "run: python docs/images/dashboard.py"
    assert "docs/images/dashboard.svg" in (IMAGES.parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (120, 40)])
def test_targets_of_one_spec_are_told_apart_by_their_names(size: tuple[int, int]) -> None:
    """Cut at its end, every row of a spec with a long name would read the same."""
    targets = ("onnxruntime-cpu", "tensorrt", "tensorrt-rtx")
    name = "retinaface-mobilenet-widerface"
    rows = [subject(f"{name}-{target}", "ready") for target in targets]
    lines = text(Snapshot(None, False, tuple(rows)), size=size).splitlines()
    named = {next(line for line in lines if "retin" in line and f"{end} " in line) for end in ("e-cpu", "orrt", "-rtx")}
    assert len(named) == len(targets)
