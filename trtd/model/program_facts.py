"""Facts of a Paddle program in the older format, ``.pdmodel`` (a protobuf ``ProgramDesc``)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from trtd.errors import ModelError
from trtd.model.facts import TensorFacts
from trtd.model.params_file import DTYPES, Parameter
from trtd.model.pir_facts import ProgramFacts
from trtd.model.proto import read_message, text

_DENSE_TENSOR = 7
_PLUMBING = frozenset({"feed", "fetch"})
_QUANTIZERS = frozenset({b"quantize_linear", b"dequantize_linear"})
_PADDLE_2 = 2_000_000  # versions are major * 10^6 + minor * 10^3 + patch


def read(file: Path) -> ProgramFacts:
    """Read a ``.pdmodel``. Raises ``ModelError`` if it is truncated or no inference program."""
    program = read_message("PaddleProgram", file)
    _check_whole(program, file)
    block = program.blocks[0]
    variables = {text(var.name, file): var for var in block.vars}
    inputs = [_tensor(name, variables, file) for name in _plumbed(block, "feed", file)]
    outputs = [_tensor(name, variables, file) for name in _plumbed(block, "fetch", file)]
    if not outputs:
        raise ModelError(
            "the program fetches nothing: it is truncated or was saved for training",
            hint="Export it for inference with paddle.jit.save.",
            where=str(file),
        )
    ops = [op for each in program.blocks for op in each.ops]
    types = Counter(text(op.type, file) for op in ops)
    quantized = {n for op in ops if op.type in _QUANTIZERS for slot in op.inputs for n in slot.arguments}
    return ProgramFacts(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        ops={name: count for name, count in types.items() if name not in _PLUMBING},
        parameters={
            name: _parameter(var, var.name in quantized)
            for name, var in variables.items()
            if var.persistable and var.type.type == _DENSE_TENSOR
        },
    )


def _check_whole(program: Any, file: Path) -> None:
    """A cut on a field boundary still parses: then blocks, operators or the closing version fields are missing.

    Paddle 2 and later close every saved program with the versions of its operators.
    """
    whole = len(program.blocks) > 0 and program.HasField("version") and all(block.ops for block in program.blocks)
    whole = whole and (program.version.version < _PADDLE_2 or program.HasField("op_version_map"))
    inner = [a.block_idx for b in program.blocks for op in b.ops for a in op.attrs if a.HasField("block_idx")]
    if not whole or any(not 0 <= index < len(program.blocks) for index in inner):
        raise ModelError(
            "this is no whole Paddle program",
            hint="The file is truncated or is of another kind: copy it again, or export it with paddle.jit.save.",
            where=str(file),
        )


def _plumbed(block: Any, op_type: str, file: Path) -> list[str]:
    """Names that the feed operators write, or the fetch operators read, in the order of their columns."""
    found: list[tuple[int, str]] = []
    for op in block.ops:
        if op.type != op_type.encode():
            continue
        slot, wanted = (op.outputs, b"Out") if op_type == "feed" else (op.inputs, b"X")
        column = next((a.i for a in op.attrs if a.name == b"col"), 0)
        found += [(column, text(name, file)) for s in slot if s.parameter == wanted for name in s.arguments]
    return [name for _, name in sorted(found, key=lambda pair: pair[0])]


def _tensor(name: str, variables: dict[str, Any], file: Path) -> TensorFacts:
    var = variables.get(name)
    if var is None or var.type.type != _DENSE_TENSOR or var.type.dense_tensor.tensor.data_type not in DTYPES:
        raise ModelError(
            f"'{name}' is fed or fetched, but is no tensor of a known dtype",
            hint="Only tensors can be inputs and outputs.",
            where=str(file),
        )
    desc = var.type.dense_tensor.tensor
    shape = tuple(dim if dim >= 0 else None for dim in desc.dims)
    return TensorFacts(name=name, dtype=DTYPES[desc.data_type][0], shape=shape)


def _parameter(var: Any, quantized: bool) -> Parameter:
    desc = var.type.dense_tensor.tensor
    dtype = DTYPES.get(desc.data_type, ("unknown", 0))[0]
    return Parameter(dtype, tuple(max(dim, -1) for dim in desc.dims), quantized)
