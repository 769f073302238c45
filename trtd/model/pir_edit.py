"""Make operators for a PIR program: the JSON of Paddle 3, one small method a concept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trtd.model.pir_facts import DTYPES, block_of, walk_ops

Op = dict[str, Any]
_CODES = {name: code for code, name in DTYPES.items()}


class Editor:
    """Knows the type of every value of one program and collects the operators that replace another.

    A rule calls the methods below in the order of execution; :meth:`take` hands over what was made so far.
    Value ids are unique over the whole program, nested regions included; id 0 is "no value".
    """

    def __init__(self, program: dict[str, Any]) -> None:
        self._types: dict[int, Any] = {}
        self._made: list[Op] = []
        self.makers: dict[int, Op] = {}
        self.used: set[int] = set()
        for op in walk_ops(block_of(program)):
            self._learn(op)
            self.used |= {value["%"] for value in op.get("I", ())}
        self._next = max(_all_ids(program["program"]), default=0) + 1

    def _learn(self, op: Op) -> None:
        for value in op["O"] if isinstance(op["O"], list) else [op["O"]]:
            self._types[value["%"]] = value.get("TT")
            self.makers[value["%"]] = op

    def dims(self, value: int) -> list[int] | None:
        """The shape of a tensor value, -1 for open dimensions; ``None`` if it is no tensor."""
        type_ = self._types.get(value)
        return list(type_["D"][1]) if type_ and type_["#"] == "0.t_dtensor" else None

    def dtype(self, value: int) -> str:
        """The numpy dtype name of a tensor value."""
        return DTYPES[self._types[value]["D"][0]["#"]]

    def take(self) -> list[Op]:
        """The operators made since the last call."""
        made, self._made = self._made, []
        return made

    def make(
        self,
        name: str,
        inputs: Sequence[int],
        dtype: str,
        dims: Sequence[int],
        attributes: Sequence[Op] = (),
        into: Op | None = None,
    ) -> int:
        """Make operator ``name`` with one tensor as its output and return the output's id.

        ``into`` is the output entry of the operator being replaced: then that very value is written.
        """
        if into is None:
            into = {"%": self._next, "TT": tensor_type(dtype, dims)}
            self._next += 1
        op = {"#": f"1.{name}", "A": list(attributes), "I": [{"%": v} for v in inputs], "O": [into], "OA": _UNTRAINED}
        self._learn(op)
        self._made.append(op)
        return int(into["%"])

    def value(self, dtype_name: str, dims: Sequence[int]) -> Op:
        """A new output entry, for an operator that is put together by hand."""
        entry = {"%": self._next, "TT": tensor_type(dtype_name, dims)}
        self._types[self._next] = entry["TT"]
        self._next += 1
        return entry

    def integers(self, values: Sequence[int]) -> int:
        """A constant int64 vector."""
        attributes = [i64s("value", values), dtype("dtype", "int64"), _PLACE]
        return self.make("full_int_array", [], "int64", [len(values)], attributes)

    def number(self, value: float, dtype_name: str = "float32") -> int:
        """A constant vector of one element."""
        attributes = [
            {"AT": {"#": "1.a_intarray", "D": [1]}, "N": "shape"},
            {"AT": {"#": "0.a_f64", "D": value}, "N": "value"},
            dtype("dtype", dtype_name),
            _PLACE,
        ]
        return self.make("full", [], dtype_name, [1], attributes)

    def same(self, name: str, *inputs: int, attributes: Sequence[Op] = (), into: Op | None = None) -> int:
        """An operator whose output has the type of its first input."""
        return self.make(name, inputs, self.dtype(inputs[0]), self.dims(inputs[0]) or [], attributes, into)

    def scale(self, value: int, factor: float, bias: float = 0.0, into: Op | None = None) -> int:
        """``factor * value + bias``."""
        attributes = [f32("bias", bias), boolean("bias_after_scale", True)]
        return self.same("scale", value, self.number(factor), attributes=attributes, into=into)

    def transpose(self, value: int, perm: Sequence[int], into: Op | None = None) -> int:
        dims = self.dims(value) or []
        return self.make("transpose", [value], self.dtype(value), [dims[p] for p in perm], [i32s("perm", perm)], into)

    def shape(self, value: int) -> int:
        """The shape of ``value`` at run time, an int64 vector."""
        return self.make("shape64", [value], "int64", [len(self.dims(value) or [])])

    def slice(self, value: int, axis: int, start: int, end: int, *, drop: bool = False) -> int:
        """``value[start:end]`` along ``axis``; ``drop`` removes the axis."""
        dims = self.dims(value) or []
        sliced = [end - start if i == axis else d for i, d in enumerate(dims) if not (drop and i == axis)]
        attributes = [i64s("axes", [axis]), i64s("infer_flags", [1]), i64s("decrease_axis", [axis] if drop else [])]
        inputs = [value, self.integers([start]), self.integers([end])]
        return self.make("slice", inputs, self.dtype(value), sliced, attributes)

    def concat(self, values: Sequence[int], axis: int) -> int:
        """Tensors of one type joined along ``axis``."""
        dims = self.dims(values[0]) or []
        kind = self.dtype(values[0])
        joined = [sum((self.dims(v) or [])[axis] for v in values) if i == axis else d for i, d in enumerate(dims)]
        entry: Op = {"%": self._next, "TT": {"#": "0.t_vec", "D": [self._types[value] for value in values]}}
        self._next += 1
        combined: Op = {"#": "0.combine", "A": [], "I": [{"%": v} for v in values], "O": [entry], "OA": []}
        self._learn(combined)
        self._made.append(combined)
        attributes = [{"AT": {"#": "1.a_intarray", "D": [1]}, "N": "shape"}]
        attributes += [{"AT": {"#": "0.a_f64", "D": float(axis)}, "N": "value"}, dtype("dtype", "int32"), _PLACE]
        where = self.make("full", [], "int32", [1], attributes)
        return self.make("concat", [entry["%"], where], kind, joined)

    def data(self, name: str, dtype_name: str, dims: Sequence[int]) -> int:
        """A new input of the program."""
        shape = {"AT": {"#": "1.a_intarray", "D": list(dims)}, "N": "shape"}
        attributes = [text("name", name), shape, dtype("dtype", dtype_name), _PLACE]
        return self.make("data", [], dtype_name, dims, attributes)

    def fetch(self, name: str, value: int) -> int:
        """A new output of the program."""
        return self.same("fetch", value, attributes=[text("name", name), i32("col", self._next)])


_UNTRAINED = [{"AT": {"#": "0.a_array", "D": [{"#": "0.a_bool", "D": True}]}, "N": "stop_gradient"}]
_PLACE = {"AT": {"#": "1.a_place", "D": [1, 0, ""]}, "N": "place"}


def tensor_type(dtype_name: str, dims: Sequence[int]) -> Op:
    return {"#": "0.t_dtensor", "D": [{"#": _CODES[dtype_name]}, list(dims), "NCHW", [], 0]}


def boolean(name: str, value: bool) -> Op:
    return {"AT": {"#": "0.a_bool", "D": value}, "N": name}


def text(name: str, value: str) -> Op:
    return {"AT": {"#": "0.a_str", "D": value}, "N": name}


def i32(name: str, value: int) -> Op:
    return {"AT": {"#": "0.a_i32", "D": value}, "N": name}


def f32(name: str, value: float) -> Op:
    return {"AT": {"#": "0.a_f32", "D": value}, "N": name}


def i32s(name: str, values: Sequence[int]) -> Op:
    return {"AT": {"#": "0.a_array", "D": [{"#": "0.a_i32", "D": v} for v in values]}, "N": name}


def i64s(name: str, values: Sequence[int]) -> Op:
    return {"AT": {"#": "0.a_array", "D": [{"#": "0.a_i64", "D": v} for v in values]}, "N": name}


def dtype(name: str, value: str) -> Op:
    return {"AT": {"#": "1.a_dtype", "D": value}, "N": name}


def array(op: Op, name: str) -> list[Any]:
    """The elements of the array attribute ``name``; empty if the operator has none."""
    for entry in op["A"]:
        if entry["N"] == name and isinstance(entry["AT"]["D"], list):
            return [item["D"] if isinstance(item, dict) else item for item in entry["AT"]["D"]]
    return []


def replace_attribute(op: Op, new: Op) -> None:
    """Set the attribute of that name, or add it."""
    op["A"] = [entry for entry in op["A"] if entry["N"] != new["N"]] + [new]


def _all_ids(node: Any) -> Iterator[int]:
    if isinstance(node, dict):
        if isinstance(node.get("%"), int):
            yield node["%"]
        for child in node.values():
            yield from _all_ids(child)
    elif isinstance(node, list):
        for child in node:
            yield from _all_ids(child)
