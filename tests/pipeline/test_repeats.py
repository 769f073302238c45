"""``[verify] repeats``, with stand-ins for the builds and what judges them: what becomes of a build that differs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ui.samples import make_report
from trtd.engines.opening import EngineFiles
from trtd.pipeline import repeats
from trtd.pipeline.judging import Judged
from trtd.pipeline.made import MadeEngine


def stand_in_engine(folder: Path) -> MadeEngine:
    """One that is compiled again in no time, each time to the same nothing."""
    files = EngineFiles(target="tensorrt", folder=folder, digests={})
    return MadeEngine(folder, folder, folder, folder, None, files, {}, again=lambda out: (files, ()))


def repeated(folder: Path, monkeypatch: pytest.MonkeyPatch, missed: list[bool]) -> Judged:
    """A first build that passed, and one more for each of ``missed``."""
    verdicts = iter(missed)

    def stand_in_judge(intake: Any, engine: Any, runner: Any, request: Any, told: Path) -> Judged:
        return Judged(engine, make_report(missed=next(verdicts)), told)

    monkeypatch.setattr(repeats, "judge", stand_in_judge)
    monkeypatch.setattr(repeats, "write_report", lambda intake, engine, report, told: None)
    intake: Any = SimpleNamespace(spec=SimpleNamespace(verify=SimpleNamespace(repeats=len(missed) + 1)))
    runner: Any = SimpleNamespace(
        plan=SimpleNamespace(name="net"), registry=SimpleNamespace(staging=folder / "staging")
    )
    request: Any = None
    first = Judged(stand_in_engine(folder), make_report(), folder / "report")
    return repeats.judge_repeats(intake, first, runner, request, folder)


def test_where_all_pass_the_first_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = repeated(tmp_path, monkeypatch, [False, False])
    assert judged.folder == tmp_path / "report"
    assert [repeat.passed for repeat in judged.report.repeats] == [True, True]


def test_a_build_that_misses_a_gate_is_what_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author would see the figures of the first, all passed, and read that it was not published."""
    judged = repeated(tmp_path, monkeypatch, [False, True, False])
    assert judged.folder == tmp_path / "report-3"
    assert judged.report.missed
    assert judged.report.notes[0].startswith("This is build 3 of 4, and those before had passed")
    assert [repeat.passed for repeat in judged.report.repeats] == [True, False]
