"""The JSON envelope: standard JSON whatever is put in, and cheap to import."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from trtd.errors import DataError, Diagnostic, SpecError, from_json
from trtd.ui.machine import emit, emit_error, plain
from trtd.verify.report import Fidelity, Report


def parsed(stream: io.StringIO) -> dict[str, object]:
    loaded = json.loads(stream.getvalue(), parse_constant=lambda name: pytest.fail(f"bare {name} is not JSON"))
    assert isinstance(loaded, dict)
    return loaded


def test_success_envelope() -> None:
    """Scripts read these four keys; a renamed one breaks them all."""
    stream = io.StringIO()
    emit("build", {"path": Path("/a/b"), "n": 3}, stream)
    assert parsed(stream) == {
        "schema_version": 1,
        "command": "build",
        "ok": True,
        "data": {"path": "/a/b", "n": 3},
    }
    assert stream.getvalue().endswith("}\n")


def test_error_envelope_round_trips() -> None:
    """A caller must be able to tell errors apart and learn the exit code from the document alone."""
    stream = io.StringIO()
    error = SpecError([Diagnostic("x.toml", 3, "engine", "wrong\x1b[0m", "right")], hint="see schema")
    emit_error("check", error, stream, data={"checked": 2})
    document = parsed(stream)
    assert (document["ok"], document["exit_code"], document["data"]) == (False, 2, {"checked": 2})
    assert str(from_json(document["error"])) == str(error)  # type: ignore[arg-type]
    assert "data" not in json.loads(_emitted_error(DataError("x")))


def _emitted_error(error: DataError) -> str:
    stream = io.StringIO()
    emit_error("build", error, stream)
    return stream.getvalue()


def test_documents_are_serialised_and_nan_is_a_string(report: Report) -> None:
    """``NaN`` as a bare word is not JSON: jq, browsers and most languages refuse the whole document."""
    broken = Fidelity(elements=0, cosine=math.nan, sqnr_db=math.inf, relative_l2=-math.inf, max_abs_error=0)
    stream = io.StringIO()
    emit("verify", {"reports": [report], "fidelity": broken}, stream)
    data = parsed(stream)["data"]
    assert isinstance(data, dict)
    assert data["reports"][0]["gates"][0]["name"] == "cosine"
    assert [data["fidelity"][key] for key in ("cosine", "sqnr_db", "relative_l2")] == ["NaN", "Infinity", "-Infinity"]
    assert Fidelity.model_validate_json(json.dumps(data["fidelity"])).sqnr_db == math.inf
    assert Report.model_validate_json(json.dumps(data["reports"][0])) == report


def test_odd_values_become_plain_ones() -> None:
    """These are what stages really hand over; a TypeError here would replace a finished result."""

    @dataclass
    class Point:
        at: PurePosixPath
        when: float

    assert plain({1: (1, 2), None: {"b"}, Path("k"): Point(PurePosixPath("p"), math.nan)}) == {
        "1": [1, 2],
        "null": ["b"],
        "k": {"at": "p", "when": "NaN"},
    }
    assert plain([np.float32(1.5), np.int64(3), np.array([1.0, np.nan]), np.bool_(True)]) == [
        1.5,
        3,
        [1.0, "NaN"],
        True,
    ]
    assert plain(Path("a\udc80")) == r"a\udc80"


@pytest.mark.parametrize("value", [object(), Path, lambda: None])
def test_what_has_no_json_form_is_our_bug(value: object) -> None:
    """Writing ``<object at 0x…>`` into a document would hide the mistake."""
    with pytest.raises(TypeError, match="no JSON form"):
        plain([value])


def test_importing_it_is_cheap() -> None:
    """``trtd check --json`` must not pay for rich, jinja2, pydantic or numpy."""
    heavy = "{'rich', 'jinja2', 'pydantic', 'numpy', 'paddle', 'onnx', 'onnxruntime'}"
    code = f"import sys, trtd.ui.machine; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
