"""The rewrites of :mod:`trtd.model.pir`, one function a rule.

A rule gets an operator and the editor. It returns ``None`` if there is nothing to cure, else the operators that
replace it; the last one writes the same output value.
"""

from __future__ import annotations

import math

from trtd.model.pir_edit import Editor, Op, array, boolean, dtype, f32, i32, i32s, replace_attribute
from trtd.model.pir_facts import attribute

_READS_DOUBLE = ("full", "set_value", "assign_value", "uniform", "gaussian")
_NHWC_TO_NCHW, _NCHW_TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_INT64_MIN = -(2**63)


def float64_attributes(op: Op, editor: Editor) -> list[Op] | None:
    if not isinstance(op["A"], list) or op["#"].partition(".")[2].startswith(_READS_DOUBLE):
        return None
    changed = False
    for entry in op["A"]:
        if isinstance(entry, dict):
            value = entry["AT"]
            for item in [value, *(value["D"] if value["#"] == "0.a_array" else [])]:
                if item["#"] == "0.a_f64":
                    item["#"], changed = "0.a_f32", True
    return [op] if changed else None


def gelu_tanh(op: Op, editor: Editor) -> list[Op] | None:
    """gelu(x) ~ x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), Hendrycks and Gimpel 2016."""
    if not attribute(op, "approximate"):
        return None
    x = op["I"][0]["%"]
    cube = editor.same("multiply", editor.same("multiply", x, x), x)
    inner = editor.same("add", editor.scale(cube, 0.044715), x)
    half = editor.scale(editor.same("tanh", editor.scale(inner, math.sqrt(2 / math.pi))), 0.5, 0.5)
    editor.same("multiply", x, half, into=op["O"][0])
    return editor.take()


def celu(op: Op, editor: Editor) -> list[Op] | None:
    """celu(x, a) = a elu(x / a, 1)."""
    alpha = float(attribute(op, "alpha"))
    unit = editor.scale(op["I"][0]["%"], 1 / alpha)
    editor.scale(editor.same("elu", unit, attributes=[f32("alpha", 1.0)]), alpha, into=op["O"][0])
    return editor.take()


def reduce_all_axes(op: Op, editor: Editor) -> list[Op] | None:
    """An empty list of axes means all of them: name them."""
    if len(op["I"]) != 2:
        return None
    maker, dims = editor.makers.get(op["I"][1]["%"]), editor.dims(op["I"][0]["%"])
    if maker is None or maker["#"] != "1.full_int_array" or array(maker, "value") or not dims:
        return None
    op["I"][1] = {"%": editor.integers(range(len(dims)))}
    return [*editor.take(), op]


def mean_all(op: Op, editor: Editor) -> list[Op] | None:
    """The older ``mean`` over everything."""
    x = op["I"][0]["%"]
    axes = editor.integers(range(len(editor.dims(x) or [])))
    editor.make("mean", [x, axes], editor.dtype(x), [], [boolean("keepdim", False)], op["O"][0])
    return editor.take()


def in_place_scale(op: Op, editor: Editor) -> list[Op] | None:
    """PIR values are written once: what Paddle does in place is the plain operator."""
    return [{**op, "#": "1.scale"}]


def shape_list(op: Op, editor: Editor) -> list[Op] | None:
    """Join a shape that is a list of int32 or int64 tensors, 0-D or of one element, to one int64 vector."""
    combined = [editor.makers.get(value["%"], {"#": ""}) for value in op["I"]]
    place = next((index for index, maker in enumerate(combined) if maker["#"] == "0.combine"), None)
    if place is None:
        return None
    parts = []
    for value in combined[place]["I"]:
        part = value["%"]
        if editor.dtype(part) != "int64":
            part = editor.make("cast", [part], "int64", editor.dims(part) or [], [dtype("dtype", "int64")])
        if editor.dims(part) == []:
            part = editor.make("reshape", [part, editor.integers([1])], "int64", [1])
        parts.append(part)
    joined = {"%": editor.concat(parts, 0)}
    return [*editor.take(), {**op, "I": [*op["I"][:place], joined, *op["I"][place + 1 :]]}]


def amax(op: Op, editor: Editor) -> list[Op] | None:
    """amax differs from max in its gradient only."""
    x = op["I"][0]["%"]
    axes = array(op, "axis") or list(range(len(editor.dims(x) or [])))
    name = "max" if op["#"] == "1.amax" else "min"
    keep = boolean("keepdim", bool(attribute(op, "keepdim")))
    editor.make(name, [x, editor.integers(axes)], editor.dtype(x), [], [keep], op["O"][0])
    return editor.take()


def expand_as(op: Op, editor: Editor) -> list[Op] | None:
    """Expand to the shape that the second input has at run time."""
    if len(op["I"]) != 2 or op["I"][1]["%"] == 0 or -1 not in (editor.dims(op["I"][1]["%"]) or []):
        return None
    x, like = op["I"][0]["%"], op["I"][1]["%"]
    editor.make("expand", [x, editor.shape(like)], editor.dtype(x), [], (), op["O"][0])
    return editor.take()


def addmm(op: Op, editor: Editor) -> list[Op] | None:
    """addmm(c, a, b) = beta c + alpha a b."""
    c, a, b = (value["%"] for value in op["I"])
    plain = [boolean("transpose_x", False), boolean("transpose_y", False)]
    dims = [(editor.dims(a) or [-1])[0], (editor.dims(b) or [-1])[-1]]
    product = editor.make("matmul", [a, b], editor.dtype(a), dims, plain)
    alpha, beta = float(attribute(op, "alpha")), float(attribute(op, "beta"))
    scaled = product if alpha == 1 else editor.scale(product, alpha)
    editor.same("add", scaled, c if beta == 1 else editor.scale(c, beta), into=op["O"][0])
    return editor.take()


def lerp(op: Op, editor: Editor) -> list[Op] | None:
    """lerp(x, y, w) = x + w (y - x)."""
    x, y, weight = (value["%"] for value in op["I"])
    step = editor.same("multiply", editor.same("subtract", y, x), weight)
    editor.same("add", x, step, into=op["O"][0])
    return editor.take()


def masked_fill(op: Op, editor: Editor) -> list[Op] | None:
    x, mask, value = (value["%"] for value in op["I"])
    editor.make("where", [mask, value, x], editor.dtype(x), [], (), op["O"][0])
    return editor.take()


def flip(op: Op, editor: Editor) -> list[Op] | None:
    """A slice from the last element to the first."""
    x, axes = op["I"][0]["%"], array(op, "axis")
    dims = editor.dims(x) or []
    if all(dims[axis] >= 0 for axis in axes):
        return None
    axes = [axis % len(dims) for axis in axes]
    bounds = [editor.integers([value] * len(axes)) for value in (-1, _INT64_MIN + 1, -1)]
    editor.same("strided_slice", x, *bounds, attributes=[i32s("axes", axes)], into=op["O"][0])
    return editor.take()


def channel_shuffle(op: Op, editor: Editor) -> list[Op] | None:
    """N (g c) H W -> N (c g) H W; height and width may be open, the channels may not."""
    x, groups = op["I"][0]["%"], int(attribute(op, "groups"))
    if attribute(op, "data_format") != "NCHW":
        return None
    batch, channels, height, width = editor.dims(x) or [-1] * 4
    if channels < 0:
        return None
    area = height * width if min(height, width) >= 0 else -1
    each = channels // groups
    kind = editor.dtype(x)
    grouped = editor.make("reshape", [x, editor.integers([0, groups, each, -1])], kind, [batch, groups, each, area])
    mixed = editor.transpose(grouped, (0, 2, 1, 3))
    editor.make("reshape", [mixed, editor.shape(x)], kind, [], (), op["O"][0])
    return editor.take()


def repeat_interleave(op: Op, editor: Editor) -> list[Op] | None:
    """Insert an axis, tile it, merge it; only where every element is repeated equally often."""
    x, repeats, axis = op["I"][0]["%"], int(attribute(op, "repeats")), int(attribute(op, "axis"))
    dims = editor.dims(x) or []
    axis %= len(dims)
    kind = editor.dtype(x)
    opened = editor.make("unsqueeze", [x, editor.integers([axis + 1])], kind, [*dims[: axis + 1], 1, *dims[axis + 1 :]])
    counts = [repeats if i == axis + 1 else 1 for i in range(len(dims) + 1)]
    tiled = editor.make(
        "tile", [opened, editor.integers(counts)], kind, [*dims[: axis + 1], repeats, *dims[axis + 1 :]]
    )
    span = [i32("start_axis", axis), i32("stop_axis", axis + 1)]
    editor.make("flatten", [tiled], kind, [], span, op["O"][0])
    return editor.take()


def deformable_conv_v1(op: Op, editor: Editor) -> list[Op] | None:
    """Version 1 has no mask: give it one of ones, with one value for every two offsets."""
    if op["I"][3]["%"] != 0:
        return None
    offset = op["I"][1]["%"]
    half = editor.slice(offset, 1, 0, (editor.dims(offset) or [0, 0])[1] // 2)
    ones = editor.scale(half, 0.0, 1.0)
    return [*editor.take(), {**op, "I": [*op["I"][:3], {"%": ones}]}]


def nhwc(op: Op, editor: Editor) -> list[Op] | None:
    """Transpose, run in NCHW, transpose back. Filters are stored alike for both layouts."""
    x = op["I"][0]["%"]
    if attribute(op, "data_format") != "NHWC" or len(editor.dims(x) or []) != 4:
        return None
    before = editor.transpose(x, _NHWC_TO_NCHW)
    made = editor.take()
    result = op["O"][0]
    n, h, w, c = result["TT"]["D"][1]
    planar = editor.value(editor.dtype(x), [n, c, h, w])
    inner = {**op, "I": [{"%": before}, *op["I"][1:]], "O": [planar, *op["O"][1:]]}
    replace_attribute(inner, {"AT": {"#": "0.a_str", "D": "NCHW"}, "N": "data_format"})
    editor.transpose(planar["%"], _NCHW_TO_NHWC, into=result)
    return [*made, inner, *editor.take()]
