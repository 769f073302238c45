"""Console output on terminals of several widths, without Unicode, without colour, and in a pipe."""

from __future__ import annotations

import io
import re

import pytest

from tests.ui.samples import ESCAPE, HOSTILE, Terminal, make_hostile, make_report
from trtd.errors import DataError, Diagnostic, GateMissed, SpecError
from trtd.ui.literal import visible
from trtd.ui.text import Screen
from trtd.verify.report import Report, TaskMetric

BOX = re.compile(r"[\u2500-\u257f]")
PATH = "/data/" + "a-rather-long-folder/" * 8 + "page-000017.png"


def reports() -> list[Report]:
    metric = TaskMetric(name="top1", engine=0.974, reference=0.9778)
    return [make_report("ppocr-det-int8"), make_report("digits-int8", missed=True, metric=metric)]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_tables_fit_the_terminal(width: int) -> None:
    """A row wider than the terminal wraps into a heap that nobody can read."""
    terminal = Terminal()
    screen = Screen(terminal, width=width)
    screen.results(reports())
    screen.gates(make_report(missed=True))
    lines = ESCAPE.sub("", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    assert any("ppocr-det-int8" in line for line in lines)


def test_80_columns_show_fidelity_speed_size_and_verdict() -> None:
    """These are what the command is run for: a narrow terminal may not cost them; what it costs is named."""
    terminal = Terminal()
    Screen(terminal, width=80).results(reports())
    text = ESCAPE.sub("", terminal.getvalue())
    for expected in (
        "27.4",
        "97.8 → 97.4 %",
        "2.62\N{MULTIPLICATION SIGN}",
        "9.7 → 2.6 MB",
        "✓ passed 4",
        "✗ MISSED 1",
    ):
        assert expected in text
    assert "not shown at this width: Target, Cosine, p50 ms" in text


def test_200_columns_show_everything() -> None:
    """A wide terminal has no reason to hide anything."""
    terminal = Terminal()
    Screen(terminal, width=200).results(reports())
    text = ESCAPE.sub("", terminal.getvalue())
    for expected in ("onnxruntime-cpu", "0.998712", "122 → 46.7"):
        assert expected in text
    assert "not shown" not in text


def test_pipe_gets_plain_unwrapped_text() -> None:
    """grep and log viewers want one row a line, whole paths, no escape codes and no frames."""
    pipe = io.StringIO()
    screen = Screen(pipe)
    screen.results(reports())
    screen.gates(make_report(missed=True))
    screen.error(DataError(f"cannot read {PATH}", where=PATH, hint=f"look at it: file {PATH}"))
    screen.line(PATH + " " + PATH)
    text = pipe.getvalue()
    assert "\x1b" not in text
    assert not BOX.search(text)
    assert f"error[data]: cannot read {PATH}\n  where: {PATH}\n  hint: look at it: file {PATH}\n" in text
    assert f"{PATH} {PATH}\n" in text
    assert all(line == line.rstrip() for line in text.splitlines())
    rows = [line for line in text.splitlines() if "onnxruntime-cpu" in line]
    assert len(rows) == 2
    assert rows[0].index("onnxruntime-cpu") == rows[1].index("onnxruntime-cpu")


def test_paths_and_commands_stay_whole_on_a_narrow_terminal() -> None:
    """A line break inside a path or a command makes it useless when it is copied."""
    terminal = Terminal()
    hint = f"trtd check {PATH} --verbose and then trtd build {PATH}"
    Screen(terminal, width=60).error(DataError("a message of many words " * 6, where=PATH, hint=hint))
    lines = ESCAPE.sub("", terminal.getvalue()).splitlines()
    assert f"  where: {PATH}" in lines
    assert f"  hint: {hint}" in lines
    assert max(len(line) for line in lines if PATH not in line) <= 60


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is a promise to people who cannot read our colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    screen = Screen(terminal, width=80)
    screen.results(reports())
    screen.error(GateMissed("no", hint="try mse"))
    assert not re.search(r"\x1b\[(\d+;)*(3[0-7]|9[0-7]|38|48)", terminal.getvalue())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_without_unicode_everything_still_prints(encoding: str) -> None:
    """A log or an old console that is not UTF-8 must not turn a result into a UnicodeEncodeError."""
    terminal = Terminal(encoding)
    screen = Screen(terminal, width=120)
    screen.results([*reports(), make_report("überprüft-模型")])
    screen.gates(make_hostile())
    screen.error(DataError("naïve 模型", where="模型.png", hint="→ see"))
    screen.explanation(["the set changed: a → b"])
    text = ESCAPE.sub("", terminal.getvalue())
    assert "9.7 -> 2.6 MB" in text
    assert "+ passed 4" in text
    assert "a -> b" in text
    assert r"\u6a21\u578b.png" in text
    assert not BOX.search(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_text_does_nothing(terminal: bool) -> None:
    """A file name must not be able to recolour, clear or retitle the terminal, nor pass for our own markup."""
    stream = Terminal() if terminal else io.StringIO()
    screen = Screen(stream, width=100 if terminal else None)
    bell = "a\x07b\x9b2Jc\rd"
    screen.results([make_hostile()])
    screen.gates(make_hostile())
    screen.error(DataError(HOSTILE + "\n" + bell, where=HOSTILE, hint=HOSTILE))
    screen.error(SpecError([Diagnostic(HOSTILE, 3, HOSTILE, HOSTILE, HOSTILE)], hint=HOSTILE))
    screen.explanation([HOSTILE])
    screen.line(bell)
    text = ESCAPE.sub("", stream.getvalue())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert r"\x1b[31m[bold]\u202e" in text.replace("\n", "").replace(" ", "")
    assert r"a\x07b\x9b2Jc\rd" in text
    if not terminal:
        assert "\x1b" not in stream.getvalue()


def test_spec_errors_list_every_fault() -> None:
    """Editors and CI recognise ``file:line: key: message`` in a pipe; a person sees each fault on a terminal."""
    error = SpecError(
        [
            Diagnostic("specs/x.toml", 12, "engine.precision", "unknown precision 'int9'", "did you mean int8?"),
            Diagnostic("specs/x.toml", None, "", "no [model] section"),
        ]
    )
    pipe, terminal = io.StringIO(), Terminal()
    Screen(pipe).error(error)
    Screen(terminal, width=80).error(error)
    assert pipe.getvalue().splitlines() == [
        "error[spec]: 2 faults in the spec",
        "  specs/x.toml:12: engine.precision: unknown precision 'int9' (did you mean int8?)",
        "  specs/x.toml: no [model] section",
    ]
    for expected in ("specs/x.toml:12", "engine.precision", "int9", "did you mean int8?", "no [model] section"):
        assert expected in ESCAPE.sub("", terminal.getvalue())


def test_missed_gates_say_what_to_try() -> None:
    """A missed gate without advice leaves its reader where they were."""
    pipe = io.StringIO()
    Screen(pipe).gates(make_report(missed=True))
    assert "sqnr_db sigmoid_0.tmp_0: The largest error enters at" in pipe.getvalue()


def test_visible_leaves_ordinary_text_alone() -> None:
    """Escaping what is harmless would make honest names unreadable."""
    for text in ("page 17.png", "Übung_模型-🙂", ""):
        assert visible(text) == text
    assert visible("a\udc80b") == r"a\udc80b"
    assert visible("a\nb") == r"a\nb"
    assert visible("a\nb\x00", lines=True) == "a\nb\\x00"
