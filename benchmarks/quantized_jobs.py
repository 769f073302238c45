"""What :mod:`benchmarks.quantized_paddle` lets Paddle do, in a process of its own with ``FLAGS_enable_pir_api=0``.

python -m benchmarks.quantized_jobs export NAME FOLDER      a float program
python -m benchmarks.quantized_jobs run FOLDER FEEDS OUT    run a program as it is; writes OUT, an .npz
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def export(name: str, folder: Path) -> None:
    """The digits example with its trained weights, or an architecture of ``paddle.vision`` with random ones."""
    import paddle

    if name == "digits":
        from specs.digits.train import DigitNet

        layer, shape, feed = DigitNet(), [None, 1, 8, 8], "image"
        _load_weights(layer, ROOT / "specs" / "digits" / "model" / "inference.json")
    else:
        paddle.seed(3)
        layer, shape, feed = getattr(paddle.vision.models, name)(), [None, 3, 224, 224], "x"
        layer.train()
        with paddle.no_grad():  # statistics of BatchNorm, so that activations have sane ranges
            layer(paddle.to_tensor(np.random.default_rng(0).standard_normal((8, 3, 224, 224)).astype("float32")))
    layer.eval()
    spec = [paddle.static.InputSpec(shape, "float32", feed)]
    paddle.jit.save(layer, str(folder / "inference"), input_spec=spec)


def _load_weights(layer: Any, model_file: Path) -> None:
    from trtd.model.inspect import declared_parameters
    from trtd.model.params_values import read_values

    declared = declared_parameters(model_file, "paddle-pir")
    values = read_values(model_file.with_suffix(".pdiparams"), declared, set(declared))
    state = layer.state_dict()
    for tensor in state.values():
        tensor.set_value(values.pop(tensor.name))
    if values:
        raise SystemExit(f"weights without a place: {sorted(values)}")


def run(folder: Path, feeds_file: Path, out: Path) -> None:
    """Outputs of every item by Paddle's native kernels and by oneDNN; of the first item, what is rounded."""
    feeds = dict(np.load(feeds_file))
    ((feed, items),) = feeds.items()
    results = {"native": _infer(folder, feed, items, onednn=False), "onednn": _infer(folder, feed, items, onednn=True)}
    np.savez(out, **results, **_rounded(folder, feed, items[:1]))


def _infer(folder: Path, feed: str, items: Any, *, onednn: bool) -> Any:
    from paddle import inference

    config = inference.Config(str(folder / "inference.pdmodel"), str(folder / "inference.pdiparams"))
    config.disable_glog_info()
    if not onednn:
        config.disable_mkldnn()
    predictor = inference.create_predictor(config)
    handle, (output,) = predictor.get_input_handle(feed), predictor.get_output_names()
    found = []
    for item in items:
        handle.reshape([1, *item.shape])
        handle.copy_from_cpu(item[np.newaxis])
        predictor.run()
        found.append(predictor.get_output_handle(output).copy_to_cpu())
    return np.concatenate(found)


def _rounded(folder: Path, feed: str, item: Any) -> dict[str, Any]:
    import paddle

    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    program, _, _ = paddle.static.load_inference_model(str(folder / "inference"), executor)
    block = program.global_block()
    names = {
        op.input("Scale")[0]: op.input("X")[0]
        for op in block.ops
        if op.type == "quantize_linear" and not (op.has_attr("only_observer") and op.attr("only_observer"))
    }
    if not names:
        return {}
    values = executor.run(program, feed={feed: item}, fetch_list=[block.var(name) for name in names.values()])
    return {f"rounded:{scale}": value for scale, value in zip(names, values, strict=True)}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["export", name, folder]:
            export(name, Path(folder))
        case ["run", folder, feeds_file, out]:
            run(Path(folder), Path(feeds_file), Path(out))
