"""Everything that is known and refused before the first process starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.workshop import IMAGES, SPECS, Workshop, write_image, write_model
from trtd.errors import DataError, ModelError, SpecError
from trtd.pipeline.intake import Intake, take_in
from trtd.pipeline.planning import make_plans

TIMES = "[model.inputs.x]\nmin = [1, 3, 8, 8]\nopt = [4, 3, 8, 8]\nmax = [8, 3, 8, 8]"


def intake(shop: Workshop, spec: Path, *extra_roots: Path) -> Intake:
    (found,) = take_in(spec, registry=shop.registry, extra_roots=extra_roots)
    return found


def fault(shop: Workshop, spec: Path) -> str:
    """The one fault of a spec, as it is shown."""
    with pytest.raises(SpecError) as caught:
        intake(shop, spec)
    (diagnostic,) = caught.value.diagnostics
    return str(diagnostic)


def line_with(spec: Path, text: str) -> int:
    return next(number for number, line in enumerate(spec.read_text().splitlines(), 1) if text in line)


def test_a_spec_is_taken_in_with_model_shapes_and_data(own: Workshop) -> None:
    """A build would start from shapes, batches or data that nobody asked for."""
    taken = intake(own, own.spec(more=TIMES))
    assert (taken.batch, taken.max_batch) == (4, 8)
    assert taken.facts.digest.startswith("sha256:")
    assert taken.data.calibration is not None
    calibration, heldout = set(taken.data.calibration.items), set(taken.data.heldout.items)
    assert (len(calibration), len(heldout)) == (IMAGES - 8, 8)
    assert not calibration & heldout
    assert "16 calibration items; up to 500 would be used." in taken.data.notes
    told = "Images become inputs by default: stretch to 8 x 8, rgb, 0..1. [calibration.preprocess] says otherwise."
    assert told in taken.data.notes


def test_duplicates_are_noted(own: Workshop) -> None:
    """Copies of one image would stand in both sets, or count as more data than there is."""
    shutil.copyfile(own.images / "00.png", own.images / "copy.png")
    data = intake(own, own.spec()).data
    assert data.calibration is not None
    assert len(data.calibration.items) + len(data.heldout.items) == IMAGES
    assert "1 items have the content of another and were left out." in data.notes


def test_precisions_share_every_stage_but_the_build(own: Workshop) -> None:
    """A list of precisions would convert the model and run the reference once for each."""
    int8, fp16 = make_plans(intake(own, own.spec(precision='["int8", "fp16"]')))
    assert (int8.name, fp16.name) == ("tiny-int8", "tiny-fp16")
    assert int8.stage_key("convert") == fp16.stage_key("convert")
    assert int8.stage_key("reference") == fp16.stage_key("reference")
    assert int8.stage_key("quantize") != fp16.stage_key("quantize")


def test_a_gate_on_an_output_that_is_not_there_is_refused(own: Workshop) -> None:
    """The gate would never be measured, and the engine would be published as if it had passed."""
    spec = own.spec(gates="[verify.gates.outputs.skores]\ncosine = 0.5")
    place = f"{spec}:{line_with(spec, 'skores')}"
    assert fault(own, spec) == (
        f'{place}: verify.gates.outputs.skores: the model has no such output (did you mean "scores"?)'
    )


def test_an_input_that_is_not_there_is_refused_beside_other_faults(own: Workshop) -> None:
    """The author would mend one fault to be told of the next."""
    spec = own.spec(gates="[verify.gates.outputs.z]\ncosine = 0.5", more=TIMES.replace("inputs.x", 'inputs."y.1"'))
    with pytest.raises(SpecError) as caught:
        intake(own, spec)
    found = {diagnostic.key: diagnostic for diagnostic in caught.value.diagnostics}
    assert {key: diagnostic.line for key, diagnostic in found.items()} == {
        "model.inputs.y.1": line_with(spec, "y.1"),
        "verify.gates.outputs.z": line_with(spec, "outputs.z"),
    }


@pytest.mark.parametrize("model", ["linked.onnx", "linked/tiny.onnx", "folder"])
def test_a_model_behind_a_link_to_outside_is_refused(model: str, own: Workshop, outside: Path) -> None:
    """A spec that others may write would copy any file of the machine into a published engine."""
    write_model(outside / "tiny.onnx")
    (own.model.parent / "linked.onnx").symlink_to(outside / "tiny.onnx")
    (own.model.parent / "linked").symlink_to(outside)
    (own.model.parent / "folder").mkdir()
    (own.model.parent / "folder" / "tiny.onnx").symlink_to(outside / "tiny.onnx")
    spec = own.spec(model=f'path = "../models/{model}"')
    with pytest.raises((SpecError, ModelError), match=r"outside the folders that this spec may read") as caught:
        intake(own, spec)
    assert str(outside) in str(caught.value)
    assert "TRTD_ALLOWED_ROOTS" in str(caught.value)
    assert intake(own, spec, outside).source.model_file.name.endswith(".onnx")


def test_parameters_behind_a_link_to_outside_are_refused(own: Workshop, outside: Path) -> None:
    """The program may be harmless and its parameters somebody else's."""
    source = SPECS / "digits" / "model"
    folder = own.model.parent / "digits"
    folder.mkdir()
    shutil.copyfile(source / "inference.json", folder / "inference.json")
    shutil.copyfile(source / "inference.pdiparams", outside / "inference.pdiparams")
    (folder / "inference.pdiparams").symlink_to(outside / "inference.pdiparams")
    with pytest.raises(ModelError, match="outside the folders") as caught:
        intake(own, own.spec(model='path = "../models/digits"'))
    assert caught.value.where == str(folder / "inference.pdiparams")


def test_links_that_stay_inside_are_followed(own: Workshop) -> None:
    """People keep one copy of a model and link to it."""
    (own.folder / "current.onnx").symlink_to(own.model)
    assert intake(own, own.spec(model='path = "../current.onnx"')).facts.digest == intake(own, own.spec()).facts.digest


def test_a_quantized_model_is_refused(own: Workshop) -> None:
    """Quantizing twice would be judged against a reference that is no FP32 model."""
    import onnx
    from onnx import TensorProto, helper

    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "q"),
            helper.make_node("DequantizeLinear", ["q", "s"], ["y"], "d"),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [scale],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), own.model)
    with pytest.raises(ModelError, match="quantized already"):
        intake(own, own.spec())


def test_a_model_of_the_registry_is_found_by_name_and_version(own: Workshop) -> None:
    """A spec that follows "latest" would build an old model, or one that names a version another."""
    for version in (1, 2):
        folder = own.registry.models / "net" / str(version)
        folder.mkdir(parents=True)
        write_model(folder / "net.onnx", seed=version)
    latest = intake(own, own.spec(model='registry = "net"'))
    assert latest.source.model_file == own.registry.models / "net" / "2" / "net.onnx"
    assert intake(own, own.spec(model='registry = "net"\nversion = 1')).source.model_file.parent.name == "1"
    with pytest.raises(SpecError, match="no registry is given"):
        take_in(own.spec(model='registry = "net"'), registry=None)


TOP1 = 'metric = "top1"\nlabels = "../{}"'


def test_labels_that_are_not_there_are_told_at_once(own: Workshop) -> None:
    """The last stage would find out, after an hour of calibration."""
    with pytest.raises(DataError, match="no such file of labels"):
        _ = intake(own, own.spec(verify=TOP1.format("labels.npy"))).labels
    with pytest.raises(DataError, match="no such file of labels"):
        _ = intake(own, own.spec(verify=TOP1.format("images"))).labels


def test_changed_labels_are_a_reason_to_judge_again(own: Workshop) -> None:
    """Labels that were mended would leave the old verdict standing."""
    labels = own.folder / "labels.npy"
    spec = own.spec(verify=TOP1.format("labels.npy"))
    np.save(labels, np.zeros(IMAGES, np.int64))
    before = make_plans(intake(own, spec))[0].digest
    np.save(labels, np.ones(IMAGES, np.int64))
    assert make_plans(intake(own, spec))[0].digest != before


HOOK = 'metric = "hook.py:score"'


def test_a_hook_is_refused_at_once_where_hooks_are_off(own: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of a spec's author would run, or the refusal would come after an hour of calibration."""
    monkeypatch.delenv("TRTD_ALLOW_HOOKS", raising=False)
    hook = own.folder / "specs" / "hook.py"
    hook.write_text("raise SystemExit('the hook ran')")
    spec = own.spec(verify=HOOK)
    told = fault(own, spec)
    assert told.startswith(f"{spec}:{line_with(spec, 'hook.py')}: verify.metric: is a Python hook, and hooks are off")
    assert "TRTD_ALLOW_HOOKS=1" in told


def test_a_hook_must_be_there_and_inside_and_enters_the_digest(
    own: Workshop, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine judged by one function would stay up to date when the function says something else."""
    monkeypatch.setenv("TRTD_ALLOW_HOOKS", "1")
    hook = own.folder / "specs" / "hook.py"
    assert "there is no file" in fault(own, own.spec(verify=HOOK))
    hook.symlink_to(outside / "hook.py")
    (outside / "hook.py").write_text("score = None")
    assert "through a symbolic link" in fault(own, own.spec(verify=HOOK))
    hook.unlink()
    hook.write_text("score = None  # raise SystemExit would show if this were imported")
    before = make_plans(intake(own, own.spec(verify=HOOK)))[0]
    hook.write_text("score = 1")
    after = make_plans(intake(own, own.spec(verify=HOOK)))[0]
    changed = {key for key in after.ingredients if after.ingredients[key] != before.ingredients[key]}
    assert changed == {"verify.hook"}
    assert before.stage_key("quantize") == after.stage_key("quantize")


def test_an_item_that_leads_outside_is_refused(own: Workshop, outside: Path) -> None:
    """A link among the images would read what the spec may not."""
    write_image(outside / "secret.png", 77)
    (own.images / "link.png").symlink_to(outside / "secret.png")
    with pytest.raises(DataError, match="leads outside the allowed roots"):
        _ = intake(own, own.spec()).data


def test_heldout_data_of_its_own_is_used_whole(own: Workshop) -> None:
    """A part of it would be left out of the judgement, or of the calibration."""
    (own.folder / "held").mkdir()
    for number in range(3):
        write_image(own.folder / "held" / f"{number}.png", 500 + number)
    data = intake(own, own.spec(verify='data = "../held"')).data
    assert data.calibration is not None
    assert (len(data.calibration.items), len(data.heldout.items)) == (IMAGES, 3)
    fp16 = intake(own, own.spec(precision='"fp16"', calibration="", verify='data = "../held"')).data
    assert fp16.calibration is None
    assert len(fp16.heldout.items) == 3
