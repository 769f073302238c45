"""Turn the words and the death of paddle2onnx into one error that names the operators."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from pathlib import Path

from trtd.errors import ConversionError
from trtd.model.facts import ModelFacts

_OP_FAULT = re.compile(r"\[ERROR\].*\[OP: (?:pd_op\.)?([\w.]+)\]\s*(.*)")
_OTHER_FAULT = re.compile(r"\[ERROR\]\s*(?:\[Paddle2ONNX\])?\s*(.*)")
_LISTED = re.compile(r"not supported yet, including ([\w,. ]+)")
_HINTS = (
    ("static input shape", "Export with fixed height and width for this operator, or use an output size of 1."),
    ("must be fixed", "Export with that dimension fixed in the input_spec."),
    ("NHWC", "Export the model with data_format='NCHW'."),
)
_DEFAULT_HINT = (
    "Leave the operator out of the exported part (post-processing such as NMS can run after the engine), "
    "or give an ONNX model exported by other means."
)

# operators that paddle2onnx 2.1.0 has a converter for, by their PIR names; only used to name the culprit
SUPPORTED = frozenset(
    """
    abs acos add all amax any arange argmax argmin argsort array_length array_read array_to_tensor array_write_
    asin assign assign_out_ assign_value assign_value_ atan atan2 batch_norm batch_norm_ bicubic_interp
    bilinear_interp bitwise_and bitwise_not bitwise_or bitwise_xor bmm cast cast_ ceil clip concat conv2d
    conv2d_transpose conv3d conv3d_transpose cos cosh create_array cross_entropy_with_softmax cumsum
    deformable_conv depthwise_conv2d depthwise_conv2d_transpose dequantize_linear dist divide dot dropout einsum
    elementwise_pow elu embedding empty equal erf exp expand expand_as eye fft_r2c flatten flip floor
    floor_divide full full_int_array full_like full_with_tensor gather gather_nd gaussian gelu greater_equal
    greater_than grid_sample group_norm hardshrink hardsigmoid hardswish hardtanh has_elements if increment_
    index_put index_sample index_select instance_norm isfinite isinf isnan layer_norm leaky_relu less_equal
    less_than linear_interp linspace log log10 log1p log2 log_softmax logical_and logical_not logical_or
    logical_xor logsigmoid logsumexp masked_select matmul max max_pool2d_with_index max_pool3d_with_index
    maximum mean meshgrid min minimum mish multiclass_nms3 multinomial multiply mv nearest_interp nonzero
    not_equal one_hot p_norm pad pad3d pixel_shuffle pool2d pool3d pow prelu print prod put_along_axis
    quantize_linear reciprocal relu relu6 remainder repeat_interleave reshape rnn roi_align roll round rsqrt
    scale scatter scatter_nd_add select_input selu set_value set_value_ set_value_with_tensor
    set_value_with_tensor_ shape shape64 share_data share_data_ sigmoid sign silu sin sinh slice softmax
    softplus softshrink softsign split split_with_num sqrt square squeeze stack strided_slice subtract sum swish
    take_along_axis tan tanh tanh_shrink temporal_shift thresholded_relu tile topk transpose tril
    trilinear_interp triu unbind unfold uniform unique unsqueeze unstack where while yield yolo_box combine
    parameter numel
    """.split()
)


def wrote(arguments: list[str]) -> bool:
    """Whether the step left its file: paddle2onnx can fail and still exit with 0."""
    produced = Path(arguments[-1] + ".json") if arguments[0] == "translate" else Path(arguments[2])
    return produced.exists() and produced.stat().st_size > 0


def explain(step: str, exit_code: int, output: str, facts: ModelFacts, where: Path) -> ConversionError:
    """One error for a failed step: which operators, why, and what to do instead."""
    ops = list(facts.ops)
    if step == "translate":
        reason = _last_error_line(output) or _death(exit_code)
        return ConversionError(
            f"Paddle could not load the program and translate it to PIR: {reason}",
            hint="Check that it runs in Paddle Inference; models of Paddle 1.x must be saved again with Paddle 2 or 3.",
            where=str(where),
        )
    faults = [f"{op}: {why}" for op, why in _OP_FAULT.findall(output)]
    if faults:
        hint = next((h for key, h in _HINTS if any(key in fault for fault in faults)), _DEFAULT_HINT)
        return ConversionError(f"paddle2onnx cannot convert {'; '.join(_unique(faults))}", hint=hint, where=str(where))
    listed = [name.strip() for group in _LISTED.findall(output) for name in group.split(",") if name.strip()]
    unknown = listed or [op for op in ops if op not in SUPPORTED]
    if "unsupported operators" in output and unknown:
        plural = "s" if len(unknown) > 1 else ""
        return ConversionError(
            f"paddle2onnx knows no operator{plural} {', '.join(unknown)}", hint=_DEFAULT_HINT, where=str(where)
        )
    reason = _last_error_line(output) or _death(exit_code)
    suspects = f" (operators that it may not know: {', '.join(unknown)})" if unknown else ""
    return ConversionError(f"paddle2onnx failed: {reason}{suspects}", hint=_DEFAULT_HINT, where=str(where))


def _last_error_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [m.group(1).strip() for m in map(_OTHER_FAULT.search, lines) if m and m.group(1).strip()]
    said = [text for text in said if not text.startswith("There are unsupported features")]
    if said:
        return said[-1]
    raised = [line for line in lines if re.match(r"(\w+Error|\w+Exception|.*what\(\)):", line)]
    raised = [line for line in raised if not line.startswith("UnboundLocalError")]
    return raised[-1] if raised else ""


def _death(exit_code: int) -> str:
    if exit_code < 0:
        return f"its process died of {signal.Signals(-exit_code).name}"
    return f"its process ended with {exit_code} and without a model"


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))
