"""What must hold for every TOML text and every valid spec. ``toml_of`` is a small TOML writer of our own."""

from __future__ import annotations

import datetime
import json
import math
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from trtd.errors import Diagnostic, SpecError
from trtd.spec.fields import CHANNEL_COUNT
from trtd.spec.json_schema import committed
from trtd.spec.load import load_spec, spec_from_text
from trtd.spec.schema import Spec
from trtd.spec.sections import SECTIONS

EXAMPLES = 300

VALID = """\
name = "ppocr-det"

[model]
path = "../models/ppocr_det"
[model.inputs.x]
min = [1, 3, 320, 320]
opt = [1, 3, 640, 640]
max = [4, 3, 960, 960]

[engine]
precision = ["fp16", "int8"]

[calibration]
data = "../data/pages/*.png"   # a glob
method = "entropy"
preprocess = { resize = [640, 640], channels = "bgr" }

[verify]
labels = "labels.npy"
metric = "top1"
[verify.gates.outputs."a.b"]
cosine = 0.99
"""


def toml_of(table: Mapping[str, Any]) -> str:
    """TOML text of a table: one key a line, deeper tables inline."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _key(key: str) -> str:
    return json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, str):
        return _key(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)


letters = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)
paths = letters.filter(lambda text: text.strip() and not text.startswith("~") and "://" not in text)
counts = st.integers(1, 2**31 - 1)
precisions = st.sampled_from(["fp32", "fp16", "int8"])


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, list[int]]:
    dims = draw(st.lists(st.lists(st.integers(1, 4096), min_size=3, max_size=3).map(sorted), min_size=1, max_size=4))
    return {key: [triple[index] for triple in dims] for index, key in enumerate(("min", "opt", "max"))}


@st.composite
def preprocesses(draw: st.DrawFn) -> dict[str, Any]:
    count = CHANNEL_COUNT[channels := draw(st.sampled_from(list(CHANNEL_COUNT)))]
    return {"channels": channels} | draw(
        st.fixed_dictionaries(
            {},
            optional={
                "resize": st.lists(st.integers(1, 65536), min_size=2, max_size=2),
                "fit": st.sampled_from(["stretch", "crop", "letterbox"]),
                "pad_value": st.integers(0, 255),
                "scale": st.floats(1e-6, 1e6) | st.integers(1, 9),
                "mean": st.lists(st.floats(-1e3, 1e3), min_size=count, max_size=count),
                "std": st.lists(st.floats(1e-6, 1e3), min_size=count, max_size=count),
                "layout": st.sampled_from(["nchw", "nhwc"]),
            },
        )
    )


shares = st.floats(0, 1, exclude_min=True)
output_gates = {
    "cosine": st.floats(-1, 1, exclude_min=True),
    "sqnr_db": st.floats(0, 200, exclude_min=True),
    "relative_l2": st.floats(0, 1, exclude_max=True),
    "max_abs_error": st.floats(0, 1e6),
    "top1_agreement": shares,
}


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Valid specs as tables."""
    model: dict[str, Any] = draw(
        st.fixed_dictionaries({"path": paths.filter(lambda text: not text.lower().endswith((".plan", ".trt")))})
        | st.fixed_dictionaries({"registry": names}, optional={"version": counts | st.just("latest")})
    )
    gates: dict[str, Any] = output_gates | {
        "min_speedup": st.floats(0, 9, exclude_min=True),
        "outputs": st.dictionaries(letters, st.fixed_dictionaries({}, optional=output_gates), max_size=2),
    }
    verify: dict[str, Any] = draw(st.just({}) | st.just({"labels": "labels.npy", "metric": "top1"}))
    if verify:
        gates |= {"metric": shares, "metric_drop": st.floats(0, 1, exclude_max=True)}
    verify["gates"] = draw(st.fixed_dictionaries({}, optional=gates))
    calibration = draw(
        st.fixed_dictionaries(
            {"data": paths},
            optional={
                "samples": st.integers(2, 2**31 - 1),
                "batch": counts,
                "method": st.sampled_from(["minmax", "entropy", "percentile", "mse"]),
                "percentile": st.floats(50, 100, exclude_min=True, exclude_max=True),
                "preprocess": preprocesses(),
            },
        )
    )
    rest = st.fixed_dictionaries(
        {},
        optional={
            "name": names,
            "engine": st.fixed_dictionaries({"precision": precisions | st.lists(precisions, min_size=1, unique=True)}),
            "quantization": st.fixed_dictionaries({}, optional={"exclude": st.lists(letters, max_size=2)}),
            "publish": st.fixed_dictionaries({}, optional={"keep": counts, "unverified": st.booleans()}),
            "build": st.fixed_dictionaries({}, optional={"deadline_s": st.floats(1, 1e6)}),
        },
    )
    model |= draw(st.fixed_dictionaries({}, optional={"inputs": st.dictionaries(letters, shapes(), max_size=2)}))
    return {"model": model, "calibration": calibration, "verify": verify} | draw(rest)


def without_none(value: Any) -> Any:
    """TOML has no null: a key that is None is a key that is absent."""
    if isinstance(value, dict):
        return {key: without_none(inner) for key, inner in value.items() if inner is not None}
    return value


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents())
def test_what_is_valid_loads_as_it_stands(document: dict[str, Any]) -> None:
    """A value that changes between the text and the spec builds another engine than the author asked for."""
    spec = spec_from_text(toml_of(document), file="spec.toml", stem="stem")
    assert spec == Spec.model_validate({"name": "stem"} | document)
    assert spec_from_text(toml_of(without_none(spec.model_dump())), file="dump.toml", stem="other") == spec
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(documents())
def test_the_editor_accepts_what_is_valid(document: dict[str, Any]) -> None:
    """An editor that underlines a good spec teaches its reader to ignore it."""
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator(json.loads(committed())).validate(document)


def faults_in(text: str) -> tuple[Diagnostic, ...]:
    try:
        spec_from_text(text, file="spec.toml", stem="stem")
    except SpecError as error:
        return error.diagnostics or (Diagnostic("", -1, "", "a SpecError without diagnostics"),)
    return ()


def holds_only_good_diagnostics(text: str) -> None:
    """Either a spec, or diagnostics that a terminal can show, one a line, within the text."""
    for found in faults_in(text):
        assert found.message
        assert str(found).isprintable()
        assert found.line is None or 1 <= found.line <= text.count("\n") + 1


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=80) | st.text(alphabet="ab.=[]{}\"'#\\\n ,1-_:", max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    """Any other exception from a spec takes a daemon down, or shows a reader a traceback."""
    holds_only_good_diagnostics(text)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    """The same for what is not even text."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file, suppress(SpecError):
        file.write(raw)
        file.flush()
        load_spec(Path(file.name))


tokens = st.sampled_from("[]{}\"'=.#\\\n\x00é") | st.sampled_from(
    ('"""', "'''", "nan", "inf", "true", "1979-05-27", "07:32:00", "-1", "1e400", "0x" + "f" * 20, "9" * 5000)
)
tokens |= st.sampled_from(("\r\n", "\u2028", "[[model]]", "model.path.x = 1", "name", "999"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(VALID)), st.integers(0, 12), tokens | st.just("")), min_size=1, max_size=4)
)
def test_no_damaged_spec_raises_anything_else(edits: list[tuple[int, int, str]]) -> None:
    """Damage to a good spec reaches deeper than random text: into types, tables and relations."""
    text = VALID
    for start, length, token in edits:
        text = text[:start] + token + text[start + length :]
    holds_only_good_diagnostics(text)


KNOWN_KEYS = sorted({key for section in SECTIONS.values() for key in section.model_fields})
scalars = (
    st.integers(-3, 3)
    | st.sampled_from(
        [10**18, 10**30, 10**400, -1.0, 0.5, 2.0, math.inf, -math.inf, math.nan, "", "500", "latest", "a/b"]
    )
    | st.sampled_from(["fp16", "int8", "true", "top1", "x.plan", "\x1b[31m", "a" * 500, True, False])
    | st.sampled_from([datetime.date(1979, 5, 27), datetime.time(7, 32), datetime.datetime(1979, 5, 27, 7, 32)])
)
keys = st.sampled_from(KNOWN_KEYS) | letters
wild = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@st.composite
def half_sound(draw: st.DrawFn) -> dict[str, Any]:
    """A valid spec with wild values at some of its keys, known or not."""
    document: dict[str, Any] = draw(documents())
    for _ in range(draw(st.integers(1, 4))):
        table = document
        while nested := [value for value in table.values() if isinstance(value, dict)]:
            if draw(st.booleans()):
                break
            table = draw(st.sampled_from(nested))
        table[draw(st.sampled_from(sorted(table)) | keys if table else keys)] = draw(wild)
    return document


@settings(max_examples=EXAMPLES, deadline=None)
@given(half_sound())
def test_no_half_sound_document_raises_anything_else(document: dict[str, Any]) -> None:
    """Explaining a fault must survive whatever stands beside it."""
    text = toml_of(document)
    assert tomli.loads(text)
    holds_only_good_diagnostics(text)
