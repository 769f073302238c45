"""Console output: tables, errors and plain lines, on a terminal of any width and in a pipe.

A terminal gets colour (unless ``NO_COLOR`` is set) and text wrapped to its width. A pipe gets plain aligned text that
is never wrapped, so that ``grep`` finds whole paths. Where the encoding is not a Unicode one, signs become ASCII.
Names, paths and messages come from outside: they are shown literally, and never act on the terminal.
"""

from __future__ import annotations

import codecs
import textwrap
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trtd.calibrate.table import CalibrationTable
from trtd.engines.tensorrt.layers import Layers
from trtd.errors import Diagnostic, SpecError, TrtdError
from trtd.ui import figures
from trtd.ui.layers import layer_columns, layer_summary
from trtd.ui.literal import encodable, visible
from trtd.ui.tables import Cell, Column, fitting, gate_columns, range_columns, result_columns
from trtd.verify.report import Report

_GAP = 2
_WIDEST_INDENT = 24
_NARROWEST_NAME = 8
_ASCII = str.maketrans(
    {figures.TIMES: "x", "→": "->", "≥": ">=", "≤": "<=", "≈": "~", "∞": "inf", "·": "-", "✓": "+", "✗": "!"}
)
_HEAD_RULE = "    \n    \n {0}{0} \n    \n    \n    \n    \n    \n"


class Screen:
    """One output stream and what can be shown on it.

    Args:
        file: the stream; a terminal if its ``isatty()`` says so.
        width: columns; ``None`` asks the terminal.
    """

    def __init__(self, file: TextIO, *, width: int | None = None) -> None:
        self.file = file
        self.terminal = file.isatty()
        self.encoding = getattr(file, "encoding", None) or "utf-8"
        self.unicode = codecs.lookup(self.encoding).name.startswith("utf")
        self.console = Console(
            file=file, force_terminal=self.terminal, width=width, markup=False, highlight=False, emoji=False
        )

    def own(self, text: str, style: str = "") -> Text:
        """Text of ours, whose signs have ASCII forms."""
        return Text(self._signs(text), style)

    def foreign(self, text: object, style: str = "") -> Text:
        """Names of others, shown literally; characters that act, or that the stream cannot encode, are written out."""
        return Text(encodable(visible(text), self.encoding), style)

    def prose(self, text: str, style: str = "") -> Text:
        """A sentence of ours with names of others in it."""
        return Text(encodable(visible(self._signs(text), lines=True), self.encoding), style)

    def line(self, text: str = "", style: str = "") -> None:
        """One message on lines of its own."""
        self._wrapped("", text, style)

    def explanation(self, reasons: Iterable[str]) -> None:
        """Why a plan would build, or would not: one reason a line."""
        for reason in reasons:
            self._wrapped("  ", reason)

    def results(self, reports: Sequence[Report]) -> None:
        """One row for each report. Columns that do not fit are left out, and a last line names them."""
        self._table(result_columns(reports))

    def calibration(self, table: CalibrationTable) -> None:
        """One row for each tensor: what was seen, and what each method keeps for symmetric int8."""
        looked = f"{table.samples} items" if table.samples else "given, nobody looked at the tensors"
        self.line(f"{len(table.tensors)} tensors of {table.model_digest[:19]}; {looked}")
        self._table(range_columns(table))

    def layers(self, found: Layers) -> None:
        """One row for each layer of an engine; below, how much of it runs in 8 bits."""
        self._table(layer_columns(found))
        for line in layer_summary(found):
            self.line(visible(line))

    def gates(self, report: Report) -> None:
        """Every gate of one report with its bound and what was measured; below, what to try for the missed ones."""
        self._table(gate_columns(report))
        for gate in report.missed:
            if gate.advice:
                self._wrapped(f"{gate.name} {gate.output}".strip() + ": ", gate.advice, "yellow")

    def error(self, error: TrtdError) -> None:
        """What happened, where, and what to type next; every fault of a spec."""
        if isinstance(error, SpecError):
            self._head(error, f"{len(error.diagnostics)} fault{'s' * (len(error.diagnostics) != 1)} in the spec")
            for diagnostic in error.diagnostics:
                self._diagnostic(diagnostic)
        else:
            self._head(error, error.message)
            if error.where:
                self._print(Text.assemble(("  where: ", "bold"), self.foreign(error.where)))
        if error.hint:
            # Not wrapped: a hint names a command, and a line break of ours would break it when copied.
            self._print(Text.assemble(("  hint: ", "bold"), self.prose(error.hint, "cyan")))

    def _signs(self, text: str) -> str:
        return text if self.unicode else text.translate(_ASCII)

    def _head(self, error: TrtdError, message: str) -> None:
        self._wrapped(f"error[{error.code}]: ", message, label_style="bold red")

    def _diagnostic(self, found: Diagnostic) -> None:
        if not self.terminal:  # the form that editors and CI logs recognise: file:line: key: message
            self._print(self.foreign(f"  {found}"))
            return
        place = f"{found.file}:{found.line}" if found.line else found.file
        self._print(Text.assemble("  ", self.foreign(place, "bold"), "  ", self.foreign(found.key, "magenta")))
        self._wrapped("      ", found.message)
        if found.hint:
            self._wrapped("      ", found.hint, "cyan")

    def _wrapped(self, label: str, text: str, style: str = "", label_style: str = "bold") -> None:
        """``label`` and ``text``, later lines indented. Words longer than a line stay whole: paths can be copied."""
        head = self.prose(label, label_style)
        indent = head.cell_len if head.cell_len <= _WIDEST_INDENT else _GAP * 2
        lines = self.prose(text).plain.split("\n")
        if self.terminal:
            room = max(self.console.width - indent, _GAP)
            lines = [piece for line in lines for piece in _fold(line, room)]
            if indent < head.cell_len:
                lines.insert(0, "")
        body = ("\n" + " " * indent).join(lines)
        self._print(Text.assemble(head, (body, style)))

    def _print(self, text: Text) -> None:
        text.rstrip()
        self.console.print(text, soft_wrap=True)

    def _table(self, columns: Sequence[Column]) -> None:
        if self.terminal:
            shown, hidden = fitting(columns, self.console.width, _GAP)
            self.console.print(self._rich(shown))
            if hidden:
                self._wrapped("", f"not shown at this width: {', '.join(hidden)}", "dim")
        else:
            self._aligned(columns)

    def _rich(self, columns: Sequence[Column]) -> Table:
        rule = Box(_HEAD_RULE.format("─" if self.unicode else "-"), ascii=not self.unicode)
        table = Table(box=rule, show_edge=False, padding=(0, _GAP - 1, 0, 0), pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(
                self.own(column.title),
                justify="right" if column.right else "left",
                overflow="fold",
                no_wrap=not column.folds,
                min_width=min(column.width, _NARROWEST_NAME) if column.folds else column.width,
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*(self._cell(cell) for cell in row))
        return table

    def _aligned(self, columns: Sequence[Column]) -> None:
        rows = [[self.own(column.title) for column in columns]]
        rows += [[self._cell(cell) for cell in row] for row in zip(*(column.cells for column in columns), strict=True)]
        widths = [max(text.cell_len for text in texts) for texts in zip(*rows, strict=True)]
        for row in rows:
            line = Text()
            for text, width, column in zip(row, widths, columns, strict=True):
                fill = " " * (width - text.cell_len)
                line.append(fill + text.plain if column.right else text.plain + fill).append(" " * _GAP)
            self._print(line)

    def _cell(self, cell: Cell) -> Text:
        return self.foreign(cell.text, cell.style) if cell.foreign else self.own(cell.text, cell.style)


def _fold(paragraph: str, room: int) -> list[str]:
    wrapped = textwrap.wrap(
        paragraph, room, break_long_words=False, break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False
    )
    return wrapped or [""]
