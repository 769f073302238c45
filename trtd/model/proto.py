"""Partial protobuf descriptors of ONNX models and Paddle programs, built in code.

Only the fields that facts need are declared, all of them optional; every other field of a file is dropped while
reading. So neither ``onnx`` nor ``paddle`` has to be imported, and a schema that grows does not break us.
Field numbers: ``onnx.proto`` of the ONNX project, ``framework.proto`` of Paddle.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from trtd.errors import ModelError

PROTOBUF_LIMIT_BYTES = 2**31 - 1

# message -> {field: (number, type)}; "*" = repeated, a capital letter = another message of the table
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "OnnxModel": {
        "ir_version": (1, "int64"),
        "graph": (7, "OnnxGraph"),
        "opset_import": (8, "*OnnxOpset"),
        "functions": (25, "*OnnxFunction"),
    },
    "OnnxOpset": {"domain": (1, "bytes"), "version": (2, "int64")},
    "OnnxFunction": {"name": (1, "bytes"), "node": (7, "*OnnxNode"), "domain": (10, "bytes")},
    "OnnxGraph": {
        "node": (1, "*OnnxNode"),
        "initializer": (5, "*OnnxTensor"),
        "input": (11, "*OnnxValue"),
        "output": (12, "*OnnxValue"),
        "sparse_initializer": (15, "*OnnxSparse"),
    },
    "OnnxSparse": {"values": (1, "OnnxTensor"), "indices": (2, "OnnxTensor")},
    "OnnxNode": {
        "output": (2, "*bytes"),
        "op_type": (4, "bytes"),
        "attribute": (5, "*OnnxAttribute"),
        "domain": (7, "bytes"),
    },
    "OnnxAttribute": {
        "t": (5, "OnnxTensor"),
        "g": (6, "OnnxGraph"),
        "tensors": (10, "*OnnxTensor"),
        "graphs": (11, "*OnnxGraph"),
    },
    "OnnxTensor": {
        "dims": (1, "*int64"),
        "data_type": (2, "int32"),
        "float_data": (4, "*float"),
        "int32_data": (5, "*int32"),
        "string_data": (6, "*bytes"),
        "int64_data": (7, "*int64"),
        "name": (8, "bytes"),
        "raw_data": (9, "bytes"),
        "double_data": (10, "*double"),
        "uint64_data": (11, "*uint64"),
        "external_data": (13, "*OnnxEntry"),
        "data_location": (14, "int32"),
    },
    "OnnxEntry": {"key": (1, "bytes"), "value": (2, "bytes")},
    "OnnxValue": {"name": (1, "bytes"), "type": (2, "OnnxType")},
    "OnnxType": {"tensor_type": (1, "OnnxTensorType")},
    "OnnxTensorType": {"elem_type": (1, "int32"), "shape": (2, "OnnxShape")},
    "OnnxShape": {"dim": (1, "*OnnxDim")},
    "OnnxDim": {"dim_value": (1, "int64"), "dim_param": (2, "bytes")},
    "PaddleProgram": {"blocks": (1, "*PaddleBlock"), "version": (4, "PaddleVersion"), "op_version_map": (5, "bytes")},
    "PaddleVersion": {"version": (1, "int64")},
    "PaddleBlock": {"idx": (1, "int32"), "vars": (3, "*PaddleVar"), "ops": (4, "*PaddleOp")},
    "PaddleOp": {
        "inputs": (1, "*PaddleSlot"),
        "outputs": (2, "*PaddleSlot"),
        "type": (3, "bytes"),
        "attrs": (4, "*PaddleAttribute"),
    },
    "PaddleSlot": {"parameter": (1, "bytes"), "arguments": (2, "*bytes")},
    "PaddleAttribute": {"name": (1, "bytes"), "i": (3, "int32"), "block_idx": (12, "int32")},
    "PaddleVar": {"name": (1, "bytes"), "type": (2, "PaddleVarType"), "persistable": (3, "bool")},
    "PaddleVarType": {"type": (1, "int32"), "dense_tensor": (3, "PaddleDenseTensor")},
    "PaddleDenseTensor": {"tensor": (1, "PaddleTensorDesc")},
    "PaddleTensorDesc": {"data_type": (1, "int32"), "dims": (2, "*int64")},
}


@cache
def _message_class(name: str) -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="trtd_partial.proto", package="trtd", syntax="proto2")
    for message, fields in _FIELDS.items():
        entry = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            label = field_type.LABEL_REPEATED if kind.startswith("*") else field_type.LABEL_OPTIONAL
            added = entry.field.add(name=field, number=number, label=label)
            scalar_or_message = kind.lstrip("*")
            if scalar_or_message in _FIELDS:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".trtd.{scalar_or_message}"
            else:
                added.type = getattr(field_type, f"TYPE_{scalar_or_message.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"trtd.{name}"))


def parse_message(name: str, data: bytes, where: Path) -> Any:
    """Parse ``data`` as the partial message ``name``; unknown fields are dropped.

    Names are ``bytes`` in every partial message, because a hostile file may hold any bytes there: read them with
    :func:`text`. Raises ``ModelError`` for anything that is no such message, truncated or nested too deeply.
    """
    from google.protobuf.message import DecodeError

    message = _message_class(name)()
    try:
        message.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise ModelError(
            f"not a whole model: its protobuf cannot be read ({error})",
            hint="The file is truncated or is of another kind; copy or export it again.",
            where=str(where),
        ) from error
    message.DiscardUnknownFields()
    return message


def read_message(name: str, file: Path) -> Any:
    """Parse a whole file as the partial message ``name``. Raises ``ModelError`` as :func:`parse_message` does."""
    size = file.stat().st_size
    if size > PROTOBUF_LIMIT_BYTES:
        raise ModelError(
            f"the file has {size} bytes, but protobuf files end at 2 GiB",
            hint="Save the model with its weights as external data.",
            where=str(file),
        )
    return parse_message(name, file.read_bytes(), file)


def text(value: bytes, where: Path) -> str:
    """A name stored in a model. Raises ``ModelError`` if it is not UTF-8 or holds control characters."""
    try:
        name = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(
            f"the name {value[:40]!r} is not UTF-8", hint="The file is damaged.", where=str(where)
        ) from error
    if any(ord(char) < 32 for char in name):
        raise ModelError(
            f"the name {name[:40]!r} holds control characters", hint="The file is damaged.", where=str(where)
        )
    return name
