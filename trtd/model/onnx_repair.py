"""Mend what paddle2onnx writes: names of outputs and nodes, scalars, box counts, concatenations of mixed ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trtd.errors import ConversionError
from trtd.model.facts import TensorFacts
from trtd.model.onnx_file import INSIDE_LIMIT_BYTES, weight_bytes
from trtd.model.onnx_nms import mend_box_counts

if TYPE_CHECKING:
    import onnx


def repair(model: onnx.ModelProto, inputs: Sequence[TensorFacts], outputs: Sequence[TensorFacts]) -> None:
    """Rewrite ``model`` in place so that its interface is that of the source model.

    Inputs keep their names; outputs get the source model's names, in its order (paddle2onnx numbers them anew);
    outputs that are scalars in Paddle are scalars again. Raises ``ConversionError`` if inputs or outputs are missing.
    """
    mend_box_counts(model)
    _unsqueeze_mixed_concats(model)
    _restore_outputs(model, outputs)
    got, wanted = {value.name for value in model.graph.input}, {tensor.name for tensor in inputs}
    if got - wanted:
        raise ConversionError(
            f"the converted graph wants the inputs {sorted(got)}, but the model has {sorted(wanted)}",
            hint="Export the model again with paddle.jit.save and an input_spec.",
        )


def _restore_outputs(model: onnx.ModelProto, outputs: Sequence[TensorFacts]) -> None:
    from onnx import helper

    graph = model.graph
    if len(graph.output) != len(outputs):
        raise ConversionError(
            f"the converted graph has {len(graph.output)} outputs, but the model has {len(outputs)}",
            hint="Export the model again and return each output once.",
        )
    taken = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    for value, tensor in zip(graph.output, outputs, strict=True):
        scalar = tensor.shape == () and not value.type.tensor_type.shape.dim
        if value.name == tensor.name and not scalar:
            continue
        source = value.name
        if value.name == tensor.name:
            source = _renamed_output(graph, tensor.name, taken)
        elif tensor.name in taken:
            raise ConversionError(
                f"the output name '{tensor.name}' is also the name of an inner tensor", hint="Report this model."
            )
        if scalar:
            shape = f"{tensor.name}.scalar_shape"
            graph.initializer.append(helper.make_tensor(shape, 7, [0], []))
            graph.node.append(helper.make_node("Reshape", [source, shape], [tensor.name], f"Scalar.{tensor.name}"))
        else:
            graph.node.append(helper.make_node("Identity", [source], [tensor.name], f"Output.{tensor.name}"))
        value.name = tensor.name


def _renamed_output(graph: onnx.GraphProto, name: str, taken: set[str]) -> str:
    """Give the tensor that carries an output's name another one, so that the name is free."""
    free = f"{name}.unshaped"
    while free in taken:
        free += "_"
    for node in graph.node:
        for names in (node.input, node.output):
            for index, each in enumerate(names):
                if each == name:
                    names[index] = free
    return free


def _unsqueeze_mixed_concats(model: onnx.ModelProto) -> None:
    """Paddle lets a shape be a list of 0-D and 1-D tensors; ONNX Concat wants them all 1-D."""
    from onnx import helper, shape_inference

    if weight_bytes(model) > INSIDE_LIMIT_BYTES or not any(node.op_type == "Concat" for node in model.graph.node):
        return
    inferred = shape_inference.infer_shapes(model).graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in [*inferred.value_info, *inferred.input]
        if value.type.tensor_type.HasField("shape")
    }
    ranks |= {tensor.name: len(tensor.dims) for tensor in inferred.initializer}
    nodes = list(model.graph.node)
    changed = False
    for index in range(len(nodes) - 1, -1, -1):
        node = nodes[index]
        if node.op_type != "Concat" or {ranks.get(name) for name in node.input} != {0, 1}:
            continue
        added = []
        for position, name in enumerate(node.input):
            if ranks[name] == 0:
                lifted = f"{node.output[0]}.lifted_{position}"
                axes = f"{lifted}_axes"
                model.graph.initializer.append(helper.make_tensor(axes, 7, [1], [0]))
                added.append(helper.make_node("Unsqueeze", [name, axes], [lifted], f"Unsqueeze.{lifted}"))
                node.input[position] = lifted
        nodes[index:index] = added
        changed = True
    if changed:
        kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(kept)
