"""Make small Paddle models for the tests, float and quantized, and run them in Paddle: a process of its own.

    python export.py older FOLDER      programs (.pdmodel): "float", "trained", "fake"
    python export.py pir FOLDER        Paddle 3 (.json): "stored", "unrounded"
    python export.py run FOLDER...     run programs as they are; writes reference.npz beside each

``reference.npz`` holds inputs and what Paddle makes of them; of programs also what Paddle rounds, before
it is rounded, by the names of scales.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["GLOG_minloglevel"] = "3"  # noqa: SIM112 - the name is glog's
os.environ["FLAGS_enable_pir_api"] = "1" if sys.argv[1] == "pir" else "0"  # noqa: SIM112 - as Paddle spells it

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812
from paddle import nn
from paddle.base.layer_helper import LayerHelper

IMAGE, TOKENS = (4, 3, 16, 16), (4, 6, 8)


def older_op(kind: str, inputs: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """An operator of a program. Paddle 3.3 exports some of its functions to PIR only: matmul, gelu."""
    helper = LayerHelper(kind)
    out = helper.create_variable_for_type_inference("float32")
    helper.append_op(type=kind, inputs=inputs, outputs={"Out": out}, attrs=attributes)
    return out


def matmul(x: Any, y: Any, transposed: bool = False) -> Any:
    if paddle.in_dynamic_mode() or paddle.base.framework.in_pir_mode():
        return paddle.matmul(x, y, transpose_y=transposed)
    return older_op("matmul_v2", {"X": x, "Y": y}, {"trans_x": False, "trans_y": transposed})


class Residual(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """Convolutions with BatchNorm, a residual, depthwise and transposed convolutions, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_bn = nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8)
        self.body, self.body_bn = nn.Conv2D(8, 8, 3, padding=1, bias_attr=False), nn.BatchNorm2D(8)
        self.wide, self.wide_bn = nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.BatchNorm2D(8)
        self.up, self.head = nn.Conv2DTranspose(8, 8, 2, stride=2), nn.Linear(8, 5)

    def forward(self, image: Any) -> Any:
        y = F.relu(self.stem_bn(self.stem(image)))
        y = F.relu(self.body_bn(self.body(y)) + y)
        y = self.up(F.hardswish(self.wide_bn(self.wide(y))))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Mobile(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """An inverted residual with squeeze-and-excitation, as MobileNet v3 has."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.narrow_bn = nn.Conv2D(3, 8, 1, bias_attr=False), nn.BatchNorm2D(8)
        self.expand, self.expand_bn = nn.Conv2D(8, 16, 1, bias_attr=False), nn.BatchNorm2D(16)
        self.depth, self.depth_bn = nn.Conv2D(16, 16, 3, padding=1, groups=16, bias_attr=False), nn.BatchNorm2D(16)
        self.squeeze, self.excite = nn.Conv2D(16, 4, 1), nn.Conv2D(4, 16, 1)
        self.project, self.project_bn = nn.Conv2D(16, 8, 1, bias_attr=False), nn.BatchNorm2D(8)

    def forward(self, image: Any) -> Any:
        x = F.relu(self.narrow_bn(self.narrow(image)))
        y = F.relu6(self.depth_bn(self.depth(F.hardswish(self.expand_bn(self.expand(x))))))
        y = y * F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(y, 1)))))
        return self.project_bn(self.project(y)) + x


class Former(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """A transformer block: attention over two activations, LayerNorm, a feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(8), nn.LayerNorm(8)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, tokens: Any) -> Any:
        x = self.before(tokens)
        q, k, v = (layer(x).reshape([0, -1, 2, 4]).transpose([0, 2, 1, 3]) for layer in (self.q, self.k, self.v))
        mixed = matmul(F.softmax(matmul(q, k, True) * 0.5), v).transpose([0, 2, 1, 3]).reshape([0, -1, 8])
        x = tokens + self.o(mixed)
        return x + self.down(F.relu(self.up(self.between(x))))


class Everything(nn.Layer):  # type: ignore[misc]  # paddle is read as untyped
    """All of the above side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.residual, self.mobile, self.former = Residual(), Mobile(), Former()

    def forward(self, image: Any, tokens: Any) -> Any:
        return self.residual(image), self.mobile(image), self.former(tokens)


def batches(count: int, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    shapes = {"image": IMAGE, "tokens": TOKENS}
    return [{n: random.standard_normal(s).astype("float32") for n, s in shapes.items()} for _ in range(count)]


def settled(kind: type[nn.Layer], inputs: list[str]) -> Any:
    """A layer whose BatchNorm has seen data, and with scales of both signs and very different sizes."""
    paddle.seed(3)
    layer = kind()
    layer.train()
    with paddle.no_grad():
        for batch in batches(3, 0):
            layer(*(paddle.to_tensor(batch[name]) for name in inputs))
        for name, value in layer.named_parameters():
            if name.endswith("_bn.weight"):
                value.set_value(np.resize(np.array([1.5, -0.7, 0.05, 2.0, -1.1], "float32"), value.shape))
    layer.eval()
    return layer


def specs(batch: int | None) -> list[Any]:
    shapes = {"image": IMAGE, "tokens": TOKENS}
    return [paddle.static.InputSpec([batch, *shape[1:]], "float32", name) for name, shape in shapes.items()]


def export_older(folder: Path) -> None:
    """A float program; one that was trained rounded; and one in Paddle's older form of quantization."""
    from paddle.quantization import ImperativeQuantAware

    paddle.jit.save(
        settled(Everything, ["image", "tokens"]), str(folder / "float" / "inference"), input_spec=specs(None)
    )
    layer = settled(Residual, ["image"])
    settings = {"weight_quantize_type": "channel_wise_abs_max", "activation_quantize_type": "moving_average_abs_max"}
    aware = ImperativeQuantAware(**settings, onnx_format=True)
    aware.quantize(layer)
    layer.train()
    step = paddle.optimizer.SGD(0.01, parameters=layer.parameters())
    for batch in batches(3, 1):
        layer(paddle.to_tensor(batch["image"])).square().mean().backward()
        step.step()
        step.clear_grad()
    layer.eval()
    aware.save_quantized_model(layer, str(folder / "trained" / "inference"), input_spec=specs(None)[:1])
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program):
        x = paddle.static.data("x", [4], "float32")
    block = program.global_block()
    out, scale = (block.create_var(dtype="float32", shape=[4]) for _ in range(2))
    attributes = {"bit_length": 8, "round_type": 0}
    block.append_op(
        type="fake_quantize_dequantize_abs_max",
        inputs={"X": x},
        outputs={"Out": out, "OutScale": scale},
        attrs=attributes,
    )
    executor = paddle.static.Executor(paddle.CPUPlace())
    paddle.static.save_inference_model(str(folder / "fake" / "inference"), [x], [out], executor, program=program)


def export_pir(folder: Path) -> None:
    """paddle.quantization in Paddle 3's own format, with weights stored rounded and unrounded; fixed shapes only."""
    from paddle.quantization import PTQ, QuantConfig
    from paddle.quantization.observers import AbsmaxObserver

    observer = AbsmaxObserver(quant_bits=8)
    ptq = PTQ(QuantConfig(activation=observer, weight=observer))
    layer = ptq.quantize(settled(Everything, ["image", "tokens"]))
    for batch in batches(3, 1):
        layer(*map(paddle.to_tensor, batch.values()))
    (feed,) = batches(1, 9)
    for name, unrounded in (("stored", False), ("unrounded", True)):
        converted = ptq.convert(layer, remain_weight=unrounded)
        outputs = converted(*map(paddle.to_tensor, feed.values()))
        paddle.jit.save(converted, str(folder / name / "inference"), input_spec=specs(IMAGE[0]))
        results = {f"output:{i}": output.numpy() for i, output in enumerate(outputs)}
        np.savez(folder / name / "reference.npz", **{f"input:{n}": a for n, a in feed.items()}, **results)


def run(folder: Path) -> None:
    """The program as it is, by Paddle's executor: every operator by itself, nothing fused."""
    executor = paddle.static.Executor(paddle.CPUPlace())
    program, inputs, outputs = paddle.static.load_inference_model(str(folder / "inference"), executor)
    rounded = {
        op.input("Scale")[0]: op.input("X")[0]
        for op in program.global_block().ops
        if op.type == "quantize_linear" and not (op.has_attr("only_observer") and op.attr("only_observer"))
    }
    (feed,) = batches(1, 9)
    feed = {name: feed[name] for name in inputs}
    wanted = [program.global_block().var(name) for name in rounded.values()]
    values = executor.run(program, feed=feed, fetch_list=[*outputs, *wanted])
    results = {f"output:{i}": value for i, value in enumerate(values[: len(outputs)])}
    results |= {f"rounded:{name}": value for name, value in zip(rounded, values[len(outputs) :], strict=True)}
    np.savez(folder / "reference.npz", **{f"input:{name}": array for name, array in feed.items()}, **results)


if __name__ == "__main__":
    paddle.disable_signal_handler()
    if sys.argv[1] == "older":
        export_older(Path(sys.argv[2]))
    elif sys.argv[1] == "pir":
        export_pir(Path(sys.argv[2]))
    else:
        paddle.enable_static()
        for each in sys.argv[2:]:
            run(Path(each))
