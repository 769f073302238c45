"""Facts of a Paddle 3 program in PIR, stored as JSON.

A value is ``{"%": id, "TT": type}``, an operator ``{"#": "<dialect>.<name>", "A": attributes, "I": inputs,
"O": outputs, "regions": …}``, a parameter the abbreviated operator ``p`` whose attributes end with its name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtd.errors import ModelError
from trtd.model.facts import TensorFacts
from trtd.model.params_file import Parameter

DTYPES: dict[str, str] = {
    "0.t_bool": "bool",
    "0.t_ui8": "uint8",
    "0.t_i8": "int8",
    "0.t_i16": "int16",
    "0.t_i32": "int32",
    "0.t_i64": "int64",
    "0.t_f16": "float16",
    "0.t_bf16": "bfloat16",
    "0.t_f32": "float32",
    "0.t_f64": "float64",
    "0.t_c64": "complex64",
    "0.t_c128": "complex128",
    "0.t_f8e4m3fn": "float8_e4m3fn",
    "0.t_f8e5m2": "float8_e5m2",
}
_PLUMBING = frozenset({"1.feed", "1.data", "1.fetch", "p", "0.parameter", "0.shadow_output", "0.constant"})
INPUTS = frozenset({"1.feed", "1.data"})
QUANTIZERS = frozenset({"1.quantize_linear", "1.dequantize_linear"})
_SIZE_LIMIT_BYTES = 1 << 30

Program = dict[str, Any]


@dataclass(frozen=True)
class ProgramFacts:
    """What a Paddle program declares; parameters by name."""

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    ops: Mapping[str, int]
    parameters: Mapping[str, Parameter]


def load_program(file: Path) -> Program:
    """Read PIR JSON. Raises ``ModelError`` if it is truncated, hostile or another kind of JSON."""
    if file.stat().st_size > _SIZE_LIMIT_BYTES:
        raise ModelError("the program is larger than 1 GiB", hint="Is this a Paddle program at all?", where=str(file))
    try:
        program = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"not a whole Paddle program: its JSON cannot be read ({error})",
            hint="The file is truncated or damaged; copy or export it again.",
            where=str(file),
        ) from error
    try:
        if program["base_code"]["magic"] == "pir" and isinstance(block_of(program)["ops"], list):
            return dict(program)
    except (TypeError, LookupError):
        pass
    raise ModelError(
        "this JSON is no Paddle PIR program",
        hint="Give the inference.json that paddle.jit.save of Paddle 3 writes.",
        where=str(file),
    )


def block_of(program: Program) -> Any:
    """The one block of the program's one region."""
    return program["program"]["regions"][0]["blocks"][0]


def walk_ops(block: Any) -> Iterator[Any]:
    """Every operator of a block, those in nested regions after their owner."""
    for op in block["ops"]:
        yield op
        for region in op.get("regions", ()):
            for inner in region["blocks"]:
                yield from walk_ops(inner)


def attribute(op: Any, name: str) -> Any:
    """The data of the attribute ``name`` of an operator; ``None`` if it has no such attribute."""
    for entry in op["A"]:
        if entry["N"] == name:
            return entry["AT"]["D"]
    return None


def read(file: Path) -> ProgramFacts:
    """Read a PIR ``.json``. Raises ``ModelError`` if it is truncated or no inference program."""
    program = load_program(file)
    try:
        return _facts(program)
    except (TypeError, LookupError, AttributeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"the Paddle program is malformed ({type(error).__name__}: {error})",
            hint="It is damaged or of a Paddle version that is not known here; export it again.",
            where=str(file),
        ) from error


def _facts(program: Program) -> ProgramFacts:
    ops = list(walk_ops(block_of(program)))
    top = block_of(program)["ops"]
    if not {str(op["#"]) for op in ops} & {"1.fetch", "0.shadow_output"}:
        raise ValueError("it fetches nothing")
    return ProgramFacts(
        inputs=tuple(_input(op) for op in top if _is_input(op)),
        outputs=tuple(_output(op, top) for op in top if op["#"] in {"1.fetch", "0.shadow_output"}),
        ops=operators(program),
        parameters=stored_parameters(program),
    )


def stored_parameters(program: Program) -> dict[str, Parameter]:
    """The parameters that the params file holds, by name."""
    ops = list(walk_ops(block_of(program)))
    quantized = {value["%"] for op in ops if op["#"] in QUANTIZERS for value in op["I"]}
    return {op["A"][3]: _parameter(op, quantized) for op in ops if op["#"] == "p" and _is_stored(op)}


def operators(program: Program) -> dict[str, int]:
    """How often each operator occurs, without dialects, inputs, outputs and parameters."""
    types = Counter(str(op["#"]) for op in walk_ops(block_of(program)))
    return {name.partition(".")[2]: count for name, count in types.items() if name not in _PLUMBING}


def _is_input(op: Any) -> bool:
    return op["#"] in INPUTS


def _input(op: Any) -> TensorFacts:
    dtype, dims = _dense_tensor(op["O"][0]["TT"])
    return TensorFacts(name=attribute(op, "name"), dtype=dtype, shape=tuple(d if d >= 0 else None for d in dims))


def _output(op: Any, top: list[Any]) -> TensorFacts:
    if op["#"] == "1.fetch":
        return _input(op)
    (value,) = op["I"]
    typed = {v["%"]: v["TT"] for other in top if isinstance(other["O"], list) for v in other["O"] if "TT" in v}
    dtype, dims = _dense_tensor(typed[value["%"]])
    return TensorFacts(name=attribute(op, "output_name"), dtype=dtype, shape=tuple(d if d >= 0 else None for d in dims))


def _parameter(op: Any, quantized: set[int]) -> Parameter:
    dtype, dims = _dense_tensor(op["O"]["TT"])
    if not isinstance(op["A"][3], str):
        raise TypeError("a parameter without a name")
    return Parameter(dtype, tuple(dims), op["O"]["%"] in quantized)


def _is_stored(op: Any) -> bool:
    """Whether a parameter is persistable, the first of its output flags: the others are not in the params file."""
    return not op["OA"] or bool(op["OA"][0])


def _dense_tensor(type_: Any) -> tuple[str, list[int]]:
    if type_["#"] != "0.t_dtensor":
        raise ValueError(f"'{type_['#']}' where a tensor was expected")
    element, dims = type_["D"][0]["#"], type_["D"][1]
    if element not in DTYPES or not all(isinstance(d, int) and not isinstance(d, bool) for d in dims):
        raise ValueError(f"a tensor of {element}{dims}")
    return DTYPES[element], dims
