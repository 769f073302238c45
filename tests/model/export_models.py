"""Export small Paddle models for the tests: ``python export_models.py FOLDER``; run as a process of its own.

With ``FLAGS_enable_pir_api=0`` in the environment the programs are saved in the older format. Beside every model lies
``reference.npz``: its inputs, and what Paddle Inference makes of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112 - the name is glog's

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import nn


class Cnn(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """Convolution, BatchNorm, a transposed convolution, pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8), nn.ReLU())
        self.up = nn.Sequential(nn.Conv2DTranspose(8, 8, 2, stride=2), nn.BatchNorm2D(8), nn.ReLU())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        y = self.up(self.stem(x))
        return F.softmax(self.head(F.adaptive_avg_pool2d(y, 1).flatten(1)))


class Cured(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """Everything that a PIR normalization rule cures, in one graph with several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 8, 3, padding=1)
        self.nhwc = nn.Conv2D(8, 4, 3, padding=1, data_format="NHWC")
        self.offset = nn.Conv2D(8, 18, 3, padding=1)
        self.deform = paddle.vision.ops.DeformConv2D(8, 4, 3, padding=1)
        self.weight, self.bias = self.create_parameter([4, 6]), self.create_parameter([6])

    def forward(self, x: Any) -> Any:
        y = self.conv(x)
        floats = F.leaky_relu(F.softplus(F.interpolate(y, scale_factor=2, mode="nearest")), 0.3)
        padded = F.pad(y, [1, 2, 1, 2], value=0.5)
        pooled = F.adaptive_avg_pool2d(y, [3, 5])
        matrix = paddle.addmm(self.bias, y.mean([2, 3])[:, :4], self.weight)
        moved = F.channel_shuffle(paddle.flip(y, [3]), 2)
        return (
            floats,
            padded,
            pooled,
            matrix,
            moved,
            F.gelu(y, approximate=True),
            F.celu(y, 0.7),
            paddle.amax(y, [1, 2]),
            y.mean(1, keepdim=True).expand_as(y),
            paddle.lerp(y, y * 2, 0.3),
            paddle.masked_fill(y, y > 0, 0.25),
            paddle.repeat_interleave(y, 2, 1),
            self.nhwc(y.transpose([0, 2, 3, 1])),
            self.deform(y, self.offset(y)),
            y.sum(),
        )


class FixedPools(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """Adaptive pooling whose bins do not divide the (fixed) input."""

    def forward(self, x: Any) -> Any:
        return F.adaptive_avg_pool2d(x, [5, 3]), F.adaptive_max_pool2d(x, [5, 3])


class Recurrent(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """An LSTM, whose program declares a parameter that is not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 4, direction="bidirectional")

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0]


class Shapeless(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """No parameters at all."""

    def forward(self, x: Any) -> Any:
        return F.relu(x) * 2


class Unsupported(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """An operator that paddle2onnx does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = self.create_parameter([1, 2, 3])

    def forward(self, x: Any) -> Any:
        return F.affine_grid(self.theta, [1, 3, 8, 8]) + x.mean()


IMAGE, OPEN_IMAGE = (1, 3, 12, 10), (None, 3, None, None)
MODELS: dict[str, tuple[type[nn.Layer], tuple[int, ...], tuple[int | None, ...]]] = {
    "cnn": (Cnn, IMAGE, OPEN_IMAGE),
    "cured": (Cured, IMAGE, OPEN_IMAGE),
    "fixed_pools": (FixedPools, (1, 3, 12, 10), (1, 3, 12, 10)),
    "recurrent": (Recurrent, (2, 5, 6), (None, None, 6)),
    "shapeless": (Shapeless, IMAGE, OPEN_IMAGE),
    "unsupported": (Unsupported, (1, 3, 8, 8), (1, 3, 8, 8)),
}


def export(name: str, folder: Path) -> None:
    kind, shape, signature = MODELS[name]
    paddle.seed(3)
    layer = kind()
    feed = np.random.default_rng(5).standard_normal(shape, "float32")
    layer.train()
    with paddle.no_grad():
        layer(paddle.to_tensor(np.repeat(feed, 4, 0)))
    layer.eval()
    stem = folder / name / "inference"
    paddle.jit.save(layer, str(stem), input_spec=[paddle.static.InputSpec(list(signature), "float32", "x")])
    np.savez(folder / name / "reference.npz", **run(stem, feed))


def export_older(folder: Path) -> None:
    """A program as Paddle 2 wrote them: shapes as lists of 0-D and 1-D tensors, the old ``mean``, outputs in place."""
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program):
        x = paddle.static.data("x", [-1, 3, -1, -1], "float32")
    block = program.global_block()

    def op(kind: str, inputs: dict[str, Any], attributes: dict[str, Any], dtype: str = "float32") -> Any:
        out = block.create_var(dtype=dtype, shape=[-1])
        block.append_op(type=kind, inputs=inputs, outputs={"Out": [out]}, attrs=attributes)
        return out

    def size(axis: int) -> Any:
        shape = op("shape", {"Input": [x]}, {}, "int32")
        cut = {"axes": [0], "starts": [axis], "ends": [axis + 1], "decrease_axis": [0], "infer_flags": [1]}
        return op("slice", {"Input": [shape]}, cut, "int32")

    def constant(value: int) -> Any:
        attributes = {"shape": [1], "value": float(value), "dtype": 2, "str_value": str(value)}
        return op("fill_constant", {}, attributes, "int32")

    narrow = op("reduce_max", {"X": [x]}, {"dim": [1], "keep_dim": True, "reduce_all": False})
    sizes = {"X": [narrow], "expand_shapes_tensor": [size(0), constant(3), size(2), size(3)]}
    wide = op("expand_v2", sizes, {"shape": [-1, 3, -1, -1]})
    pieces = {"ShapeTensorList": [size(0), constant(1), constant(1), constant(1)]}
    halves = op("fill_constant", pieces, {"shape": [-1, 1, 1, 1], "value": 0.5, "dtype": 5, "str_value": "0.5"})
    shifted = op("elementwise_add", {"X": [wide], "Y": [halves]}, {"axis": -1})
    unchanged = {"scale": 1.0, "bias": 0.0, "bias_after_scale": True}
    block.append_op(type="scale", inputs={"X": [shifted]}, outputs={"Out": [shifted]}, attrs=unchanged)
    outputs = [shifted, op("mean", {"X": [shifted]}, {})]
    stem = folder / "older" / "inference"
    executor = paddle.static.Executor(paddle.CPUPlace())
    paddle.static.save_inference_model(str(stem), [x], outputs, executor, program=program)
    feed = np.random.default_rng(5).standard_normal((2, 3, 6, 4), "float32")
    np.savez(folder / "older" / "reference.npz", **run(stem, feed))


def run(stem: Path, feed: Any) -> dict[str, Any]:
    from paddle import inference

    program = next(stem.with_suffix(s) for s in (".json", ".pdmodel") if stem.with_suffix(s).exists())
    params = stem.with_suffix(".pdiparams")
    config = inference.Config(str(program), str(params) if params.exists() else "")
    config.disable_glog_info()
    config.disable_mkldnn()
    predictor = inference.create_predictor(config)
    handle = predictor.get_input_handle("x")
    handle.reshape(feed.shape)
    handle.copy_from_cpu(feed)
    predictor.run()
    names = predictor.get_output_names()
    return {"input:x": feed} | {f"output:{name}": predictor.get_output_handle(name).copy_to_cpu() for name in names}


if __name__ == "__main__":
    paddle.disable_signal_handler()
    for wanted in sys.argv[2:]:
        if wanted == "older":
            export_older(Path(sys.argv[1]))
        else:
            export(wanted, Path(sys.argv[1]))
