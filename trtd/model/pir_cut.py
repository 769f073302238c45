"""Cut a quantized Paddle program open at every place where it rounds.

paddle2onnx 2.1 aborts on ``quantize_linear`` and ``dequantize_linear``. So they are taken out: what they round becomes
an output of the program, and what they yield an input. Weights that are dequantized become inputs likewise. What lies
between is float and converts as it is; no optimizer can move or merge anything across a cut, or fold into a weight
that carries scales. :mod:`trtd.quantize.stitch` sews the converted parts together.

Where a range was only recorded, nothing is cut: what it belongs to becomes an output besides.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trtd.errors import ConversionError, ModelError
from trtd.model.facts import TensorFacts
from trtd.model.pir_edit import Editor, Op
from trtd.model.pir_facts import INPUTS, QUANTIZERS, Program, attribute, block_of, walk_ops
from trtd.model.pir_rounding import Rounding, roundings

Kind = Literal["rounded", "weight", "observed"]


@dataclass(frozen=True)
class Cut:
    """One place where the program rounds a value, reads a rounded weight, or recorded a range.

    Attributes:
        kind: which of the three.
        name: of the input that stands for the rounded value or the weight.
        source: name of the output, or input, with the value before it is rounded; empty for weights.
        rounding: how it is rounded.
        shape: of the value; ``None`` for open dimensions.
    """

    kind: Kind
    name: str
    source: str
    rounding: Rounding
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class CutProgram:
    """A float program with open ends.

    Attributes:
        program: PIR JSON without quantize and dequantize operators.
        cuts: in the program's order.
        inputs, outputs: the ends. They follow the program's own inputs and outputs.
        parameters: names of the parameters that the program still reads.
    """

    program: Program
    cuts: tuple[Cut, ...]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    parameters: frozenset[str]


def cut(program: Program, outputs: Sequence[str]) -> CutProgram:
    """Take all rounding out of ``program``, which itself is left as it was.

    Args:
        program: PIR JSON.
        outputs: names that the converted graph gives to the program's own outputs, in order.

    Raises ``ConversionError`` for what ONNX cannot say with 8-bit integers, ``ModelError`` for a malformed program.
    """
    program = copy.deepcopy(program)
    try:
        return _Cutter(program, outputs).cut()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"a quantize or dequantize operator is malformed ({type(error).__name__}: {error})",
            hint="The program is damaged, or of a Paddle version that is not known here; export it again.",
        ) from error


class _Cutter:
    def __init__(self, program: Program, outputs: Sequence[str]) -> None:
        self.program = program
        self.editor = Editor(program)
        self.ops = block_of(program)["ops"]
        self.constants = _constants(self.ops)
        self.cuts: list[Cut] = []
        self.inputs: list[TensorFacts] = []
        self.standing: dict[tuple[object, ...], int] = {}  # how what is rounded -> the value that stands for the result
        self.heirs: dict[int, int] = {}  # result of a dequantize operator -> what its readers read from now on
        # Values that have a name in the converted graph. paddle2onnx loses outputs that are inputs, and the second of
        # two outputs that are one value: these are never made outputs again.
        self.names = {op["O"][0]["%"]: str(attribute(op, "name")) for op in self.ops if op["#"] in INPUTS}
        fetched = [op["I"][0]["%"] for op in self.ops if op["#"] == "1.fetch"]
        self.names |= dict(zip(fetched, outputs, strict=True))
        self.outputs: list[TensorFacts] = []

    def cut(self) -> CutProgram:
        self._refuse_control_flow()
        for rounding in roundings(self.ops, self.editor):
            if rounding.observes:
                self._observe(rounding)
            else:
                self._open(rounding)
        self._rewire()
        parameters = frozenset(op["A"][3] for op in block_of(self.program)["ops"] if op["#"] == "p")
        return CutProgram(self.program, tuple(self.cuts), tuple(self.inputs), tuple(self.outputs), parameters)

    def _open(self, rounding: Rounding) -> None:
        """Let readers of a rounded value read an input instead; one for all that round it alike."""
        key = (rounding.value, rounding.stored, rounding.scales, rounding.axis)
        if key not in self.standing:
            made = self._note("weight" if rounding.weight else "rounded", rounding)
            self.inputs.append(TensorFacts(name=made.name, dtype="float32", shape=made.shape))
            dims = self.editor.dims(rounding.result) or []
            self.standing[key] = self.editor.data(made.name, "float32", dims)
            self.names[self.standing[key]] = made.name
        self.heirs[rounding.result] = self.standing[key]

    def _observe(self, rounding: Rounding) -> None:
        """Let readers read the value itself, and note its range, unless it is a constant."""
        self.heirs[rounding.result] = rounding.value
        if rounding.result in self.names:
            self.names.setdefault(self._heir(rounding.value), self.names[rounding.result])
        if rounding.value not in self.constants:
            self._note("observed", rounding)

    def _note(self, kind: Kind, rounding: Rounding) -> Cut:
        if self.editor.dtype(rounding.result) != "float32":
            raise ConversionError(
                f"what '{rounding.scales[0]}' belongs to is {self.editor.dtype(rounding.result)} outside its rounding",
                hint="Only float32 networks are imported: export the model without automatic mixed precision.",
            )
        shape = tuple(dim if dim >= 0 else None for dim in self.editor.dims(rounding.result) or [])
        source = "" if kind == "weight" else self._source(self._heir(rounding.value), shape)
        self.cuts.append(Cut(kind, f"trtd.{kind}.{len(self.cuts)}", source, rounding, shape))
        return self.cuts[-1]

    def _source(self, value: int, shape: tuple[int | None, ...]) -> str:
        """The name of ``value`` in the converted graph; makes it an output if it has none."""
        if value not in self.names:
            self.names[value] = f"trtd.source.{len(self.outputs)}"
            self.outputs.append(TensorFacts(name=self.names[value], dtype="float32", shape=shape))
            self.editor.fetch(self.names[value], value)
        return self.names[value]

    def _heir(self, value: int) -> int:
        while value in self.heirs:
            value = self.heirs[value]
        return value

    def _rewire(self) -> None:
        """Put the open ends into the program; drop the operators between them, and parameters that nothing reads."""
        for op in self.ops:
            if op["#"] == "1.fetch" and (value := self._heir(op["I"][0]["%"])) in self.standing.values():
                op["I"] = [{"%": self.editor.scale(value, 1.0)}]  # an output that is an input would be lost
        made, block = self.editor.take(), block_of(self.program)
        first = [op for op in made if op["#"] == "1.data"]
        middle = [op for op in self.ops if op["#"] not in QUANTIZERS and op["#"] != "1.fetch"]
        last = [op for op in self.ops if op["#"] == "1.fetch"] + [op for op in made if op["#"] == "1.fetch"]
        copies = [op for op in made if op["#"] not in ("1.data", "1.fetch")]
        ops = [*first, *middle, *copies, *last]
        read = set()
        for op in walk_ops({"ops": ops}):
            for value in op.get("I", ()):
                value["%"] = self._heir(value["%"])
                read.add(value["%"])
        block["ops"] = [op for op in ops if op["#"] != "p" or op["O"]["%"] in read]
        if read & {value["%"] for op in self.ops if op["#"] in QUANTIZERS for value in op["O"]}:
            raise ConversionError(
                "an operator reads the running state of a quantize operator: the model was saved in training mode",
                hint="Call model.eval() and convert() before saving.",
            )

    def _refuse_control_flow(self) -> None:
        inner = [op for op in walk_ops({"ops": self.ops}) if op["#"] in QUANTIZERS]
        if len(inner) > sum(op["#"] in QUANTIZERS for op in self.ops):
            raise ConversionError(
                "the model rounds inside of an If or While",
                hint="Quantize it without the operators in there (skip_tensor_list, or a name scope 'skip_quant').",
            )


def _constants(ops: list[Op]) -> set[int]:
    """Ids of what is computed from parameters and literals alone, as a reshaped bias is."""
    constants = {0}
    for op in ops:
        if op["#"] not in INPUTS and all(value["%"] in constants for value in op.get("I", ())):
            outputs = op["O"] if isinstance(op["O"], list) else [op["O"]]
            constants |= {value["%"] for value in outputs}
    return constants
