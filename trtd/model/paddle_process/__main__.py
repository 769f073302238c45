"""The two conversion steps that run Paddle's own code, as a process that may abort.

    python trtd/model/paddle_process translate NAME.pdmodel NAME.pdiparams OUT_STEM      -> PIR .json + .pdiparams
    python trtd/model/paddle_process export NAME.json OUT.onnx OPSET [--decompose]       -> ONNX

paddle2onnx calls ``abort`` on what it cannot convert, and says why on standard output only. Nothing of trtd is
imported, so any interpreter that has paddle and paddle2onnx can run this.

Exit codes: 0 done, 4 a package is missing or unfit (the last line says which), anything else: it failed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

EXIT_ENVIRONMENT = 4


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
        case _:
            sys.exit(f"unknown arguments: {arguments}")


def _imported() -> tuple[Any, Any]:
    """Paddle and paddle2onnx. Paddle's signal handler would bury the reason of an abort under a stack trace."""
    try:
        import paddle
        import paddle2onnx
    except (ImportError, ValueError) as error:  # ValueError: paddle2onnx found a Paddle that is too old
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        sys.stdout.flush()
        os._exit(EXIT_ENVIRONMENT)
    paddle.disable_signal_handler()
    return paddle, paddle2onnx


if __name__ == "__main__":
    main(sys.argv[1:])
