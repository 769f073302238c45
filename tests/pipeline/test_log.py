"""Reading a log's tail: it is foreign bytes, of any size, that end up in messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.pipeline.log import clean, crash_site, last_lines, read_tail, speaks_of_memory

DUMP = """Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/lib/threading.py", line 5 in wait

Current thread 0x00007f2 (most recent call first):
  File "/app/convert.py", line 42 in to_onnx
  File "/app/worker.py", line 7 in main

Extension modules: numpy.core._multiarray_umath (total: 1)
"""


@given(st.text())
def test_cleaned_text_cannot_steer_a_terminal(text: str) -> None:
    """A log line could clear the screen, set the title or reverse the writing direction."""
    cleaned = clean(text)
    assert not set(cleaned) & (set(map(chr, [*range(32), *range(127, 160)])) - {"\n"})
    assert not set(cleaned) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2028\u2029\ud800")
    assert clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r20%\r\nend", "10%\n20%\nend"),
        ("a\tb\x00c", "a bc"),
        ("页 é 🙂", "页 é 🙂"),
    ],
)
def test_terminal_sequences_go_and_text_stays(raw: str, shown: str) -> None:
    """Colours would leave their remains (``[31m``) in a message, or letters would be lost with them."""
    assert clean(raw) == shown


def test_only_the_tail_is_read(tmp_path: Path) -> None:
    """A huge log would be read into memory, or an earlier run's end would be taken for this one's."""
    log = tmp_path / "log"
    log.write_bytes(b"earlier\n" + b"line\xff\n" * 1000)
    assert read_tail(log, start=8).count("line\\xff") == 1000
    assert read_tail(log, limit_bytes=16) == "line\\xff\nline\\xff\n"
    assert read_tail(log, start=10**9) == ""
    assert "could not be read" in read_tail(tmp_path / "none")


def test_last_lines_are_few_and_short() -> None:
    """A message would fill the screen."""
    lines = last_lines("a\n" * 50 + "\n  \n" + "x" * 10_000 + "\n")
    assert len(lines) == 8
    assert lines[-1] == "x" * 200 + " …"


def test_last_lines_are_what_came_before_the_crash_dump() -> None:
    """The library's own last words would be buried under Python frames of the launcher's making."""
    assert last_lines("CHECK failed: dims\n" + DUMP) == ["CHECK failed: dims"]
    assert last_lines(DUMP + "after\n") == ["after"]


def test_the_crash_site_is_the_dying_threads_innermost_frame() -> None:
    """The error would point to a thread that was only waiting, or to the frame that is always outermost."""
    assert crash_site(DUMP) == "to_onnx (/app/convert.py:42)"
    assert crash_site(DUMP + DUMP.replace("42", "43")) == "to_onnx (/app/convert.py:43)"
    assert crash_site("Current thread 0x1 (most recent call first):\n  <no Python frame>\n") == ""


@pytest.mark.parametrize(
    "text",
    [
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "MemoryError",
        "Failed to allocate memory for requested buffer of size 12",
        "ResourceExhaustedError: Out of memory error on GPU 0",
        "OSError: [Errno 12] Cannot allocate memory",
        "OpenBLAS error: Memory allocation still failed after 10 retries, giving up.",
        "ImportError: libopenblas.so: failed to map segment from shared object",
        "SystemError: error return without exception set",
        "libgcc_s.so.1 must be installed for unwinding to work",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2: Resource temporarily unavailable",
    ],
)
def test_the_libraries_words_for_want_of_memory(text: str) -> None:
    """A stage that needs more memory would be reported as a crash, with advice that does not help."""
    assert speaks_of_memory(text)
    assert not speaks_of_memory("memory pool: 12 MB, allocated OK")
