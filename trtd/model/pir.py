"""PIR normalization: rewrite what paddle2onnx 2.1 cannot read, or reads wrongly, into what it converts well.

Pure JSON -> JSON, no Paddle needed. Each rule names the symptom that it cures; a rule that finds nothing to cure
changes nothing. Add a rule by writing it in :mod:`trtd.model.pir_rules` or :mod:`trtd.model.pir_pooling` and
listing it here.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from trtd.errors import ConversionError
from trtd.model import pir_pooling, pir_rules
from trtd.model.pir_edit import Editor, Op
from trtd.model.pir_facts import block_of

Rewrite = Callable[[Op, Editor], list[Op] | None]


@dataclass(frozen=True)
class Rule:
    """One named rewrite.

    Attributes:
        name: shown in the build log.
        symptom: what happens without it.
        ops: operator types that it looks at, without dialect; empty means all.
        rewrite: returns the operators that stand in for the one given, or ``None`` if it has nothing to cure.
    """

    name: str
    symptom: str
    ops: frozenset[str]
    rewrite: Rewrite


def _rule(name: str, ops: str, rewrite: Rewrite, symptom: str) -> Rule:
    return Rule(name, symptom, frozenset(ops.split()), rewrite)


RULES: tuple[Rule, ...] = (
    _rule(
        "float64-attributes",
        "",
        pir_rules.float64_attributes,
        "Paddle 3.1+ stores some attributes as float64, paddle2onnx reads float32: interpolation and softplus abort, "
        "leaky_relu and padding silently take a wrong constant",
    ),
    _rule("gelu-tanh", "gelu", pir_rules.gelu_tanh, "approximate=True is ignored: relative L2 error 2e-4 a layer"),
    _rule("celu", "celu", pir_rules.celu, "unsupported operator"),
    _rule(
        "reduce-all-axes",
        "mean sum max min prod",
        pir_rules.reduce_all_axes,
        "aborts, or yields shape (1,), without axes",
    ),
    _rule("mean-all", "mean_all", pir_rules.mean_all, "unsupported operator"),
    _rule("in-place-scale", "scale_", pir_rules.in_place_scale, "unsupported operator; Paddle 2 saves outputs so"),
    _rule(
        "shape-list", "expand tile full_with_tensor", pir_rules.shape_list, "crashes where a shape is a list of tensors"
    ),
    _rule("amax", "amax amin", pir_rules.amax, "unsupported operator"),
    _rule("expand-as", "expand_as", pir_rules.expand_as, "open dimensions become -1 in Expand, which fails when run"),
    _rule("addmm", "addmm", pir_rules.addmm, "unsupported operator"),
    _rule("lerp", "lerp", pir_rules.lerp, "unsupported operator"),
    _rule("masked-fill", "masked_fill masked_fill_", pir_rules.masked_fill, "unsupported operator"),
    _rule("flip", "flip", pir_rules.flip, "aborts where the flipped dimension is open"),
    _rule("channel-shuffle", "channel_shuffle", pir_rules.channel_shuffle, "unsupported operator"),
    _rule("repeat-interleave", "repeat_interleave", pir_rules.repeat_interleave, "yields a Tile that fails when run"),
    _rule("deformable-conv-v1", "deformable_conv", pir_rules.deformable_conv_v1, "crashes where there is no mask"),
    _rule(
        "nhwc",
        "conv2d depthwise_conv2d conv2d_transpose pool2d batch_norm batch_norm_ nearest_interp bilinear_interp",
        pir_rules.nhwc,
        "aborts on data_format NHWC",
    ),
    _rule(
        "adaptive-average",
        "pool2d",
        pir_pooling.adaptive_average,
        "aborts where height or width is open; wrong, or a division by zero when run, where bins do not divide them",
    ),
    _rule(
        "adaptive-max",
        "max_pool2d_with_index",
        pir_pooling.adaptive_max,
        "wrong where bins do not divide height and width",
    ),
)


def normalize(program: dict[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
    """Apply all rules to a PIR program.

    Returns the rewritten program, the original being left as it was, and how often each rule had something to cure.
    Raises ``ConversionError`` if an operator is not made as Paddle 3 makes it.
    """
    program = copy.deepcopy(program)
    applied: Counter[str] = Counter()
    try:
        editor = Editor(program)
        _normalize_block(block_of(program), editor, applied)
    except (LookupError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ConversionError(
            f"the program holds an operator that PIR normalization cannot read ({type(error).__name__}: {error})",
            hint="It is damaged, or of a Paddle version that is not known here: please report it with the model.",
        ) from error
    return program, dict(applied)


def _normalize_block(block: Any, editor: Editor, applied: Counter[str]) -> None:
    ops: list[Op] = []
    for op in block["ops"]:
        for region in op.get("regions", ()):
            for inner in region["blocks"]:
                _normalize_block(inner, editor, applied)
        ops += _apply([op], editor, applied)
    block["ops"] = ops


def _apply(ops: list[Op], editor: Editor, applied: Counter[str]) -> list[Op]:
    for rule in RULES:
        after: list[Op] = []
        for op in ops:
            looks = not rule.ops or op["#"].partition(".")[2] in rule.ops
            replacement = rule.rewrite(op, editor) if looks else None
            if replacement is not None:
                applied[rule.name] += 1
            after += [op] if replacement is None else replacement
        ops = after
    return ops
