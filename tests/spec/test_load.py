"""From bytes to a spec: whatever stands at the path, the answer is a spec or a SpecError, and it comes at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trtd.errors import SpecError
from trtd.spec.load import LIMIT_BYTES, load_spec

Faults = Callable[..., list[str]]

SHORTEST = 'model.path = "m"\nengine.precision = "int8"\ncalibration.data = "c/*.png"\n'


def refusal(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    (found,) = caught.value.diagnostics
    return str(found).replace(str(path), "FILE")


def test_a_file_gives_its_stem_as_name(tmp_path: Path) -> None:
    """The file's name is the engine's name, unless the author says otherwise."""
    path = tmp_path / "ppocr-det.toml"
    path.write_text(SHORTEST)
    assert load_spec(path).name == "ppocr-det"
    path.write_text(f'name = "det"\n{SHORTEST}')
    assert load_spec(path).name == "det"


def test_windows_line_ends_are_fine(tmp_path: Path) -> None:
    """Editors on Windows write them, and lines must still be counted right."""
    path = tmp_path / "det.toml"
    path.write_bytes(SHORTEST.replace("\n", "\r\n").encode())
    assert load_spec(path).engine.precision == "int8"
    path.write_bytes((SHORTEST + "x = 1\n").replace("\n", "\r\n").encode())
    assert refusal(path).startswith("FILE:4: x: unknown key")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "FILE: says nothing: it is empty, or all comments"),
        (b"# model.path = 1\n", "FILE: says nothing: it is empty, or all comments"),
        (b"a = 1\n\nb = \xff\n", "FILE:3: is not UTF-8: byte 0xff"),
        (SHORTEST.encode("utf-16"), "FILE: is not UTF-8 but UTF-16"),
        (SHORTEST.encode("utf-8-sig"), "FILE:1: starts with a byte-order mark"),
        (b"x" * (LIMIT_BYTES + 1), "FILE: is larger than 1 MiB"),
        (b"a = 1\na = 2\n", "FILE:2: not valid TOML at column 6: cannot overwrite a value (the key was given before"),
        (b"[a]\n[a]\n", "FILE:2: not valid TOML at column 3: cannot declare ('a',) twice"),
        (b"a = 1\nb = int8\n", "FILE:2: not valid TOML at column 5: invalid value (texts need quotes"),
        (b'a = "x\n', "FILE:1: not valid TOML at column 7: illegal character '\\n' (close the quotes)"),
        (b"a = 1979-13-45\n", "FILE:1: not valid TOML"),
        (b"a = 1\nb\x00 = 1\n", "FILE:2: not valid TOML"),
        (b"a = " + b"[" * 100_000, "FILE: lists or tables are nested too deeply"),
        (b"a = " + b"[" * 100_000 + b"]" * 100_000, "FILE: lists or tables are nested too deeply"),
        (b"a = " + b"{a = " * 100_000, "FILE: lists or tables are nested too deeply"),
        (b"\n" + b".".join([b"a"] * 100_000) + b" = 1", "FILE:2: holds a key of more than 64 parts"),
        (
            b"\n[" + b".".join([b"'a'"] * 900) + b"]\n" + b"a.b = 1\n" * 9999,
            "FILE:2: holds a key of more than 64 parts",
        ),
        (b"\n\na = " + b"1" * 100_000, "FILE:3: holds a number of thousands of digits"),
    ],
)
def test_bad_bytes_are_named(raw: bytes, message: str, tmp_path: Path) -> None:
    """tomli raises more than its own error; each kind of wrong bytes has its own words."""
    path = tmp_path / "det.toml"
    path.write_bytes(raw)
    assert refusal(path).startswith(message)


def test_a_number_that_python_cannot_print_is_refused(faults: Faults) -> None:
    """Hexadecimal digits pass tomli, and then ``str`` of the number raises."""
    (found,) = faults(f"{SHORTEST}publish.keep = 0x{'f' * 9000}\n")
    assert found == "det.toml:4: publish.keep: must be 2147483647 or less, got a number beyond 64 bits"


def test_a_full_megabyte_is_read(tmp_path: Path) -> None:
    """The limit itself is legal."""
    path = tmp_path / "det.toml"
    path.write_bytes(SHORTEST.encode().ljust(LIMIT_BYTES, b"\n"))
    assert load_spec(path).name == "det"


def test_only_files_are_opened(tmp_path: Path) -> None:
    """Opening a pipe without a writer blocks for ever, and opening some devices does things."""
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    assert refusal(pipe).startswith("FILE: must be a file, but is a named pipe")
    assert refusal(tmp_path).startswith("FILE: must be a file, but is a directory")
    assert refusal(Path("/dev/zero")).startswith("FILE: must be a file, but is a device")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.toml"))
        assert refusal(tmp_path / "s.toml").startswith("FILE: must be a file, but is a socket")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """A missing file, a link in a circle and a path that cannot be one are the caller's faults, not ours."""
    circle = tmp_path / "circle.toml"
    circle.symlink_to(circle)
    assert refusal(tmp_path / "none.toml").startswith("FILE: no such file")
    assert refusal(circle).startswith("FILE: cannot be read: Too many levels of symbolic links")
    assert refusal(tmp_path / ("x" * 300)).startswith("FILE: cannot be read: File name too long")
    with pytest.raises(SpecError, match="is no path: embedded null"):
        load_spec(Path("a\0b.toml"))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_a_failing_read_is_named() -> None:
    """A disk or a network mount can fail after the file was opened; reading this one at 0 always does."""
    assert refusal(Path("/proc/self/mem")).startswith("FILE: cannot be read: Input/output error")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """Permissions are the most common reason on a server."""
    path = tmp_path / "det.toml"
    path.write_text(SHORTEST)
    path.chmod(0)
    assert refusal(path).startswith("FILE: cannot be read: Permission denied")


def test_an_odd_file_name_can_be_printed(tmp_path: Path) -> None:
    """A name of raw bytes or with terminal commands must not reach the terminal as it is."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m.toml"))
    path.write_bytes(b"a = 1")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert all(str(found).isprintable() for found in caught.value.diagnostics)
    json.dumps(caught.value.to_json(), ensure_ascii=False).encode()


def test_loading_imports_little() -> None:
    """``trtd check`` must answer in a blink; numpy alone would double its time."""
    code = (
        "import json, sys; from trtd.spec.load import load_spec; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = {name for name in json.loads(run.stdout) if not name.startswith("_") and not name.endswith("__mypyc")}
    of_pydantic = {"pydantic", "pydantic_core", "annotated_types", "typing_extensions", "typing_inspection"}
    assert {"trtd", "tomli", "pydantic"} <= loaded
    assert loaded <= {"trtd", "tomli"} | of_pydantic
