"""Small real ONNX graphs, and what is done with them: run, calibrate, quantize, see what onnxruntime makes of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from trtd.calibrate.table import METHODS, CalibrationTable, TensorRange
from trtd.engines.cpu import cpu_facts
from trtd.quantize.placement import Placement, observed_tensors
from trtd.quantize.qdq import Quantized, insert_qdq
from trtd.quantize.targets import onnxruntime_cpu

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]

VNNI = cpu_facts().vnni  # without it, 8-bit weights overflow here and there
UINT8 = onnxruntime_cpu(vnni=VNNI)
INT8 = onnxruntime_cpu(vnni=VNNI, activation="int8")
UINT8_WEIGHTS_7_BITS = onnxruntime_cpu(vnni=False)
UINT8_WEIGHTS_8_BITS = onnxruntime_cpu(vnni=True)


@dataclass
class Net:
    """Builds a graph node by node; each call returns the new node's name, which its output has too."""

    inputs: dict[str, Any]
    seed: int = 0
    opset: int = 17
    dtype: Any = np.float32
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def const(self, name: str, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def real(self, name: str, array: Any) -> str:
        """A constant of the net's floating-point type."""
        return self.const(name, np.asarray(array, self.dtype))

    def node(self, op: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(
        self,
        x: str,
        name: str,
        channels: tuple[int, int],
        *,
        kernel: int = 3,
        groups: int = 1,
        bias: bool = True,
        weight: Array | None = None,
        **attributes: Any,
    ) -> str:
        """A Conv over ``channels`` (in, out), padded to keep the size."""
        fan_in, out = channels
        shape = (out, fan_in // groups, kernel, kernel)
        if weight is None:
            weight = self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        inputs = [x, self.real(f"{name}_w", weight)]
        if bias:
            inputs.append(self.real(f"{name}_b", self.random.standard_normal(out) * 0.3))
        pads = [kernel // 2] * 4
        return self.node("Conv", inputs, name, **{"pads": pads, "group": groups, **attributes})

    def scalar(self, op: str, x: str, name: str, number: Any) -> str:
        return self.node(op, [x, self.real(f"{name}_c", number)], name)

    def hard_swish(self, x: str, name: str) -> str:
        """``x * HardSigmoid(x)``, as Paddle's exporters write it."""
        gate = self.node("HardSigmoid", [x], f"{name}_gate", alpha=1 / 6, beta=0.5)
        return self.node("Mul", [x, gate], name)

    def model(self, *outputs: str) -> onnx.ModelProto:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in self.inputs.items()],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True)
        onnx.checker.check_model(inferred)
        return inferred


def session(model: onnx.ModelProto, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
    options = options or ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """Every output by name."""
    loaded = session(model)
    return dict(zip([o.name for o in loaded.get_outputs()], loaded.run(None, dict(feeds)), strict=True))


def kernels(model: onnx.ModelProto) -> Counter[str]:
    """Operator types that onnxruntime really runs, after all its optimizations."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        session(model, options)
        return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def noise(model: onnx.ModelProto, count: int = 4, seed: int = 1, spread: float = 1.0) -> list[dict[str, Array]]:
    """Random feeds of unit variance; open dimensions become 1 (the first) or 12."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        feeds = {}
        for value in model.graph.input:
            dims = [d.dim_value or (12 if i else 1) for i, d in enumerate(value.type.tensor_type.shape.dim)]
            feeds[value.name] = (random.standard_normal(dims) * spread).astype(np.float32)
        made.append(feeds)
    return made


def every_tensor(model: onnx.ModelProto, feeds: Feeds) -> dict[str, Array]:
    """The value of every tensor of the graph, inputs included."""
    tapped = onnx.ModelProto.FromString(model.SerializeToString())
    have = {o.name for o in tapped.graph.output}
    for node in tapped.graph.node:
        tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name and name not in have)
    return run(tapped, feeds) | dict(feeds)


def minmax_table(model: onnx.ModelProto, data: Sequence[Feeds], names: Sequence[str] | None = None) -> CalibrationTable:
    """A table in which every method keeps the whole range of what ``data`` gives."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for feeds in data:
        for name, array in every_tensor(model, feeds).items():
            if array.dtype.kind == "f" and array.size and (names is None or name in names):
                low[name] = min(low.get(name, 0.0), float(array.min()))
                high[name] = max(high.get(name, 0.0), float(array.max()))
    tensors = {name: tensor_range(low[name], high[name]) for name in low}
    return CalibrationTable(
        model_digest="sha256:m", set_digest="sha256:s", samples=len(data), percentile=99.99, tensors=tensors
    )


def tensor_range(low: float, high: float) -> TensorRange:
    """What the calibration stage writes for a tensor of that range, its histogram aside."""
    if low == high == 0:
        high = 1.0
    return TensorRange(
        min=low, max=high, values=1, bin_width=1.0, first_bin=0, counts=(1,),
        amax=dict.fromkeys(METHODS, max(-low, high)), range=dict.fromkeys(METHODS, (low, high)),
    )  # fmt: skip


@dataclass
class Outcome:
    """A quantized model, what was written, and how it does on data that the table has not seen."""

    model: onnx.ModelProto
    written: Quantized
    reference: dict[str, Array]
    found: dict[str, Array]

    @property
    def kernels(self) -> Counter[str]:
        return kernels(self.model)

    def sqnr_db(self, name: str | None = None) -> float:
        name = name or next(iter(self.reference))
        return sqnr_db(self.reference[name], self.found[name])


def quantize(
    model: onnx.ModelProto,
    placement: Placement = UINT8,
    *,
    data: Sequence[Feeds] | None = None,
    table: CalibrationTable | None = None,
    exclude: Sequence[str] = (),
    exclude_ops: Sequence[str] = (),
) -> Outcome:
    """Calibrate on what the graph is observed for, and on nothing else; quantize; run both on fresh data."""
    data = data or noise(model)
    graph = ir.from_proto(model)
    table = table or minmax_table(model, data, observed_tensors(graph.graph, placement))
    written = insert_qdq(graph, table, placement, method="minmax", exclude=exclude, exclude_ops=exclude_ops)
    made = ir.to_proto(graph)
    onnx.checker.check_model(made)
    assert [o.name for o in made.graph.output] == [o.name for o in model.graph.output]
    return Outcome(made, written, run(model, data[0]), run(made, data[0]))


def sqnr_db(reference: Array, candidate: Array) -> float:
    """Signal over noise, in dB."""
    assert reference.shape == candidate.shape
    x, y = reference.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(divide="ignore"):
        return float(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))


def relative_l2(reference: Array, candidate: Array) -> float:
    assert reference.shape == candidate.shape
    x, y = reference.astype(np.float64), candidate.astype(np.float64)
    return float(np.linalg.norm(x - y) / np.linalg.norm(x))


FLOAT = TensorProto.FLOAT
