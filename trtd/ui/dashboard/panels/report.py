"""A report in short: verdict, figures, gates with bound and measured value, the worst tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from trtd.ui import figures
from trtd.ui.dashboard.blocks import Lines, blank, joined
from trtd.ui.dashboard.look import Look
from trtd.ui.dashboard.panels.selected import step_lines
from trtd.ui.dashboard.theme import BOLD, GREEN, QUIET, RED
from trtd.ui.tables import Cell, Column, fitting, gate_columns

if TYPE_CHECKING:
    from trtd.verify.report import Report

_GAP = 2
_WORST = 8
_LABEL = 12


def report_lines(look: Look, of: str, report: Report, width: int, note: str = "") -> Lines:
    """``of``: what the report is of; ``note``: whether there are others."""
    good = report.passed
    verdict = look.own(f"{'✓' if good else '✗'} {figures.verdict(report)}", GREEN if good else f"{BOLD} {RED}")
    head = joined(look.foreign(of, BOLD), "  ", verdict, look.own(f"  {note}" if note else "", QUIET))
    lines = [head, blank(), *_facts(look, report, width), blank(), *_table(look, gate_columns(report), width)]
    for gate in report.missed:
        if gate.advice:
            lines += step_lines(look, gate.advice, width, 6)
    if report.worst_tensors:
        lines += [blank(), look.own("Inner tensors with the largest error", BOLD)]
        lines += [
            look.fitted(
                joined(
                    look.own(f"{figures.decibels(t.sqnr_db):>7} dB  "), look.foreign(t.tensor), "  ",
                    look.foreign(t.op, QUIET),
                ),
                width,
            )
            for t in report.worst_tensors[:_WORST]
        ]  # fmt: skip
    for text in report.notes:
        lines += [blank(), *look.folded(text, width, QUIET)]
    return lines


def _facts(look: Look, report: Report, width: int) -> Lines:
    facts = [
        ("engine", f"{report.target} · {report.precision} · {report.proof}"),
        ("reference", f"{report.reference} · {report.items:,} held-out items"),
        ("speed", f"{figures.ratio(report.speedup)} · p50 {figures.p50_change(report)} ms"),
        ("size", figures.byte_change(report.fp32_bytes, report.engine_bytes)),
    ]
    if worst := figures.worst_sqnr(report):
        cosine = figures.worst_cosine(report)
        said = f" · cosine {figures.cosine(cosine[1])}" if cosine else ""
        facts.insert(2, ("fidelity", f"SQNR {figures.decibels(worst[1])} dB{said} · at {worst[0]}"))
    if task := report.metric:
        text = f"{figures.share(task.engine)}, FP32 {figures.share(task.reference)}"
        facts.append((task.name, text))
    return [
        look.fitted(joined(look.fitted(look.foreign(label, QUIET), _LABEL), look.prose(text)), width)
        for label, text in facts
    ]


def _table(look: Look, columns: list[Column], width: int) -> Lines:
    """Columns that do not fit are left out; the one that may fold is cut."""
    shown, _ = fitting(columns, width, _GAP)
    widths = [column.width for column in shown]
    for index, column in enumerate(shown):
        if column.folds:
            others = sum(widths) - widths[index] + _GAP * (len(shown) - 1)
            widths[index] = max(min(widths[index], width - others), 1)
    titles = [
        look.fitted(look.own(c.title, QUIET), columns_wide, right=c.right)
        for c, columns_wide in zip(shown, widths, strict=True)
    ]
    rows = zip(*(column.cells for column in shown), strict=True)
    lines = [_spaced(titles)]
    for cells in rows:
        fitted = [
            look.fitted(_cell(look, cell), wide, right=column.right)
            for cell, wide, column in zip(cells, widths, shown, strict=True)
        ]
        lines.append(_spaced(fitted))
    return lines


def _cell(look: Look, cell: Cell) -> Text:
    return look.foreign(cell.text, cell.style) if cell.foreign else look.own(cell.text, cell.style)


def _spaced(cells: list[Text]) -> Text:
    line = blank()
    for index, cell in enumerate(cells):
        line = joined(line, " " * _GAP if index else "", cell)
    return line
