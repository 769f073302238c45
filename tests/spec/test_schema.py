"""What a spec may say, what it may leave out, and what it means then."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from trtd.spec.load import spec_from_text
from trtd.spec.schema import Gates, InputShape, Preprocess, Spec
from trtd.spec.sections import SECTIONS
from trtd.verify.gates import DEFAULTS

Faults = Callable[..., list[str]]

SHORTEST = 'model.path = "m"\nengine.precision = "int8"\ncalibration.data = "c/*.png"\n'
FLOAT = '[model]\npath = "m"\n[engine]\nprecision = "fp16"\n[verify]\ndata = "v"\n'
SPEC: dict[str, Any] = {"name": "det", "model": {"path": "m"}, "calibration": {"data": "c"}}


def test_three_lines_are_a_spec() -> None:
    """The shortest spec is what a newcomer types first."""
    spec = spec_from_text(SHORTEST, file="det.toml", stem="det")
    assert (spec.name, spec.engine.target, spec.engine.precisions) == ("det", "onnxruntime-cpu", ("int8",))
    assert spec.calibration is not None
    assert (spec.calibration.samples, spec.calibration.batch, spec.calibration.method) == (500, 1, "mse")
    assert (spec.publish.keep, spec.publish.unverified, spec.build.deadline_s) == (3, False, 3600.0)


def test_int8_is_the_default_precision() -> None:
    """Without [engine] the author means what trtd is for."""
    assert Spec.model_validate(SPEC).engine_names == {"int8": "det"}


def test_engines_of_a_list_carry_their_precision() -> None:
    """Two engines of one name would overwrite each other; a list of one keeps its suffix when it grows."""
    spec = Spec.model_validate(SPEC | {"engine": {"precision": ["fp16", "int8"]}})
    assert spec.engine_names == {"fp16": "det-fp16", "int8": "det-int8"}
    assert Spec.model_validate(SPEC | {"engine": {"precision": ["fp16"]}}).engine_names == {"fp16": "det-fp16"}


def test_mean_and_std_fit_the_channels() -> None:
    """Three default means on a gray image would broadcast it into three."""
    assert Preprocess().mean == [0.0, 0.0, 0.0]
    gray = Preprocess(channels="gray")
    assert (gray.mean, gray.std) == ([0.0], [1.0])


def test_a_spec_does_not_change() -> None:
    """A spec that changes after it was checked is a spec that was not checked."""
    with pytest.raises(ValidationError, match="frozen"):
        Spec.model_validate(SPEC).name = "other"


@pytest.mark.parametrize("path", SECTIONS)
def test_descriptions_state_the_defaults(path: tuple[str, ...]) -> None:
    """The description is the editor's hover text, the only manual that most authors read."""
    for key, field in SECTIONS[path].model_fields.items():
        text = field.description or ""
        assert len(text) > 10, key
        assert text.endswith("."), key
        stated = "Default: " in text
        assert stated == (not field.is_required() or (path, key) == ((), "name")), key
        if isinstance(field.default, (bool, int, float, str)):
            assert json.dumps(field.default) in text, key


@pytest.mark.parametrize("precision", DEFAULTS)
def test_descriptions_state_the_default_gates(precision: str) -> None:
    """Gates have their defaults elsewhere; an author who reads other ones here is misled about what was proved."""
    for gate, bound in DEFAULTS[precision].items():
        text = Gates.model_fields[gate].description or ""
        assert re.search(rf"{bound} for [a-zA-Z0-9 ,]*{precision}", text), gate


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("samples = 1", "must be 2 or more, got 1"),
        ("samples = true", "must be a whole number, got true"),
        ("samples = 2.0", "must be a whole number, got the number 2.0 (write 2)"),
        ('samples = "500"', 'must be a whole number, got the text "500" (remove the quotes)'),
        ("samples = 2024-01-01", "must be a whole number, got the date 2024-01-01"),
        ("samples = 99999999999999999999999", "must be 2147483647 or less, got a number beyond 64 bits"),
        ("batch = 0", "must be 1 or more, got 0"),
        ("percentile = 50", "must be more than 50, got 50"),
        ("percentile = 100.0", "must be less than 100, got 100.0"),
        ("percentile = nan", "must be a finite number, got nan"),
        ("percentile = true", "must be a number, got true"),
        ('method = "kl"', 'must be one of "minmax", "entropy", "percentile", "mse", got the text "kl"'),
        ("preprocess.resize = [640]", "must hold at least 2 values, got 1"),
        ("preprocess.resize = 640", "must be a list, got the number 640 (put it in brackets: [640])"),
        ("preprocess.scale = 0", "must be more than 0, got 0"),
        ("preprocess.scale = inf", "must be a finite number, got inf"),
        ("preprocess.scale = 1e400", "must be a finite number, got inf"),
        ("preprocess.std = [1, 1, 0]", "std[2]: must be more than 0, got 0"),
        ("preprocess.std = [1, 1]", 'needs 3 values for channels = "rgb", got 2'),
        ('preprocess = { channels = "gray", mean = [1, 2, 3] }', 'needs 1 value for channels = "gray", got 3'),
        ("preprocess.pad_value = 256", "must be 255 or less, got 256"),
        ("preprocess = 07:32:00", "must be a table of keys, got the time 07:32:00"),
    ],
)
def test_calibration_refuses(line: str, fragment: str, faults: Faults) -> None:
    """A value that means nothing, or not what its author thinks, must not pass for a number."""
    (found,) = faults(f'[model]\npath = "m"\n[calibration]\ndata = "c"\n{line}\n')
    assert found.startswith("det.toml:5: calibration.")
    assert fragment in found


@pytest.mark.parametrize(
    "gate",
    [
        "cosine = -1",
        "sqnr_db = 0",
        "relative_l2 = 1",
        "relative_l2 = 1e9",
        "top1_agreement = 0",
        "min_speedup = -1.0",
        "max_abs_error = 1e9",
        "outputs.y.cosine = -2",
        "outputs.y.relative_l2 = 2",
        "outputs.y.max_abs_error = 1e7",
    ],
)
def test_gates_that_can_never_fail_are_refused(gate: str, faults: Faults) -> None:
    """A gate that an engine of zeros passes publishes an engine of zeros."""
    (found,) = faults(f"{FLOAT}[verify.gates]\n{gate}\n")
    assert found.startswith(f"det.toml:8: verify.gates.{gate.partition(' ')[0]}: must be ")
    assert found.endswith("(a gate that can never fail proves nothing)")


@pytest.mark.parametrize("gate", ["cosine = 1.5", "top1_agreement = 2", "relative_l2 = -1", "max_abs_error = -0.5"])
def test_gates_that_can_never_pass_are_refused_as_that(gate: str, faults: Faults) -> None:
    """Calling an impossible bound a gate that never fails would send the author the wrong way."""
    (found,) = faults(f"{FLOAT}[verify.gates]\n{gate}\n")
    assert "never fail" not in found


def test_strict_gates_pass() -> None:
    """The bounds of bit-exact work are legal."""
    text = f"{FLOAT}[verify.gates]\nmax_abs_error = 0\nrelative_l2 = 0\ncosine = 1\ntop1_agreement = 1\nsqnr_db = 60\n"
    assert spec_from_text(text, file="det.toml", stem="det").verify.gates.max_abs_error == 0


def test_a_huge_tolerance_is_no_key(faults: Faults) -> None:
    """``tolerance = 1e9`` must neither be ignored nor obeyed."""
    (found,) = faults(f"{FLOAT}[verify.gates]\ntolerance = 1e9\n")
    assert "verify.gates.tolerance: unknown key (known here: cosine, " in found


@pytest.mark.parametrize(
    ("model", "fragment"),
    [
        ("", "model.path: missing"),
        ('path = "m"\nregistry = "m"', "model.registry: cannot stand beside path"),
        ('path = "m"\nversion = 3', "model.version: needs registry"),
        ('registry = "m"\nversion = 0', 'must be a whole number from 1, or "latest", got the number 0'),
        ('registry = "m"\nversion = "newest"', 'or "latest", got the text "newest"'),
        ('registry = "M m"', '(try "m-m")'),
        ('path = ""', "model.path: must not be empty"),
        ('path = "\\u0000"', "model.path: must not hold control characters"),
        ('path = "https://example.com/m.onnx"', "must be a path, got the web address"),
        ('path = "~/m.onnx"', "must not start with ~"),
        ('path = "m.plan"', "must be a source model, got the ready-made TensorRT engine"),
        ('path = "M.ENGINE"', "must be a source model, got the ready-made TensorRT engine"),
        ('path = "x/m.trt"', "must be a source model, got the ready-made TensorRT engine"),
    ],
)
def test_model_refuses(model: str, fragment: str, faults: Faults) -> None:
    """A model that cannot be found, or found twice, has no engine."""
    (found,) = faults(f'calibration.data = "c"\n[model]\n{model}\n')
    assert fragment in found


@pytest.mark.parametrize("version", ["3", '"latest"'])
def test_registry_models_have_versions(version: str, faults: Faults) -> None:
    """Following the newest version and pinning one are both legal."""
    assert faults(f'calibration.data = "c"\n[model]\nregistry = "m"\nversion = {version}\n') == []


@pytest.mark.parametrize(
    ("precision", "fragment"),
    [
        ("[]", "got []"),
        ('["int8", "int8"]', 'must name each precision once, got ["int8", "int8"]'),
        ('"int4"', 'must be one of "fp32", "fp16", "bf16", "int8", or a list of them, got the text "int4"'),
        ('["int8", 16]', "or a list of them, got a list of 2"),
        ("16", "or a list of them, got the number 16"),
    ],
)
def test_precision_refuses(precision: str, fragment: str, faults: Faults) -> None:
    """One message for the whole value, not one for each kind that it might have been."""
    (found,) = faults(f'model.path = "m"\ncalibration.data = "c"\nengine.precision = {precision}\n')
    assert found.startswith("det.toml:3: engine.precision: ")
    assert fragment in found


def test_int8_needs_calibration(faults: Faults) -> None:
    """Calibrating on nothing is the first of the silent failures."""
    (found,) = faults('model.path = "m"\nengine.precision = ["fp16", "int8"]\n')
    assert found.startswith("det.toml: calibration: missing: int8 must be calibrated on real data")
    assert faults(FLOAT) == []


def test_an_engine_needs_data_to_be_judged_on(faults: Faults) -> None:
    """Gates that compare nothing fail after an hour of building; better before."""
    text = 'model.path = "m"\nengine.precision = "fp16"\n'
    (found,) = faults(text)
    assert "verify.data: missing: there is no data to judge the engine on" in found
    assert faults(f"{text}calibration.data = 'c'\n") == []


def test_calibration_and_verification_data_differ(faults: Faults) -> None:
    """An engine that is judged on its calibration data always looks good."""
    (found,) = faults(f'{SHORTEST}verify.data = "c/*.png"\n')
    assert found.startswith("det.toml:4: verify.data: is the same as calibration.data")


@pytest.mark.parametrize(
    ("lines", "fragment"),
    [
        ('metric = "top1"', "verify.metric: needs labels"),
        ('labels = "l.npy"', "verify.labels: needs a metric"),
        (
            'labels = "l.npy"\nmetric = "f1"',
            'must be "top1", or a Python hook as "FILE.py:FUNCTION", got the text "f1"',
        ),
        ("gates.metric = 0.9", "verify.gates.metric: is a gate on verify.metric, which is not set"),
        ("gates.metric_drop = 0.1", "verify.gates.metric_drop: is a gate on verify.metric, which is not set"),
        ("latency_runs = 0", "verify.latency_runs: must be 1 or more, got 0"),
    ],
)
def test_verify_refuses(lines: str, fragment: str, faults: Faults) -> None:
    """A metric without labels, or a gate without metric, would compare nothing."""
    (found,) = faults(f"{SHORTEST}[verify]\n{lines}\n")
    assert fragment in found


def test_hooks_are_metrics(faults: Faults) -> None:
    """Whether a hook may run is the operator's choice. It may judge by labels, or by the reference."""
    hook = 'metric = "tasks/iou.py:mean_iou"\n'
    assert faults(f'{SHORTEST}[verify]\nlabels = "l.npy"\n{hook}') == []
    assert faults(f"{SHORTEST}[verify]\n{hook}") == []


@pytest.mark.parametrize(
    ("shape", "fragments"),
    [
        ({"min": [1, 2], "opt": [1, 2], "max": [1]}, ["max: has 1 dimension, but min has 2"]),
        ({"min": [1, 9], "opt": [1, 8], "max": [1, 8]}, ["opt[1]: is 8, below min[1] = 9"]),
        ({"min": [1, 9], "opt": [2, 9], "max": [1, 8]}, ["max[0]: is 1, below opt[0] = 2", "max[1]: is 8, below"]),
        ({"min": [0], "opt": [1], "max": [1]}, ["min[0]: must be 1 or more, got 0"]),
        ({"min": [-1], "opt": [1], "max": [1]}, ["min[0]: must be 1 or more, got -1"]),
        ({"min": [], "opt": [], "max": []}, ["must hold at least 1 value, got none"] * 3),
        ({"min": [1], "opt": [1]}, ["max: missing (for example: max = [4, 3, 960, 960])"]),
    ],
)
def test_shapes_refuse(shape: dict[str, list[int]], fragments: list[str], faults: Faults) -> None:
    """A profile with min above max builds nothing, and says so late."""
    table = "".join(f"{key} = {value}\n" for key, value in shape.items())
    found = faults(f"{SHORTEST}[model.inputs.x]\n{table}")
    assert len(found) == len(fragments)
    assert all(fragment in line for fragment, line in zip(fragments, found, strict=True))


def test_relations_hold_without_a_file() -> None:
    """Code that makes a section by hand gets the same refusals as an author."""
    with pytest.raises(ValidationError, match=r"opt.0\n.*below min"):
        InputShape(min=[2], opt=[1], max=[2])


@pytest.mark.parametrize(
    ("stem", "suggestion"),
    [("My Det", "my-det"), ("_det", "det"), ("Détection", "detection"), ("文字", "engine"), ("x" * 64, "x" * 63)],
)
def test_a_stem_that_is_no_name_is_explained(stem: str, suggestion: str, faults: Faults) -> None:
    """The author wrote no name, so a message about a wrong name would puzzle."""
    (found,) = faults(SHORTEST, stem)
    assert found.startswith("det.toml: name: missing, and the file's name ")
    assert f'add name = "{suggestion}"' in found
    assert faults(f'name = "{suggestion}"\n{SHORTEST}', stem) == []


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "é", "a" * 64, "a\\n"])
def test_names_are_safe_as_folders(name: str, faults: Faults) -> None:
    """The name becomes a folder that Triton reads."""
    (found,) = faults(f'name = "{name}"\n{SHORTEST}')
    assert found.startswith("det.toml:1: name: must be 1 to 63 characters of")


def test_the_suffix_counts_into_the_name(faults: Faults) -> None:
    """A name that fits alone and not with -int8 would fail at publishing."""
    text = 'model.path = "m"\ncalibration.data = "c"\nengine.precision = ["int8"]\n'
    assert faults(text, "a" * 58) == []
    (found,) = faults(text, "a" * 59)
    assert "name: is too long" in found
    assert "shorten it by 1 or more" in found
