"""Structured logs: one line an event, with fields, on standard error.

On a terminal a line is text to read; elsewhere it is a JSON object, which journald, ``jq`` and log shippers take apart.
Foreign text (names, messages of others) never acts: control characters, escapes and line breaks are written out.
Logging never raises and never ends anything: what cannot be written is counted and left.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

from trtd.ui.literal import visible
from trtd.ui.machine import plain

LOGGER = "trtd"
LONGEST_FIELD = 8192
"""Characters of one field; a message of a compiler may be megabytes, and journald cuts lines at 48 KiB."""

Format = Literal["auto", "json", "text"]

_ATTRIBUTE = "trtd_fields"
_DIGEST_SHOWN = len("sha256:") + 12
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}  # syslog(3)


class Log:
    """Writes lines with fields: ``log.info("build started", subject="det.toml", attempt=3)``.

    Fields that are ``None`` or empty are left out. Safe to use from every thread.
    """

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def bind(self, **fields: Any) -> Log:
        """A log that adds these fields to every line."""
        return Log(**{**self._fields, **fields})

    def debug(self, message: str, /, **fields: Any) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: Any) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: Any) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: Any) -> None:
        self._write(logging.ERROR, message, fields)

    def _write(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        logger = logging.getLogger(LOGGER)
        if logger.isEnabledFor(level):
            # As an argument, not as the format: a message may hold percent signs.
            logger.log(level, "%s", message, extra={_ATTRIBUTE: {**self._fields, **fields}})


class Handler(logging.Handler):
    """Writes records to one stream, past its buffers.

    Attributes:
        lost: lines that could not be written.
        fixed: the form that the command line asked for; it outlives a new set-up.
    """

    def __init__(
        self, stream: TextIO | None, form: Format, environ: Mapping[str, str], *, fixed: Format | None = None
    ) -> None:
        super().__init__()
        self.lost = 0
        self.fixed = fixed
        form = fixed or form
        self._stream = stream
        self._fd = _descriptor(stream)
        self._journal = _is_journal(self._fd, environ)
        self._as_json = form == "json" or (form == "auto" and not (self._fd is not None and os.isatty(self._fd)))
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _json_line(record) if self._as_json else _text_line(record)
            priority = f"<{_PRIORITIES.get(record.levelno, 3)}>" if self._journal else ""
            self._put(f"{priority}{line}\n")
        except Exception:  # noqa: BLE001  # closed stream, full disk, an object whose str() raises: the work goes on
            self.lost += 1

    def _put(self, line: str) -> None:
        if self._fd is not None:  # a buffer that could not be flushed would be tried again at exit, and fail the exit
            left = line.encode(self._encoding, "backslashreplace")
            while left:
                left = left[os.write(self._fd, left) :]
        elif self._stream is not None:
            self._stream.write(line)
        else:  # the process was started without it
            self.lost += 1


def set_up(
    level: str = "info",
    form: Format = "auto",
    *,
    fixed: Format | None = None,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Handler:
    """Send the logs of the whole process, other libraries' warnings included, to ``stream``, by default stderr.

    Calling it again replaces what was set up before. What a thread dies of is logged as well.

    Args:
        level, form: ``log.level`` and ``log.format`` of the configuration.
        fixed: a form that holds whatever the configuration says, now and after it is read again.
    """
    root = logging.getLogger()
    former = [found for found in root.handlers if isinstance(found, Handler)]
    fixed = fixed or next((old.fixed for old in former if old.fixed is not None), None)
    handler = Handler(stream if stream is not None else sys.stderr, form, environ, fixed=fixed)
    for old in former:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(_LEVELS[level])
    logging.captureWarnings(True)
    threading.excepthook = _thread_died
    return handler


def _json_line(record: logging.LogRecord) -> str:
    told: dict[str, Any] = {
        "ts": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "message": _cut(record.getMessage()),
    }
    if record.name != LOGGER:
        told["logger"] = record.name
    if record.exc_info:
        told["exception"] = _cut(_trace(record))
    fields = {key: _plain(value) for key, value in _fields(record).items() if key not in told}
    return json.dumps(plain(told) | fields, allow_nan=False)


def _text_line(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, timezone.utc).astimezone().strftime("%H:%M:%S")
    source = "" if record.name == LOGGER else f"{record.name}: "
    fields = "".join(f"  {key}={_quoted(_short(key, value))}" for key, value in _fields(record).items())
    line = f"{at} {record.levelname.lower():<7} {visible(source + _cut(record.getMessage()))}{fields}"
    if record.exc_info:  # indented, so that nothing in it can pass for a line of ours
        line += "".join(f"\n    {part}" for part in visible(_cut(_trace(record)), lines=True).splitlines())
    return line


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found: Mapping[str, Any] = getattr(record, _ATTRIBUTE, {})
    return {key: value for key, value in found.items() if value is not None and value != ""}


def _plain(value: Any) -> Any:
    """What JSON can say of a field; what has no JSON form is told as text."""
    try:
        told = plain(value)
    except (TypeError, ValueError, RecursionError):
        told = plain(str(value))
    return _cut(told) if isinstance(told, str) else told


def _quoted(value: Any) -> str:
    text = visible(_cut(str(value)))
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(' "=') else text


def _short(key: str, value: Any) -> Any:
    """A digest as people compare it; all of it is in JSON."""
    return value[:_DIGEST_SHOWN] if key == "digest" and isinstance(value, str) else value


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_FIELD else text[:LONGEST_FIELD] + "…"


def _trace(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread else "?"
    trace = (args.exc_type, args.exc_value, args.exc_traceback)
    logging.getLogger(LOGGER).error("a thread died", exc_info=trace, extra={_ATTRIBUTE: {"thread": name}})


def _descriptor(stream: TextIO | None) -> int | None:
    with suppress(OSError, ValueError, AttributeError):
        return stream.fileno() if stream is not None else None
    return None


def _is_journal(descriptor: int | None, environ: Mapping[str, str]) -> bool:
    """Whether journald reads it: then a line may begin with its priority. Source: systemd.exec(5), JOURNAL_STREAM."""
    with suppress(OSError):
        if descriptor is not None:
            status = os.fstat(descriptor)
            return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
    return False
