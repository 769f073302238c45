"""How faults read: all at once, in the order of the file, with the key that was meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trtd.errors import SpecError
from trtd.spec.diagnose import MOST
from trtd.spec.load import spec_from_text

Faults = Callable[..., list[str]]

SHORTEST = 'model.path = "m"\ncalibration.data = "c"\n'


def test_a_newcomer_sees_everything_at_once(faults: Faults) -> None:
    """One fault a run makes ten runs; and a wrong value must not hide a contradiction elsewhere."""
    text = """\
[model]
path = "m"
version = 3
[model.inputs.x]
min = [1, 3]
opt = [1, 2]
max = [1, "3"]
[calibration]
data = "../d"
sampels = 500
samples = "500"
[calibration.preprocess]
mean = [
    0.5,   # red
]
std = [0.1, 0, 0.1]
[verify]
data = "../d"
metric = "top1"
"""
    assert faults(text) == [
        "det.toml:3: model.version: needs registry: a path has no versions (remove it, or name a registry model)",
        'det.toml:7: model.inputs.x.max[1]: must be a whole number, got the text "3" (remove the quotes)',
        'det.toml:10: calibration.sampels: unknown key (did you mean "samples"?)',
        'det.toml:11: calibration.samples: must be a whole number, got the text "500" (remove the quotes)',
        "det.toml:16: calibration.preprocess.std[1]: must be more than 0, got 0",
        "det.toml:18: verify.data: is the same as calibration.data "
        "(give other data, or remove verify.data: then a part of calibration.data is held out)",
        'det.toml:19: verify.metric: needs labels to compare with (add labels = "../data/labels.npy")',
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("[calibration]\nsampels = 9", 'calibration.sampels: unknown key (did you mean "samples"?)'),
        ("[engine]\nsamples = 9", 'engine.samples: unknown key ("samples" belongs in [calibration])'),
        ("[verify]\ncosine = 1", 'verify.cosine: unknown key ("cosine" belongs in [verify.gates] '
         "or [verify.gates.outputs.NAME])"),
        ("[engine]\nsampels = 9", 'engine.sampels: unknown key (did you mean "samples" in [calibration]?)'),
        ('[engine]\nname = "x"', 'engine.name: unknown key ("name" belongs at the top of the file, '
         "above the first [section])"),
        ("[engine.calibration]", "engine.calibration: unknown key ([calibration] is a section of its own)"),
        ("[calib]", 'calib: unknown key (did you mean "calibration"?)'),
        ("[engine]\nqqq = 1", "engine.qqq: unknown key "
         "(known here: target, precision, quantized_model, compute_capabilities, tensorrt, paddle)"),
        ("[publish]\n\"a b\\u001b\" = 1", 'publish."a b\\x1b": unknown key (known here: keep, unverified, on_delete)'),
    ],
)  # fmt: skip
def test_unknown_keys_name_the_one_that_was_meant(lines: str, message: str) -> None:
    """An unknown key is a misspelt one, or one at home elsewhere; nobody should have to read a manual for it."""
    text = f'model.path = "m"\nengine = {{}}\n{lines}\n' if "[engine" not in lines else f'model.path = "m"\n{lines}\n'
    with pytest.raises(SpecError) as caught:
        spec_from_text(text, file="det.toml", stem="det")
    assert message in [f"{found.key}: {found.message} ({found.hint})" for found in caught.value.diagnostics]


def test_a_misspelt_key_is_not_missing_too(faults: Faults) -> None:
    """Two diagnostics for one typo make the reader look for a second one."""
    assert faults('[model]\npth = "m"\n[calibration]\nadta = "c"\n') == [
        'det.toml:2: model.pth: unknown key (did you mean "path"?)',
        'det.toml:4: calibration.adta: unknown key (did you mean "data"?)',
    ]
    assert faults('model.path = "m"\nverify.data = "v"\nengine.precison = "fp16"\n') == [
        'det.toml:3: engine.precison: unknown key (did you mean "precision"?)'
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('model = "m.onnx"\ncalibration.data = "c"', "det.toml:1: model: must be a table of keys, "
         'got the text "m.onnx" (write it as a section: [model])'),
        (f"{SHORTEST}[[engine]]", "det.toml:3: engine: must be a table of keys, "
         "got a list of 1 (write it as a section: [engine], in single brackets)"),
        (f"{SHORTEST}model.inputs.x = [1, 3]", "det.toml:3: model.inputs.x: must be a table of keys, "
         "got a list of 2 (write it as a section: [model.inputs.x], in single brackets)"),
        (f"{SHORTEST}quantization.exclude = 'head/*'", "det.toml:3: quantization.exclude: must be a list, "
         'got the text "head/*" (put it in brackets: ["head/*"])'),
        (f"{SHORTEST}publish.unverified = 'true'", "det.toml:3: publish.unverified: must be true or false, "
         'got the text "true" (remove the quotes)'),
        (f"{SHORTEST}publish.unverified = 1", "det.toml:3: publish.unverified: must be true or false, "
         "got the number 1"),
        (f"{SHORTEST}name = 3", 'det.toml:3: name: must be a text, got the number 3 (put it in quotes: "3")'),
        (f"{SHORTEST}name = true", 'det.toml:3: name: must be a text, got true (put it in quotes: "true")'),
        (f"{SHORTEST}build.deadline_s = '1h'", "det.toml:3: build.deadline_s: must be a number, "
         'got the text "1h"'),
        (f"{SHORTEST}calibration.preprocess.fit = 'letterbx'", "det.toml:3: calibration.preprocess.fit: must be one of "
         '"stretch", "crop", "letterbox", got the text "letterbx" (did you mean "letterbox"?)'),
        (f"{SHORTEST}engine.target = 'tensorr'", "det.toml:3: engine.target: must be one of "
         '"onnxruntime-cpu", "tensorrt", "tensorrt-rtx", "paddle", "paddle-tensorrt", or a list of them, '
         'got the text "tensorr" '
         '(did you mean "tensorrt"?)'),
        (f"{SHORTEST}engine.compute_capabilities = ['8.6', '86']", "det.toml:3: engine.compute_capabilities[1]: "
         'must be a compute capability such as "8.6", got the text "86"'),
        ("calibration.data = 'c'", "det.toml: model: missing"),
    ],
)  # fmt: skip
def test_messages_say_what_to_type(text: str, message: str, faults: Faults) -> None:
    """Words of the validation library, such as "Input should be a valid dictionary", help nobody."""
    assert faults(text) == [message]


def test_a_flood_of_faults_is_cut(faults: Faults) -> None:
    """A hostile text must neither take minutes nor print a million lines."""
    found = faults(SHORTEST + "".join(f"key{number} = 1\n" for number in range(5000)))
    assert len(found) == MOST + 1
    assert found[-1] == f"det.toml: and {5000 - MOST} more faults"
