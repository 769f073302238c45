"""Small PIR programs with quantize and dequantize operators, written by hand: no paddle is needed to spoil them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from trtd.model.params_file import DTYPES as STORED
from trtd.model.pir_edit import Op, boolean, dtype, i32, tensor_type, text
from trtd.model.source import ModelSource

Array = np.ndarray[Any, Any]


class QuantizedProgram:
    """Collects operators; every method returns the id of the value that it makes."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.arrays: dict[str, Array] = {}
        self._count = 0

    def op(
        self, name: str, inputs: list[int], dims: list[int], attributes: list[Op] | None = None, **extra: Any
    ) -> int:
        self._count += 1
        kind = extra.pop("dtype", "float32")
        made = {"%": self._count, "TT": tensor_type(kind, dims)}
        self.ops.append(
            {"#": f"1.{name}", "A": attributes or [], "I": [{"%": v} for v in inputs], "O": [made], "OA": [], **extra}
        )
        return self._count

    def data(self, name: str, dims: list[int]) -> int:
        shape = {"AT": {"#": "1.a_intarray", "D": dims}, "N": "shape"}
        return self.op("data", [], dims, [text("name", name), shape, dtype("dtype", "float32")])

    def fetch(self, name: str, value: int, dims: list[int]) -> int:
        return self.op("fetch", [value], dims, [text("name", name), i32("col", 0)])

    def parameter(self, name: str, array: Any, declared: str | None = None) -> int:
        self._count += 1
        array = self.arrays[name] = np.asarray(array)
        made = {"%": self._count, "TT": tensor_type(declared or str(array.dtype), list(array.shape))}
        self.ops.append({"#": "p", "A": [0, 1, 0, name], "DA": [], "O": made, "OA": [1, 0, 1], "QA": []})
        return self._count

    def step(self, kind: str, value: int, scale: int, zero_point: int, dims: list[int], **changes: Any) -> int:
        """``quantize_linear`` or ``dequantize_linear`` as Paddle 3.3 writes it, but for ``changes``."""
        made = changes.pop("dtype", "float32")
        numbers = {"quant_axis": -1, "bit_length": 8, "qmin": -128, "qmax": 127, "round_type": 0}
        flags = {"is_test": True, "only_observer": False}
        attributes = [i32(name, changes.get(name, number)) for name, number in numbers.items()]
        attributes += [boolean(name, changes.get(name, flag)) for name, flag in flags.items()]
        return self.op(kind, [value, scale, zero_point, 0, 0], dims, attributes, dtype=made)

    def round(self, value: int, name: str, amax: Any, dims: list[int], **changes: Any) -> int:
        """Quantize and dequantize an activation, with parameters of its own."""
        scale = self.parameter(f"{name}@scale", np.asarray(amax, np.float32))
        zero = self.parameter(f"{name}@zero_point", np.zeros(np.shape(amax), np.int32))
        quantized = self.step("quantize_linear", value, scale, zero, dims, **changes)
        return self.step("dequantize_linear", quantized, scale, zero, dims, **changes)

    def weight(self, name: str, array: Any, amax: Any, axis: int, *, stored: bool = True, **changes: Any) -> int:
        """A weight with its scales: stored rounded, in int8, and declared float32 as Paddle does; or unrounded."""
        value = self.parameter(name, array, "float32")
        scale = self.parameter(f"{name}@scale", np.asarray(amax, np.float32))
        zero = self.parameter(f"{name}@zero_point", np.zeros(np.shape(amax), np.int32))
        dims = list(np.shape(array))
        if not stored:
            value = self.step("quantize_linear", value, scale, zero, dims, quant_axis=axis, **changes)
        return self.step("dequantize_linear", value, scale, zero, dims, quant_axis=axis, **changes)

    @property
    def program(self) -> dict[str, Any]:
        block = {"#": "block_0", "args": [], "ops": self.ops}
        return {
            "base_code": {"magic": "pir", "trainable": True, "version": 4},
            "program": {"regions": [{"#": "region_0", "blocks": [block]}]},
        }

    def write(self, folder: Path) -> ModelSource:
        """``inference.json`` and ``inference.pdiparams``, as Paddle saves them."""
        folder.mkdir(parents=True, exist_ok=True)
        model, params = folder / "inference.json", folder / "inference.pdiparams"
        model.write_text(json.dumps(self.program))
        params.write_bytes(b"".join(stored(self.arrays[name]) for name in sorted(self.arrays)))
        return ModelSource(format="paddle-pir", model_file=model, params_file=params)


def stored(array: Array) -> bytes:
    """One tensor as Paddle's ``save_combine`` writes it."""
    code = next(code for code, (name, _) in STORED.items() if name == str(array.dtype))
    desc = bytes([0x08, code]) + b"".join(bytes([0x10, dim]) for dim in array.shape)
    return struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + np.ascontiguousarray(array).tobytes()


def small(**changes: Any) -> QuantizedProgram:
    """x (?, 3) -> rounded -> matmul by a rounded weight (3, 2) -> relu, observed -> y.

    ``changes``: ``amax`` of x, ``weight``, ``weight_amax``, and what :meth:`QuantizedProgram.step` takes for x.
    """
    made = QuantizedProgram()
    x = made.data("x", [-1, 3])
    weight = changes.pop("weight", np.array([[127, -5], [3, 64], [0, -127]], np.int8))
    w = made.weight("w", weight, changes.pop("weight_amax", [0.5, 2.0]), 1)
    rounded = made.round(x, "x", changes.pop("amax", [4.0]), [-1, 3], **changes)
    product = made.op("matmul", [rounded, w], [-1, 2], [boolean("transpose_x", False), boolean("transpose_y", False)])
    result = made.op("relu", [product], [-1, 2])
    observed = made.round(result, "y", [3.0], [-1, 2], only_observer=True)
    made.fetch("fetch_name_0", observed, [-1, 2])
    return made
