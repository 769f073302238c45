"""ONNX Runtime on the CPU: engines are ONNX files, quantized ones hold Q/DQ nodes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from trtd.engines.feeds import check_feeds
from trtd.engines.protocol import Arrays
from trtd.errors import EngineError
from trtd.model.facts import TensorFacts

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
} | {f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)}


class OnnxRuntimeRunner:
    """One session.

    Args:
        path: the ONNX file.
        threads: intra-op threads; default: the cores this process may use.
        spin: let idle threads spin between runs: faster, unless others want the cores meanwhile.
        fused: let onnxruntime fuse nodes across the graph. Its fusions can trip over a graph whose inner tensors are
            outputs ("Attempt to replace the existing tensor", 1.32).
        emulate: the graph was written for another target: compute every Q and DQ as it stands there. Otherwise
            onnxruntime takes integer kernels of its own and quantizes biases that were left in float, in FP16 with
            scales that underflow (its WeightBiasQuantization, 1.27).
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        spin: bool = True,
        fused: bool = True,
        emulate: bool = False,
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if not fused:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        options.add_session_config_entry("session.disable_quant_qdq", "1" if emulate else "0")
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes share no base of their own
            raise EngineError(
                f"onnxruntime {ort.__version__} cannot load it: {_first_line(error)}",
                where=str(path),
                hint="an engine: build it again, trtd build SPEC; a source model: check it with onnx.checker",
            ) from error
        self._inputs = tuple(map(_facts, self._session.get_inputs()))
        self._outputs = tuple(map(_facts, self._session.get_outputs()))

    @property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return self._outputs

    def run(self, feeds: Arrays) -> dict[str, np.ndarray[Any, Any]]:
        check_feeds(self._inputs, feeds)
        try:
            values: Sequence[Any] = self._session.run(None, dict(feeds))
        except Exception as error:
            raise EngineError(f"onnxruntime failed: {_first_line(error)}", where=_node(error)) from error
        return {o.name: v for o, v in zip(self._outputs, values, strict=True)}

    def close(self) -> None:
        del self._session


def _facts(node: Any) -> TensorFacts:
    shape = tuple(d if isinstance(d, int) and d >= 0 else None for d in node.shape)
    return TensorFacts(name=node.name, dtype=_DTYPES.get(node.type, node.type), shape=shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _node(error: Exception) -> str:
    """The node that onnxruntime names in ``… running Conv node. Name:'conv_1' …``, if it does."""
    _, found, rest = str(error).partition("Name:'")
    return rest.partition("'")[0] if found else ""
