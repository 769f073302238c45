"""Open dimensions are closed by the spec, or every fault is told at once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trtd.errors import Diagnostic
from trtd.model.facts import TensorFacts
from trtd.plan.shapes import Profile, close_shapes, show_shape
from trtd.spec.schema import InputShape

FILE = "det.toml"


def tensor(name: str, *shape: int | None) -> TensorFacts:
    return TensorFacts(name=name, dtype="float32", shape=shape)


def shape(least: list[int], best: list[int] | None = None, most: list[int] | None = None) -> InputShape:
    return InputShape(min=least, opt=best or least, max=most or best or least)


def only_fault(inputs: Sequence[TensorFacts], given_shapes: dict[str, InputShape]) -> Diagnostic:
    profiles, faults = close_shapes(inputs, given_shapes, FILE)
    assert len(faults) == 1
    assert faults[0].key.removeprefix("model.inputs.") not in profiles
    assert faults[0].file == FILE
    return faults[0]


def test_fixed_inputs_need_no_shape() -> None:
    """The shortest spec has none; a scalar input has an empty one."""
    profiles, faults = close_shapes([tensor("x", 2, 3, 8, 8), tensor("k")], {}, FILE)
    assert not faults
    assert profiles["x"] == Profile(min=(2, 3, 8, 8), opt=(2, 3, 8, 8), max=(2, 3, 8, 8))
    assert profiles["k"] == Profile(min=(), opt=(), max=())


def test_an_open_batch_becomes_one() -> None:
    """Nearly every export leaves it open, and one item at a time is what the data gives."""
    profiles, faults = close_shapes([tensor("x", None, 3)], {}, FILE)
    assert not faults
    assert profiles["x"].opt == (1, 3)


def test_given_shapes_are_taken_as_they_are() -> None:
    """Minimum, optimum and maximum may differ wherever the model leaves them open."""
    profiles, faults = close_shapes(
        [tensor("x", None, 3, None)], {"x": shape([1, 3, 32], [2, 3, 64], [4, 3, 96])}, FILE
    )
    assert not faults
    assert profiles == {"x": Profile(min=(1, 3, 32), opt=(2, 3, 64), max=(4, 3, 96))}


def test_other_open_dimensions_must_be_given() -> None:
    """Guessing an image size would calibrate and judge an engine for a size that nobody uses."""
    fault = only_fault([tensor("x", None, 3, None, None)], {})
    assert fault.key == "model.inputs.x"
    assert fault.message == "the model leaves dimensions of x open: [?, 3, ?, ?]"
    assert "[model.inputs.x]" in fault.hint
    assert "opt = [1, 3, 640, 640]" in fault.hint


def test_a_misspelt_input_is_named_with_its_neighbour() -> None:
    """Otherwise the shape would silently not be used."""
    fault = only_fault([tensor("image", 1, 3)], {"imgae": shape([1, 3])})
    assert (fault.key, fault.message) == ("model.inputs.imgae", "the model has no such input")
    assert fault.hint == 'did you mean "image"?'
    assert only_fault([tensor("image", 1), tensor("size", 1)], {"q": shape([1])}).hint == "its inputs are image, size"


@pytest.mark.parametrize(
    ("given_shape", "message"),
    [
        (shape([1, 3, 32]), "min has 3 dimensions, the input has 4"),
        (shape([1, 4, 32, 32]), "min[1] is 4, but the model fixes it at 3"),
        (shape([1, 3, 32, 32], [1, 5, 64, 64]), "opt[1] is 5, but the model fixes it at 3"),
        (shape([1, 3, 32, 32], [1, 3, 64, 64], [1, 3, 64, 96]), "max[3] is 96, but the model fixes it at 64"),
    ],
)
def test_shapes_that_contradict_the_model_are_told_exactly(given_shape: InputShape, message: str) -> None:
    """Which of the three, which axis, what the model says."""
    fixed = 64 if "max[3]" in message else None
    if fixed:
        given_shape = InputShape(min=[1, 3, 32, 64], opt=[1, 3, 64, 64], max=given_shape.max)
    fault = only_fault([tensor("x", None, 3, None, fixed)], {"x": given_shape})
    assert fault.message == message
    assert fault.hint == f"the model says [?, 3, ?, {fixed or '?'}]"


def test_all_faults_come_at_once() -> None:
    """One run, one list to mend."""
    inputs = [tensor("a", None, None), tensor("b", 1, 3), tensor("c", None, 4)]
    profiles, faults = close_shapes(inputs, {"b": shape([1, 4]), "z": shape([1])}, FILE)
    assert [fault.key for fault in faults] == ["model.inputs.z", "model.inputs.a", "model.inputs.b"]
    assert list(profiles) == ["c"]


DIMS = st.lists(st.one_of(st.none(), st.integers(1, 9)), max_size=4)


@given(model=DIMS, data=st.data())
def test_a_profile_fits_its_model_or_there_is_a_fault(model: list[int | None], data: st.DataObject) -> None:
    """Either way round: no profile contradicts the model, and no fitting shape is refused."""
    fits = [data.draw(st.just(d)) if d is not None else data.draw(st.integers(1, 9)) for d in model]
    given_dims = data.draw(st.sampled_from([fits, data.draw(st.lists(st.integers(1, 9), max_size=4))]))
    if not given_dims:
        return
    profiles, faults = close_shapes([tensor("x", *model)], {"x": shape(given_dims)}, FILE)
    matches = len(given_dims) == len(model) and all(m in (None, d) for m, d in zip(model, given_dims, strict=True))
    assert bool(profiles) is matches
    assert bool(faults) is not matches


def test_shapes_read_like_shapes() -> None:
    """They stand in messages."""
    assert show_shape([None, 3, 480]) == "[?, 3, 480]"
