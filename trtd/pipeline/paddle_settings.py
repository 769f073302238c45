"""From a spec to what is said to Paddle."""

from __future__ import annotations

from trtd.engines.paddle.settings import (
    PRECISIONS,
    SHAPE_RANGE_FILE,
    PaddleSettings,
    ShapeRange,
    TensorRTSettings,
)
from trtd.engines.table import paddle_on_gpu, paddle_release
from trtd.model.facts import ModelFacts
from trtd.pipeline.intake import Intake
from trtd.spec.fields import Precision

_FILES = {"paddle-pir": "model.json", "paddle-program": "model.pdmodel"}
PARAMS_FILE = "model.pdiparams"


def settings_of(intake: Intake, facts: ModelFacts, precision: Precision) -> PaddleSettings:
    """The settings of one engine.

    Args:
        facts: of the model that it is made of: the spec's, or the quantized one beside that.
    """
    engine = intake.spec.engine
    tensorrt = engine.only_target == "paddle-tensorrt"
    return PaddleSettings(
        model_file=_FILES[facts.format],
        params_file=PARAMS_FILE if len(facts.files) > 1 else "",
        precision=PRECISIONS[precision],
        gpu=tensorrt or paddle_on_gpu(),
        inputs=facts.inputs,
        memory_pool_init_size_mb=engine.paddle.memory_pool_init_size_mb,
        tensorrt=_tensorrt(intake, facts, precision) if tensorrt else None,
        converted=tensorrt and facts.format == "paddle-pir",
    )


def _tensorrt(intake: Intake, facts: ModelFacts, precision: Precision) -> TensorRTSettings:
    paddle = intake.spec.engine.paddle
    collected = SHAPE_RANGE_FILE if paddle.collect_shape_range_info else ""
    return TensorRTSettings(
        workspace_size=paddle.workspace_size,
        max_batch_size=paddle.max_batch_size or max(1, intake.max_batch),
        min_subgraph_size=paddle.min_subgraph_size,
        use_static=paddle.use_static,
        use_calib_mode=precision == "int8" and not facts.quantized,  # a spec that says otherwise is refused
        use_cuda_graph=paddle.use_cuda_graph,
        shapes={} if collected else _shapes(intake, facts),
        shape_range_file=collected,
        disable_ops=tuple(paddle.exp_disable_tensorrt_ops),
        disable_subgraph=tuple(paddle.exp_disable_tensorrt_subgraph),
    )


def _shapes(intake: Intake, facts: ModelFacts) -> dict[str, ShapeRange]:
    """Ranges of the inputs; none where nothing is open, or with Paddle 2 the batch alone, as ``max_batch_size`` says.

    A size that the model leaves open and the spec does not is a range too: TensorRT reads the model. Paddle 3 has no
    implicit batch any more: without ranges, it would be fixed to ``max_batch_size``.
    """
    batches = (paddle_release() or (3, 0)) >= (3, 0) and any(p.min != p.max for p in intake.profiles.values())
    if not batches and not any(None in tensor.shape[1:] for tensor in facts.inputs):
        return {}
    return {name: ShapeRange(min=p.min, max=p.max, optim=p.opt) for name, p in intake.profiles.items()}
