"""The columns of the console tables, and which of them fit a given width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from trtd.calibrate.table import METHODS, CalibrationTable
from trtd.ui import figures
from trtd.ui.literal import visible
from trtd.verify.report import Gate, Report

_ABSENT = "-"
_NAME_WIDTH = 16  # a longer name folds before a column is left out for it


@dataclass(frozen=True)
class Cell:
    """One entry. ``foreign`` text was written by others and is shown literally."""

    text: str
    style: str = ""
    foreign: bool = False


@dataclass(frozen=True)
class Column:
    """One column. ``rank`` says how soon it is left out when width is short: highest first, 0 never."""

    title: str
    cells: tuple[Cell, ...]
    rank: int = 0
    right: bool = False
    folds: bool = False

    @property
    def width(self) -> int:
        """Terminal columns that the widest entry takes."""
        return max(cell_len(text) for text in (self.title, *(visible(cell.text) for cell in self.cells)))


def fitting(columns: Sequence[Column], width: int, gap: int) -> tuple[list[Column], list[str]]:
    """The columns that fit ``width`` with ``gap`` spaces between them, and the titles of those left out."""
    shown = list(columns)

    def needed() -> int:
        return sum(min(c.width, _NAME_WIDTH) if c.folds else c.width for c in shown) + gap * (len(shown) - 1)

    while needed() > width and any(column.rank for column in shown):
        shown.remove(max(shown, key=lambda column: column.rank))
    return shown, [column.title for column in columns if column not in shown]


def result_columns(reports: Sequence[Report]) -> list[Column]:
    """Name, target, precision, fidelity, speed, size and verdict of every report."""

    def column(title: str, entry: Callable[[Report], Cell], rank: int = 0, *, right: bool = True) -> Column:
        return Column(title, tuple(map(entry, reports)), rank, right=right)

    return [
        Column("Name", tuple(Cell(report.name, foreign=True) for report in reports), folds=True),
        column("Target", lambda report: Cell(report.target, foreign=True), 7, right=False),
        column("Prec.", lambda report: Cell(report.precision, foreign=True), 1, right=False),
        column("Cosine", lambda report: _worst(figures.worst_cosine(report), figures.cosine), 6),
        column("SQNR dB", lambda report: _worst(figures.worst_sqnr(report), figures.decibels), 2),
        column("Top-1", _score, 4),
        column("Speedup", lambda report: Cell(figures.ratio(report.speedup), "bold")),
        column("p50 ms", _latency, 5),
        column("Size", lambda report: Cell(figures.byte_change(report.fp32_bytes, report.engine_bytes)), 3),
        column("Verdict", _verdict, right=False),
    ]


def gate_columns(report: Report) -> list[Column]:
    """Every gate: name, output, bound, what was measured, and whether that is enough."""

    def column(title: str, entry: Callable[[Gate], Cell], rank: int = 0, *, right: bool = False) -> Column:
        return Column(title, tuple(map(entry, report.gates)), rank, right=right)

    signs = {">=": "≥", "<=": "≤"}
    return [
        column("Gate", lambda gate: Cell(gate.name, foreign=True)),
        Column("Output", tuple(Cell(gate.output or _ABSENT, foreign=True) for gate in report.gates), folds=True),
        column("Bound", lambda gate: Cell(f"{signs[gate.comparison]} {figures.number(gate.bound, 6)}"), 1, right=True),
        column("Measured", lambda gate: Cell(figures.measured(gate)), right=True),
        column("Result", lambda gate: Cell("✓ passed", "green") if gate.passed else Cell("✗ MISSED", "bold red")),
    ]


def range_columns(table: CalibrationTable) -> list[Column]:
    """Every tensor: what was seen of it, and the largest magnitude that each method keeps."""
    tensors = table.tensors.values()
    return [
        Column("Tensor", tuple(Cell(name, foreign=True) for name in table.tensors), folds=True),
        Column("Min", tuple(Cell(figures.number(t.min, 4)) for t in tensors), 1, right=True),
        Column("Max", tuple(Cell(figures.number(t.max, 4)) for t in tensors), 1, right=True),
        *(
            Column(f"{method} amax", tuple(Cell(figures.number(t.amax[method], 4)) for t in tensors), 2, right=True)
            for method in METHODS
        ),
    ]


def _worst(found: tuple[str, float] | None, written: Callable[[float], str]) -> Cell:
    return Cell(written(found[1])) if found else Cell(_ABSENT)


def _score(report: Report) -> Cell:
    """The task metric, FP32's and then the engine's; without one, the lowest top-1 agreement."""
    if report.metric is None:
        return _worst(figures.worst_top1(report), figures.share)
    task = report.metric
    label = "" if task.name == "top1" else f"{visible(task.name)} "
    before, after = figures.share(task.reference).removesuffix(" %"), figures.share(task.engine)
    return Cell(f"{label}{before} → {after}")


def _latency(report: Report) -> Cell:
    return Cell(figures.p50_change(report))


def _verdict(report: Report) -> Cell:
    total, missed = len(report.gates), len(report.missed)
    proof = "" if report.proof == "verified" else f", {report.proof}"
    if report.passed:
        return Cell(f"✓ passed {total}{proof}", "green")
    return Cell(f"✗ MISSED {missed}{proof}" if total else f"✗ no gates{proof}", "bold red")
