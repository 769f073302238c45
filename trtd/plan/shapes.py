"""Input shapes: what the model leaves open, closed by the spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from trtd.document import Document
from trtd.errors import Diagnostic
from trtd.model.facts import TensorFacts
from trtd.spec.schema import InputShape


class Profile(Document):
    """Shapes that one input takes: smallest, the one to optimize for, largest. All equal where the model is fixed."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


def close_shapes(
    inputs: Sequence[TensorFacts], given: Mapping[str, InputShape], spec_file: str
) -> tuple[dict[str, Profile], list[Diagnostic]]:
    """A profile for every model input, and everything that is wrong with the given shapes.

    A leading open dimension is the batch: without a given shape it becomes 1. Any other open dimension must be given.
    """
    diagnostics = [_unknown(name, inputs, spec_file) for name in given if name not in {i.name for i in inputs}]
    profiles: dict[str, Profile] = {}
    for tensor in inputs:
        key, shape = f"model.inputs.{tensor.name}", given.get(tensor.name)
        if shape is None:
            closed = (1, *tensor.shape[1:]) if tensor.shape and tensor.shape[0] is None else tensor.shape
            if None in closed:
                diagnostics.append(_open(tensor, key, spec_file))
            else:
                fixed = tuple(d for d in closed if d is not None)
                profiles[tensor.name] = Profile(min=fixed, opt=fixed, max=fixed)
            continue
        fault = _misfit(tensor, shape)
        if fault:
            diagnostics.append(Diagnostic(spec_file, None, key, fault, f"the model says {show_shape(tensor.shape)}"))
        else:
            profiles[tensor.name] = Profile(min=tuple(shape.min), opt=tuple(shape.opt), max=tuple(shape.max))
    return profiles, diagnostics


def show_shape(shape: Sequence[int | None]) -> str:
    """``[?, 3, 480, 480]``."""
    return f"[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _unknown(name: str, inputs: Sequence[TensorFacts], spec_file: str) -> Diagnostic:
    names = [i.name for i in inputs]
    near = get_close_matches(name, names, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"its inputs are {', '.join(names)}"
    return Diagnostic(spec_file, None, f"model.inputs.{name}", "the model has no such input", hint)


def _open(tensor: TensorFacts, key: str, spec_file: str) -> Diagnostic:
    example = [1 if d is None and i == 0 else 640 if d is None else d for i, d in enumerate(tensor.shape)]
    return Diagnostic(
        spec_file,
        None,
        key,
        f"the model leaves dimensions of {tensor.name} open: {show_shape(tensor.shape)}",
        f"add [model.inputs.{tensor.name}] with min, opt and max, for example opt = {example}",
    )


def _misfit(tensor: TensorFacts, shape: InputShape) -> str:
    for which in ("min", "opt", "max"):
        given = getattr(shape, which)
        if len(given) != len(tensor.shape):
            return f"{which} has {len(given)} dimensions, the input has {len(tensor.shape)}"
        for i, (have, want) in enumerate(zip(given, tensor.shape, strict=True)):
            if want is not None and have != want:
                return f"{which}[{i}] is {have}, but the model fixes it at {want}"
    return ""
