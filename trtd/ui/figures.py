"""How numbers are written, in the terminal and in the HTML report alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trtd.verify.report import Gate, Report

TIMES = "\N{MULTIPLICATION SIGN}"
ABSENT = "\N{EN DASH}"

_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB")
_NEXT_UNIT = 999.5  # would be rounded to 1000 of this unit
_THREE_DIGITS = 99.95  # would be rounded to 100.0
_CLOSE_TO_ONE = 1e-6


def number(value: float, digits: int = 4) -> str:
    """``value`` with ``digits`` significant digits; ``NaN`` and ``∞`` for what is not a number."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}g}"


def millis(value_ms: float) -> str:
    """Three significant digits, never in exponent form: ``0.412``, ``4.73``, ``128``, ``12,400``."""
    if not math.isfinite(value_ms) or value_ms == 0:
        return number(value_ms)
    decimals = 2 - math.floor(math.log10(abs(value_ms)))
    return f"{value_ms:,.{min(max(decimals, 0), 6)}f}"


def byte_size(size_bytes: int) -> str:
    """Decimal units, as file managers and ``ls --si`` show them: ``4.7 MB``."""
    scaled, unit = _scaled(size_bytes)
    return f"{scaled} {unit}"


def byte_change(before_bytes: int, after_bytes: int) -> str:
    """``9.7 → 2.6 MB``; the unit is written twice only if it differs."""
    (before, unit), (after, after_unit) = _scaled(before_bytes), _scaled(after_bytes)
    return f"{before} → {after} {unit}" if unit == after_unit else f"{before} {unit} → {after} {after_unit}"


def ratio(value: float | None) -> str:
    """``2.61`` and the multiplication sign; a dash for what was not measured."""
    if value is None:
        return ABSENT
    return f"{value:.2f}{TIMES}" if math.isfinite(value) else number(value)


def p50_change(report: Report) -> str:
    """Median latency of FP32 and of the engine, in milliseconds: ``31.0 → 16.4``; a dash if nothing was timed."""
    timed = report.p50_change_ms
    return ABSENT if timed is None else f"{millis(timed[0])} → {millis(timed[1])}"


def decibels(value_db: float) -> str:
    """One decimal; identical tensors have an infinite ratio and read ``exact``."""
    if math.isinf(value_db) and value_db > 0:
        return "exact"
    return f"{value_db:.1f}" if math.isfinite(value_db) else number(value_db)


def share(value: float) -> str:
    """A share of one as percent: ``97.4 %``. Never rounded up to ``100 %`` or down to ``0 %``."""
    if not math.isfinite(value):
        return number(value)
    for decimals in (1, 2, 3, 4):
        text = f"{value * 100:.{decimals}f}"
        if (float(text) / 100 in (0, 1)) == (value in (0, 1)):
            return f"{text.rstrip('0').rstrip('.') if decimals == 1 else text} %"
    return f"≈ {round(value) * 100} %"


def cosine(value: float) -> str:
    """Six decimals; closer to one than that, the distance: ``1 - 4e-08``."""
    if not math.isfinite(value):
        return number(value)
    distance = 1 - value
    if distance == 0:
        return "1"
    return f"1 - {distance:.0e}" if 0 < distance < _CLOSE_TO_ONE else f"{value:.6f}".rstrip("0").rstrip(".")


def measured(gate: Gate) -> str:
    """The measured value with as many digits as it takes to see on which side of the bound it stands."""
    for digits in range(4, 17):
        text = number(gate.measured, digits)
        if math.isfinite(gate.measured) and _side(float(text), gate.bound) != _side(gate.measured, gate.bound):
            continue
        return text
    return repr(gate.measured)


def verdict(report: Report) -> str:
    """``passed 9 gates``, ``missed 2 of 9 gates``, or that nothing was judged."""
    total, missed = len(report.gates), len(report.missed)
    if not total:
        return "no gates: nothing was judged"
    return f"missed {missed} of {gates(total)}" if missed else f"passed {gates(total)}"


def gates(count: int) -> str:
    return f"{count} gate" if count == 1 else f"{count} gates"


def worst_sqnr(report: Report) -> tuple[str, float] | None:
    """(output, dB) of the output with the lowest SQNR; NaN is worse than any number. ``None`` without outputs."""
    return _lowest({name: fidelity.sqnr_db for name, fidelity in report.fidelity.items()})


def worst_cosine(report: Report) -> tuple[str, float] | None:
    return _lowest({name: fidelity.cosine for name, fidelity in report.fidelity.items()})


def worst_top1(report: Report) -> tuple[str, float] | None:
    """(output, share) of the lowest top-1 agreement; ``None`` if no output holds class scores."""
    return _lowest({name: f.top1_agreement for name, f in report.fidelity.items() if f.top1_agreement is not None})


def _lowest(values: dict[str, float]) -> tuple[str, float] | None:
    return min(values.items(), key=lambda item: -math.inf if math.isnan(item[1]) else item[1], default=None)


def _side(value: float, bound: float) -> int:
    return (value > bound) - (value < bound)


def _scaled(size_bytes: int) -> tuple[str, str]:
    value, unit = float(size_bytes), 0
    while value >= _NEXT_UNIT and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{1 if unit and value < _THREE_DIGITS else 0}f}", _BYTE_UNITS[unit]
