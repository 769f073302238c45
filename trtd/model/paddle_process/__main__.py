"""The steps that run Paddle's own code, as a process that may abort.

    python trtd/model/paddle_process translate NAME.pdmodel NAME.pdiparams OUT_STEM      -> PIR .json + .pdiparams
    python trtd/model/paddle_process export NAME.json OUT.onnx OPSET [--decompose]       -> ONNX
    python trtd/model/paddle_process quantize NAME.pdmodel NAME.pdiparams FEEDS OUT_STEM OPTIONS
                                                                                         -> .pdmodel + .pdiparams
FEEDS is a folder of .npz files, one a batch; OPTIONS is JSON: see :class:`trtd.model.paddle_ptq.PtqOptions`.

paddle2onnx calls ``abort`` on what it cannot convert, and says why on standard output only. Nothing of trtd is
imported, so any interpreter that has paddle and paddle2onnx can run this.

Exit codes: 0 done, 4 a package is missing or unfit (the last line says which), anything else: it failed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

EXIT_ENVIRONMENT = 4
# Lines that the parent understands, of ``quantize``.
PROGRESS, SKIPPED, UNKNOWN, NOTHING = (f"trtd:{word}" for word in ("progress", "skipped", "unknown", "nothing"))


def translate(model_file: Path, params_file: str, out_stem: Path) -> None:
    """Load an older program with its parameters, translate it to PIR and save both as Paddle 3 does."""
    paddle, paddle2onnx = _imported()
    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    with paddle.pir_utils.OldIrGuard():
        if params_file:
            program, _, _ = paddle.static.load_inference_model(
                str(model_file.parent), executor, model_filename=model_file.name, params_filename=Path(params_file).name
            )
        else:
            program = paddle.load(str(model_file))
    _keep_shape_pieces_one_dimensional(program)
    translated = paddle.pir.translate_to_pir(program.desc)
    if params_file:
        paddle2onnx.load_parameter(translated)
        paddle2onnx.save_program(translated, str(out_stem))
    else:
        with paddle.pir_utils.IrGuard():
            paddle.save(translated, f"{out_stem}.json")


def _keep_shape_pieces_one_dimensional(program: Any) -> None:
    """Let sizes taken from a shape stay vectors of one element where ``fill_constant`` gets its shape as a list.

    Older programs mix them with constants of shape (1,), as recurrent networks do for their first state. Paddle's
    translation takes such sizes for scalars, and then fails to stack the list.
    """
    for block in program.blocks:
        readers: dict[str, set[str]] = {}
        for op in block.ops:
            for slot in op.input_names:
                for name in op.input(slot):
                    readers.setdefault(name, set()).add(f"{op.type}.{slot}")
        for op in block.ops:
            wanted = op.type == "slice" and list(op.attr("decrease_axis")) == [0]
            if wanted and readers.get(op.output("Out")[0]) == {"fill_constant.ShapeTensorList"}:
                op._set_attr("decrease_axis", [])
                block.var(op.output("Out")[0]).desc.set_shape([1])


def export(model_file: Path, out: Path, opset: int, decompose: bool) -> None:
    """Convert a PIR program; raises or aborts on what paddle2onnx does not know."""
    _, paddle2onnx = _imported()
    paddle2onnx.export(
        str(model_file),
        str(model_file.with_suffix(".pdiparams")),
        str(out),
        opset_version=opset,
        dist_prim_all=decompose,
        enable_onnx_checker=False,
        optimize_tool="None",
    )


def quantize(model_file: Path, params_file: Path, feeds: Path, out_stem: Path, options: dict[str, Any]) -> None:
    """Post-training quantization by Paddle, into ``quantize_linear`` and ``dequantize_linear`` operators."""
    import numpy as np

    paddle = _paddle()
    from paddle.static.quantization import PostTrainingQuantization, quant_config

    files = sorted(feeds.glob("*.npz"))
    total = len(files) * (2 if options["algorithm"] in ("KL", "hist") else 1)

    class Loader(paddle.io.DataLoader):  # type: ignore[misc,name-defined]  # 2.6.2 takes nothing else
        """All that Paddle asks of a data loader: a length, and one pass over the feeds for each call."""

        handed_over = 0

        def __init__(self) -> None:
            pass

        def __len__(self) -> int:
            return len(files)

        def __call__(self) -> Any:
            for file in files:
                _say(f"{PROGRESS} {self.handed_over} {total}")  # a batch is done when the next is asked for
                self.handed_over += 1
                with np.load(file) as arrays:
                    yield dict(arrays)

    paddle.enable_static()
    executor = paddle.static.Executor(paddle.CPUPlace())
    program, _, _ = paddle.static.load_inference_model(
        str(model_file.parent), executor, model_filename=model_file.name, params_filename=params_file.name
    )
    names = [var.name for var in program.list_vars()]
    if unknown := sorted(set(options["skip"]) - set(names)):
        _say(f"{UNKNOWN} {json.dumps([unknown, names])}")
        sys.exit(1)
    known_ops = {op.type for block in program.blocks for op in block.ops}
    if not known_ops & set(quant_config.SUPPORT_WEIGHT_QUANTIZATION_OP_DICT):
        _say(NOTHING)
        sys.exit(1)
    wrong = _quantized_wrongly(program)
    for name in wrong:
        _say(f"{SKIPPED} {name}")
    ptq = PostTrainingQuantization(
        executor,
        str(model_file.parent),
        model_filename=model_file.name,
        params_filename=params_file.name,
        data_loader=Loader(),
        batch_nums=len(files),
        algo=options["algorithm"],
        hist_percent=options["hist_percent"],
        onnx_format=True,
        skip_tensor_list=[*options["skip"], *wrong],
    )
    ptq.quantize()
    _say(f"{PROGRESS} {total} {total}")
    ptq.save_quantized_model(str(out_stem.parent), model_filename=out_stem.name)


def _quantized_wrongly(program: Any) -> list[str]:
    """Weights that Paddle 3.3 would quantize along the wrong axis, or into a model that it cannot run itself.

    Those that are multiplied transposed: their scales belong to one axis and are applied to the other. Those of
    one-dimensional convolutions: the scales of the reshaped weight are never computed.
    """
    found = []
    for block in program.blocks:
        weights = {var.name for var in program.list_vars() if var.persistable}
        reshaped = {name: op.output("Out")[0] for op in block.ops if op.type == "unsqueeze2" for name in op.input("X")}
        for op in block.ops:
            if op.type in ("matmul_v2", "matmul"):
                transposed = op.attr("trans_y" if op.type == "matmul_v2" else "transpose_Y")
                found += [name for name in op.input("Y") if transposed and name in weights]
            elif "Filter" in op.input_names:
                found += [n for n, out in reshaped.items() if out in op.input("Filter") for n in (n, out)]
    return list(dict.fromkeys(found))


def main(arguments: list[str]) -> None:
    if sys.platform == "linux":  # end with the parent, whatever ends it
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != int(os.environ.get("TRTD_PARENT", os.getppid())):  # it ended before the line above
            sys.exit("the stage that asked for this is gone")
    match arguments:
        case ["translate", model_file, params_file, out_stem]:
            translate(Path(model_file), params_file, Path(out_stem))
        case ["export", model_file, out, opset, *flags]:
            export(Path(model_file), Path(out), int(opset), "--decompose" in flags)
        case ["quantize", model_file, params_file, feeds, out_stem, options]:
            quantize(Path(model_file), Path(params_file), Path(feeds), Path(out_stem), json.loads(options))
        case _:
            sys.exit(f"unknown arguments: {arguments}")


def _imported() -> tuple[Any, Any]:
    """Paddle and paddle2onnx."""
    paddle = _paddle()
    try:
        import paddle2onnx
    except (ImportError, ValueError) as error:  # ValueError: paddle2onnx found a Paddle that is too old
        _end_without(error)
    return paddle, paddle2onnx


def _paddle() -> Any:
    """Paddle. Its signal handler would bury the reason of an abort under a stack trace."""
    try:
        import paddle
    except ImportError as error:
        _end_without(error)
    paddle.disable_signal_handler()
    return paddle


def _end_without(error: Exception) -> NoReturn:
    _say(f"{type(error).__name__}: {error}")
    os._exit(EXIT_ENVIRONMENT)


def _say(line: str) -> None:
    """A line of its own, whatever progress bar Paddle is drawing on standard error."""
    sys.stderr.flush()
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
