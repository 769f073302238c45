"""The same calls as a script of a few lines, for who wants Paddle and nothing of trtd."""

from __future__ import annotations

from typing import Any

from trtd.engines.paddle.settings import OPT_CACHE, Call, InFolder, PaddleSettings, Precision, calls

_HEAD = '''\
"""Run this engine with Paddle alone: python {script} INPUTS.npz [OUTPUTS.npz]. Written by trtd; it needs no trtd."""
import os, pathlib, sys
import numpy as np
import paddle.inference as paddle

here = pathlib.Path(__file__).resolve().parent
config = paddle.Config({model})
'''
_TAIL = """\
predictor = paddle.create_predictor(config)
for name, array in np.load(sys.argv[1]).items():
    handle = predictor.get_input_handle(name)
    handle.reshape(array.shape)
    handle.copy_from_cpu(np.ascontiguousarray(array))
predictor.run()
outputs = {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}
np.savez(sys.argv[2], **outputs) if len(sys.argv) > 2 else print({name: value.shape for name, value in outputs.items()})
"""


def render_script(settings: PaddleSettings, name: str) -> str:
    """A Python script that stands beside the model and says to Paddle what ``settings`` say.

    Calibration tables and engines are read from ``_opt_cache`` beside it, where Paddle may also write: copy the folder
    out of a registry before running it there.
    """
    model = f"str(here / {settings.model_file!r}), "  # one argument alone would be a folder
    model += f"str(here / {settings.params_file!r})" if settings.params_file else "''"
    lines = [_line(call) for call in calls(settings)]
    if not settings.gpu:  # Paddle itself would take one
        lines.append("config.set_cpu_math_library_num_threads(len(os.sched_getaffinity(0)))")
    if settings.gpu:  # a Paddle without GPUs tells its log, and goes on with the CPU
        lines.append("assert config.use_gpu(), 'this Paddle was built without GPUs'")
    if settings.tensorrt is not None:
        lines.append(f"config.set_optim_cache_dir(str(here / {OPT_CACHE!r}))")
    return _HEAD.format(script=name, model=model) + "\n".join(lines) + "\n" + _TAIL


def _line(call: Call) -> str:
    arguments = [_text(value) for value in call.positional]
    arguments += [f"{name}={_text(value)}" for name, value in call.arguments.items()]
    return f"config.{call.method}({', '.join(arguments)})"


def _text(value: Any) -> str:
    if isinstance(value, Precision):
        return f"paddle.PrecisionType.{value.name}"
    return f"str(here / {value.name!r})" if isinstance(value, InFolder) else repr(value)
