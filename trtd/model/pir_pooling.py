"""Adaptive pooling that paddle2onnx refuses or gets wrong: open dimensions, and bins that do not divide them.

Output i of o pools inputs floor(i n / o) to ceil((i + 1) n / o), exclusive; bins of one pooling may overlap.
"""

from __future__ import annotations

from trtd.model.pir_edit import Editor, Op, array, boolean, dtype
from trtd.model.pir_facts import attribute

_HEIGHT, _WIDTH = 2, 3


def adaptive_average(op: Op, editor: Editor) -> list[Op] | None:
    """Average (N, C, H, W) into bins. One bin is a mean; others are a product with an (o, n) matrix of bin weights."""
    dims, maker = editor.dims(op["I"][0]["%"]) or [], editor.makers.get(op["I"][1]["%"])
    is_average = attribute(op, "adaptive") and attribute(op, "pooling_type") == "avg"
    if not is_average or attribute(op, "data_format") != "NCHW" or maker is None or len(dims) != 4:
        return None
    bins = _uneven(array(maker, "value"), dims)
    if bins is None:
        return None
    value = _average_axis(editor, op["I"][0]["%"], _HEIGHT, bins[0])
    value = _average_axis(editor, value, _WIDTH, bins[1])
    editor.same("assign", value, into=op["O"][0])
    return editor.take()


def adaptive_max(op: Op, editor: Editor) -> list[Op] | None:
    """The largest of each bin, by one slice a bin: only for fixed dimensions, and where no indices are asked for."""
    x = op["I"][0]["%"]
    dims = editor.dims(x) or []
    asked_for_indices = any(value["%"] in editor.used for value in op["O"][1:])
    if not attribute(op, "adaptive") or asked_for_indices or len(dims) != 4 or min(dims[_HEIGHT:]) < 0:
        return None
    bins = _uneven(array(op, "kernel_size"), dims)
    if bins is None:
        return None
    value = _max_axis(editor, x, _HEIGHT, bins[0])
    value = _max_axis(editor, value, _WIDTH, bins[1])
    editor.same("assign", value, into=op["O"][0])
    return editor.take()


def _uneven(bins: list[int], dims: list[int]) -> list[int] | None:
    """``bins`` along height and width, or ``None`` where paddle2onnx gets them right (or Paddle cannot run them)."""
    if len(bins) != 2 or min(bins) < 1 or bins == [1, 1]:
        return None
    even = all(dim > 0 and dim % count == 0 for dim, count in zip(dims[_HEIGHT:], bins, strict=True))
    return None if even else bins


def _average_axis(editor: Editor, x: int, axis: int, bins: int) -> int:
    dims = editor.dims(x) or []
    if bins == dims[axis]:
        return x
    pooled = [bins if i == axis else dim for i, dim in enumerate(dims)]
    kind = editor.dtype(x)
    if bins == 1:
        return editor.make("mean", [x, editor.integers([axis])], kind, pooled, [boolean("keepdim", True)])
    weights = _bin_weights(editor, x, axis, bins, kind)
    if axis == _HEIGHT:
        return editor.make("matmul", [weights, x], kind, pooled, _transposed(False))
    return editor.make("matmul", [x, weights], kind, pooled, _transposed(True))


def _max_axis(editor: Editor, x: int, axis: int, bins: int) -> int:
    dims = editor.dims(x) or []
    size, kind = dims[axis], editor.dtype(x)
    one = [1 if i == axis else dim for i, dim in enumerate(dims)]
    keep = [boolean("keepdim", True)]
    parts = []
    for index in range(bins):
        part = editor.slice(x, axis, index * size // bins, -(-(index + 1) * size // bins))
        parts.append(editor.make("max", [part, editor.integers([axis])], kind, one, keep))
    return editor.concat(parts, axis)


def _bin_weights(editor: Editor, x: int, axis: int, bins: int, kind: str) -> int:
    """An (bins, n) matrix: 1 / size of the bin where the column belongs to the bin, else 0."""
    size = editor.slice(editor.shape(x), 0, axis, axis + 1)
    length = editor.slice(editor.shape(x), 0, axis, axis + 1, drop=True)
    index = editor.integers(range(bins))
    count = editor.integers([bins])
    scaled = editor.same("multiply", index, size)
    start = editor.same("floor_divide", scaled, count)
    last = editor.same("add", editor.same("add", scaled, size), editor.integers([bins - 1]))
    end = editor.same("floor_divide", last, count)
    columns = _columns(editor, length)
    first = [editor.make("unsqueeze", [v, editor.integers([1])], "int64", [bins, 1]) for v in (start, end)]
    inside = editor.make(
        "logical_and",
        [
            editor.make("greater_equal", [columns, first[0]], "bool", [bins, -1]),
            editor.make("less_than", [columns, first[1]], "bool", [bins, -1]),
        ],
        "bool",
        [bins, -1],
    )
    member = editor.make("cast", [inside], kind, [bins, -1], [dtype("dtype", kind)])
    width = editor.make("cast", [editor.same("subtract", first[1], first[0])], kind, [bins, 1], [dtype("dtype", kind)])
    return editor.make("divide", [member, width], kind, [bins, -1])


def _columns(editor: Editor, length: int) -> int:
    """0, 1, … n - 1."""
    zero, one = editor.number(0, "int64"), editor.number(1, "int64")
    place = {"AT": {"#": "1.a_place", "D": [0, 0, ""]}, "N": "place"}
    return editor.make("arange", [zero, length, one], "int64", [-1], [dtype("dtype", "int64"), place])


def _transposed(second: bool) -> list[Op]:
    return [boolean("transpose_x", False), boolean("transpose_y", second)]
